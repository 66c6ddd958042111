"""Which part of a head's output becomes facts, as index arrays for any framework."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builders.oracle import BinArray, Exons, Head, Oracle
from chorus_store.exon_bins import ExonBins
from chorus_store.gene_bins import GeneBins

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Wanted:
    """Bins at which a batch needs a head.

    Attributes
    ----------
    indices : ndarray of int64, shape (batch, bin)
        Bins of the widest window, chosen bins, exon bins, and chosen exon bins, side by side; −1 where there is none.
    widths : list of int
        How many bins each of the four has.
    exons : Exons
        Those of the request; none at all where it has none.
    """

    indices: IntArray
    widths: list[int]
    exons: Exons


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

    def wanted(self, batch: int, bins: BinArray | None, exons: Exons | None) -> Wanted:
        """Bins that a batch needs.

        Parameters
        ----------
        batch : int
            Sequences.
        bins : ndarray of int32, shape (batch, slot), or None
        exons : Exons or None
        """
        none = np.empty((batch, 0), np.int32)
        exons = exons or Exons(ExonBins.none(batch))
        parts = (
            np.broadcast_to(np.arange(self.first, self.stop), (batch, self.stop - self.first)),
            none if bins is None else bins,
            exons.mask.padded(),
            none if exons.slots is None else exons.slots,
        )
        indices = np.concatenate(parts, axis=1).astype(np.int64)
        return Wanted(indices, [part.shape[1] for part in parts], exons)


def gene_rows(genes: GeneBins) -> IntArray:
    """Of every gene, the sequence of the batch that it is in."""
    return np.repeat(np.arange(len(genes)), np.diff(genes.offset))


def places_in(mask: ExonBins, bins: ExonBins, rows: IntArray) -> ExonBins:
    """Where bins are in the table of the bins of a mask, `ExonBins.padded`.

    Parameters
    ----------
    mask : ExonBins
        Of every sequence.
    bins : ExonBins
        Some of its bins, of a sequence or of a gene each.
    rows : ndarray of int64, shape (bins,)
        Sequence that each of them is in.

    Returns
    -------
    ExonBins
        Columns of the table instead of bins of the output.

    Examples
    --------
    >>> mask = ExonBins(np.array([0, 2]), np.array([3, 8], np.int32), np.array([5, 10], np.int32))
    >>> gene = ExonBins(np.array([0, 1]), np.array([8], np.int32), np.array([9], np.int32))
    >>> places_in(mask, gene, np.array([0])).at(0).tolist()
    [2]
    """
    found = [np.searchsorted(mask.at(row), bins.at(i)) for i, row in enumerate(rows.tolist())]
    first = np.concatenate([np.empty(0, np.int32), *found]).astype(np.int32)
    return ExonBins(np.cumsum([0, *map(len, found)]), first, first + 1)
