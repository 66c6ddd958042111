"""Whether a row of a CDF is the grid of some sample of a given size: the inverse of `chorus_store.grid`."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

#: Largest misfit that rounding to float32 explains, in units of the row's largest magnitude. Measured: 0.6; the grid of
#: one value more or less misses by hundreds.
TOLERANCE = 4 * float(np.finfo(np.float32).eps)


@numba.njit(nogil=True, cache=True)
def _misfit(
    row: npt.NDArray[np.float64],
    n: int,
    diagonal: npt.NDArray[np.float64],
    beside: npt.NDArray[np.float64],
    sample: npt.NDArray[np.float64],
) -> float:
    """Largest deviation of a row from the grid of the sample of n values that fits it best."""
    points = row.size
    diagonal[:], beside[:], sample[:] = 0.0, 0.0, 0.0
    for j in range(points):  # normal equations, which are tridiagonal: a point lies between two values
        at = j / (points - 1) * n
        i = min(int(at), n - 1)
        f = at - i if i < n - 1 else 0.0
        diagonal[i] += (1 - f) * (1 - f)
        sample[i] += (1 - f) * row[j]
        if f > 0:
            beside[i] += f * (1 - f)
            diagonal[i + 1] += f * f
            sample[i + 1] += f * row[j]
    for i in range(1, n):
        factor = beside[i - 1] / diagonal[i - 1]
        diagonal[i] -= factor * beside[i - 1]
        sample[i] -= factor * sample[i - 1]
    sample[n - 1] /= diagonal[n - 1]
    for i in range(n - 2, -1, -1):
        sample[i] = (sample[i] - beside[i] * sample[i + 1]) / diagonal[i]
    worst = 0.0
    for j in range(points):
        at = j / (points - 1) * n
        i = min(int(at), n - 1)
        f = at - i if i < n - 1 else 0.0
        fitted = (1 - f) * sample[i] + (f * sample[i + 1] if f > 0 else 0.0)
        worst = max(worst, abs(fitted - row[j]))
    return worst


def is_grid(rows: npt.NDArray[Any], retained: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Whether each row can be the grid of so many values.

    A sample of fewer values than the grid has points is interpolated (`chorus_store.grid.grid_of_sorted`), so a row is
    a linear function of the sample; the sample is recovered by least squares, and the row must be its grid but for
    rounding. Of more values any ascending row can be the grid; of none it is zeros.

    Parameters
    ----------
    rows : ndarray of float32, shape (track, quantile)
        Finite and ascending.
    retained : ndarray of int, shape (track,)
        Values behind each row.

    Returns
    -------
    ndarray of bool, shape (track,)

    Examples
    --------
    >>> rows = np.array([[1, 5 / 3, 2, 2], [1, 1, 1.5, 2], [0, 0, 0, 0]], np.float32)
    >>> is_grid(rows, np.array([2, 2, 0])).tolist()
    [True, False, True]
    """
    points = rows.shape[1]
    good = np.ones(len(rows), np.bool_)
    good[retained == 0] = ~rows[retained == 0].any(axis=1)
    for row in np.flatnonzero((retained > 0) & (retained < points)):
        n = int(retained[row])
        scratch = np.empty((3, n))
        worst = _misfit(rows[row].astype(np.float64), n, scratch[0], scratch[1], scratch[2])
        good[row] = worst <= TOLERANCE * float(np.abs(rows[row]).max())
    return good
