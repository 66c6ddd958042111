"""Enformer on PyTorch: enformer-pytorch's architecture, its human head on the needed bins only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from builders.gather import CentralGather
from builders.oracle import BinArray, FloatArray
from chorus_store.errors import BackendUnavailableError, InputError, ModelError
from chorus_store.sequence import Codes, one_hot_table

try:
    import torch

    from builders.enformer_weights import check_state, expected_shapes, install, random_state, read_state
except ImportError as error:
    raise BackendUnavailableError(
        f"the torch backend of Enformer needs PyTorch ({error}); pip install 'chorus-store[enformer]'"
    ) from error

#: The architecture sees the centre of the input window; the rest lies outside its receptive field.
MODEL_LENGTH_BP = 196_608
PRECISIONS = ("fp32", "tf32", "bf16")
#: TensorFlow's rounding of one positional basis exists for the full width only; the published weights need
#: it.
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "full": {"use_tf_gamma": True},
    "small": {"dim": 12, "depth": 1, "heads": 2, "attn_dim_key": 8, "dim_divisible_by": 2},
}


class TorchEnformer:
    """Backend of `builders.enformer.Enformer`.

    Parameters
    ----------
    gather : CentralGather
        What to keep of the human head.
    input_length_bp : int
        Length of the sequences; their central 196,608 bp are used.
    size : {"full", "small"}
    """

    def __init__(self, gather: CentralGather, input_length_bp: int, size: str) -> None:
        self._gather = gather
        self._flank = (input_length_bp - MODEL_LENGTH_BP) // 2
        self._size = size

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """Build the model in evaluation mode on the device; see `Oracle.load`."""
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        self._precision = precision
        self._device = _device(device)
        model = _architecture(self._size, self._gather)
        shapes = expected_shapes(model)
        if weights is None:
            state = random_state(shapes, seed)
        else:
            state = read_state(weights)
            check_state(state, shapes, weights)
        install(model, state)
        _keep_gammas_on(self._device)
        with _out_of_memory_named():
            self._model = model.eval().requires_grad_(False).to(self._device)
            self._head = self._model.heads["human"]
            self._one_hot = torch.from_numpy(one_hot_table()).to(self._device)
            self._columns = torch.from_numpy(self._gather.columns).to(self._device)
            self._channels = torch.from_numpy(self._gather.channels).to(self._device)

    def facts(self, codes: Codes, bins: BinArray | None) -> tuple[FloatArray, FloatArray | None]:
        """Window sums and chosen bins; only they leave the device."""
        gather = self._gather
        with torch.inference_mode(), _out_of_memory_named():
            values = self.predict(self._encoded(codes), self._wanted(len(codes), bins))
            n_window = gather.stop - gather.first
            sums = [values[:, a:b].sum(dim=1, dtype=torch.float64) for a, b in gather.windows]
            statistics = torch.cat(sums, dim=1).index_select(1, self._columns).float().cpu().numpy()
            if bins is None:
                return statistics, None
            return statistics, values[:, n_window:].index_select(2, self._channels).cpu().numpy()

    def predict(self, one_hot: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The forward pass and nothing else, on tensors of the device.

        Parameters
        ----------
        one_hot : Tensor of float32, shape (batch, 196608, 4)
        wanted : Tensor of int64, shape (batch, bin)

        Returns
        -------
        Tensor of float32, shape (batch, bin, channel)
        """
        bf16 = torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16")
        with _arithmetic(self._precision):
            with bf16:
                embeddings = self._model(one_hot, return_only_embeddings=True).float()
            # The head in float32: bf16 outputs would swamp the effect of one base.
            rows = torch.arange(len(embeddings), device=self._device)[:, None]
            return self._head(embeddings[rows, wanted])

    def _encoded(self, codes: Codes) -> torch.Tensor:
        """One-hot sequences of the length that the model sees."""
        central = torch.tensor(codes[:, self._flank : self._flank + MODEL_LENGTH_BP]).to(self._device)
        return self._one_hot[central.int()]

    def _wanted(self, batch: int, bins: BinArray | None) -> torch.Tensor:
        """Bins to predict, (batch, window bins + slots): the widest window, then the chosen ones."""
        window = np.broadcast_to(self._gather.window_bins, (batch, self._gather.stop - self._gather.first))
        wanted = window if bins is None else np.concatenate([window, bins], axis=1)
        return torch.tensor(wanted, dtype=torch.int64).to(self._device)


def _architecture(size: str, gather: CentralGather) -> Any:
    """The model without weights, on the meta device."""
    try:
        with _transformers_without_tensorflow():
            from enformer_pytorch.config_enformer import EnformerConfig
            from enformer_pytorch.modeling_enformer import Enformer
    except ImportError as error:
        raise BackendUnavailableError(
            f"the torch backend needs enformer-pytorch ({error}); pip install 'chorus-store[enformer]'"
        ) from error
    config = EnformerConfig(
        target_length=gather.n_bins, output_heads={"human": gather.n_channels}, **_ARCHITECTURES[size]
    )
    with torch.device("meta"):
        return Enformer(config)


def _keep_gammas_on(device: torch.device) -> None:
    # Every layer copies this table to its device, and every copy waits until the device has caught up.
    from enformer_pytorch import modeling_enformer

    modeling_enformer.TF_GAMMAS = modeling_enformer.TF_GAMMAS.to(device)


@contextmanager
def _transformers_without_tensorflow() -> Iterator[None]:
    # transformers 4 imports TensorFlow wherever it finds it: five seconds and half a gigabyte for nothing.
    before = os.environ.get("USE_TF")
    os.environ["USE_TF"] = "0"
    try:
        yield
    finally:
        if before is None:
            del os.environ["USE_TF"]
        else:
            os.environ["USE_TF"] = before


@contextmanager
def _arithmetic(precision: str) -> Iterator[None]:
    """TensorFloat-32 on or off for the matrix products and convolutions inside, as before afterwards."""
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


@contextmanager
def _out_of_memory_named() -> Iterator[None]:
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise ModelError(f"the device is out of memory; lower --batch ({error})") from error


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        available = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        raise BackendUnavailableError(
            f"PyTorch has no device {name!r} here; there is {', '.join(available)} (--device)"
        ) from error
    return device
