"""Array kernels of looking up values in sorted backgrounds; they know neither labels nor files.

A *row* is one track's CDF: ascending values on an equally spaced grid of cumulative probability. With
``width`` grid points, rank = searchsorted(row, value) and percentile = min(rank / width, 1); a signed track
answers 2·p − 1, so that 0 is the middle of its background. Values are compared in float64 with the float32
row as it is stored: casting a value to float32 first would move it past equal entries. No kernel takes an
absolute value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from chorus_store.errors import InputError

FloatArray = npt.NDArray[np.float64]
RowArray = npt.NDArray[np.floating[Any]]

#: Which entries count as below a value: ``weak`` those ≤ it, ``strict`` those < it, ``mean`` their average.
Method = Literal["weak", "strict", "mean"]


def _sides(method: Method) -> tuple[Literal["left", "right"], ...]:
    """Sides of searchsorted whose ranks are averaged."""
    if method not in get_args(Method):
        raise InputError(f"unknown method {method!r}; use one of {', '.join(get_args(Method))}")
    return {"weak": ("right",), "strict": ("left",), "mean": ("left", "right")}[method]  # type: ignore[return-value]


def rank(values: npt.ArrayLike, row: RowArray, method: Method = "weak") -> FloatArray:
    """How many entries of a row are below each value.

    Parameters
    ----------
    values : array_like of float, any shape
        Compared in float64.
    row : ndarray of float, shape (width,)
        Ascending.
    method : {"weak", "strict", "mean"}
        Whether entries equal to a value count: all, none, or half of them.

    Returns
    -------
    ndarray of float64, shape of ``values``
        0 to width; NaN where the value is NaN.

    Raises
    ------
    InputError
        Unknown method.

    Examples
    --------
    >>> rank([0.5, 2.0], np.array([1.0, 2.0, 2.0, 3.0])).tolist()
    [0.0, 3.0]
    >>> rank(2.0, np.array([1.0, 2.0, 2.0, 3.0]), "mean").tolist()
    2.0
    """
    queries = np.asarray(values, np.float64)
    ranks = [np.searchsorted(row, queries, side) for side in _sides(method)]
    return np.where(np.isnan(queries), np.nan, np.mean(ranks, axis=0))


def rank_rows(values: npt.ArrayLike, rows: RowArray, method: Method = "weak") -> FloatArray:
    """`rank` of ``values[i]`` in ``rows[i]`` for every i, compiled; other threads run meanwhile.

    Parameters
    ----------
    values : array_like of float, shape (n_rows, ...)
        Compared in float64.
    rows : ndarray of float, shape (n_rows, width)
        Each ascending.
    method : {"weak", "strict", "mean"}
        As in `rank`.

    Returns
    -------
    ndarray of float64, shape of ``values``

    Raises
    ------
    InputError
        Unknown method.
    """
    queries = np.ascontiguousarray(values, np.float64)
    if len(queries) != len(rows):
        raise ValueError(f"{len(queries)} rows of values do not match {len(rows)} rows of background")
    flat = queries.reshape(len(rows), math.prod(queries.shape[1:]))
    ranks = np.zeros_like(flat)
    sides = _sides(method)
    for side in sides:
        _compiled()(flat, rows, side == "right", ranks)
    return (ranks / len(sides)).reshape(queries.shape)


def _add_ranks(values: FloatArray, rows: RowArray, right: bool, ranks: FloatArray) -> None:
    """Add to ``ranks`` the searchsorted rank of values[i, j] in rows[i]; NaN for NaN."""
    for i in range(values.shape[0]):
        row = rows[i]
        for j in range(values.shape[1]):
            value = values[i, j]
            below, left = 0, row.size
            # As many steps for every value, so the compiler needs no branch: twice as fast.
            while left > 0:
                half = (left + 1) // 2
                entry = row[below + half - 1]
                below += half if entry < value or (right and entry == value) else 0
                left -= half
            ranks[i, j] += np.nan if np.isnan(value) else below


@cache
def _compiled() -> Callable[[FloatArray, RowArray, bool, FloatArray], None]:
    # Importing numba takes longer than importing everything else, and one track never needs it.
    import numba

    return numba.njit(nogil=True, cache=True)(_add_ranks)  # type: ignore[no-any-return]


def to_percentile(ranks: FloatArray, width: int, signed: npt.ArrayLike = False) -> FloatArray:
    """Percentiles of ranks: min(rank / width, 1), and 2·p − 1 where signed.

    Parameters
    ----------
    ranks : ndarray of float64
        From `rank` or `rank_rows`.
    width : int
        Grid points of the row.
    signed : array_like of bool
        Broadcast against ``ranks``.

    Returns
    -------
    ndarray of float64
        In [0, 1], or [−1, 1] where signed.

    Examples
    --------
    >>> to_percentile(np.array([0.0, 3.0, 4.0]), 4, signed=[False, False, True]).tolist()
    [0.0, 0.75, 1.0]
    """
    fraction = np.minimum(ranks / width, 1.0)
    return np.where(signed, 2.0 * fraction - 1.0, fraction)
