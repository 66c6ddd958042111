"""Passes of a device that is short of memory."""

from __future__ import annotations

import numpy as np
import pytest

from builders.batches import Batch
from builders.oracle import BinArray, Exons, Oracle, Reduced, RnaOracle
from builders.passes import Passes
from chorus_store.errors import DeviceMemoryError
from chorus_store.layout import Kind
from chorus_store.sequence import Codes
from chorus_store.units import Unit
from tests.tiny import TinyOracle


class Small(TinyOracle):
    """On a device that has memory for one sequence."""

    largest = 1

    def reduce(self, codes: Codes, bins: dict[int, BinArray] | None = None) -> Reduced:  # type: ignore[override]
        if len(codes) > self.largest:
            raise DeviceMemoryError("too many")
        return super().reduce(codes, bins)


class SmallRna(Small, RnaOracle):
    def reduce(  # type: ignore[override]
        self, codes: Codes, bins: dict[int, BinArray] | None = None, exons: Exons | None = None
    ) -> Reduced:
        return super().reduce(codes, bins)


class Paired(Small):
    """The facts of an allele depend on the other one."""

    def reduce_alleles(self, codes: Codes) -> Reduced:
        assert len(codes) % 2 == 0
        return self.reduce(codes)


class PairedForTwo(Paired):
    largest = 3


def batch_of(kind: Kind, n: int) -> Batch:
    codes = np.random.default_rng(0).integers(0, 4, (n, TinyOracle.input_length_bp), dtype=np.uint8)
    return Batch(Unit(kind, 0, 0, n, 0, 7, (0, 0)), 0, n, codes, {}, last=True)


@pytest.mark.parametrize("kind", ["variants", "baselines"])
@pytest.mark.parametrize("oracle", [Small, SmallRna])
def test_down_to_single_sequences(oracle: type[Oracle], kind: Kind) -> None:
    passes, batch = Passes(5), batch_of(kind, 5)
    found = passes.reduce(oracle(), batch)
    np.testing.assert_array_equal(found.statistics, TinyOracle().reduce(batch.codes).statistics)
    assert passes.size == 1


def test_alleles_that_belong_together_stay_together() -> None:
    passes, batch = Passes(8), batch_of("variants", 8)
    found = passes.reduce(PairedForTwo(), batch)
    np.testing.assert_array_equal(found.statistics, TinyOracle().reduce(batch.codes).statistics)
    assert passes.size == 2
    with pytest.raises(DeviceMemoryError, match=r"out of memory with 2 sequence\(s\) at a time"):
        Passes(8).reduce(Paired(), batch)
    assert Passes(8).reduce(Paired(), batch_of("baselines", 8)).statistics.shape == (8, 7)
