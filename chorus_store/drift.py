"""How far one CDF of many tracks has drifted from one background to another, read block by block."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from chorus_store import opening
from chorus_store.distance import kolmogorov_smirnov, landmarks, ratio, sampling_noise
from chorus_store.errors import CorruptStoreError
from chorus_store.lookup import FloatArray, RowArray
from chorus_store.places import Place

#: What is compared: a place that `chorus_store.open` opens, or the Dataset that it gives, or a selection of one.
Background = Place | xr.Dataset
Indices = npt.NDArray[np.intp]

#: Points of the background of absolute values whose ratios are taken.
LANDMARKS = ("p50", "p99", "max")

_BLOCK_TRACKS = 128  # of which the rows, ranks and temporaries take some 50 MB


def opened(background: Background) -> AbstractContextManager[xr.Dataset]:
    """A background as a Dataset, closed at the end if it was opened here."""
    return nullcontext(background) if isinstance(background, xr.Dataset) else opening.open(background)


def source(store: xr.Dataset) -> str:
    """Place that a Dataset was opened from, for messages."""
    return str(store.encoding.get("source", "a dataset"))


def measure(a: Background, b: Background, cdf: str, rows: tuple[Indices, Indices], bar: tqdm[Any]) -> xr.Dataset:
    """Drift of one CDF; places are opened here, so that an NPZ does not keep what was unpacked of it.

    Parameters
    ----------
    a, b : path-like, str or Dataset
        Both have the CDF.
    cdf : {"effect", "summary", "perbin"}
    rows : two arrays of int, shape (n,)
        Rows of the same tracks in either.
    bar : tqdm
        Told of every track.

    Returns
    -------
    Dataset
        Variables of `chorus_store.comparison.Comparison.drift` along ``track``.

    Raises
    ------
    CorruptStoreError
        Rows that cannot be read, or are not finite and ascending.
    """
    n = len(rows[0])
    distance, marks = np.empty(n), np.empty((2, n, len(LANDMARKS)))
    with opened(a) as first, opened(b) as second:
        stores = first, second
        samples = [_samples(store, cdf)[index] for store, index in zip(stores, rows, strict=True)]
        for start in range(0, n, _BLOCK_TRACKS):
            block = slice(start, start + _BLOCK_TRACKS)
            pair = [_read(store, cdf, index[block]) for store, index in zip(stores, rows, strict=True)]
            distance[block] = kolmogorov_smirnov(*pair)
            marks[:, block] = [landmarks(entries) for entries in pair]
            bar.update(len(pair[0]))
    empty = np.stack(samples) == 0
    distance[empty.any(axis=0)], marks[empty] = np.nan, np.nan
    return _dataset(distance, samples, marks)


def row(background: Background, cdf: str, track: str) -> RowArray:
    """One track's CDF, read again.

    Parameters
    ----------
    background : path-like, str or Dataset
    cdf : {"effect", "summary", "perbin"}
    track : str
        Its identifier.

    Returns
    -------
    ndarray of float, shape (quantile,)

    Raises
    ------
    CorruptStoreError
        It cannot be read, or is not finite and ascending.
    """
    with opened(background) as store:
        entries: RowArray = _read(store, cdf, np.flatnonzero(store["track"].values == track))[0]
    return entries


def _dataset(distance: FloatArray, samples: list[FloatArray], marks: FloatArray) -> xr.Dataset:
    noise = sampling_noise(samples[0], samples[1])
    found = {"ks": distance, "noise": noise, "excess": distance / noise}
    found |= {"samples_a": samples[0], "samples_b": samples[1]}
    for i, name in enumerate(LANDMARKS):
        old, new = marks[:, :, i]
        found |= {f"{name}_a": old, f"{name}_b": new, f"{name}_ratio": ratio(new, old)}
    return xr.Dataset({name: ("track", values) for name, values in found.items()})


def _samples(store: xr.Dataset, cdf: str) -> FloatArray:
    """Values behind the CDF of each track, NaN where unknown."""
    name = next((name for name in (f"{cdf}_retained", f"{cdf}_count") if name in store.variables), None)
    return np.full(store.sizes["track"], np.nan) if name is None else store[name].values.astype(np.float64)


def _read(store: xr.Dataset, cdf: str, rows: Indices) -> RowArray:
    """Rows of a CDF, checked; what is wrong with them says in which of the backgrounds."""
    name = f"{cdf}_cdf of {source(store)}"
    try:
        with opening.reading(name):
            entries: RowArray = store[f"{cdf}_cdf"].isel(track=rows).transpose("track", "quantile").values
        opening.require_rows(entries, name)
    except CorruptStoreError as error:
        raise error if name in str(error) else CorruptStoreError(f"{name}: {error}") from error
    return entries
