"""Borzoi on PyTorch: borzoi-pytorch's architecture, its human head on the needed bins only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builders.gather import CentralGather
from builders.oracle import BinArray, Exons, Reduced
from builders.quiet_transformers import transformers_without_tensorflow
from chorus_store.errors import BackendUnavailableError
from chorus_store.sequence import Codes, one_hot_table

try:
    import torch
    from torch import nn

    from builders.checkpoints import State, check_state, install, random_state, read_state, shapes_of
    from builders.torch_gather import TorchGather
    from builders.torch_runtime import TorchRuntime
except ImportError as error:
    raise BackendUnavailableError(f"Borzoi needs PyTorch ({error}); pip install 'chorus-store[borzoi]'") from error

REMEDY = "give pytorch_model.bin of johahi/borzoi-replicate-0, or its folder (--weights)"
#: The small model divides by this the widths that the architecture fixes; it is told the others.
_NARROWER = 32
_FIXED_WIDTHS = (512, 608, 736, 896, 1056, 1280, 1920)
_SMALL: dict[str, Any] = {"dim": 1536 // _NARROWER, "depth": 1, "heads": 1, "attn_dim_key": 8, "attn_dim_value": 16}


class TorchBorzoi:
    """Backend of `builders.borzoi.Borzoi`.

    Parameters
    ----------
    gather : CentralGather
        What to keep of the human head.
    size : {"full", "small"}
    """

    def __init__(self, gather: CentralGather, size: str) -> None:
        self._gather = gather
        self._size = size

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """Build the model in evaluation mode on the device; see `Oracle.load`."""
        runtime = TorchRuntime(device, precision)
        model = architecture(self._size, self._gather)
        shapes = shapes_of(model)
        if weights is None:
            state = random_weights(shapes, seed)
        else:
            state = read_state(weights, REMEDY)
            check_state(state, shapes, weights, REMEDY)
        install(model, state)
        self._runtime = runtime
        self._model = runtime.place(model)
        self._one_hot = runtime.table(one_hot_table())
        self._facts = TorchGather(self._gather, runtime).facts

    def facts(self, codes: Codes, bins: BinArray | None, exons: Exons | None) -> Reduced:
        """Window sums, means over exon bins and chosen bins; only they leave the device."""
        with self._runtime.inference():
            one_hot = self._runtime.one_hot(codes, self._one_hot)
            return self._facts(lambda wanted: self.predict(one_hot, wanted), len(codes), bins, exons)

    def predict(self, one_hot: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The forward pass and nothing else, on tensors of the device.

        Parameters
        ----------
        one_hot : Tensor of float32, shape (batch, 524288, 4)
        wanted : Tensor of int64, shape (batch, bin)

        Returns
        -------
        Tensor of float32, shape (batch, bin, channel)
            A view of the model's own order, channels before bins.
        """
        model = self._model
        with self._runtime.arithmetic():
            with self._runtime.autocast():
                embeddings = model.get_embs_after_crop(one_hot.transpose(1, 2)).float()
            # From here on bins do not see each other, and in float32: bf16 would swamp the effect of one base.
            needed = embeddings.gather(2, wanted[:, None].expand(-1, embeddings.shape[1], -1))
            return model.final_softplus(model.human_head(model.final_joined_convs(needed))).transpose(1, 2)


def random_weights(shapes: Mapping[str, torch.Size], seed: int) -> State:
    """Seeded weights, whose outputs vary between sequences, bins and tracks."""
    state = random_state(shapes, seed)
    # The trunk adds up residuals: left as large as it is, the head would saturate the softplus.
    state["human_head.weight"].mul_(0.1)
    return state


def architecture(size: str, gather: CentralGather) -> Any:
    """The model, its weights still to be installed."""
    try:
        with transformers_without_tensorflow():
            from borzoi_pytorch import Borzoi
            from borzoi_pytorch.config_borzoi import BorzoiConfig
    except ImportError as error:
        raise BackendUnavailableError(
            f"Borzoi needs borzoi-pytorch ({error}); pip install 'chorus-store[borzoi]'"
        ) from error
    # Not on the meta device: versions before 0.5 make a table of positions here. The caller's generator stays as it is.
    with torch.random.fork_rng([]):
        model = Borzoi(BorzoiConfig(bins_to_return=gather.n_bins, **(_SMALL if size == "small" else {})))
        if size == "small":
            _narrow(model)
            model.human_head = nn.Conv1d(model.human_head.in_channels, gather.n_channels, kernel_size=1)
    return model


def _narrow(model: nn.Module) -> None:
    """Replace the layers whose widths the architecture fixes by narrower ones."""
    widths = {width: width // _NARROWER for width in _FIXED_WIDTHS}
    for parent in list(model.modules()):
        for name, layer in parent.named_children():
            if isinstance(layer, nn.BatchNorm1d):
                setattr(parent, name, nn.BatchNorm1d(widths.get(layer.num_features, layer.num_features), layer.eps))
            elif isinstance(layer, nn.Conv1d) and layer.groups == 1:
                into, out = (widths.get(n, n) for n in (layer.in_channels, layer.out_channels))
                setattr(parent, name, nn.Conv1d(into, out, layer.kernel_size, padding=layer.padding))
