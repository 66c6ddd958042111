"""Which part of a head's output becomes facts, as index arrays for any framework."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builders.oracle import Head, Oracle

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CentralGather:
    """Recipe for a binned head that predicts all its channels at once.

    A backend runs its head on the bins ``first`` to ``stop``, on the chosen ones and on those of exons. It sums the
    first over each window in float64, lays the (batch, channel) sums of all windows side by side, then the means of
    ``exon_channels`` over the exon bins, and takes ``columns``; of the chosen ones it takes ``channels``, and
    replaces ``exon_rows`` by the ``exon_channels`` of the exon bins that were chosen.

    Attributes
    ----------
    n_bins, n_channels : int
        Of the head.
    first, stop : int
        The widest window, half-open in bins.
    windows : tuple of (int, int)
        Distinct windows, half-open, counted from ``first``.
    columns : ndarray of int64, shape (track,)
        Of every track, its column of the sums and means: window number × ``n_channels`` + channel, or, after all
        windows, its place in ``exon_rows``.
    channels : ndarray of int64, shape (track,)
        Channel of every track.
    exon_rows, exon_channels : ndarray of int64, shape (exon track,)
        The tracks that are measured over exons, and their channels.
    """

    n_bins: int
    n_channels: int
    first: int
    stop: int
    windows: tuple[tuple[int, int], ...]
    columns: IntArray
    channels: IntArray
    exon_rows: IntArray
    exon_channels: IntArray

    @classmethod
    def of(cls, oracle: Oracle, n_channels: int, head: Head | None = None) -> CentralGather:
        """The recipe for the tracks of a head with ``n_channels`` channels; by default of the only one."""
        if head is None:
            (head,) = oracle.heads
        tracks = np.flatnonzero(oracle.tracks.head == head.name)
        groups = [group for group in oracle.window_groups() if group.head == head]
        first = min((group.first for group in groups), default=0)
        stop = max((group.stop for group in groups), default=0)
        columns = np.empty(len(tracks), np.int64)
        for number, group in enumerate(groups):
            columns[np.searchsorted(tracks, group.rows)] = number * n_channels + group.channels
        windows = tuple((group.first - first, group.stop - first) for group in groups)
        channels = oracle.tracks.channel[tracks]
        exon_rows = np.flatnonzero(np.isin(tracks, oracle.exon_rows)).astype(np.int64)
        columns[exon_rows] = len(windows) * n_channels + np.arange(len(exon_rows))
        return cls(head.n_bins, n_channels, first, stop, windows, columns, channels, exon_rows, channels[exon_rows])

    @property
    def window_bins(self) -> IntArray:
        """Bins of the widest window, which every sequence needs."""
        return np.arange(self.first, self.stop, dtype=np.int64)
