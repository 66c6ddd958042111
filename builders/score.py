"""Plan → facts: the model runs over units of work; sequences are read ahead, finished units written behind."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Self

from builders.batches import Batch, read_ahead, unit_batches, valid_positions
from builders.failures import Failures
from builders.oracle import Oracle, Reduced
from builders.passes import Passes, naming
from builders.unit_facts import Buffers, UnitFacts
from chorus_store.claims import Claims
from chorus_store.errors import ModelError, WeightsError
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.plan import Plan
from chorus_store.units import Unit

log = logging.getLogger("chorus.score")

#: Name and checksum of models, by track.
Models = Mapping[str, Mapping[str, Any]]

#: Batches that are read ahead of the model.
READ_AHEAD = 4
#: Units that may be on their way to the disk, each with a thread of its own; one more is being filled.
UNITS_IN_FLIGHT = 2


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
    sequences_per_pass : int
        At the end: fewer than the batch where the device ran out of memory.
    dropped : dict of str to int
        Positions that count for nothing, by reason.
    """

    sequences: int = 0
    units: int = 0
    forward_s: float = 0.0
    reading_s: float = 0.0
    reducing_s: float = 0.0
    writing_s: float = 0.0
    flushing_s: float = 0.0
    wall_s: float = 0.0
    sequences_per_pass: int = 0
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


def score(
    store: FactStore,
    oracle: Oracle,
    genome: Genome,
    plan: Plan,
    units: list[Unit],
    *,
    batch: int,
    claims: Claims,
    models: Models | None = None,
    spent: Accounting | None = None,
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
        Sequences of a batch, which is one forward pass while the device has memory for it.
    claims : Claims
        Of the store. A unit that somebody else is at is left to them, and looked at once more at the end; what they
        hold even then is in ``claims.others``.
    models : mapping of str to mapping, optional
        Of every track with a model of its own: what its records say of that.
    spent : Accounting, optional
        Filled in, so that it also says what was done when the work is interrupted.
    on_sequences : callable
        Told how many sequences were just done, for progress.

    Returns
    -------
    Accounting

    Raises
    ------
    ModelError
        The model fails, on positions that the message names, or gives nothing finite for a whole unit, or for nearly
        all of many; or nearly all models of one track each fail.
    StoreWriteError
        The disk refuses. Finished units are kept in every case.
    """
    spent = Accounting() if spent is None else spent
    began = time.perf_counter()

    failures = Failures()
    loaded, passes = _Models(store, oracle, failures), Passes(batch)

    def batches() -> Iterator[Batch]:
        with genome.reopen() as mine:
            for unit in _to_do(store, units, claims):
                for item in unit_batches(plan, mine, unit, batch):
                    if unit.first_track in loaded.absent:
                        break
                    yield item

    try:
        with (
            _Writers(store, plan, spent, models or {}, claims, failures) as writers,
            closing(read_ahead(batches, READ_AHEAD)) as stream,
        ):
            mark = time.perf_counter()
            for item in stream:
                spent.reading_s += (now := time.perf_counter()) - mark
                if not loaded.have(item.unit):
                    mark = now
                    continue
                with naming(plan, item):
                    reduced = passes.reduce(loaded.current, item)
                spent.forward_s += (after := time.perf_counter()) - now
                writers.place(item, reduced)
                spent.sequences += item.size
                on_sequences(item.size)
                spent.reducing_s += (mark := time.perf_counter()) - after
                if item.last:
                    writers.submit()
                    spent.writing_s += (again := time.perf_counter()) - mark
                    mark = again
            for unit in units:
                if unit.first_track in loaded.absent or not len(valid_positions(plan, unit)):
                    writers.write_without_model(unit)
        failures.require_few()
    finally:
        spent.sequences_per_pass = passes.size
        spent.wall_s = time.perf_counter() - began
    return spent


def _to_do(store: FactStore, units: list[Unit], claims: Claims) -> Iterator[Unit]:
    """Units that are still to be done, claimed; those that somebody else is at are looked at again at the end."""
    for _ in range(2):
        others = []
        for unit in units:
            if store.record(unit) is not None:
                claims.others.pop(unit.name, None)
            elif not claims.take(unit.name):
                others.append(unit)
                log.info("%s is left to %s", unit.name, claims.others[unit.name])
            elif store.record(unit) is None:
                yield unit
            else:  # finished just before it was claimed
                claims.release(unit.name)
        units = others


class _Models:
    """The oracle of the unit at hand, one at a time where every track has a model of its own.

    Attributes
    ----------
    current : Oracle
        Of the unit that was asked for last; nobody else keeps it, so that no two models are in memory.
    absent : set of int
        First tracks of the units whose model could not be loaded.
    """

    current: Oracle

    def __init__(self, store: FactStore, oracle: Oracle, failures: Failures) -> None:
        self._tracks, self._oracle, self._failures = store.tracks.track, oracle, failures
        self._first: int | None = None
        self.absent: set[int] = set()

    def have(self, unit: Unit) -> bool:
        """Make a unit's oracle the current one; False, and a message the first time, where it cannot be loaded."""
        if unit.first_track in self.absent:
            return False
        if unit.first_track != self._first:
            self._first, self.current = unit.first_track, self._oracle
            tracks = self._tracks[unit.first_track : unit.stop_track]
            try:
                self.current = self._oracle.for_tracks(tracks)
            except WeightsError as error:
                self.absent.add(unit.first_track)
                log.error("%s stays without samples: %s", ", ".join(tracks.tolist()), error)
                self._failures.count_model(unit.first_track, str(error))
                self._failures.require_few()
        return unit.first_track not in self.absent


class _Writers:
    """The unit that is being filled, finished ones on their way to the disk, and the memory that comes back."""

    def __init__(
        self, store: FactStore, plan: Plan, spent: Accounting, models: Models, claims: Claims, failures: Failures
    ) -> None:
        self._store, self._plan, self._spent, self._models, self._claims = store, plan, spent, models, claims
        self._failures = failures
        self._pool = ThreadPoolExecutor(UNITS_IN_FLIGHT, thread_name_prefix="writer")
        self._pending: deque[Future[UnitFacts]] = deque()
        self._spare: list[Buffers] = []
        self._filling: UnitFacts | None = None

    def place(self, batch: Batch, reduced: Reduced) -> None:
        """Put a batch into the unit that it belongs to."""
        if self._filling is None:
            spare = self._spare.pop() if self._spare else None
            self._filling = UnitFacts(self._store, self._plan, batch.unit, spare)
        self._filling.place(batch, reduced)

    def submit(self) -> None:
        """Hand the filled unit to a writer; wait where too many are on their way."""
        assert self._filling is not None
        self._pending.append(self._pool.submit(self._write, self._filling))
        self._filling = None
        if len(self._pending) > UNITS_IN_FLIGHT:
            self._collect()
            self._failures.require_few()

    def write_without_model(self, unit: Unit) -> None:
        """Write a unit that has no valid position, or no model, if that is still to be done."""
        if self._store.record(unit) is None:
            facts = UnitFacts(self._store, self._plan, unit)
            facts.drop_all("model")
            self._spent.count(self._write(facts))

    def _write(self, facts: UnitFacts) -> UnitFacts:
        track = str(self._store.tracks.track[facts.unit.first_track])
        try:
            facts.finish()
        except ModelError as error:
            if track not in self._models:
                raise
            facts.drop_all("model")  # as if it could not be loaded: the others go on
            log.error("%s stays without samples: %s", track, error)
        n = facts.unit.stop - facts.unit.start
        record = {"positions": n, "scored": n - sum(facts.dropped.values()), "dropped": facts.dropped}
        if track in self._models:
            record["model"] = self._models[track]
        self._store.write(facts.unit, facts.arrays, record)
        self._claims.release(facts.unit.name)
        log.debug("unit %s written: %s", facts.unit.name, record)
        return facts

    def _collect(self) -> None:
        facts = self._pending.popleft().result()
        self._spent.count(facts)
        self._failures.count(facts, own_model=bool(self._models))
        self._spare.append(facts.buffers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Finish what is on its way, also when the model failed: finished units are kept."""
        began = time.perf_counter()
        with self._pool:
            while self._pending:
                self._collect()
        self._spent.flushing_s += time.perf_counter() - began
