"""Binary search at machine speed. Importing this imports numba, which takes longer than all the rest."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

_TOGETHER = 64  # keys that descend side by side: enough to hide the latency of a load, few enough for registers


@numba.njit(nogil=True, cache=True)
def count_below(
    keys: npt.NDArray[np.floating[Any]],
    rows: npt.NDArray[np.floating[Any]],
    index: npt.NDArray[np.intp],
    right: bool,
) -> npt.NDArray[np.int64]:
    """As `chorus_store.ranking.count_by_row`, on one core and without the GIL.

    All keys of a group take the same steps. After a first one, their lengths are powers of two: a comparison is shifted
    to where it counts, which becomes vector code on some processors and never, as a choice between two steps does on
    others, a branch that is mispredicted every other time.
    """
    width = rows.shape[1]
    found = np.zeros(keys.shape, np.int64)
    if width == 0:
        return found
    exponent = 0
    while 2 << exponent <= width:
        exponent += 1
    first = np.uint64(width - (1 << exponent))  # unsigned: an index that cannot be negative needs no test
    below = np.empty(_TOGETHER, np.uint64)
    for i in range(keys.shape[0]):
        row = rows[index[i]]
        for start in range(0, keys.shape[1], _TOGETHER):
            group = keys[i, start : start + _TOGETHER]
            for j in range(group.size):
                below[j] = first * _counts(row[first], group[j], right)
            for step in range(exponent - 1, -1, -1):
                shift, last = np.uint64(step), np.uint64((1 << step) - 1)
                for j in range(group.size):
                    below[j] += _counts(row[below[j] + last], group[j], right) << shift
            for j in range(group.size):
                found[i, start + j] = below[j] + _counts(row[below[j]], group[j], right)
    return found


@numba.njit(nogil=True, inline="always")
def _counts(entry: float, key: float, right: bool) -> np.uint64:
    """1 where an entry is below a key, or equal to it if ``right``; else 0."""
    return np.uint64(entry <= key) if right else np.uint64(entry < key)
