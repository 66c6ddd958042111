"""PyTorch weights: read from a file and checked against an architecture, or drawn from a seed."""

from __future__ import annotations

import math
import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from builders.trust import ANY
from chorus_store.errors import WeightsError
from chorus_store.files import sha256_of

State = dict[str, torch.Tensor]

#: End of the names of counters of training steps, which say nothing about a prediction.
_COUNTER = "num_batches_tracked"

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def read_state(path: Path, remedy: str, *, prefix: str = "", trusted: Collection[str] = ()) -> State:
    """State dict of a checkpoint.

    Parameters
    ----------
    path : Path
        A file that ends in one of `SUFFIXES`, or a folder with exactly one of a kind, tried in this order. A
        checkpoint of a training framework, whose state dict is its entry ``state_dict``, will do.
    remedy : str
        End of every error message: what to give instead.
    prefix : str
        Taken off the names that begin with it.
    trusted : collection of str
        SHA-256 of files that may run code while they are read, in hexadecimal, or `builders.trust.ANY`. All
        others are read with ``weights_only=True``, so no code of theirs runs.

    Raises
    ------
    WeightsError
        There is no such file, it is truncated, it needs to be trusted and is not, or it holds no state dict.
    """
    file = file_of(path, remedy)
    content = _loaded(file, remedy, trusted)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise WeightsError(f"{file} holds no state dict (names to tensors); {remedy}")
    return {str(key).removeprefix(prefix): value for key, value in content.items()}


def file_of(path: Path, remedy: str) -> Path:
    """The file itself, or the one file of weights in a folder.

    Raises
    ------
    WeightsError
        There is none, or more than one of a kind.
    """
    if not path.exists():
        raise WeightsError(f"no weights at {path}; {remedy}")
    if not path.is_dir():
        return path
    for suffix in SUFFIXES:
        files = sorted(path.glob(f"*{suffix}"))
        if len(files) == 1:
            return files[0]
        if files:
            raise WeightsError(f"{path} holds {len(files)} {suffix} files; give one of them (--weights)")
    raise WeightsError(f"{path} holds no file ending in {', '.join(SUFFIXES)}; {remedy}")


def _loaded(file: Path, remedy: str, trusted: Collection[str]) -> Any:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # damaged, or objects besides tensors
        if not trusted:
            reason = _reason(error)
            raise WeightsError(f"{file} is not a readable checkpoint of tensors alone ({reason}); {remedy}") from error
    except Exception as error:  # whatever the two libraries raise for damaged bytes
        raise WeightsError(f"{file} is not a readable checkpoint ({_reason(error)}); {remedy}") from error
    return _unpickled(file, remedy, trusted)


def _unpickled(file: Path, remedy: str, trusted: Collection[str]) -> Any:
    """Read a trusted file, whose code runs."""
    if ANY not in trusted and (found := sha256_of(file)) not in trusted:
        raise WeightsError(f"{file} needs to be trusted, and its SHA-256 is {found}, not the one given; {remedy}")
    try:
        return torch.load(file, map_location="cpu", weights_only=False)
    except Exception as error:  # its code may raise anything
        raise WeightsError(f"{file} is not a readable checkpoint ({_reason(error)}); {remedy}") from error


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def shapes_of(model: torch.nn.Module) -> dict[str, torch.Size]:
    """Shape of every tensor of the state dict."""
    return {key: value.shape for key, value in model.state_dict().items()}


def check_state(state: State, shapes: Mapping[str, torch.Size], source: Path, remedy: str) -> None:
    """Compare names and shapes with the architecture, whose tensors are of floating point but for counters.

    Raises
    ------
    WeightsError
        Names the first few that are missing, unknown, of another shape or not of floating point.
    """
    # Some exports drop the counters.
    missing = [key for key in shapes if key not in state and not key.endswith(_COUNTER)]
    unknown = [key for key in state if key not in shapes]
    misshapen = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(shape)}"
        for key, shape in shapes.items()
        if key in state and state[key].shape != shape
    ]
    not_floating = [
        f"{key} {str(value.dtype).removeprefix('torch.')}"
        for key, value in state.items()
        if key in shapes and not value.is_floating_point() and not key.endswith(_COUNTER)
    ]
    kinds = {
        "missing": missing, "unknown": unknown, "wrong shape": misshapen, "not floating point": not_floating,
    }  # fmt: skip
    findings = [
        f"{what}: {', '.join(keys[:3])}" + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
        for what, keys in kinds.items()
        if keys
    ]
    if findings:
        raise WeightsError(f"{source} does not fit the architecture ({'; '.join(findings)}); {remedy}")


def install(model: torch.nn.Module, state: State, names: Collection[str] | None = None) -> None:
    """Give a checked state dict to a model built on the meta device, without a copy of float32 tensors.

    ``names`` are those that the model needs, where it has the same tensor under several.
    """
    full = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    for key in names or shapes_of(model):
        full.setdefault(key, torch.zeros((), dtype=torch.int64))  # an absent counter
    model.load_state_dict(full, strict=names is None, assign=True)


def random_state(shapes: Mapping[str, torch.Size], seed: int, gain: float = 2.0) -> State:
    """Seeded weights, whose outputs vary between sequences, bins and tracks.

    Normalisations start as the identity, matrices and kernels are drawn with variance ``gain`` / fan-in: 2
    keeps the size of rectified values, 1 that of others. Torch's global generator is not used.
    """
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for key, shape in shapes.items():
        if key.endswith(_COUNTER):
            state[key] = torch.zeros(shape, dtype=torch.int64)
        elif len(shape) > 1:
            scale = math.sqrt(gain / math.prod(shape[1:]))
            state[key] = torch.randn(shape, generator=generator).mul_(scale)
        elif key.endswith(("weight", "running_var")):
            state[key] = torch.ones(shape)
        else:
            state[key] = torch.zeros(shape)
    return state
