"""Which part of a head's output becomes facts, as index arrays for any framework."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builders.oracle import Oracle

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CentralGather:
    """Recipe for an oracle with one binned head that predicts all its channels at once.

    A backend runs its head on the bins ``first`` to ``stop`` and on the chosen ones. It sums the former over
    each window in float64, lays the (batch, channel) sums of all windows side by side, and takes ``columns``;
    of the latter it takes ``channels``.

    Attributes
    ----------
    n_bins, n_channels : int
        Of the head.
    first, stop : int
        The widest window, half-open in bins.
    windows : tuple of (int, int)
        Distinct windows, half-open, counted from ``first``.
    columns : ndarray of int64, shape (track,)
        Of every track, its column of the sums: window number × ``n_channels`` + channel.
    channels : ndarray of int64, shape (track,)
        Channel of every track.
    """

    n_bins: int
    n_channels: int
    first: int
    stop: int
    windows: tuple[tuple[int, int], ...]
    columns: IntArray
    channels: IntArray

    @classmethod
    def of(cls, oracle: Oracle, n_channels: int) -> CentralGather:
        """The recipe for an oracle whose only head has ``n_channels`` channels."""
        (head,) = oracle.heads
        groups = oracle.window_groups()
        first, stop = min(group.first for group in groups), max(group.stop for group in groups)
        columns = np.empty(len(oracle.tracks), np.int64)
        for number, group in enumerate(groups):
            columns[group.rows] = number * n_channels + group.channels
        windows = tuple((group.first - first, group.stop - first) for group in groups)
        return cls(head.n_bins, n_channels, first, stop, windows, columns, oracle.tracks.channel)

    @property
    def window_bins(self) -> IntArray:
        """Bins of the widest window, which every sequence needs."""
        return np.arange(self.first, self.stop, dtype=np.int64)
