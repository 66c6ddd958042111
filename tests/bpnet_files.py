"""Model files as Keras lays them out: ChromBPNet without its bias and two-strand BPNet ChIP, of any size."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.float32]]


def chrombpnet_layers(seed: int, filters: int = 4, depth: int = 8, prefix: str = "wo_bias_") -> dict[str, Arrays]:
    """Random weights by Keras layer; counts are near exp(4)."""
    shapes: dict[str, tuple[int, ...]] = {
        "bpnet_1st_conv": (21, 4, filters),
        **{f"bpnet_{i}conv": (3, filters, filters) for i in range(1, depth + 1)},
        "bpnet_prof_out_precrop": (75, filters, 1),
        "bpnet_logcount_predictions": (filters, 1),
    }
    return _random(
        {prefix + name: shape for name, shape in shapes.items()}, seed, prefix + "bpnet_logcount_predictions"
    )


def chip_layers(seed: int, filters: int = 4, depth: int = 8) -> dict[str, Arrays]:
    """The same of a ChIP model."""
    shapes: dict[str, tuple[int, ...]] = {
        "main_conv_0": (21, 4, filters),
        **{f"main_dil_conv_{i}": (3, filters, filters) for i in range(1, depth + 1)},
        "main_profile_head": (75, filters, 2),
        "main_counts_head": (filters, 1),
        "profile_predictions": (1, 4, 2),
        "logcounts_predictions": (2, 1),
    }
    return _random(shapes, seed, "logcounts_predictions")


def _random(shapes: dict[str, tuple[int, ...]], seed: int, counts: str) -> dict[str, Arrays]:
    rng = np.random.default_rng(seed)
    layers = {}
    for name, shape in shapes.items():
        kernel = rng.standard_normal(shape, np.float32) / np.sqrt(np.prod(shape[:-1]), dtype=np.float32)
        bias = rng.standard_normal(shape[-1:], np.float32) * np.float32(0.1)
        layers[name] = {"kernel": kernel, "bias": bias + np.float32(4 if name == counts else 0)}
    return layers


def write_h5(path: Path, layers: dict[str, Arrays], *, nested: bool = True) -> Path:
    """Write a file of a whole model (``nested``) or of weights alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if nested else file
        root.create_group("sequence")  # a layer without weights
        for name, arrays in layers.items():
            for kind, values in arrays.items():
                root[f"{name}/{name}/{kind}:0"] = values
        if nested:
            file.create_group("optimizer_weights")["Adam/iterations:0"] = 7
    return path
