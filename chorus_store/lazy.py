"""The group of a background → a Dataset whose values are read when they are asked for."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from xarray.backends import BackendArray
from xarray.core import indexing
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import StorePath

from chorus_store.opening import reading
from chorus_store.places import consolidated_arrays
from chorus_store.seal import SEAL


def as_dataset(group: zarr.Group) -> xr.Dataset:
    """Dataset of a group from `chorus_store.places.open_group`; reads the coordinates ``track`` and ``quantile`` alone.

    Parameters
    ----------
    group : zarr.Group
        With consolidated metadata; arrays of which an axis has no name are left out.

    Returns
    -------
    Dataset
        A variable for every array of the group, strings as Python's, and the group's attributes.

    Raises
    ------
    CorruptStoreError
        Damaged coordinates.
    """
    variables = {
        name: _variable(LazyArray(group.store_path / name, metadata), metadata.dimension_names or ())
        for name, metadata in consolidated_arrays(group).items()
        if len(metadata.dimension_names or ()) == len(metadata.shape)
    }
    attributes = {name: value for name, value in group.attrs.asdict().items() if name != SEAL}
    return xr.Dataset(variables, attrs=attributes)


def _variable(array: LazyArray, dims: tuple[str | None, ...]) -> xr.Variable:
    metadata = array.metadata
    # What ``chunks={}`` asks for: Dask blocks are whole files.
    blocks = dict(zip(dims, metadata.shards or metadata.chunks, strict=True))
    # A copy that xarray makes has to have every chunk too: one that is missing is damage to `IntactStore`.
    encoding = {"chunks": metadata.chunks, "preferred_chunks": blocks, "write_empty_chunks": True}
    return xr.Variable(dims, indexing.LazilyIndexedArray(array), dict(metadata.attributes), encoding)


class LazyArray(BackendArray):
    """One array of a background, as xarray wants what it indexes before it reads.

    Parameters
    ----------
    place : StorePath
        Where the array is.
    metadata : ArrayV3Metadata
        Of the array, which is made when it is read from; for most that never happens.
    """

    def __init__(self, place: StorePath, metadata: ArrayV3Metadata) -> None:
        dtype = metadata.data_type.to_native_dtype()
        self.shape = metadata.shape
        self.dtype = np.dtype(object) if dtype.kind == "T" else dtype
        self.metadata = metadata
        self._place = place

    @cached_property
    def _array(self) -> zarr.Array[Any]:
        return zarr.Array(zarr.AsyncArray(self.metadata, self._place))

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Entries at one of xarray's own keys."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> npt.NDArray[Any]:
        key = tuple(map(_as_slice, key))
        by_slices = not any(isinstance(indexer, np.ndarray) for indexer in key)
        with reading(self._place.path):
            values = self._array[key] if by_slices else self._array.oindex[key]
        return np.asarray(values).astype(self.dtype, copy=False)


def _as_slice(indexer: Any) -> Any:
    """Consecutive rows (never negative: xarray counts them from the start) as a slice, which Zarr reads faster."""
    if isinstance(indexer, np.ndarray) and indexer.size and (np.diff(indexer) == 1).all():
        return slice(int(indexer[0]), int(indexer[-1]) + 1)
    return indexer
