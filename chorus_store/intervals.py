"""Half-open intervals and ranges as arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def merge_intervals(intervals: IntArray) -> IntArray:
    """Union of half-open intervals as ascending, disjoint ones.

    Parameters
    ----------
    intervals : ndarray of int64, shape (n, 2)
        In any order; n is 1 or more.

    Examples
    --------
    >>> merge_intervals(np.array([[5, 9], [0, 2], [8, 12], [2, 3]])).tolist()
    [[0, 3], [5, 12]]
    """
    start, end = intervals[np.argsort(intervals[:, 0], kind="stable")].T
    reach = np.maximum.accumulate(end)
    first = np.concatenate([[True], start[1:] > reach[:-1]])
    last = np.concatenate([first[1:], [True]])
    return np.stack([start[first], reach[last]], axis=1)


def ranges(first: npt.NDArray[np.integer], stop: npt.NDArray[np.integer]) -> IntArray:
    """All integers of half-open ranges, range after range.

    Examples
    --------
    >>> ranges(np.array([3, 8]), np.array([5, 9])).tolist()
    [3, 4, 8]
    """
    length = (stop - first).astype(np.int64)
    end = np.cumsum(length)
    values: IntArray = np.arange(length.sum()) + np.repeat(first - (end - length), length)
    return values
