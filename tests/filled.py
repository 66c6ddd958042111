"""Weights filled by name, as those behind the architecture goldens."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def fill_by_name(shapes: Mapping[str, Any], scale: Mapping[str, float] | None = None) -> dict[str, Any]:
    """A state dict for these shapes.

    ``scale`` multiplies tensors by the beginning of their name; the empty name those of more than one axis.
    """
    import torch

    state = {}
    for key, shape in shapes.items():
        values = _filled(key, tuple(shape))
        for prefix, factor in (scale or {}).items():
            if key.startswith(prefix) and (prefix or values.ndim > 1):
                values *= np.float32(factor)
        state[key] = torch.from_numpy(values)
    return state


def _filled(key: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    values = rng.standard_normal(shape, np.float32)
    if len(shape) > 1:
        values /= np.float32(math.sqrt(math.prod(shape[1:])))
        return values
    return values * np.float32(0.1) + np.float32(key.endswith("weight"))
