"""Enformer on PyTorch: enformer-pytorch's architecture, its human head on the needed bins only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builders.gather import CentralGather
from builders.oracle import BinArray, Reduced
from builders.quiet_transformers import transformers_without_tensorflow
from chorus_store.errors import BackendUnavailableError
from chorus_store.sequence import Codes, one_hot_table

try:
    import torch

    from builders.checkpoints import check_state, install, random_state
    from builders.enformer_weights import REMEDY, expected_shapes, read_weights
    from builders.torch_gather import TorchGather
    from builders.torch_runtime import TorchRuntime
except ImportError as error:
    raise BackendUnavailableError(
        f"the torch backend of Enformer needs PyTorch ({error}); pip install 'chorus-store[enformer]'"
    ) from error

#: The architecture sees the centre of the input window; the rest lies outside its receptive field.
MODEL_LENGTH_BP = 196_608
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
        runtime = TorchRuntime(device, precision)
        model = _architecture(self._size, self._gather)
        shapes = expected_shapes(model)
        if weights is None:
            state = random_state(shapes, seed)
        else:
            state = read_weights(weights)
            check_state(state, shapes, weights, REMEDY)
        install(model, state, shapes)
        _keep_gammas_on(runtime.device)
        self._runtime = runtime
        self._model = runtime.place(model)
        self._head = self._model.heads["human"]
        self._one_hot = runtime.table(one_hot_table())
        self._facts = TorchGather(self._gather, runtime).facts

    def facts(self, codes: Codes, bins: BinArray | None) -> Reduced:
        """Window sums and chosen bins; only they leave the device."""
        central = codes[:, self._flank : self._flank + MODEL_LENGTH_BP]
        with self._runtime.inference():
            one_hot = self._runtime.one_hot(central, self._one_hot)
            return self._facts(lambda wanted: self.predict(one_hot, wanted), len(codes), bins)

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
        with self._runtime.arithmetic():
            with self._runtime.autocast():
                embeddings = self._model(one_hot, return_only_embeddings=True).float()
            # The head in float32: bf16 outputs would swamp the effect of one base.
            rows = torch.arange(len(embeddings), device=self._runtime.device)[:, None]
            return self._head(embeddings[rows, wanted])


def _architecture(size: str, gather: CentralGather) -> Any:
    """The model without weights, on the meta device."""
    try:
        with transformers_without_tensorflow():
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
