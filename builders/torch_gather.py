"""Facts out of a PyTorch model's predictions: its head runs on the needed bins alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from builders.gather import CentralGather, gene_rows, places_in
from builders.oracle import BinArray, Exons, FloatArray, Reduced
from builders.torch_runtime import TorchRuntime
from chorus_store.exon_bins import ExonBins
from chorus_store.gene_bins import GeneBins

#: From the bins that are needed, int64 (batch, bin), to their values, float32 (batch, bin, channel).
Predict = Callable[[torch.Tensor], torch.Tensor]


class TorchGather:
    """Carries out a `CentralGather` on the device.

    Parameters
    ----------
    gather : CentralGather
    runtime : TorchRuntime
        Where the model runs.
    """

    def __init__(self, gather: CentralGather, runtime: TorchRuntime) -> None:
        self._gather, self._device = gather, runtime.device
        self._columns, self._channels, self._exon_rows, self._exon_channels = map(
            runtime.table, (gather.columns, gather.channels, gather.exon_rows, gather.exon_channels)
        )

    def facts(self, predict: Predict, batch: int, bins: BinArray | None, exons: Exons | None = None) -> Reduced:
        """Predict the bins that a batch needs, and reduce them; only facts leave the device.

        Parameters
        ----------
        predict : callable
            Called once; not at all where no bin is needed, as of gene expression where no exon is.
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
        wanted = self._gather.wanted(batch, bins, exons)
        indices = torch.from_numpy(wanted.indices).to(self._device)
        # A bin of −1 is none; the first is predicted in its place, and left out of the facts.
        parts = self._predicted(predict, indices.clamp(min=0)).split(wanted.widths, dim=1)
        absent = (indices < 0).split(wanted.widths, dim=1)
        exons = wanted.exons
        masked = self._of_exons(parts[2], absent[2], 0.0)
        statistics = self._statistics(parts[0], masked, absent[2])
        genes = None if exons.genes is None else self._gene_means(masked, exons.mask, exons.genes)
        if bins is None:
            return Reduced(statistics, genes=genes)
        chosen = parts[1].index_select(2, self._channels)
        if len(self._exon_rows):
            chosen[:, :, self._exon_rows] = (
                torch.nan if exons.slots is None else self._of_exons(parts[3], absent[3], torch.nan)
            )
        return Reduced(statistics, chosen.cpu().numpy(), genes)

    def _predicted(self, predict: Predict, indices: torch.Tensor) -> torch.Tensor:
        if not indices.shape[1]:  # convolutions refuse emptiness
            return torch.empty((*indices.shape, self._gather.n_channels), device=self._device)
        return predict(indices)

    def _statistics(self, window: torch.Tensor, masked: torch.Tensor, absent: torch.Tensor) -> FloatArray:
        """Window sums, and means over exon bins."""
        columns = [window[:, a:b].sum(dim=1, dtype=torch.float64) for a, b in self._gather.windows]
        # 0 / 0, which is NaN, where a sequence has no exon bin.
        columns.append(masked.sum(dim=1, dtype=torch.float64) / (~absent).sum(dim=1, keepdim=True))
        statistics: npt.NDArray[np.float32] = (
            torch.cat(columns, dim=1).index_select(1, self._columns).float().cpu().numpy()
        )
        return statistics

    def _gene_means(self, masked: torch.Tensor, mask: ExonBins, genes: GeneBins) -> FloatArray:
        """Means over the bins of every gene, (gene, exon track)."""
        if not len(genes.gene_id):
            return np.empty((0, masked.shape[2]), np.float32)
        rows = gene_rows(genes)
        places = places_in(mask, genes.bins, rows).first + np.repeat(rows * masked.shape[1], genes.bins.counts())
        flat = masked.flatten(0, 1).index_select(0, torch.from_numpy(places).to(self._device))
        per_gene = flat.split(genes.bins.counts().tolist())
        means: npt.NDArray[np.float32] = (
            torch.stack([values.mean(dim=0, dtype=torch.float64) for values in per_gene]).float().cpu().numpy()
        )
        return means

    def _of_exons(self, values: torch.Tensor, absent: torch.Tensor, filling: float) -> torch.Tensor:
        """Values of the exon tracks, (batch, bin, exon track), and ``filling`` where there is no bin."""
        return values.index_select(2, self._exon_channels).masked_fill(absent[:, :, None], filling)
