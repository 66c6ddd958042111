"""Plan → facts: the model runs over units of work; sequences are read ahead, finished units written behind."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from builders.batches import Batch, read_ahead, unit_batches, valid_positions
from builders.oracle import Oracle, Reduced
from chorus_store.errors import ModelError
from chorus_store.facts import FactStore, FloatArray
from chorus_store.genome import Genome
from chorus_store.plan import Plan
from chorus_store.units import Unit

log = logging.getLogger("chorus.score")

Buffers = dict[str, FloatArray]

#: Batches that are read ahead of the model.
READ_AHEAD = 4
#: Units that may be on their way to the disk, each with a thread of its own; one more is being filled.
UNITS_IN_FLIGHT = 2
#: Baseline stratum where tss_activity tracks take no summary value.
_CCRE = "ccre"


@dataclass
class Accounting:
    """Where the time of scoring went.

    Attributes
    ----------
    sequences, units : int
        Forward passes × batch that counted, and units written.
    forward_s : float
        Inside the model, its reduction on the device included.
    reading_s, reducing_s, writing_s : float
        The model waiting for sequences, for facts to be placed, and for the disk.
    flushing_s : float
        Writing the last units, once the model is done: the same however long the run is.
    wall_s : float
        All of it.
    """

    sequences: int = 0
    units: int = 0
    forward_s: float = 0.0
    reading_s: float = 0.0
    reducing_s: float = 0.0
    writing_s: float = 0.0
    flushing_s: float = 0.0
    wall_s: float = 0.0
    dropped: dict[str, int] = field(default_factory=dict)

    def count(self, facts: UnitFacts) -> None:
        """Count a unit that has been written."""
        self.units += 1
        for reason, n in facts.dropped.items():
            self.dropped[reason] = self.dropped.get(reason, 0) + n

    @property
    def overhead(self) -> float:
        """Time not spent in the model over time spent in it."""
        return (self.wall_s - self.forward_s) / self.forward_s if self.forward_s else 0.0


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

    def __init__(
        self, store: FactStore, oracle: Oracle, plan: Plan, unit: Unit, buffers: Buffers | None = None
    ) -> None:
        self.unit = unit
        self.buffers = buffers or unit_buffers(store, unit)
        self._plan = plan
        self._rows = valid_positions(plan, unit)
        self._n = unit.stop - unit.start
        self._slots = store.shape.bin_slots
        self._tss = np.flatnonzero(oracle.tracks.layer[unit.first_track : unit.stop_track] == "tss_activity")
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

    def finish(self) -> None:
        """Drop positions that are not finite everywhere, and route tss_activity away from cCREs.

        Raises
        ------
        ModelError
            Not one position of the unit is finite.
        """
        finite = np.ones(self._n, bool)
        for values in self.arrays.values():
            finite &= np.isfinite(values).reshape(self._n, -1).all(axis=1)
        lost = self._rows[~finite[self._rows]]
        if len(lost):
            if len(lost) == len(self._rows):
                raise ModelError(
                    f"the model gave no finite prediction in the whole of unit {self.unit.name}; "
                    "check --weights and try --precision fp32"
                )
            self.dropped["non-finite"] = len(lost)
            self._forget(lost)
        if self.unit.kind == "baselines":
            ccres = np.flatnonzero(self._plan.baselines.stratum[self.unit.start : self.unit.stop] == _CCRE)
            self.arrays["summary/value"][np.ix_(ccres, self._tss)] = np.nan

    def _forget(self, rows: npt.NDArray[np.intp]) -> None:
        """NaN for all values of some positions."""
        for values in self.arrays.values():
            values.reshape(self._n, -1)[rows] = np.nan


def score(
    store: FactStore,
    oracle: Oracle,
    genome: Genome,
    plan: Plan,
    units: list[Unit],
    *,
    batch: int,
    on_sequences: Callable[[int], object] = lambda n: None,
) -> Accounting:
    """Run a loaded oracle over units of work and write their facts.

    Parameters
    ----------
    store : FactStore
        Where facts and records go.
    oracle : Oracle
        Loaded.
    genome, plan
        What the units refer to.
    units : list of Unit
        Those to do; a unit that somebody else finishes meanwhile is skipped.
    batch : int
        Sequences per forward pass.
    on_sequences : callable
        Told how many sequences were just done, for progress.

    Returns
    -------
    Accounting

    Raises
    ------
    ModelError
        The model fails, or gives nothing finite for a whole unit.
    StoreWriteError
        The disk refuses. Finished units are kept in every case.
    """
    spent = Accounting()
    began = time.perf_counter()

    def batches() -> Iterator[Batch]:
        with genome.reopen() as mine:
            for unit in units:
                if store.record(unit) is None:
                    yield from unit_batches(plan, mine, unit, batch)

    spare: list[Buffers] = []

    def written(future: Future[UnitFacts]) -> None:
        facts = future.result()
        spent.count(facts)
        spare.append(facts.buffers)

    with ThreadPoolExecutor(UNITS_IN_FLIGHT, thread_name_prefix="writer") as writer:
        pending: deque[Future[UnitFacts]] = deque()
        stream = read_ahead(batches, READ_AHEAD)
        facts: UnitFacts | None = None
        mark = time.perf_counter()
        try:
            for item in stream:
                spent.reading_s += (now := time.perf_counter()) - mark
                reduced = oracle.reduce(item.codes, item.bins or None)
                spent.forward_s += (after := time.perf_counter()) - now
                facts = facts or UnitFacts(store, oracle, plan, item.unit, spare.pop() if spare else None)
                facts.place(item, reduced)
                spent.sequences += item.size
                on_sequences(item.size)
                spent.reducing_s += (mark := time.perf_counter()) - after
                if item.last:
                    pending.append(writer.submit(_write, store, facts))
                    facts = None
                    if len(pending) > UNITS_IN_FLIGHT:
                        written(pending.popleft())
                    spent.writing_s += (again := time.perf_counter()) - mark
                    mark = again
        finally:
            stream.close()
            mark = time.perf_counter()
            while pending:
                written(pending.popleft())
            spent.flushing_s += time.perf_counter() - mark
    for unit in units:
        if not len(valid_positions(plan, unit)) and store.record(unit) is None:  # needs no model
            spent.count(_write(store, UnitFacts(store, oracle, plan, unit)))
    spent.wall_s = time.perf_counter() - began
    return spent


def _write(store: FactStore, facts: UnitFacts) -> UnitFacts:
    facts.finish()
    n = facts.unit.stop - facts.unit.start
    record = {"positions": n, "scored": n - sum(facts.dropped.values()), "dropped": facts.dropped}
    store.write(facts.unit, facts.arrays, record)
    log.debug("unit %s written: %s", facts.unit.name, record)
    return facts
