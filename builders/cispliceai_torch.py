"""CI-SpliceAI on PyTorch: the architecture of SpliceAI-10k (Jaganathan et al. 2019), five trained members averaged.

The published file is a frozen TensorFlow graph; its constants are read and the graph is not run. Convolutions take
no padding, so the sequence shrinks by exactly the context that the model needs and nothing is computed to be cut off.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from builders.checkpoints import State, check_state, install, random_state, shapes_of
from builders.frozen_graph import read_constants
from builders.torch_runtime import TorchRuntime
from chorus_store.errors import WeightsError

REMEDY = "give CI-SpliceAI.pb of the package cispliceai 1.2.2 (--weights)"
#: Kernel width and dilation of the residual blocks, four of each.
_STAGES = ((11, 1), (11, 4), (21, 10), (41, 25))
_BLOCKS_PER_STAGE = 4
#: Keras's, which the graph has in it.
_EPSILON = 0.001
#: Parameter by what its node is called within its layer; members after the first end in _1, _2, …
_PARAMETERS = {
    r"conv1d(?:_(\d+))?/ExpandDims_1/ReadVariableOp": "weight",
    r"BiasAdd(?:_(\d+))?/ReadVariableOp": "bias",
    r"batchnorm(?:_(\d+))?/mul/ReadVariableOp": "weight",
    r"batchnorm(?:_(\d+))?/ReadVariableOp": "running_var",
    r"batchnorm(?:_(\d+))?/ReadVariableOp_1": "running_mean",
    r"batchnorm(?:_(\d+))?/ReadVariableOp_2": "bias",
}


class CISpliceAINet(nn.Module):
    """One-hot sequences, (batch, 4, position), to probabilities, (batch, 3, position − 10,000).

    The three channels are: no splice site, acceptor, donor; of the strand that is given.
    """

    def __init__(self, members: int, channels: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(_Member(channels) for _ in range(members))

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        """Probabilities of a batch."""
        # The average in float32, whatever the members are computed in.
        return torch.stack([member(sequences).float().softmax(dim=1) for member in self.members]).mean(dim=0)


class _Member(nn.Module):
    """One trained model; layers are numbered as in the graph, from 0."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [(4, channels, 1, 1), (channels, channels, 1, 1)]
        for width, dilation in _STAGES:
            widths += [(channels, channels, width, dilation)] * (2 * _BLOCKS_PER_STAGE) + [(channels, channels, 1, 1)]
        widths.append((channels, 3, 1, 1))
        self.convolutions = nn.ModuleList(nn.Conv1d(a, b, width, dilation=d) for a, b, width, d in widths)
        blocks = len(_STAGES) * _BLOCKS_PER_STAGE
        self.normalisations = nn.ModuleList(nn.BatchNorm1d(channels, eps=_EPSILON) for _ in range(2 * blocks))

    def forward(self, sequences: torch.Tensor) -> torch.Tensor:
        convolve, normalise = iter(self.convolutions), iter(self.normalisations)
        x = next(convolve)(sequences)
        # The sum of the stages and what is made of it in float32, whatever the stages are computed in.
        skipped = next(convolve)(x).float()
        for _ in _STAGES:
            for _ in range(_BLOCKS_PER_STAGE):
                inner = x
                for _ in range(2):
                    inner = next(convolve)(functional.relu(next(normalise)(inner)))
                x = inner + _centre(x, inner.shape[2])
            skipped = _centre(skipped, x.shape[2]) + next(convolve)(x)
        with torch.autocast(skipped.device.type, enabled=False):
            return next(convolve)(skipped)


def _centre(x: torch.Tensor, length: int) -> torch.Tensor:
    return x.narrow(2, (x.shape[2] - length) // 2, length)


def load_net(members: int, channels: int, weights: Path | None, runtime: TorchRuntime, seed: int) -> CISpliceAINet:
    """The model with published or random weights, on its device.

    Raises
    ------
    WeightsError
        The file cannot be read, or holds another architecture.
    DeviceMemoryError
        The device is out of memory.
    """
    with torch.device("meta"):
        net = CISpliceAINet(members, channels)
    shapes = shapes_of(net)
    if weights is None:
        state = random_state(shapes, seed)
    else:
        state = read_graph(weights)
        check_state(state, shapes, weights, REMEDY)
    install(net, state)
    return runtime.place(net)


def read_graph(path: Path) -> State:
    """State dict of the published file.

    Raises
    ------
    WeightsError
        The file cannot be read, or its layers are not called as in CI-SpliceAI's.
    """
    state: State = {}
    unknown = []
    for node, values in read_constants(path, REMEDY).items():
        key = _key(node)
        if key is None:
            unknown.append(node)
            continue
        tensor = torch.from_numpy(values)
        # Keras has kernels as (position, in, out).
        state[key] = tensor.permute(2, 1, 0).contiguous() if tensor.ndim == 3 else tensor
    if unknown:
        raise WeightsError(f"{path} is another model: it has {', '.join(unknown[:3])}; {REMEDY}")
    return state


def _key(node: str) -> str | None:
    """Name in the state dict of a constant of the graph; None where CI-SpliceAI has no such layer.

    Examples
    --------
    >>> _key("model_1/conv1d_3/BiasAdd_2/ReadVariableOp/resource")
    'members.2.convolutions.2.bias'
    """
    layer = re.fullmatch(r"model_1/(conv1d|batch_normalization)_(\d+)/(.+)/resource", node)
    if layer is None:
        return None
    group = "convolutions" if layer[1] == "conv1d" else "normalisations"
    for pattern, parameter in _PARAMETERS.items():
        if operation := re.fullmatch(pattern, layer[3]):
            return f"members.{operation[1] or 0}.{group}.{int(layer[2]) - 1}.{parameter}"
    return None
