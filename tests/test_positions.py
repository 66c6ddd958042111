"""The draws, against the reference's golden outputs (in test_plan) and against their definitions."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_store.annotations import CCRE_CLASSES, CCres, Genes
from chorus_store.positions import (
    Positions,
    combine,
    draw_bins,
    draw_ccres,
    draw_gene_bodies,
    draw_random_positions,
    draw_tss,
    draw_variants,
    random_spans,
    variant_spans,
)
from chorus_store.sequence import BASES, UNKNOWN

SPANS = {"chr1": (100, 5_000), "chr2": (100, 700), "chr3": (100, 101)}


def base_at(chrom: str, pos: int) -> int:
    """Every fifth base is unknown."""
    return pos % 5


def genes_of(rows: list[tuple[str, int, int, str, str, str]]) -> Genes:
    chrom, start, end, strand, name, kind = zip(*rows, strict=True)
    return Genes(*(np.array(chrom), np.array(start), np.array(end), np.array(strand), np.array(name), np.array(kind)))


@given(st.integers(0, 300), st.integers(0, 2**32))
def test_variants_obey_their_definition(n: int, seed: int) -> None:
    positions, ref, alt = draw_variants(SPANS, base_at, n, seed)
    assert len(positions) == len(ref) == len(alt) <= n
    for chrom, pos, old, new in zip(positions.chrom, positions.pos.tolist(), ref, alt, strict=True):
        first, last = SPANS[str(chrom)]
        assert first <= pos <= last
        assert base_at(chrom, pos) != UNKNOWN
        assert old == BASES[base_at(chrom, pos)]
        assert new in BASES
        assert new != old
    per_chrom = Counter(positions.chrom.tolist())
    assert all(count <= n // 3 + 1 for count in per_chrom.values())


def test_variants_stop_at_n_and_depend_on_the_seed_alone() -> None:
    first = draw_variants(SPANS, lambda chrom, pos: 0, 100, 42)
    again = draw_variants(SPANS, lambda chrom, pos: 0, 100, 42)
    other = draw_variants(SPANS, lambda chrom, pos: 0, 100, 43)
    assert Counter(first[0].chrom.tolist()) == {"chr1": 34, "chr2": 34, "chr3": 32}
    assert first[0].pos.tolist() == again[0].pos.tolist() != other[0].pos.tolist()
    assert set(first[1].tolist()) == {"A"}
    assert set(first[2].tolist()) == set("CGT")


def test_spans_end_at_200_mb() -> None:
    assert variant_spans({"chr1": 248_956_422}, 5_000_000) == {"chr1": (5_000_000, 200_000_000)}
    assert random_spans({"chr1": 248_956_422}, 10_000_000) == {"chr1": (10_000_000, 200_000_000)}


@given(st.integers(0, 300))
def test_random_positions_share_out_evenly(n: int) -> None:
    positions = draw_random_positions(random.Random(1), SPANS, n)
    assert len(positions) == n
    counts = Counter(positions.chrom.tolist())
    assert all(count <= n // 3 + 1 for count in counts.values())
    assert all(SPANS[str(c)][0] <= p <= SPANS[str(c)][1] for c, p in zip(positions.chrom, positions.pos, strict=True))


def test_ccres_by_class_from_the_given_chromosomes() -> None:
    n = 400
    category = np.array([CCRE_CLASSES[i % 8] for i in range(n)])
    chrom = np.array([f"chr{i // 100 + 1}" for i in range(n)])
    start = np.arange(n) * 1000
    counts = {"PLS": 5, "CA": 999, "TF": 0}
    positions = draw_ccres(CCres(chrom, start, start + 301, category), ["chr1", "chr3"], counts, 456)
    drawn = Counter(category[(positions.pos - 150) // 1000].tolist())
    usable = np.isin(chrom, ["chr1", "chr3"])
    assert drawn == {"PLS": 5, "CA": int((usable & (category == "CA")).sum())}
    assert set(positions.chrom.tolist()) == {"chr1", "chr3"}
    assert len(set(positions.pos.tolist())) == len(positions)


GENES = genes_of(
    [
        ("chrX", 1, 90_000, "+", "A0", "protein_coding"),
        ("chr1", 100, 5_100, "+", "Z", "protein_coding"),
        ("chr1", 200, 10_200, "-", "b", "protein_coding"),
        ("chr1", 300, 10_301, "-", "B", "protein_coding"),
        ("chr1", 400, 90_400, "+", "lnc", "lncRNA"),
        ("chr2", 500, 50_501, "-", "Z", "protein_coding"),
    ]
)


def test_tss_of_the_first_record_of_every_name_in_code_point_order() -> None:
    positions = draw_tss(GENES, ["chr1", "chr2"], 10, 111)
    assert (positions.chrom.tolist(), positions.pos.tolist()) == (["chr1"] * 3, [10_301, 100, 10_200])


def test_gene_bodies_drop_short_genes_before_names_are_made_unique() -> None:
    positions = draw_gene_bodies(GENES, ["chr1", "chr2"], 10, 222)
    assert (positions.chrom.tolist(), positions.pos.tolist()) == (["chr1", "chr2"], [5_300, 25_500])


def test_more_genes_than_wanted_are_sampled() -> None:
    names = [f"G{i:03d}" for i in range(50)]
    genes = genes_of([("chr1", i + 1, i + 1, "+", name, "protein_coding") for i, name in enumerate(names)])
    expected = random.Random(111).sample(names, 20)
    assert [names[pos - 1] for pos in draw_tss(genes, ["chr1"], 20, 111).pos] == expected
    assert draw_tss(genes, ["chr1"], 50, 111).pos.tolist() == list(range(1, 51))


def test_combined_strata_are_shuffled_with_the_given_stream() -> None:
    strata = {
        "random": Positions(np.array(["chr1"] * 4), np.arange(4)),
        "ccre": Positions(np.array(["chr10"] * 3), np.arange(10, 13)),
        "tss": Positions(np.array([], np.str_), np.array([], np.int64)),
    }
    expected = [*range(4), *range(10, 13)]
    random.Random(7).shuffle(expected)
    positions, stratum = combine(random.Random(7), strata)
    assert positions.pos.tolist() == expected
    assert stratum.tolist() == ["random" if pos < 10 else "ccre" for pos in expected]
    assert positions.chrom.tolist() == ["chr1" if pos < 10 else "chr10" for pos in expected]


@pytest.mark.parametrize("n_bins", [32, 896])
def test_bins_are_distinct_and_follow_numpys_stream(n_bins: int) -> None:
    bins = draw_bins(20, n_bins, 32, 999)
    assert (bins.dtype, bins.shape) == (np.dtype(np.int32), (20, 32))
    assert (bins >= 0).all()
    assert (bins < n_bins).all()
    assert all(len(set(row.tolist())) == 32 for row in bins)
    stream = np.random.RandomState(999)
    assert bins[0].tolist() == stream.permutation(n_bins)[:32].tolist()
    assert draw_bins(0, n_bins, 32, 999).shape == (0, 32)
