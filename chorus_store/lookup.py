"""Array kernels of looking up values in sorted backgrounds; they know neither labels nor files.

A *row* is one track's CDF: ascending values on an equally spaced grid of cumulative probability. With ``width`` grid
points, the percentile of a value is min(rank / width, 1) (`chorus_store.ranking`); a signed track answers 2·p − 1,
so that 0 is the middle of its background. Where values, rows and an index come together, ``values[i]`` belongs to
``rows[index[i]]``, and an index of -1 answers NaN; so does a value that is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chorus_store.errors import InputError
from chorus_store.ranking import FloatArray, Method, RowArray, as_floats, rank, rank_rows, ranked

__all__ = [
    "LEAST_SPAN", "FloatArray", "Method", "RowArray", "anchors", "exceedance", "percentile", "quantile", "rank",
    "rank_rows", "rescale", "signed_rescale", "signed_unit", "standard_error", "support", "to_percentile",
]  # fmt: skip

LEAST_SPAN = 1e-9  # below this a span is none: the reference neither divides by less nor has a smaller unit


def percentile(
    values: npt.ArrayLike,
    rows: RowArray,
    index: npt.ArrayLike,
    *,
    method: Method = "weak",
    absolute: npt.ArrayLike = False,
    signed: npt.ArrayLike = False,
    denominators: npt.ArrayLike | None = None,
    labels: Sequence[str] | None = None,
) -> FloatArray:
    """Percentile of ``values[i]`` in ``rows[index[i]]`` for every i; other threads run meanwhile.

    Parameters
    ----------
    values : array_like of float, shape (n, ...)
        Compared in float64; any strides.
    rows : ndarray of float32 or float64, shape (m, width)
        Each ascending.
    index : array_like of int, shape (n,)
        Row of each of ``values``; -1 where there is none.
    method : {"weak", "strict", "mean", "randomized"}
        Which entries equal to a value count, as in `rank`.
    absolute : bool or array_like of bool, shape (n,)
        Rank the absolute value.
    signed : bool or array_like of bool, shape (n,)
        Answer 2·p − 1.
    denominators : array_like of int, shape (n,), optional
        What ranks are divided by, at least 1; by default the width.
    labels : sequence of str, length n, optional
        Track identifiers as they were asked for; "randomized" alone needs them.

    Returns
    -------
    ndarray of float64, shape and memory layout of ``values``
        In [0, 1], or [−1, 1] where signed; NaN where the value is NaN or the row is -1.

    Raises
    ------
    InputError
        An unknown method; lengths that do not match; a row that does not exist; "randomized" without labels.

    Examples
    --------
    >>> rows = np.array([[1, 2, 2, 3], [-2, -1, 1, 2]], np.float32)
    >>> percentile([[-2.0, 9.0], [-1.5, 0.0]], rows, [0, 1], absolute=[True, False], signed=[False, True]).tolist()
    [[0.75, 1.0], [-0.5, 0.0]]
    """
    queries = as_floats(values)
    per_row = (len(queries), *[1] * (queries.ndim - 1))
    divisor = np.broadcast_to(rows.shape[1] if denominators is None else denominators, len(queries)).reshape(per_row)
    signs = np.broadcast_to(signed, len(queries)).reshape(per_row)
    result = np.empty_like(queries, np.float64)
    for block, ranks in ranked(queries, rows, index, method, labels, absolute):
        result[block] = to_percentile(ranks, divisor[block[0]], signs[block[0]])
    return result


def to_percentile(ranks: npt.ArrayLike, denominator: npt.ArrayLike, signed: npt.ArrayLike = False) -> FloatArray:
    """Percentiles of ranks: min(rank / denominator, 1), and 2·p − 1 where signed.

    Parameters
    ----------
    ranks : array_like of float
        From `rank` or `rank_rows`.
    denominator : array_like of int
        Grid points of the row; broadcast against ``ranks``, as is ``signed``.
    signed : array_like of bool

    Returns
    -------
    ndarray of float64
        In [0, 1], or [−1, 1] where signed.

    Examples
    --------
    >>> to_percentile([0.0, 3.0, 4.0], 4, signed=[False, False, True]).tolist()
    [0.0, 0.75, 1.0]
    """
    fraction = np.minimum(np.asarray(ranks) / denominator, 1.0)
    return np.where(signed, 2.0 * fraction - 1.0, fraction)


def quantile(p: npt.ArrayLike, rows: RowArray, index: npt.ArrayLike, *, signed: npt.ArrayLike = False) -> FloatArray:
    """Smallest entry of ``rows[index[i]]`` whose weak percentile is at least ``p[i]``: the inverse of `percentile`.

    Parameters
    ----------
    p : array_like of float, shape (n, ...)
        In [0, 1], or [−1, 1] where signed.
    rows : ndarray of float, shape (m, width)
        Each ascending.
    index : array_like of int, shape (n,)
        Row of each of ``p``; -1 where there is none.
    signed : bool or array_like of bool, shape (n,)

    Returns
    -------
    ndarray of float64, shape of ``p``
        NaN where p is NaN or out of range, or the row is -1. NumPy calls this quantile "inverted_cdf".

    Examples
    --------
    >>> rows = np.array([[1, 2, 2, 3]], np.float32)
    >>> quantile([[0.0, 0.5, 0.51, 1.0, 1.1]], rows, [0]).tolist()
    [[1.0, 2.0, 2.0, 3.0, nan]]
    """
    share, row = np.asarray(p, np.float64), np.asarray(index, np.intp)
    column = (slice(None), *[None] * (share.ndim - 1))
    signs, width = np.broadcast_to(signed, len(share))[column], rows.shape[1]
    inside = (share >= np.where(signs, -1, 0)) & (share <= 1) & (row >= 0)[column]
    # The arithmetic may be a rounding error off, so the rank is corrected by what `percentile` would answer.
    ranks = np.ceil(np.where(inside, np.where(signs, (share + 1) / 2, share), 1) * width)
    ranks -= to_percentile(ranks - 1, width, signs) >= share
    ranks += to_percentile(ranks, width, signs) < share
    entry = np.clip(ranks.astype(np.intp), 1, width) - 1
    found: FloatArray = np.where(inside, rows[row[column], entry], np.nan).astype(np.float64)
    return found


def standard_error(p: npt.ArrayLike, n: npt.ArrayLike, signed: npt.ArrayLike = False) -> FloatArray:
    """Binomial standard error √(p·(1 − p)/n) of a percentile from n background values.

    Parameters
    ----------
    p : array_like of float
        Percentiles. Those nearer than half a value to 0 or 1 count as half a value away: that a value lies beyond
        all of n does not make its percentile certain.
    n : array_like of int
        Background values; broadcast against ``p``, as is ``signed``.
    signed : array_like of bool
        Whether p is 2·p − 1, whose error is twice as large.

    Returns
    -------
    ndarray of float64
        NaN where p is NaN or n is 0.

    Examples
    --------
    >>> standard_error([0.5, 1.0], 10_000).tolist()
    [0.005, 7.070891032960025e-05]
    """
    size = np.where(np.asarray(n) > 0, n, np.nan)
    share = np.where(signed, (np.asarray(p, np.float64) + 1) / 2, p)
    share = np.clip(share, 0.5 / size, 1 - 0.5 / size)
    error: FloatArray = np.sqrt(share * (1 - share) / size)
    return np.where(signed, 2 * error, error)


def support(rows: RowArray) -> tuple[FloatArray, FloatArray]:
    """Smallest and largest entry of each row.

    Parameters
    ----------
    rows : ndarray of float, shape (..., width)
        Ascending.

    Returns
    -------
    low, high : ndarray of float64, shape (...)
    """
    return np.asarray(rows[..., 0], np.float64), np.asarray(rows[..., -1], np.float64)


def exceedance(
    values: npt.ArrayLike, rows: RowArray, index: npt.ArrayLike, *, signed: npt.ArrayLike = False
) -> FloatArray:
    """How many times further than the end of its row a value lies.

    Parameters
    ----------
    values : array_like of float, shape (n, ...)
    rows : ndarray of float, shape (m, width)
        Each ascending.
    index : array_like of int, shape (n,)
        Row of each of ``values``; -1 where there is none.
    signed : bool or array_like of bool, shape (n,)
        Whether the lower end counts too; otherwise the absolute value is compared with the upper end.

    Returns
    -------
    ndarray of float64, shape of ``values``
        Above 1; NaN where the value lies within the row, or where the end does not lie on the value's side of 0.

    Examples
    --------
    >>> rows = np.array([[-2, 1, 4]], np.float32)
    >>> exceedance([[8.0, -8.0, 1.0]], rows, [0], signed=True).tolist()
    [[2.0, 4.0, nan]]
    """
    queries, row = np.asarray(values, np.float64), np.asarray(index, np.intp)
    column = (slice(None), *[None] * (queries.ndim - 1))
    low, high = (np.where(row >= 0, end[row], np.nan)[column] for end in support(rows))
    signs = np.broadcast_to(signed, len(queries))[column]
    queries = np.where(signs, queries, np.abs(queries))
    above = (queries > high) & (high > 0)
    below = signs & (queries < low) & (low < 0)
    return queries / np.where(above, high, np.where(below, low, np.nan))


def anchors(rows: RowArray, floor: float, peak: float) -> tuple[FloatArray, FloatArray]:
    """Entries at two positions of each row, between which `rescale` scales.

    Parameters
    ----------
    rows : ndarray of float, shape (..., width)
        Ascending.
    floor, peak : float
        In [0, 1]. The entry is number ⌊q·width⌋, counted from 0, at most the last: the reference's rule.

    Returns
    -------
    floor, peak : ndarray of float64, shape (...)

    Raises
    ------
    InputError
        A position outside [0, 1].
    """
    low, high = (rows[..., _position(q, rows)] for q in (floor, peak))
    return np.asarray(low, np.float64), np.asarray(high, np.float64)


def rescale(
    values: npt.ArrayLike, floor: npt.ArrayLike, peak: npt.ArrayLike, *, max_value: float, log: bool = False
) -> FloatArray:
    """Values scaled so that the floor becomes 0 and the peak 1, clipped to [0, ``max_value``].

    Parameters
    ----------
    values : array_like of float
    floor, peak : array_like of float
        From `anchors`; broadcast against ``values``.
    max_value : float
    log : bool
        Scale log(1 + x) instead, with negative values and anchors as 0.

    Returns
    -------
    ndarray of float64
        NaN for NaN.

    Examples
    --------
    >>> rescale([1.0, 2.0, 3.0, 99.0], 1.0, 3.0, max_value=3.0).tolist()
    [0.0, 0.5, 1.0, 3.0]
    """
    shown, low, high = (np.asarray(array, np.float64) for array in (values, floor, peak))
    if log:
        # Of single anchors the reference takes the C library's log1p; NumPy's may differ from it in the last bit.
        log1p = np.vectorize(math.log1p, otypes=[np.float64])
        shown, low, high = np.log1p(np.maximum(shown, 0)), log1p(np.maximum(low, 0)), log1p(np.maximum(high, 0))
    return np.clip((shown - low) / np.maximum(high - low, LEAST_SPAN), 0, max_value)


def signed_unit(rows: RowArray, peak: float) -> FloatArray:
    """Absolute entry of each row below which a share ``peak`` of its absolute entries lies.

    Parameters
    ----------
    rows : ndarray of float, shape (m, width)
    peak : float
        In [0, 1], read as in `anchors`.

    Returns
    -------
    ndarray of float64, shape (m,)

    Raises
    ------
    InputError
        A position outside [0, 1].
    """
    position = _position(peak, rows)
    return np.array([np.partition(np.abs(row), position)[position] for row in rows], np.float64)


def signed_rescale(values: npt.ArrayLike, unit: npt.ArrayLike, *, max_value: float) -> FloatArray:
    """Values in units of `signed_unit`, clipped to [−``max_value``, ``max_value``].

    Parameters
    ----------
    values : array_like of float
    unit : array_like of float
        Broadcast against ``values``.
    max_value : float

    Returns
    -------
    ndarray of float64
        NaN for NaN, and where the unit is below 1e-9.
    """
    units = np.asarray(unit, np.float64)
    return np.clip(np.asarray(values) / np.where(units < LEAST_SPAN, np.nan, units), -max_value, max_value)


def _position(q: float, rows: npt.NDArray[Any]) -> int:
    """Entry of a row at the share ``q``."""
    if not 0 <= q <= 1:
        raise InputError(f"{q} is no position in a background; give a number from 0 to 1")
    width: int = rows.shape[-1]
    return min(int(q * width), width - 1)
