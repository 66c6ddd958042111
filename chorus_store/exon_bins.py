"""Exons on an output: the bins of every position's window that overlap them.

Tracks of gene expression are measured over these bins. They are part of the plan, so that they are the same for
everyone who scores it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chorus_store.intervals import merge_intervals, ranges

IntArray = npt.NDArray[np.int64]
BinArray = npt.NDArray[np.int32]
StringArray = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class ExonBins:
    """Bins of n positions as half-open runs, position after position (compressed sparse rows).

    Attributes
    ----------
    offset : ndarray of int64, shape (n + 1,)
        Position i has the runs ``offset[i]`` to ``offset[i + 1]``.
    first, stop : ndarray of int32, shape (run,)
        Of every run, its first bin and the bin after its last; within a position ascending and disjoint.
    """

    offset: IntArray
    first: BinArray
    stop: BinArray

    @classmethod
    def none(cls, n: int) -> ExonBins:
        """No bin at any of n positions."""
        return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.int32))

    def __len__(self) -> int:
        return len(self.offset) - 1

    def counts(self) -> IntArray:
        """Bins of every position, shape (n,)."""
        before = np.concatenate([[0], np.cumsum(self.stop - self.first, dtype=np.int64)])
        return np.diff(before[self.offset])

    def at(self, position: int) -> BinArray:
        """Bins of one position, ascending."""
        runs = slice(self.offset[position], self.offset[position + 1])
        return ranges(self.first[runs], self.stop[runs]).astype(np.int32)

    def take(self, positions: npt.NDArray[np.integer]) -> ExonBins:
        """Those of some positions, in the order of their indices."""
        first, stop = self.offset[positions], self.offset[positions + 1]
        runs = ranges(first, stop)
        return ExonBins(np.concatenate([[0], np.cumsum(stop - first)]), self.first[runs], self.stop[runs])

    def padded(self) -> BinArray:
        """All bins as a table, shape (n, most bins of any position); −1 where a position has fewer.

        Examples
        --------
        >>> offset, first, stop = np.array([0, 2, 2]), np.array([3, 8], np.int32), np.array([5, 9], np.int32)
        >>> ExonBins(offset, first, stop).padded().tolist()
        [[3, 4, 8], [-1, -1, -1]]
        """
        counts = self.counts()
        table = np.full((len(self), int(counts.max(initial=0))), -1, np.int32)
        table[np.arange(table.shape[1]) < counts[:, None]] = ranges(self.first, self.stop)
        return table


@dataclass(frozen=True)
class OutputAxis:
    """Where the bins of an output lie in the input window.

    Attributes
    ----------
    resolution_bp, n_bins : int
        Base pairs per bin, and bins.
    offset_bp : int
        Where the first bin starts in the input window.
    """

    resolution_bp: int
    n_bins: int
    offset_bp: int


def overlapping_bins(
    exons: Mapping[str, IntArray], axis: OutputAxis, chrom: StringArray, window_start: IntArray
) -> ExonBins:
    """Bins that share a base or more with an exon.

    Parameters
    ----------
    exons : mapping of str to ndarray of int64, shape (m, 2)
        Per chromosome 0-based half-open intervals, ascending and disjoint, as of `annotations.merged_exons`.
    axis : OutputAxis
        Exons are placed relative to its first bin, not to the start of the input.
    chrom : ndarray of str, shape (n,)
    window_start : ndarray of int64, shape (n,)
        First base of the input window, 0-based.

    Examples
    --------
    Bins of 10 bp from base 105 on: the exon [118, 126) touches the second and the third.

    >>> axis = OutputAxis(resolution_bp=10, n_bins=4, offset_bp=5)
    >>> bins = overlapping_bins({"chr1": np.array([[118, 126]])}, axis, np.array(["chr1"]), np.array([100]))
    >>> bins.at(0).tolist()
    [1, 2]
    """
    output_start, span = window_start + axis.offset_bp, axis.resolution_bp * axis.n_bins
    # Runs of all positions on one axis, with a gap of a bin between positions, so that one merge does for all.
    pitch, runs = axis.n_bins + 1, []
    for name in np.unique(chrom).tolist():
        intervals, here = exons.get(name, np.empty((0, 2), np.int64)), np.flatnonzero(chrom == name)
        after = np.searchsorted(intervals[:, 1], output_start[here], side="right")
        before = np.searchsorted(intervals[:, 0], output_start[here] + span, side="left")
        position = np.repeat(here, before - after)
        inside = np.clip(intervals[ranges(after, before)] - output_start[position, None], 0, span)
        touched = np.stack([inside[:, 0] // axis.resolution_bp, -(-inside[:, 1] // axis.resolution_bp)], axis=1)
        runs.append(touched + pitch * position[:, None])
    found = np.concatenate(runs) if runs else np.empty((0, 2), np.int64)
    if not len(found):
        return ExonBins.none(len(chrom))
    merged = merge_intervals(found)
    position = merged[:, 0] // pitch
    first, stop = (merged - pitch * position[:, None]).T.astype(np.int32)
    return ExonBins(np.searchsorted(position, np.arange(len(chrom) + 1)), first, stop)
