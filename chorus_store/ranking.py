"""Ranks of values among the ascending entries of their rows: the definition, and the same for many rows at once.

Values are compared in float64 with a row as it is stored, never cast to its dtype: that would move them past equal
entries. The fast search nevertheless compares in the row's dtype, with the value rounded down to it where entries
equal to the value count, and up where they do not: no entry lies between a value and its neighbour in the row's dtype.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from chorus_store.errors import InputError
from chorus_store.ties import break_ties

FloatArray = npt.NDArray[np.float64]
RowArray = npt.NDArray[np.floating[Any]]
Block = tuple[slice, ...]
Search = Callable[[RowArray, RowArray, npt.NDArray[np.intp], bool], npt.NDArray[np.int64]]

#: Which entries count as below a value: ``weak`` those ≤ it, ``strict`` those < it, ``mean`` the average of both;
#: ``randomized`` is weak, and among two or more equal entries a place that a hash chooses.
Method = Literal["weak", "strict", "mean", "randomized"]

_BLOCK = 2**15  # values that are worked on at once: their temporaries stay in the cache
_WIDE = 2**10  # of them in one row, at most
_WORTH_COMPILING = 1_000_000  # look-ups that take NumPy longer than to import numba
_WORTH_A_CALL = 8  # values per row from which a call for each row is faster than stepping through all rows together


def rank(values: npt.ArrayLike, row: RowArray, method: Method = "weak", label: str = "") -> FloatArray:
    """How many entries of a row are below each value: the plain definition.

    Parameters
    ----------
    values : array_like of float, any shape
        Compared in float64.
    row : ndarray of float, shape (width,)
        Ascending.
    method : {"weak", "strict", "mean", "randomized"}
        Whether entries equal to a value count: all, none, half of them, or as many as a hash of label and value
        says (all, where there is only one).
    label : str
        Track identifier as it was asked for; "randomized" alone needs it.

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
    >>> row = np.array([1.0, 2.0, 2.0, 3.0])
    >>> rank([0.5, 2.0], row).tolist(), rank([0.5, 2.0], row, "mean").tolist()
    ([0.0, 3.0], [0.0, 2.0])
    """
    _check_method(method)
    queries = np.asarray(values, np.float64).reshape(1, -1)
    left, right = (np.searchsorted(row.astype(np.float64), queries, side) for side in ("left", "right"))
    ranks = _combine(queries, method, [label], lambda inclusive: right if inclusive else left)
    return ranks.reshape(np.shape(values))


def rank_rows(
    values: npt.ArrayLike,
    rows: RowArray,
    index: npt.ArrayLike,
    method: Method = "weak",
    labels: Sequence[str] | None = None,
) -> FloatArray:
    """`rank` of ``values[i]`` in ``rows[index[i]]`` for every i; other threads run meanwhile.

    Parameters
    ----------
    values : array_like of float, shape (n, ...)
        Compared in float64; any strides.
    rows : ndarray of float32 or float64, shape (m, width)
        Each ascending.
    index : array_like of int, shape (n,)
        Row of each of ``values``; -1 where there is none.
    method : {"weak", "strict", "mean", "randomized"}
        As in `rank`.
    labels : sequence of str, length n, optional
        Track identifiers as they were asked for; "randomized" alone needs them.

    Returns
    -------
    ndarray of float64, shape and memory layout of ``values``
        0 to width; NaN where the value is NaN or the row is -1.

    Raises
    ------
    InputError
        An unknown method; lengths that do not match; a row that does not exist; "randomized" without labels.

    Examples
    --------
    >>> rows = np.array([[1, 2, 2, 3], [10, 20, 30, 40]], np.float32)
    >>> rank_rows([[2.0, 5.0], [25.0, np.nan], [1.0, 1.0]], rows, [0, 1, -1]).tolist()
    [[3.0, 4.0], [2.0, nan], [nan, nan]]
    """
    queries = as_floats(values)
    ranks = np.empty_like(queries, np.float64)
    for block, block_ranks in ranked(queries, rows, index, method, labels):
        ranks[block] = block_ranks
    return ranks


def ranked(
    values: RowArray,
    rows: RowArray,
    index: npt.ArrayLike,
    method: Method,
    labels: Sequence[str] | None,
    absolute: npt.ArrayLike = False,
) -> Iterator[tuple[Block, FloatArray]]:
    """`rank_rows` block by block, so that what is done with the ranks happens while they are in the cache.

    Parameters
    ----------
    values, rows, index, method, labels
        As in `rank_rows`; values of float32 or float64.
    absolute : bool or array_like of bool, shape (n,)
        Rank the absolute value.

    Yields
    ------
    tuple of slice
        A block of ``values``: slices of its first axis and, if it has one, its second.
    ndarray of float64, shape of that block
        Its ranks.
    """
    row = np.asarray(index, np.intp)
    _check_method(method)
    _check(len(values), row, rows, method, labels)
    names = () if labels is None else labels
    positive = np.broadcast_to(absolute, len(values))
    search = _search(values.size, values.size // max(len(values), 1))
    for block in _blocks(values.shape):
        here = block[0]
        queries = np.array(values[block], order="C").reshape(len(row[here]), -1)
        np.abs(queries, out=queries, where=positive[here, None])
        known = row[here] >= 0
        if known.any():
            ranks = _rank_block(queries, rows, np.maximum(row[here], 0), method, names[here], search)
            ranks[~known] = np.nan
        else:
            ranks = np.full(queries.shape, np.nan)
        yield block, ranks.reshape(values[block].shape)


def _blocks(shape: tuple[int, ...]) -> Iterator[Block]:
    """Slices that cut an array into pieces of ``_BLOCK`` numbers, narrow enough that a transposed array reads well."""
    columns, deep = shape[1] if len(shape) > 1 else 1, math.prod(shape[2:])
    wide = max(1, _WIDE // max(1, deep))
    tall = max(1, _BLOCK // max(1, min(wide, columns) * deep))
    for top in range(0, shape[0], tall):
        for left in range(0, columns, wide):
            yield (slice(top, top + tall), slice(left, left + wide))[: len(shape)]


def as_floats(values: npt.ArrayLike) -> RowArray:
    """Values as they are if float32 or float64, otherwise as float64."""
    array = np.asarray(values)
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float64)


def _check_method(method: Method) -> None:
    if method not in get_args(Method):
        raise InputError(f"unknown method {method!r}; use one of {', '.join(get_args(Method))}")


def _check(n: int, index: npt.NDArray[np.intp], rows: RowArray, method: Method, labels: Sequence[str] | None) -> None:
    """Refuse arguments that do not fit together: compiled code would read beyond its arrays."""
    if rows.ndim != 2 or rows.dtype not in (np.float32, np.float64):
        raise InputError(f"rows of shape {rows.shape} and dtype {rows.dtype}; give (m, width) of float32 or float64")
    if index.shape != (n,):
        raise InputError(f"an index of shape {index.shape} does not name one row for each of {n} rows of values")
    if n and not -1 <= index.min() <= index.max() < len(rows):
        raise InputError(f"the index runs from {index.min()} to {index.max()}, of {len(rows)} rows; -1 stands for none")
    if method == "randomized" and (labels is None or len(labels) != n):
        raise InputError(f"method 'randomized' hashes the track's name: give {n} labels")


def _rank_block(
    values: RowArray,
    rows: RowArray,
    index: npt.NDArray[np.intp],
    method: Method,
    labels: Sequence[str],
    search: Search,
) -> FloatArray:
    """Ranks of values, shape (n, k), in the rows of that index, all of which exist."""

    def count(right: bool) -> npt.NDArray[np.int64]:
        return search(_rounded(values, rows.dtype, down=right), rows, index, right)

    return _combine(values, method, labels, count)


def _combine(
    values: RowArray, method: Method, labels: Sequence[str], count: Callable[[bool], npt.NDArray[np.int64]]
) -> FloatArray:
    """Ranks from ``count(right)``: the number of entries below each value, with its equals if ``right``."""
    if method in ("weak", "strict"):
        ranks = count(method == "weak").astype(np.float64)
    elif method == "mean":
        ranks = (count(False) + count(True)) / 2
    else:
        ranks = break_ties(values, labels, count(False), count(True))
    ranks[np.isnan(values)] = np.nan
    return ranks


def _rounded(values: RowArray, dtype: np.dtype[Any], *, down: bool) -> RowArray:
    """Values in another dtype, none of which is above (``down``) or below what it was."""
    with np.errstate(over="ignore", under="ignore"):
        keys = values.astype(dtype)
    passed = keys > values if down else keys < values
    # Bit patterns of neighbouring numbers are neighbours, away from zero for either sign. `np.nextafter` takes longer.
    bits = keys.view(f"i{dtype.itemsize}")
    away = (bits >> (8 * dtype.itemsize - 1)) | 1
    bits -= passed * (away if down else -away)
    return keys


def _search(n_values: int, per_row: int) -> Search:
    """The fastest search for so many values; numba is imported only where that pays."""
    if per_row < _WORTH_A_CALL:
        return count_together
    name = "chorus_store.compiled_search"
    if n_values < _WORTH_COMPILING and name not in sys.modules:
        return count_by_row
    count: Search = import_module(name).count_below
    return count


def count_by_row(keys: RowArray, rows: RowArray, index: npt.NDArray[np.intp], right: bool) -> npt.NDArray[np.int64]:
    """How many entries of its row are below each key, row by row.

    Parameters
    ----------
    keys : ndarray, shape (n, k), dtype of ``rows``
    rows : ndarray of float, shape (m, width)
    index : ndarray of int, shape (n,)
        ``keys[i]`` is looked up in ``rows[index[i]]``.
    right : bool
        Whether entries equal to the key count too.

    Returns
    -------
    ndarray of int64, shape (n, k)
        Of no meaning where the key is NaN.
    """
    side: Literal["left", "right"] = "right" if right else "left"
    found = np.empty(keys.shape, np.int64)
    for i, row in enumerate(index):
        found[i] = rows[row].searchsorted(keys[i], side)
    return found


def count_together(keys: RowArray, rows: RowArray, index: npt.NDArray[np.intp], right: bool) -> npt.NDArray[np.int64]:
    """As `count_by_row`, halving the range of all keys together: as many steps for one row as for thousands."""
    below = np.less_equal if right else np.less
    found = np.zeros(keys.shape, np.int64)
    left = rows.shape[1]
    while left > 0:
        half = (left + 1) // 2
        found += half * below(rows[index[:, None], found + (half - 1)], keys)
        left -= half
    return found
