"""The facts of one unit of work while its batches come in: placing, dropping, routing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from builders.batches import Batch, valid_positions
from builders.oracle import Reduced
from chorus_store.errors import ModelError
from chorus_store.facts import FactStore, FloatArray
from chorus_store.intervals import ranges
from chorus_store.layout import FactArray
from chorus_store.plan import Plan
from chorus_store.units import Shape, Unit

Buffers = dict[str, FloatArray]

#: Baseline stratum where tss_activity tracks take no summary value.
_CCRE = "ccre"
#: Positions without a finite prediction, and not one with, that say that the model is broken.
_TELLING = 8


def unit_buffers(store: FactStore, unit: Unit) -> Buffers:
    """Memory for the facts of a unit; handed from unit to unit, because fresh pages cost as much as the copies."""
    shape, n_tracks = store.shape, unit.stop_track - unit.first_track
    return {
        array.name: np.empty((shape.unit_samples(array), min(n_tracks, shape.columns(array))), np.float32)
        for array in shape.arrays(unit.kind)
    }


class UnitFacts:
    """The facts of one unit while its batches come in."""

    def __init__(self, store: FactStore, plan: Plan, unit: Unit, buffers: Buffers | None = None) -> None:
        self.unit = unit
        self.buffers = buffers or unit_buffers(store, unit)
        self._plan = plan
        self._rows = valid_positions(plan, unit)
        self._n = unit.stop - unit.start
        self._slots = store.shape.bin_slots
        layers = store.tracks.layer[unit.first_track : unit.stop_track]
        self._tss, self._rna = (np.flatnonzero(layers == name) for name in ("tss_activity", "gene_expression"))
        genes = plan.part(unit.kind).genes
        self._genes_of = None if genes is None else np.diff(genes.offset[unit.start : unit.stop + 1])
        #: Position of every sample of an array, −1 for filling.
        self._positions = {
            array.name: self._positions_of(store.shape, array) for array in store.shape.arrays(unit.kind)
        }
        self.arrays = {name: self.buffers[name][: len(position)] for name, position in self._positions.items()}
        invalid = np.setdiff1d(np.arange(self._n), self._rows)
        self._forget(invalid)
        self.dropped = {"window": len(invalid)} if len(invalid) else {}

    def place(self, batch: Batch, reduced: Reduced) -> None:
        """Put the facts of a batch in their rows."""
        if self.unit.kind == "variants":
            for allele, name in ((0, "effect/ref"), (1, "effect/alt")):
                mine = (batch.first + np.arange(batch.size)) % 2 == allele
                rows = self._rows[(batch.first + np.flatnonzero(mine)) // 2]
                self.arrays[name][rows] = reduced.statistics[: batch.size][mine]
                self._place_genes(f"gene_{name}", rows, np.flatnonzero(mine), batch, reduced)
            return
        rows = self._rows[batch.first : batch.first + batch.size]
        self.arrays["summary/value"][rows] = reduced.statistics[: batch.size]
        self._place_genes("gene_summary/value", rows, np.arange(batch.size), batch, reduced)
        if reduced.bins is not None and self._slots:
            perbin = self.arrays["perbin/value"].reshape(self._n, self._slots, -1)
            for i, row in enumerate(rows):
                perbin[row] = reduced.bins[i]

    def _place_genes(
        self, name: str, rows: npt.NDArray[np.intp], sequences: npt.NDArray[np.intp], batch: Batch, reduced: Reduced
    ) -> None:
        """Put the values of the genes of some sequences, one per position, in the rows of these positions."""
        if name not in self.arrays:
            return
        if reduced.genes is None or batch.exons is None or batch.exons.genes is None:
            raise ModelError("the oracle gives no values of single genes, which were asked for with the exons")
        offset = batch.exons.genes.offset
        of_sequences = reduced.genes[ranges(offset[sequences], offset[sequences + 1])]
        self.arrays[name][np.isin(self._positions[name], rows)] = of_sequences

    def drop_all(self, reason: str) -> None:
        """Drop every position that is not dropped already."""
        if len(self._rows):
            self.dropped[reason] = len(self._rows)
            self._forget(self._rows)
            self._rows = self._rows[:0]

    def finish(self) -> None:
        """Drop positions that are not finite everywhere, and route tracks away from where they take no value.

        That is tss_activity at cCREs, and gene_expression where there is no exon bin.

        Raises
        ------
        ModelError
            Not one of the unit's positions is finite, and they are many enough to tell.
        """
        finite = np.ones(self._n, bool)
        exonless = {name: self._without_exon(name) for name in self.arrays}
        for name, values in self.arrays.items():
            usable = np.isfinite(values)
            usable[exonless[name]] = True
            finite[self._positions[name][~usable.all(axis=1)]] = False
        lost = self._rows[~finite[self._rows]]
        if len(lost) == len(self._rows) >= _TELLING:
            raise ModelError(
                f"the model gave no finite prediction in the whole of unit {self.unit.name}; "
                "check --weights and try --precision fp32"
            )
        if len(lost):
            self.dropped["non-finite"] = len(lost)
            self._forget(lost)
        for name, cells in exonless.items():
            self.arrays[name][cells] = np.nan
        if self.unit.kind == "baselines":
            ccres = np.flatnonzero(self._plan.baselines.stratum[self.unit.start : self.unit.stop] == _CCRE)
            self.arrays["summary/value"][np.ix_(ccres, self._tss)] = np.nan

    def _without_exon(self, name: str) -> tuple[npt.NDArray[np.intp], ...]:
        """Samples and tracks of an array that have no bin, such as tracks of gene expression where there is no exon."""
        rows = np.arange(self.unit.start, self.unit.stop)
        exons = self._plan.part(self.unit.kind).exons
        without, tracks = rows[:0], self._rna
        if name.startswith("gene_"):
            without, tracks = np.flatnonzero(self._positions[name] < 0), np.arange(len(self._rna))
        elif name == "perbin/value" and self._plan.baselines.exon_slots is not None:
            without = np.flatnonzero(self._plan.baselines.exon_slots[rows] < 0)
        elif exons is not None:
            without = np.flatnonzero(exons.take(rows).counts() == 0)
        return np.ix_(without, tracks)

    def _positions_of(self, shape: Shape, array: FactArray) -> npt.NDArray[np.intp]:
        if not array.genes or self._genes_of is None:
            return np.repeat(np.arange(self._n), shape.slots(array))
        positions = np.full(shape.unit_samples(array), -1)
        of_genes = np.repeat(np.arange(self._n), self._genes_of)
        positions[: len(of_genes)] = of_genes
        return positions

    def _forget(self, rows: npt.NDArray[np.intp]) -> None:
        """NaN for all values of some positions."""
        for name, values in self.arrays.items():
            values[np.isin(self._positions[name], rows)] = np.nan
