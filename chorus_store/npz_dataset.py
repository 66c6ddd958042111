"""An NPZ file → a Dataset with the variables of a store, whose values are read when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from chorus_store.layout import VARIABLE
from chorus_store.npz_contract import BUILD_CONFIG, dims_of, variable_of
from chorus_store.npz_file import NpzFile


def as_dataset(npz: NpzFile) -> xr.Dataset:
    """Dataset of an open file, which it closes; see `chorus_store.npz_file.open_npz`."""
    variables = {
        variable_of(name): xr.Variable(dims_of(name, member.shape, npz.n_tracks), _values(npz, name))
        for name, member in npz.arrays.items()
        if name != BUILD_CONFIG
    }
    variables["quantile"] = xr.Variable("quantile", np.linspace(0, 1, npz.n_points))
    variables.setdefault("signed", xr.Variable("track", np.zeros(npz.n_tracks, bool)))
    for name in variables.keys() & VARIABLE.keys():
        variables[name].attrs["description"] = VARIABLE[name].description
    dataset = xr.Dataset(variables, attrs=_attributes(npz))
    dataset.set_close(npz.close)
    return dataset


def _attributes(npz: NpzFile) -> dict[str, Any]:
    config = npz.build_config or {}
    known = {
        "oracle": npz.oracle and {"name": npz.oracle},
        "genome": config.get("genome"),
        "build_config": npz.build_config,
    }
    return {name: value for name, value in known.items() if value is not None}


def _values(npz: NpzFile, name: str) -> Any:
    """Text as Python strings, at once; numbers when they are asked for."""
    if npz.arrays[name].dtype.kind == "U":
        return npz.text(name)
    return indexing.LazilyIndexedArray(_LazyArray(npz, name))


class _LazyArray(BackendArray):
    """One array of numbers, inflated when first asked for."""

    def __init__(self, npz: NpzFile, name: str) -> None:
        self.shape, self.dtype = npz.arrays[name].shape, npz.arrays[name].dtype
        self._npz, self._name = npz, name

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Entries at one of xarray's own keys."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.BASIC, self._slice)

    def _slice(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        return self._npz.read(self._name)[key]  # type: ignore[no-any-return]
