"""Weights of the PyTorch Enformer, whose trunk a checkpoint may hold twice."""

from __future__ import annotations

from pathlib import Path

import torch

from builders.checkpoints import State, read_state, shapes_of

#: enformer-pytorch registers its trunk a second time, as a sequence whose members with parameters are these.
_TRUNK_MEMBERS = {"1": "stem", "2": "conv_tower", "4": "transformer", "6": "final_pointwise"}
REMEDY = "give pytorch_model.bin of EleutherAI/enformer-official-rough, or its folder (--weights)"


def read_weights(path: Path) -> State:
    """State dict of a checkpoint, its trunk once and without the mouse head; see `read_state`."""
    state = read_state(path, REMEDY)
    return {_canonical(key): value for key, value in state.items() if not key.startswith("_heads.mouse.")}


def _canonical(key: str) -> str:
    """Name of a parameter outside the second trunk."""
    if not key.startswith("_trunk."):
        return key
    member, _, rest = key.removeprefix("_trunk.").partition(".")
    return f"{_TRUNK_MEMBERS.get(member, key)}.{rest}"


def expected_shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
    """Shape of every tensor that a checkpoint must hold."""
    return {_canonical(key): shape for key, shape in shapes_of(model).items()}
