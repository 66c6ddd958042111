"""The conformance checks pass an oracle that does what it declares, and name what a broken one does wrong."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from builders import conformance
from builders.oracle import BinArray, Exons, Head, Oracle, Reduced, RnaOracle
from builders.reduction import reduce_arrays
from chorus_store.sequence import Codes
from chorus_store.tracks import TrackTable


class BaseCounter(Oracle):
    """Counts purines and pyrimidines in 32 bins of 64 bp in the middle of 4,096 bp."""

    name = "counter"
    title = "Base counter"
    expected_tracks = 2
    input_length_bp = 4096
    heads = (Head("counts", 64, 32, 1024),)

    def __init__(self) -> None:
        self.tracks = TrackTable.from_rows(
            [
                ("purines", "counts", 0, "DNASE", "chromatin_accessibility", "", "", "."),
                ("pyrimidines", "counts", 1, "CHIP", "histone_marks", "", "", "."),
            ]
        )

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> BaseCounter:
        return cls()

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def counts(self, codes: Codes) -> np.ndarray:
        middle = codes[:, 1024:-1024].reshape(len(codes), 32, 64)
        return np.stack([(middle % 2 == odd).sum(axis=2) for odd in (0, 1)], axis=2).astype(np.float32)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        return reduce_arrays(self, {"counts": self.counts(codes)}, bins)


class Reversed(BaseCounter):
    def counts(self, codes: Codes) -> np.ndarray:
        return super().counts(codes)[:, ::-1]


class Shifted(BaseCounter):
    heads = (Head("counts", 64, 32, 1024 - 128),)


class BatchDependent(BaseCounter):
    def counts(self, codes: Codes) -> np.ndarray:
        counts = super().counts(codes)
        return counts - counts.mean(axis=0) if len(counts) > 1 else counts


class OtherWindow(BaseCounter):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        right = super().reduce(codes, bins)
        return Reduced(right.statistics + self.counts(codes)[:, 0], right.bins)


class NoBins(BaseCounter):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        return super().reduce(codes)


class SortedBins(BaseCounter):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        return super().reduce(codes, bins and {r: np.sort(table, axis=1) for r, table in bins.items()})


class BinsInARow(BaseCounter):
    """From the first bin that is asked for on, whatever else is."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        if bins is None:
            return super().reduce(codes)
        (table,) = bins.values()
        row = np.minimum(table.min(axis=1, keepdims=True) + np.arange(table.shape[1]), 31)
        return super().reduce(codes, {64: row.astype(np.int32)})


class Deaf(BaseCounter):
    def counts(self, codes: Codes) -> np.ndarray:
        return np.ones((len(codes), 32, 2), np.float32)


class DeafScalar(BaseCounter):
    heads = (Head("counts", 0, 1),)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        return Reduced(np.ones((len(codes), 2), np.float32))


class OutsideInput(BaseCounter):
    heads = (Head("counts", 64, 32, 3000),)


class OtherHead(BaseCounter):
    heads = (Head("profile", 64, 32, 1024),)


def test_an_oracle_that_conforms() -> None:
    assert conformance.check(BaseCounter(), {"chromatin_accessibility": 1, "histone_marks": 1}) == []


@pytest.mark.parametrize(
    ("oracle", "finding"),
    [
        (Reversed, "changes of base 2559 are centred on bin 8.0, the declaration says 23.5"),
        (Shifted, "changes of base 2047 are centred on bin 15.0, the declaration says 17.5"),
        (BatchDependent, "statistics of a batch of 3 differ from those of its sequences"),
        (OtherWindow, "statistics differ from the sums of these bins"),
        (NoBins, "bins were asked for and none came"),
        (SortedBins, "asked for together, differ from the same bins asked for one by one"),
        (BinsInARow, "asked for together, differ from the same bins asked for one by one"),
        (Deaf, "a change of base 2047 changes no bin within 16 of bin 15.5"),
        (DeafScalar, "head counts: a change of the variant base 2047 changes no track"),
        (OutsideInput, "head counts covers bases 3000 to 5048"),
        (OtherHead, "tracks name heads that are not declared: counts"),
    ],
)
def test_what_a_broken_oracle_does_is_named(oracle: type[BaseCounter], finding: str) -> None:
    assert any(finding in found for found in conformance.check(oracle()))


class WithRna(BaseCounter, RnaOracle):
    """The counts, and those of purines as expression."""

    def __init__(self) -> None:
        super().__init__()
        rows = [("purines", "counts", 0, "DNASE", "chromatin_accessibility", "", "", ".")]
        self.tracks = TrackTable.from_rows([*rows, ("rna", "counts", 0, "RNA", "gene_expression", "", "", ".")])

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        return reduce_arrays(self, {"counts": self.counts(codes)}, bins, exons)


class SumOverExons(WithRna):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        counts = np.zeros(len(codes)) if exons is None else exons.mask.counts()
        return Reduced(
            right.statistics * np.stack([np.ones(len(codes)), counts], axis=1).astype(np.float32), right.bins
        )


class ZeroWithoutExons(WithRna):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        return Reduced(np.nan_to_num(right.statistics), right.bins)


class ExonsForAll(WithRna):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        mean = right.statistics[:, 1:] if exons else right.statistics[:, :1]
        return Reduced(np.concatenate([mean, right.statistics[:, 1:]], axis=1), right.bins)


class RnaWithoutExons(BaseCounter):
    def __init__(self) -> None:
        self.tracks = WithRna().tracks


class NoGenes(WithRna):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        return Reduced(right.statistics, right.bins)


class SumOverGenes(WithRna):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        if exons is None or exons.genes is None or right.genes is None:
            return right
        sums = right.genes * exons.genes.bins.counts()[:, None].astype(np.float32)
        return Reduced(right.statistics, right.bins, sums)


class GenesForAll(WithRna):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        if right.genes is None:
            return right
        return Reduced(right.statistics + right.genes[:2], right.bins, right.genes)


def test_an_oracle_of_expression_that_conforms() -> None:
    assert conformance.check(WithRna(), {"chromatin_accessibility": 1, "gene_expression": 1}) == []


@pytest.mark.parametrize(
    ("oracle", "finding"),
    [
        (SumOverExons, "statistics of gene expression differ from the means of the exon bins by"),
        (ZeroWithoutExons, "gene expression has values where there is no exon bin; NaN is expected"),
        (ExonsForAll, "tracks that are not of gene expression depend on exons"),
        (NoGenes, "head counts: genes were asked for one by one and none came"),
        (SumOverGenes, "values of single genes differ from the means of their exon bins by"),
        (GenesForAll, "other facts depend on whether genes are asked for one by one"),
        (RnaWithoutExons, "it must be an RnaOracle"),
    ],
)
def test_what_an_oracle_of_expression_does_wrong_is_named(oracle: type[BaseCounter], finding: str) -> None:
    assert any(finding in found for found in conformance.check(oracle()))


def test_layer_counts_that_differ_are_named() -> None:
    expected = {"chromatin_accessibility": 2, "tf_binding": 3}
    assert conformance.check(BaseCounter(), expected) == [
        "layer chromatin_accessibility has 1 tracks instead of 2",
        "layer histone_marks has 1 tracks instead of 0",
        "layer tf_binding has 0 tracks instead of 3",
    ]
