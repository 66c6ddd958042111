"""One track's CDF, for one value at a time.

Bisection of a memoryview takes a microsecond, less than a single call of NumPy's. `chorus_store.lookup` gives the same
answers for arrays.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chorus_store import lookup
from chorus_store.ranking import FloatArray
from chorus_store.ties import randomized_rank


@dataclass(frozen=True, slots=True)
class TrackCdf:
    """CDF of a track that has samples.

    Attributes
    ----------
    label : str
        Track as it was asked for; the hash of tied values needs it.
    entries : memoryview of float32
        Ascending; compared as Python floats, so in float64. NaN ranks last, as with `numpy.searchsorted`.
    denominator : int
        What ranks are divided by.
    randomized : bool
        Whether a hash ranks a value among two or more equal entries; otherwise it ranks last of them.

    Examples
    --------
    >>> cdf = TrackCdf("K562", memoryview(np.array([1, 2, 2, 3], np.float32)), 4, randomized=False)
    >>> cdf.percentile(2.0), cdf.percentile(2.0, signed=True), cdf.exceedance(6.0)
    (0.75, 0.5, 2.0)
    """

    label: str
    entries: memoryview
    denominator: int
    randomized: bool

    def percentile(self, value: float, signed: bool = False) -> float:
        """Percentile of a value as it is: min(rank / denominator, 1), or 2·p − 1 if ``signed``."""
        entries = self.entries
        rank = bisect_right(entries, value)
        if self.randomized and rank > 1 and entries[rank - 2] == value:
            rank = randomized_rank(self.label, value, bisect_left(entries, value), rank)
        fraction = min(rank / self.denominator, 1.0)
        return 2.0 * fraction - 1.0 if signed else fraction

    def percentiles(self, values: npt.ArrayLike) -> FloatArray:
        """`percentile` of every value, unsigned; float64, shape of ``values``."""
        array = np.asarray(values, np.float64)
        found = lookup.percentile(
            array[np.newaxis],
            np.asarray(self.entries)[np.newaxis],
            [0],
            method="randomized" if self.randomized else "weak",
            denominators=[self.denominator],
            labels=[self.label],
        )[0]
        return np.where(np.isnan(array), 1.0, found)

    def exceedance(self, value: float, signed: bool = False) -> float | None:
        """How many times further out than the end of the CDF a value lies; None where it does not."""
        low, high = self.entries[0], self.entries[-1]
        if not signed:
            value = abs(value)
        if value > high > 0 or (signed and value < low < 0):
            return value / (high if value > 0 else low)
        return None
