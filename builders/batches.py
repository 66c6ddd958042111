"""From plan to batches: which sequences a unit of work needs, read ahead of the model.

Batches never cross a unit and are always full (the last one repeats its last sequence), so the model sees the same
shapes and neighbours however the units are split, and gives the same bytes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from builders.oracle import BinArray, Exons
from chorus_store.genome import Genome
from chorus_store.layout import Kind
from chorus_store.plan import Plan
from chorus_store.sequence import Codes, encode
from chorus_store.units import Unit

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Batch:
    """Sequences of one forward pass.

    Attributes
    ----------
    unit : Unit
        The unit that they belong to.
    first : int
        Index of the first sequence among the unit's sequences.
    size : int
        Sequences that count; the rest is filling.
    codes : ndarray of uint8, shape (batch, input_length_bp)
    bins : dict of resolution to ndarray of int32, shape (batch, slot)
        Empty for variants.
    last : bool
        Whether the unit is complete after this batch.
    exons : Exons or None
        None where the plan has no exons; without slots for variants.
    """

    unit: Unit
    first: int
    size: int
    codes: Codes
    bins: dict[int, BinArray]
    last: bool
    exons: Exons | None = None


def valid_positions(plan: Plan, unit: Unit) -> npt.NDArray[np.intp]:
    """Indices, within the unit, of the positions that have a window."""
    return np.flatnonzero(plan.part(unit.kind).valid[unit.start : unit.stop])


def unit_batches(plan: Plan, genome: Genome, unit: Unit, size: int) -> Iterator[Batch]:
    """All batches of a unit.

    Every valid variant is two sequences, reference allele then alternate allele; every valid baseline position is one.
    """
    rows = valid_positions(plan, unit) + unit.start
    alleles = 2 if unit.kind == "variants" else 1
    n_sequences = len(rows) * alleles
    sequences = _sequences(plan, genome, unit.kind, rows)
    for first in range(0, n_sequences, size):
        stop = min(first + size, n_sequences)
        codes = np.empty((size, plan.input_length_bp), np.uint8)
        for i in range(size):
            codes[i] = next(sequences) if first + i < stop else codes[i - 1]
        filled = rows[np.minimum(np.arange(first, first + size), stop - 1) // alleles]
        bins: dict[int, BinArray] = {}
        if unit.kind == "baselines":
            bins = {resolution: table[filled] for resolution, table in plan.baselines.bins.items()}
        yield Batch(unit, first, stop - first, codes, bins, stop == n_sequences, _exons(plan, unit.kind, filled))


def _exons(plan: Plan, kind: Kind, rows: npt.NDArray[np.intp]) -> Exons | None:
    mask = plan.part(kind).exons
    if mask is None:
        return None
    slots = plan.baselines.exon_slots if kind == "baselines" else None
    return Exons(mask, slots, plan.part(kind).genes).take(rows)


def _sequences(plan: Plan, genome: Genome, kind: Kind, rows: npt.NDArray[np.intp]) -> Iterator[Codes]:
    """Windows of baseline positions, or reference and alternate allele of variants, in turn."""
    chroms, starts = plan.part(kind).chrom, plan.windows(kind)
    for row in rows.tolist():
        start = int(starts[row])
        codes = genome.fetch(str(chroms[row]), start, start + plan.input_length_bp)
        yield codes
        if kind == "variants":
            codes[plan.input_length_bp // 2 - 1] = encode(str(plan.variants.alt[row]))[0]
            yield codes


def read_ahead(items: Callable[[], Iterator[T]], depth: int) -> Generator[T, None, None]:
    """Run an iterator in a thread of its own, ``depth`` items ahead.

    Closing the generator (or an exception in the consumer) stops the thread; an exception in the thread is raised here.
    """
    ready: queue.Queue[tuple[str, T | BaseException | None]] = queue.Queue(depth)
    stopping = threading.Event()

    def put(tag: str, item: T | BaseException | None) -> bool:
        while not stopping.is_set():
            try:
                ready.put((tag, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce() -> None:
        try:
            for item in items():
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            tag, item = ready.get()
            if tag == "end":
                return
            if isinstance(item, BaseException):
                raise item
            yield item  # type: ignore[misc]  # an item of T, by its tag
    finally:
        stopping.set()
        thread.join()
