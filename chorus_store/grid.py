"""From a population to the grid of a CDF: sort each track, take equally spaced order statistics.

Array kernels only; `chorus_store.compact` feeds them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from chorus_store.layout import CDF_POINTS

FloatArray = npt.NDArray[np.float32]

_SIGN = np.uint32(0x80000000)
_ALL = np.uint32(0xFFFFFFFF)
_INFINITY = np.uint32(0x7F800000)
_RADIX_BITS = 11
_RADIX = 1 << _RADIX_BITS


@numba.njit(nogil=True, cache=True)
def _radix_sort(bits: npt.NDArray[np.uint32], scratch: npt.NDArray[np.uint32], ordered: npt.NDArray[np.uint32]) -> int:
    """Sort float32 bit patterns ascending, NaN last, by three stable passes of 11 bits; return how many are NaN.

    Floats compare as their bits once the sign bit is flipped (positive) or all bits are (negative); Herf 2001,
    http://stereopsis.com/radix.html. About four times faster than a comparison sort of this size.
    """
    mask, shift1, shift2 = np.uint32(_RADIX - 1), np.uint32(_RADIX_BITS), np.uint32(2 * _RADIX_BITS)
    counts = np.zeros((3, _RADIX), np.uint32)
    n_nan = 0
    for i in range(bits.size):
        key = bits[i] ^ (_ALL if bits[i] & _SIGN else _SIGN)
        if bits[i] & ~_SIGN > _INFINITY:
            key = _ALL  # whatever its sign
            n_nan += 1
        scratch[i] = key
        counts[0, key & mask] += np.uint32(1)
        counts[1, (key >> shift1) & mask] += np.uint32(1)
        counts[2, key >> shift2] += np.uint32(1)
    for digit in range(3):
        total = np.uint32(0)
        for value in range(_RADIX):
            here = counts[digit, value]
            counts[digit, value] = total
            total += here
    for i in range(bits.size):
        key = scratch[i]
        place = counts[0, key & mask]
        counts[0, key & mask] = place + np.uint32(1)
        ordered[place] = key
    for i in range(bits.size):
        key = ordered[i]
        place = counts[1, (key >> shift1) & mask]
        counts[1, (key >> shift1) & mask] = place + np.uint32(1)
        scratch[place] = key
    for i in range(bits.size):
        key = scratch[i]
        place = counts[2, key >> shift2]
        counts[2, key >> shift2] = place + np.uint32(1)
        ordered[place] = key ^ (_SIGN if key & _SIGN else _ALL)
    return n_nan


def sort_values(values: npt.NDArray[Any], scratch: npt.NDArray[np.uint32] | None = None) -> npt.NDArray[Any]:
    """The values of one track in ascending order, without NaN.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (n,), C-contiguous
        float32 takes the radix sort, anything else NumPy's.
    scratch : ndarray of uint32, shape (2, n), optional
        Memory for the radix sort; the result then lies in its second row.

    Returns
    -------
    ndarray, shape (k,)
        k ≤ n; of the dtype of ``values``.

    Examples
    --------
    >>> sort_values(np.array([2.0, np.nan, -1.0], np.float32)).tolist()
    [-1.0, 2.0]
    """
    if values.dtype != np.float32:
        ordered = np.sort(values)
        return ordered[: np.searchsorted(ordered, np.nan)]  # NumPy sorts NaN last, and finds the first one
    if scratch is None:
        scratch = np.empty((2, len(values)), np.uint32)
    n_nan = _radix_sort(values.view(np.uint32), scratch[0], scratch[1])
    return scratch[1, : len(values) - n_nan].view(np.float32)


@lru_cache(maxsize=16)
def _grid_index(k: int, points: int) -> npt.NDArray[np.intp]:
    index = np.linspace(0, k - 1, points, dtype=int)
    index.flags.writeable = False
    return index


def grid_of_sorted(ordered: npt.NDArray[Any], points: int = CDF_POINTS) -> FloatArray:
    """The grid of one sorted population.

    k ≥ points: the values at ``linspace(0, k − 1, points, dtype=int)``; k < points: ``interp(linspace(0, 1, points),
    arange(k) / k, values)``; k = 0: zeros.

    Parameters
    ----------
    ordered : ndarray of float, shape (k,)
        Ascending, without NaN.
    points : int
        Width of the grid.

    Returns
    -------
    ndarray of float32, shape (points,)

    Examples
    --------
    >>> grid_of_sorted(np.array([1.0, 2.0, 4.0, 8.0]), 3).tolist()
    [1.0, 2.0, 8.0]
    """
    k = len(ordered)
    if k == 0:
        return np.zeros(points, np.float32)
    if k >= points:
        return ordered[_grid_index(k, points)].astype(np.float32)
    wide = ordered.astype(np.float64)
    return np.interp(np.linspace(0, 1, points), np.arange(k) / k, wide).astype(np.float32)


def compact_rows(values: npt.NDArray[Any], points: int = CDF_POINTS) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """CDF grid of every row, and how many values each had.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (rows, samples), C-contiguous
        NaN is a missing value.
    points : int
        Width of the grid.

    Returns
    -------
    grids : ndarray of float32, shape (rows, points)
    counts : ndarray of int64, shape (rows,)

    Examples
    --------
    >>> grids, counts = compact_rows(np.array([[3.0, np.nan, 1.0]]), 2)
    >>> grids.tolist(), counts.tolist()
    ([[1.0, 3.0]], [2])
    """
    counts = np.empty(len(values), np.int64)
    grids = np.empty((len(values), points), np.float32)
    scratch = np.empty((2, values.shape[1]), np.uint32)
    for row, track in enumerate(values):
        ordered = sort_values(track, scratch)
        counts[row] = len(ordered)
        grids[row] = grid_of_sorted(ordered, points)
    return grids, counts
