"""Forward passes: a batch at once, or in parts once the device has run out of memory."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from builders.batches import Batch, valid_positions
from builders.oracle import FloatArray, Oracle, Reduced, RnaOracle
from chorus_store.errors import ChorusStoreError, DeviceMemoryError, ModelError
from chorus_store.plan import Plan

log = logging.getLogger("chorus.score")


class Passes:
    """Takes batches through an oracle.

    A batch decides which sequences go together and how a unit is filled up, and is part of the identity of a store;
    a pass is how much of it the device takes at once. An oracle's facts of a sequence do not depend on the others of
    the pass, so that smaller passes give the same facts: the same bytes where the device adds up in the same order
    for every size, else the same to rounding.

    Parameters
    ----------
    batch : int
        Sequences of a batch.

    Attributes
    ----------
    size : int
        Sequences of a pass: the batch, halved whenever the device was out of memory.
    """

    def __init__(self, batch: int) -> None:
        self.size = batch

    def reduce(self, oracle: Oracle, batch: Batch) -> Reduced:
        """Facts of a batch.

        Raises
        ------
        DeviceMemoryError
            There is no memory for a single sequence, or for the two alleles of a variant where they go together.
        """
        while True:
            try:
                return self._reduce(oracle, batch)
            except Exception as error:
                if not _is_out_of_memory(error):
                    raise
                smaller = _half(self.size, 2 if batch.unit.kind == "variants" and _pairs_alleles(oracle) else 1)
                if smaller == self.size:
                    raise DeviceMemoryError(
                        f"the device is out of memory with {self.size} sequence(s) at a time; take a larger one, or "
                        f"free what others hold of it ({error})"
                    ) from error
            # Here, where the exception and with it the tensors of the failed pass are gone.
            log.warning("the device is out of memory: %d sequences at a time instead of %d", smaller, self.size)
            self.size = smaller
            _free_cached_memory()

    def _reduce(self, oracle: Oracle, batch: Batch) -> Reduced:
        parts = []
        for first in range(0, len(batch.codes), self.size):
            part = np.arange(first, min(first + self.size, len(batch.codes)))
            bins = {resolution: table[part] for resolution, table in batch.bins.items()}
            if isinstance(oracle, RnaOracle):
                exons = None if batch.exons is None else batch.exons.take(part)
                parts.append(oracle.reduce(batch.codes[part], bins or None, exons))
            elif batch.unit.kind == "variants":
                parts.append(oracle.reduce_alleles(batch.codes[part]))
            else:
                parts.append(oracle.reduce(batch.codes[part], bins or None))
        if len(parts) == 1:
            return parts[0]
        statistics = np.concatenate([part.statistics for part in parts])
        return Reduced(statistics, _joined([part.bins for part in parts]), _joined([part.genes for part in parts]))


def _joined(parts: list[FloatArray | None]) -> FloatArray | None:
    present = [part for part in parts if part is not None]
    return np.concatenate(present) if present else None


@contextmanager
def naming(plan: Plan, batch: Batch) -> Iterator[None]:
    """Say on which positions the model failed.

    Raises
    ------
    ModelError
        Instead of whatever the model has raised, unless that says itself what is wrong.
    """
    try:
        yield
    except ChorusStoreError:
        raise
    except Exception as error:
        unit, part = batch.unit, plan.part(batch.unit.kind)
        rows = np.repeat(valid_positions(plan, unit) + unit.start, 2 if unit.kind == "variants" else 1)
        first, last = rows[batch.first], rows[batch.first + batch.size - 1]
        log.info("the model failed", exc_info=True)
        raise ModelError(
            f"the model failed on {part.chrom[first]}:{part.pos[first]} to {part.chrom[last]}:{part.pos[last]}, in "
            f"unit {unit.name} ({type(error).__name__}: {error}); finished units are kept and the same command "
            "continues; -v shows where it failed"
        ) from error


def _pairs_alleles(oracle: Oracle) -> bool:
    """Whether the facts of an allele depend on the other allele of its variant."""
    return not isinstance(oracle, RnaOracle) and type(oracle).reduce_alleles is not Oracle.reduce_alleles


def _half(size: int, together: int) -> int:
    """Half of a pass, so that as many sequences as belong together stay so; the pass itself where it cannot be less."""
    half = -(-size // 2)
    return min(size, -(-half // together) * together)


def _is_out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")
    return isinstance(error, DeviceMemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError))


def _free_cached_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
