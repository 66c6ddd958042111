"""From a population to the grid of a CDF: sort each track, take equally spaced order statistics.

Array kernels only; `chorus_store.compact` feeds them.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from chorus_store.layout import CDF_POINTS

FloatArray = npt.NDArray[np.float32]

_SIGN = np.uint32(0x80000000)
_ALL = np.uint32(0xFFFFFFFF)
_RADIX_BITS = 11
_RADIX = 1 << _RADIX_BITS


@numba.njit(nogil=True, cache=True)
def _radix_sort(bits: npt.NDArray[np.uint32], scratch: npt.NDArray[np.uint32], ordered: npt.NDArray[np.uint32]) -> None:
    """Sort float32 bit patterns ascending, NaN last: three stable passes of 11 bits.

    Floats compare as their bits once the sign bit is flipped (positive) or all bits are (negative); Herf 2001,
    http://stereopsis.com/radix.html. About four times faster than a comparison sort of this size.
    """
    mask, shift1, shift2 = np.uint32(_RADIX - 1), np.uint32(_RADIX_BITS), np.uint32(2 * _RADIX_BITS)
    counts = np.zeros((3, _RADIX), np.uint32)
    for i in range(bits.size):
        key = bits[i] ^ (_ALL if bits[i] & _SIGN else _SIGN)
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


def sort_rows(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Sort every row in place, NaN last.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (rows, samples), C-contiguous
        float32 takes the radix sort, anything else NumPy's.

    Returns
    -------
    ndarray
        ``values``.

    Examples
    --------
    >>> sort_rows(np.array([[2.0, np.nan, -1.0]], np.float32)).tolist()
    [[-1.0, 2.0, nan]]
    """
    if values.dtype != np.float32:
        values.sort(axis=1)
        return values
    scratch = np.empty(values.shape[1], np.uint32)
    ordered = np.empty_like(scratch)
    for row in values:
        bits = row.view(np.uint32)
        bits[np.isnan(row)] = np.uint32(0x7FC00000)  # a NaN of negative sign would sort first
        _radix_sort(bits, scratch, ordered)
        bits[:] = ordered
    return values


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
        return ordered[np.linspace(0, k - 1, points, dtype=int)].astype(np.float32)
    wide = ordered.astype(np.float64)
    return np.interp(np.linspace(0, 1, points), np.arange(k) / k, wide).astype(np.float32)


def compact_rows(values: npt.NDArray[Any], points: int = CDF_POINTS) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """CDF grid of every row, and how many values each had.

    Parameters
    ----------
    values : ndarray of float32 or float64, shape (rows, samples), C-contiguous
        NaN is a missing value. Sorted in place.
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
    for row, ordered in enumerate(sort_rows(values)):
        counts[row] = np.searchsorted(ordered, np.nan, side="left")  # NumPy sorts NaN last and finds it there
        grids[row] = grid_of_sorted(ordered[: counts[row]], points)
    return grids, counts
