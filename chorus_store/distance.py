"""Array kernels of comparing sorted backgrounds, row by row; they know neither labels nor files.

A *row* is one track's CDF, as in `chorus_store.lookup`: ascending values, each of which stands for the same share of
the background. Its distribution function is a step function, and what is said here of rows is exact for that.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from chorus_store.lookup import FloatArray, RowArray, anchors
from chorus_store.ranking import count_by_row

#: Share of unchanged tracks whose distance is to exceed `sampling_noise` by chance.
ALPHA = 0.01


def kolmogorov_smirnov(a: RowArray, b: RowArray) -> FloatArray:
    """Largest difference between the distribution functions of ``a[i]`` and ``b[i]``: sup |F_a − F_b|.

    F_a is furthest above F_b at an entry of a, where F_a has just risen, and furthest below it at an entry of b. At
    the i-th of equal entries, counted from 1, i / width is at most F_a, and equal to it at the last of them: so ties
    need no care.

    Parameters
    ----------
    a, b : ndarray of float, shapes (n, width of a) and (n, width of b)
        Each row ascending and finite.

    Returns
    -------
    ndarray of float64, shape (n,)
        From 0, for rows with the same distribution function, to 1, for rows that do not overlap.

    Examples
    --------
    >>> a, b = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 0.0, 1.0]]), np.array([[1.0, 2.5], [0.0, 0.0]])
    >>> kolmogorov_smirnov(a, b).tolist()
    [0.5, 0.25]
    """
    shares = a.shape[1] * b.shape[1]  # counts of both on one scale are whole numbers, so that equal means 0
    distance: FloatArray = np.maximum(_most_above(a, b), _most_above(b, a)) / shares
    return distance


def _most_above(a: RowArray, b: RowArray) -> npt.NDArray[np.int64]:
    """The most that F_a is above F_b, in units of 1 / (width of a × width of b)."""
    risen = np.arange(1, a.shape[1] + 1) * b.shape[1]
    reached = count_by_row(a, b, np.arange(len(a)), right=True)
    reached *= a.shape[1]
    most: npt.NDArray[np.int64] = (risen - reached).max(axis=1)
    return most


def sampling_noise(n_a: npt.ArrayLike, n_b: npt.ArrayLike, alpha: float = ALPHA) -> FloatArray:
    """Kolmogorov–Smirnov distance that two independent samples of one distribution exceed with probability ``alpha``.

    c(α) · √((n + m) / (n·m)) with c(α) = √(−ln(α/2) / 2), the leading term of the limit for large samples (N. Smirnov,
    Table for estimating the goodness of fit of empirical distributions, Ann. Math. Statist. 19, 1948, 279–281). With
    ties the probability is smaller.

    Parameters
    ----------
    n_a, n_b : array_like of float
        Sizes of the samples; broadcast. NaN where unknown.
    alpha : float
        Between 0 and 1.

    Returns
    -------
    ndarray of float64
        NaN where a size is 0 or unknown.

    Examples
    --------
    >>> sampling_noise([10_000, 48], [10_000, 48]).round(4).tolist()
    [0.023, 0.3322]
    """
    sizes = [np.where(np.asarray(n) > 0, n, np.nan) for n in (n_a, n_b)]
    noise: FloatArray = np.sqrt(-np.log(alpha / 2) / 2 * (1 / sizes[0] + 1 / sizes[1]))
    return noise


def landmarks(rows: RowArray) -> FloatArray:
    """Median, 99th percentile and maximum of the absolute value of each row.

    Of absolute values, because the median of a signed background is near 0, where ratios mean nothing; of rows that
    are not negative they are the plain ones.

    Parameters
    ----------
    rows : ndarray of float, shape (n, width)
        Each ascending.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Entries as `chorus_store.lookup.anchors` counts them.

    Examples
    --------
    >>> landmarks(np.array([[0.0, 1.0, 2.0, 3.0], [-8.0, -1.0, 0.0, 2.0]])).tolist()
    [[2.0, 3.0, 3.0], [2.0, 8.0, 8.0]]
    """
    sizes = np.abs(rows)
    signed = rows[:, 0] < 0
    sizes[signed] = np.sort(sizes[signed], axis=1)
    return np.stack([*anchors(sizes, 0.5, 0.99), sizes[:, -1].astype(np.float64)], axis=1)


def ratio(b: npt.ArrayLike, a: npt.ArrayLike) -> FloatArray:
    """How many times ``a`` each ``b`` is, both at least 0: 1 where both are 0, infinite where only ``a`` is.

    Parameters
    ----------
    b, a : array_like of float
        Broadcast.

    Returns
    -------
    ndarray of float64
        NaN where either is NaN.

    Examples
    --------
    >>> ratio([3.0, 0.0, 1.0, 0.0, np.nan], [2.0, 0.0, 0.0, 5.0, 1.0]).tolist()
    [1.5, 1.0, inf, 0.0, nan]
    """
    new, old = np.asarray(b, np.float64), np.asarray(a, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((new == 0) & (old == 0), 1.0, new / old)
