"""The facts of one unit of work while its batches come in: placing, dropping, routing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from builders.batches import Batch, valid_positions
from builders.oracle import Reduced
from chorus_store.errors import ModelError
from chorus_store.facts import FactStore, FloatArray
from chorus_store.plan import Plan
from chorus_store.units import Unit

Buffers = dict[str, FloatArray]

#: Baseline stratum where tss_activity tracks take no summary value.
_CCRE = "ccre"
#: Positions without a finite prediction, and not one with, that say that the model is broken.
_TELLING = 8


def unit_buffers(store: FactStore, unit: Unit) -> Buffers:
    """Memory for the facts of a unit; handed from unit to unit, because fresh pages cost as much as the copies."""
    shape, n_tracks = store.shape, unit.stop_track - unit.first_track
    positions = min(shape.block, shape.positions(unit.kind))
    return {
        array.name: np.empty((positions * shape.slots(array), n_tracks), np.float32)
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
        self.arrays = {
            array.name: self.buffers[array.name][: self._n * store.shape.slots(array)]
            for array in store.shape.arrays(unit.kind)
        }
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
            return
        rows = self._rows[batch.first : batch.first + batch.size]
        self.arrays["summary/value"][rows] = reduced.statistics[: batch.size]
        if reduced.bins is not None and self._slots:
            perbin = self.arrays["perbin/value"].reshape(self._n, self._slots, -1)
            for i, row in enumerate(rows):
                perbin[row] = reduced.bins[i]

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
        exonless = {name: np.ix_(self._without_exon(name), self._rna) for name in self.arrays}
        for name, values in self.arrays.items():
            usable = np.isfinite(values)
            usable[exonless[name]] = True
            finite &= usable.reshape(self._n, -1).all(axis=1)
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

    def _without_exon(self, name: str) -> npt.NDArray[np.intp]:
        """Samples of an array for which tracks of gene expression have no bin."""
        rows = np.arange(self.unit.start, self.unit.stop)
        exons = self._plan.part(self.unit.kind).exons
        if exons is None:
            return rows[:0]
        if name == "perbin/value" and self._plan.baselines.exon_slots is not None:
            return np.flatnonzero(self._plan.baselines.exon_slots[rows] < 0)
        return np.flatnonzero(exons.take(rows).counts() == 0)

    def _forget(self, rows: npt.NDArray[np.intp]) -> None:
        """NaN for all values of some positions."""
        for values in self.arrays.values():
            values.reshape(self._n, -1)[rows] = np.nan
