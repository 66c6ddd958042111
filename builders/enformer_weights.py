"""Weights of the PyTorch Enformer: read from a file and checked, or drawn from a seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from chorus_store.errors import WeightsError

State = dict[str, torch.Tensor]

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
#: enformer-pytorch registers its trunk a second time, as a sequence whose members with parameters are these.
_TRUNK_MEMBERS = {"1": "stem", "2": "conv_tower", "4": "transformer", "6": "final_pointwise"}
_REMEDY = "give pytorch_model.bin of EleutherAI/enformer-official-rough, or its folder (--weights)"


def read_state(path: Path) -> State:
    """State dict of a checkpoint, its trunk once and without the mouse head.

    Parameters
    ----------
    path : Path
        A ``.safetensors``, ``.bin``, ``.pt`` or ``.pth`` file, or a directory with exactly one of a kind,
        tried in this order. Pickles are read with ``weights_only=True``, so no code of theirs runs.

    Raises
    ------
    WeightsError
        There is no such file, it is truncated, or it is not a state dict.
    """
    file = _file_of(path)
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the two libraries raise for damaged bytes
        reason = str(error).partition("\n")[0]
        raise WeightsError(f"{file} is not a readable checkpoint ({reason}); {_REMEDY}") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{file} holds no state dict (names to tensors); {_REMEDY}")
    return {_canonical(key): value for key, value in state.items() if not key.startswith("_heads.mouse.")}


def _file_of(path: Path) -> Path:
    if not path.exists():
        raise WeightsError(f"no weights at {path}; {_REMEDY}")
    if not path.is_dir():
        return path
    for suffix in SUFFIXES:
        files = sorted(path.glob(f"*{suffix}"))
        if len(files) == 1:
            return files[0]
        if files:
            raise WeightsError(f"{path} holds {len(files)} {suffix} files; give one of them (--weights)")
    raise WeightsError(f"{path} holds no file ending in {', '.join(SUFFIXES)}; {_REMEDY}")


def _canonical(key: str) -> str:
    """Name of a parameter outside the second trunk."""
    if not key.startswith("_trunk."):
        return key
    member, _, rest = key.removeprefix("_trunk.").partition(".")
    return f"{_TRUNK_MEMBERS.get(member, key)}.{rest}"


def expected_shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    """Shape of every tensor that a checkpoint must hold."""
    return {_canonical(key): value.shape for key, value in model.state_dict().items()}


def check_state(state: State, shapes: Mapping[str, torch.Size], source: Path) -> None:
    """Compare names and shapes with the architecture.

    Raises
    ------
    WeightsError
        Names the first few that are missing, unknown or of another shape.
    """
    # Counters of training steps say nothing about a prediction, and some exports drop them.
    missing = [key for key in shapes if key not in state and not key.endswith("num_batches_tracked")]
    unknown = [key for key in state if key not in shapes]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
        for key, shape in shapes.items()
        if key in state and state[key].shape != shape
    ]
    findings = [
        f"{what}: {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        for what, keys in (("missing", missing), ("unknown", unknown), ("wrong shape", misshapen))
        if keys
    ]
    if findings:
        raise WeightsError(f"{source} does not fit this Enformer ({'; '.join(findings)}); {_REMEDY}")


def install(model: torch.nn.Module, state: State) -> None:
    """Give a checked state dict to a model built on the meta device, without a copy of float32 tensors."""
    full = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    for key in expected_shapes(model):
        full.setdefault(key, torch.zeros((), dtype=torch.int64))
    model.load_state_dict(full, strict=False, assign=True)


def random_state(shapes: Mapping[str, torch.Size], seed: int) -> State:
    """Seeded weights, whose outputs vary between sequences, bins and tracks.

    Normalisations start as the identity, matrices and kernels are drawn with variance 2 / fan-in, and so is
    the output of attention, which the package itself sets to zero. Torch's global generator is not used.
    """
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.zeros(shape, dtype=torch.int64)
        elif len(shape) > 1:
            scale = math.sqrt(2 / math.prod(shape[1:]))
            state[key] = torch.randn(shape, generator=generator).mul_(scale)
        elif key.endswith(("weight", "running_var")):
            state[key] = torch.ones(shape)
        else:
            state[key] = torch.zeros(shape)
    return state
