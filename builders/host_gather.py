"""Facts out of predictions that come to the host as NumPy arrays: a head runs on the needed bins alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from builders.gather import CentralGather, IntArray, Wanted, gene_rows, places_in
from builders.oracle import BinArray, Exons, FloatArray, Reduced
from builders.reduction import exon_means

#: From the bins that are needed, int64 (batch, bin), to their values, float32 (batch, bin, channel).
Predict = Callable[[IntArray], FloatArray]


class HostGather:
    """Carries out a `CentralGather` in NumPy, for frameworks without float64 on the device.

    Parameters
    ----------
    gather : CentralGather
    """

    def __init__(self, gather: CentralGather) -> None:
        self._gather = gather

    def facts(self, predict: Predict, batch: int, bins: BinArray | None, exons: Exons | None = None) -> Reduced:
        """Predict the bins that a batch needs, and reduce them.

        Parameters
        ----------
        predict : callable
            Called once.
        batch : int
            Sequences.
        bins : ndarray of int32, shape (batch, slot), or None
        exons : Exons or None
            None where there are no tracks that are measured over exons.

        Returns
        -------
        Reduced
            Of the tracks of the head.
        """
        gather = self._gather
        wanted = gather.wanted(batch, bins, exons)
        # A bin of −1 is none; the first is predicted in its place, and left out of the facts.
        values = predict(np.maximum(wanted.indices, 0))
        window, chosen, of_exons, slots = np.split(values, np.cumsum(wanted.widths)[:-1], axis=1)
        of_exons = of_exons[:, :, gather.exon_channels]
        statistics, genes = self._statistics(window, of_exons, wanted), _gene_means(of_exons, wanted.exons)
        if bins is None:
            return Reduced(statistics, genes=genes)
        chosen = chosen[:, :, gather.channels]
        chosen[:, :, gather.exon_rows] = np.nan
        if wanted.exons.slots is not None:
            there = wanted.exons.slots[:, :, None] >= 0
            chosen[:, :, gather.exon_rows] = np.where(there, slots[:, :, gather.exon_channels], np.float32(np.nan))
        return Reduced(statistics, chosen, genes)

    def _statistics(self, window: FloatArray, of_exons: FloatArray, wanted: Wanted) -> FloatArray:
        """Window sums, and means over exon bins."""
        mask, rows = wanted.exons.mask, np.arange(len(window))
        columns = [window[:, a:b].sum(axis=1, dtype=np.float64) for a, b in self._gather.windows]
        columns.append(exon_means(of_exons, places_in(mask, mask, rows), rows))
        return np.concatenate(columns, axis=1)[:, self._gather.columns].astype(np.float32)


def _gene_means(of_exons: FloatArray, exons: Exons) -> FloatArray | None:
    """Means over the bins of every gene, (gene, exon track); None if no genes were asked for."""
    if exons.genes is None:
        return None
    rows = gene_rows(exons.genes)
    return exon_means(of_exons, places_in(exons.mask, exons.genes.bins, rows), rows).astype(np.float32)
