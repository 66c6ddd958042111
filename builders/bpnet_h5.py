"""ChromBPNet and BPNet ChIP models as Keras saved them (legacy ``.h5``), read with h5py alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builders.model_list import Family
from chorus_store.errors import BackendUnavailableError, WeightsError

try:
    import h5py
except ImportError as error:
    raise BackendUnavailableError(
        f"ChromBPNet's models are read with h5py ({error}); pip install 'chorus-store[chrombpnet]'"
    ) from error

FloatArray = npt.NDArray[np.float32]

#: Keras names of the layers with weights, and what `builders.bpnet_torch.BPNet` calls them; ``*`` is a number from 1.
LAYERS: Mapping[Family, Mapping[str, str]] = {
    "accessibility": {
        "bpnet_1st_conv": "first",
        "bpnet_*conv": "dilated.*",
        "bpnet_prof_out_precrop": "profile",
        "bpnet_logcount_predictions": "counts",
    },
    "chip": {
        "main_conv_0": "first",
        "main_dil_conv_*": "dilated.*",
        "main_profile_head": "profile",
        "main_counts_head": "counts",
        "profile_predictions": "profile_out",
        "logcounts_predictions": "counts_out",
    },
}
#: Deflate cannot do better than this.
_MAX_RATIO = 1032
#: Prefix of the layers of a ChromBPNet whose bias was factored out.
_PREFIX = "wo_bias_"
_KINDS = {"kernel": "weight", "bias": "bias"}
_REMEDY = "give the .h5 of a ChromBPNet without its bias (chrombpnet_nobias) or of a two-strand BPNet ChIP model"


@dataclass(frozen=True, eq=False)
class KerasModel:
    """Weights of one model, laid out for PyTorch.

    Attributes
    ----------
    family : {"accessibility", "chip"}
        ChromBPNet without its bias, or BPNet ChIP of two strands.
    filters, layers : int
        Channels of the trunk, and its dilated convolutions.
    arrays : mapping of str to ndarray of float32
        By parameter of `builders.bpnet_torch.BPNet`: kernels (out, in, position), matrices (out, in), biases (out,).
    """

    family: Family
    filters: int
    layers: int
    arrays: Mapping[str, FloatArray]


def read_h5(path: Path) -> KerasModel:
    """Read a model's weights from a Keras file, whole models and weights alone alike.

    Layers without weights, the optimizer and the stored configuration are not looked at. Names may carry the
    prefix ``wo_bias_``.

    Parameters
    ----------
    path : Path
        A legacy ``.h5`` file.

    Raises
    ------
    WeightsError
        No such file, a folder, not HDF5, cut short, not of Keras, another architecture, layers missing or too many,
        weights that are no arrays of real numbers, or numbers that are not finite.

    Examples
    --------
    >>> read_h5(Path("BP000001.1_model.h5")).family  # doctest: +SKIP
    'chip'
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder in which there is no .h5 file; {_REMEDY}")
    try:
        with h5py.File(path, "r") as file:
            pairs = list(_layers(file))
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:  # what h5py raises for damaged bytes
        raise WeightsError(f"{path} cannot be read as HDF5 ({_first_line(error)}); {_REMEDY}") from error
    layers = dict(pairs)
    if len(layers) < len(pairs):
        raise WeightsError(f"{path} holds the layers of a ChromBPNet beside those of its bias; {_REMEDY}")
    if not layers:
        raise WeightsError(f"{path} holds no layers of a Keras model; {_REMEDY}")
    family = _family(layers, path)
    arrays = {
        f"{target}.{_KINDS[kind]}": _for_torch(values)
        for layer, target in _targets(layers, family, path).items()
        for kind, values in layers[layer].items()
    }
    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if broken:
        raise WeightsError(f"{path} holds numbers that are not finite ({', '.join(broken[:3])}); {_REMEDY}")
    first = arrays["first.weight"]
    n_layers = sum(re.fullmatch(r"dilated\.\d+\.weight", name) is not None for name in arrays)
    return KerasModel(family, len(first), n_layers, arrays)


def _layers(file: h5py.File) -> Iterator[tuple[str, dict[str, Any]]]:
    """Layers that have weights: name without prefix, and arrays by kind (``kernel``, ``bias``)."""
    for name, group in file.get("model_weights", file).items():
        arrays: dict[str, Any] = {}

        def keep(path: str, item: Any, arrays: dict[str, Any] = arrays) -> None:
            if isinstance(item, h5py.Dataset):
                if item.dtype.kind not in "fiu" or not item.size or not item.shape:
                    raise ValueError(f"{path} is no array of real numbers: {item.dtype}, shape {item.shape}")
                if item.nbytes > _MAX_RATIO * item.id.get_storage_size():
                    raise ValueError(f"{path} declares {item.nbytes:,} bytes, more than it holds")
                arrays[path.rpartition("/")[2].partition(":")[0]] = item[()]

        if isinstance(group, h5py.Group):
            group.visititems(keep)
        if arrays:
            yield name.removeprefix(_PREFIX), arrays


def _family(layers: Mapping[str, Any], path: Path) -> Family:
    """The architecture that the first convolution is of."""
    for family, names in LAYERS.items():
        if next(iter(names)) in layers:
            return family
    raise WeightsError(f"{path} is a model of another architecture: its layers are {_listed(list(layers))}; {_REMEDY}")


def _targets(layers: Mapping[str, Mapping[str, Any]], family: Family, path: Path) -> dict[str, str]:
    """Of every layer, the module that takes its weights; exactly those of the family, the dilated ones without gap."""
    targets = {}
    for layer in layers:
        for pattern, target in LAYERS[family].items():
            match = re.fullmatch(pattern.replace("*", "([1-9][0-9]*)"), layer)
            if match:
                targets[layer] = target.replace("*", str(int(match[1]) - 1)) if match.groups() else target
    depth = sum(target.startswith("dilated.") for target in targets.values())
    wanted = [
        pattern.replace("*", str(i + 1)) for pattern in LAYERS[family] for i in range(depth if "*" in pattern else 1)
    ]
    findings = {
        "missing layers": [layer for layer in wanted if layer not in layers],
        "unknown layers": [layer for layer in layers if layer not in wanted],
        "layers without kernel and bias": [layer for layer in targets if layers[layer].keys() != _KINDS.keys()],
    }
    said = [f"{what}: {_listed(names)}" for what, names in findings.items() if names]
    if said:
        raise WeightsError(f"{path} is no model of the family {family} ({'; '.join(said)}); {_REMEDY}")
    return targets


def _for_torch(values: Any) -> FloatArray:
    """Keras' (position, in, out) or (in, out) as PyTorch's (out, in, position) or (out, in); not flipped."""
    return np.ascontiguousarray(np.asarray(values, np.float32).T)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
