"""ChromBPNet and BPNet ChIP as one PyTorch module, and the signal that their two outputs make.

Both are a first convolution, dilated convolutions with residual connections, a profile head that says how counts are
spread over the output, and a count head that says how many there are (Avsec et al. 2021, Pampari et al. 2024).
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np

from builders.model_list import Family
from builders.oracle import BinArray, FloatArray
from chorus_store.errors import BackendUnavailableError, WeightsError
from chorus_store.sequence import Codes, one_hot_table

try:
    import torch
    from torch import nn

    from builders.checkpoints import check_state, install, random_state, shapes_of
    from builders.torch_runtime import TorchRuntime
except ImportError as error:
    raise BackendUnavailableError(
        f"ChromBPNet runs on PyTorch ({error}); pip install 'chorus-store[chrombpnet]'"
    ) from error

__all__ = ["BPNet", "BPNetRunner", "TorchRuntime", "load_h5", "load_random"]

OUTPUT_BP = 1000
_MOST_LAYERS = 8
_REMEDY = "give a model of 2,114 bp to 1,000 bp, as published"
#: Kernel widths of the first convolution, the dilated ones and the profile head.
FIRST, DILATED, PROFILE = 21, 3, 75
#: Sum over the two strands' count biases of zero, as it enters the count head.
_NO_COUNT_BIAS = math.log(2)
#: Log counts of random weights, which would else predict nothing anywhere, and reach of a base in their kernels.
_RANDOM_LOG_COUNTS, _RANDOM_REACH_BP = 5.0, 1.0


class BPNet(nn.Module):
    """Accessibility models of one output, or ChIP models of two strands.

    Parameters
    ----------
    family : {"accessibility", "chip"}
    filters : int
        Channels of the trunk.
    layers : int
        Dilated convolutions; the i-th, from 1, has dilation 2^i.
    """

    def __init__(self, family: Family, filters: int, layers: int) -> None:
        super().__init__()
        strands = 2 if family == "chip" else 1
        self.family = family
        self.first = nn.Conv1d(4, filters, FIRST)
        self.dilated = nn.ModuleList(nn.Conv1d(filters, filters, DILATED, dilation=2 ** (i + 1)) for i in range(layers))
        self.profile = nn.Conv1d(filters, strands, PROFILE)
        self.counts = nn.Linear(filters, 1)
        if family == "chip":
            # Both take the bias model's prediction beside the trunk's; it is zero, as the reference has it.
            self.profile_out = nn.Conv1d(2 * strands, strands, 1)
            self.counts_out = nn.Linear(2, 1)

    def forward(self, one_hot: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Profile logits and log counts.

        Parameters
        ----------
        one_hot : Tensor of float32, shape (batch, position, 4)

        Returns
        -------
        Tensor of float32, shape (batch, position, strand), and Tensor of float32, shape (batch, 1)
        """
        return self.heads(self.trunk(one_hot))

    def trunk(self, one_hot: torch.Tensor) -> torch.Tensor:
        """What both heads read, (batch, filter, position)."""
        # ReLU follows the convolutions of an accessibility model, and precedes those of a ChIP model.
        after, before = (torch.relu, _same) if self.family == "accessibility" else (_same, torch.relu)
        x = after(self.first(one_hot.transpose(1, 2)))
        for layer in self.dilated:
            crop = layer.dilation[0]
            x = after(layer(before(x))).add_(x[:, :, crop:-crop])
        return before(x)

    def heads(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Profile logits and log counts of the trunk's output; as `forward`."""
        logits, log_counts = self.profile(x), self.counts(x.mean(2))
        extra = (logits.shape[2] - OUTPUT_BP) // 2
        logits = logits[:, :, extra : extra + OUTPUT_BP]
        if self.family == "chip":
            logits = self.profile_out(torch.cat([logits, torch.zeros_like(logits)], 1))
            log_counts = self.counts_out(nn.functional.pad(log_counts, (0, 1), value=_NO_COUNT_BIAS))
        return logits.transpose(1, 2), log_counts

    def signal(self, logits: torch.Tensor, log_counts: torch.Tensor) -> torch.Tensor:
        """Predicted counts per base and strand, in float64, from the two outputs C and logits.

        The total is expm1(C) for accessibility and exp(C) − 2 for ChIP, whose counts had 1 added on each strand; 0
        where that is negative. It is spread by one softmax over all positions and strands together.
        """
        c = log_counts.double()
        total = (torch.expm1(c) if self.family == "accessibility" else torch.exp(c) - 2).clamp(min=0)
        flat = logits.double().flatten(1)
        weights = (flat - flat.amax(1, keepdim=True)).softmax(1)
        return (total * weights).reshape(logits.shape)


def _same(x: torch.Tensor) -> torch.Tensor:
    return x


class BPNetRunner:
    """A model on a device, and the facts of its one track.

    Parameters
    ----------
    model : BPNet
        With its weights.
    runtime : TorchRuntime
        Device and arithmetic.
    """

    def __init__(self, model: BPNet, runtime: TorchRuntime) -> None:
        self._runtime = runtime
        self._model = runtime.place(model)
        self._one_hot = runtime.table(one_hot_table())

    def predict(self, codes: Codes) -> tuple[torch.Tensor, torch.Tensor]:
        """Profile logits and log counts of a batch, in float32, on the device."""
        with self._runtime.arithmetic():
            with self._runtime.autocast():
                trunk = self._model.trunk(self._runtime.one_hot(codes, self._one_hot))
            # The heads in float32: a log count in bf16 has a step of several per cent of the counts.
            return self._model.heads(trunk.float())

    def signal(self, codes: Codes) -> torch.Tensor:
        """Counts per base and strand, Tensor of float64, shape (batch, position, strand)."""
        return self._model.signal(*self.predict(codes))

    def facts(
        self, codes: Codes, window: tuple[int, int], bins: BinArray | None
    ) -> tuple[FloatArray, FloatArray | None]:
        """Window sums (batch, 1) and values of the chosen bases (batch, slot, 1); only they leave the device.

        The value of a base is the sum of its strands.
        """
        with self._runtime.inference():
            values = self.signal(codes).sum(2)
            statistics = values[:, slice(*window)].sum(1, keepdim=True).float().cpu().numpy()
            if bins is None:
                return statistics, None
            wanted = self._runtime.table(bins.astype(np.int64))
            return statistics, values.gather(1, wanted)[:, :, None].float().cpu().numpy()


def load_h5(path: Path, family: Family, runtime: TorchRuntime) -> BPNetRunner:
    """A model from a Keras file.

    Raises
    ------
    WeightsError
        It cannot be read, is of another family, or its layers are of another size.
    """
    from builders.bpnet_h5 import read_h5  # random weights do without h5py

    weights = read_h5(path)
    if weights.family != family:
        raise WeightsError(
            f"{path} is a model of the family {weights.family}, its track needs {family}; check the list"
        )
    if weights.layers > _MOST_LAYERS:
        raise WeightsError(
            f"{path}: {weights.layers} dilated convolutions leave fewer than 1,000 bp of 2,114; {_REMEDY}"
        )
    model = _architecture(family, weights.filters, weights.layers)
    state = {name: torch.from_numpy(values) for name, values in weights.arrays.items()}
    check_state(state, shapes_of(model), path, _REMEDY)
    install(model, state)
    return BPNetRunner(model, runtime)


def load_random(family: Family, filters: int, layers: int, seed: str, runtime: TorchRuntime) -> BPNetRunner:
    """A model of seeded random weights.

    Kernels fall off from their middle, so that a base acts mostly where it is, as in trained models, and there are
    about exp(5) counts.
    """
    model = _architecture(family, filters, layers)
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7])
    state = random_state(shapes_of(model), number)
    for name, values in state.items():
        if values.ndim == 3 and values.shape[2] > 1:
            offsets = torch.arange(values.shape[2]) - values.shape[2] // 2
            taper = torch.exp(-0.5 * (offsets / _RANDOM_REACH_BP) ** 2)
            values *= taper / taper.square().mean().sqrt()
        if name.startswith("dilated."):
            values /= layers
    state["counts_out.bias" if family == "chip" else "counts.bias"] += _RANDOM_LOG_COUNTS
    install(model, state)
    return BPNetRunner(model, runtime)


def _architecture(family: Family, filters: int, layers: int) -> BPNet:
    """The model without weights, on the meta device."""
    with torch.device("meta"):
        return BPNet(family, filters, layers)
