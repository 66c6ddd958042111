"""All of a background read and checked; opening one checks its metadata alone, and a lookup the rows that it needs."""

from __future__ import annotations

from os import PathLike, fspath

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from chorus_store import opening, schema
from chorus_store.errors import CorruptStoreError
from chorus_store.layout import CDFS

_BLOCK_TRACKS = 256


def validate(place: str | PathLike[str], *, progress: bool = True) -> int:
    """Check a background from end to end: its attributes by their schema, every row, every count.

    Parameters
    ----------
    place : path-like or str
        Whatever `chorus_store.open` opens.
    progress : bool
        Show a progress bar when stderr is a terminal.

    Returns
    -------
    int
        Rows that were read.

    Raises
    ------
    StoreNotFoundError, StoreUnreachableError, SchemaError
        As `chorus_store.open`; and attributes that do not follow their schema.
    CorruptStoreError
        Bytes that cannot be read, a row that is missing or does not ascend, or counts that contradict each other;
        the first of them, with its array and track.

    Examples
    --------
    >>> validate("enformer.zarr")  # doctest: +SKIP
    15939
    """
    with opening.open(place) as store:
        if "schema" in store.attrs:  # an NPZ has none
            schema.validate(store.attrs, "store")
        cdfs = [cdf for cdf in CDFS if f"{cdf}_cdf" in store]
        n_tracks = store.sizes["track"]
        with tqdm(total=len(cdfs) * n_tracks, unit=" rows", disable=not progress or None) as bar:
            for cdf in cdfs:
                _check_counts(store, cdf, fspath(place))
                for start in range(0, n_tracks, _BLOCK_TRACKS):
                    block = store[f"{cdf}_cdf"][start : start + _BLOCK_TRACKS]
                    _check_rows(block, fspath(place))
                    bar.update(len(block))
    return len(cdfs) * n_tracks


def _check_rows(block: xr.DataArray, place: str) -> None:
    # NaN, which stands for a lost chunk, does not ascend either.
    _refuse(~opening.ascends(block.values), block, f"row of {block.name}", "is missing or does not ascend", place)


def _check_counts(store: xr.Dataset, cdf: str, place: str) -> None:
    if {f"{cdf}_count", f"{cdf}_retained"} <= store.variables.keys():
        offered, retained = store[f"{cdf}_count"], store[f"{cdf}_retained"]
        bad = (retained.values < 0) | (retained.values > offered.values)
        _refuse(bad, offered, f"count of {cdf}", "contradicts the number of values kept", place)


def _refuse(bad: npt.NDArray[np.bool_], tracks: xr.DataArray, what: str, why: str, place: str) -> None:
    if bad.any():
        track = tracks["track"].values[bad.argmax()]
        raise CorruptStoreError(f"{place}: the {what} of track {track} {why}; copy or publish the background again")
