"""Exons on an output: which bins overlap them, and which of those are kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_store.annotations import merged_exons
from chorus_store.exon_bins import ExonBins, OutputAxis, overlapping_bins
from chorus_store.genome import Genome
from chorus_store.intervals import merge_intervals
from chorus_store.layout import Kind
from chorus_store.plan import ExonMask, Plan, build_plan
from chorus_store.positions import draw_exon_slots
from tests.test_plan import LENGTHS, OPTIONS, SMALL, annotate, write_genome

KINDS: tuple[Kind, Kind] = ("variants", "baselines")
AXIS = OutputAxis(resolution_bp=32, n_bins=40, offset_bp=360)


def of_lists(rows: list[list[int]]) -> ExonBins:
    """Every bin a run of its own."""
    first = np.array([b for row in rows for b in row], np.int32)
    return ExonBins(np.cumsum([0, *map(len, rows)]), first, first + 1)


def by_base(exons: list[tuple[int, int]], axis: OutputAxis, window_start: int) -> list[int]:
    """Bins of the output that hold a base of an exon, base by base."""
    bases = {base for start, end in exons for base in range(start, end)}
    start = window_start + axis.offset_bp
    return [
        b
        for b in range(axis.n_bins)
        if bases & set(range(start + b * axis.resolution_bp, start + (b + 1) * axis.resolution_bp))
    ]


intervals = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), min_size=1, max_size=8)


@given(
    st.dictionaries(st.sampled_from(["chr1", "chr2"]), intervals),
    st.builds(OutputAxis, st.integers(1, 9), st.integers(1, 12), st.integers(0, 50)),
    st.lists(st.tuples(st.sampled_from(["chr1", "chr2", "chr3", ""]), st.integers(0, 320)), max_size=6),
)
@settings(deadline=None)
def test_bins_hold_a_base_of_an_exon(
    found: dict[str, list[tuple[int, int]]], axis: OutputAxis, positions: list[tuple[str, int]]
) -> None:
    exons = {chrom: [(start, start + length) for start, length in rows] for chrom, rows in found.items()}
    merged = {chrom: merge_intervals(np.array(rows)) for chrom, rows in exons.items()}
    chrom = np.array([chrom for chrom, _ in positions], np.str_)
    bins = overlapping_bins(merged, axis, chrom, np.array([start for _, start in positions], np.int64))
    expected = [by_base(exons.get(name, []), axis, start) for name, start in positions]
    assert [bins.at(i).tolist() for i in range(len(bins))] == expected
    assert bins.counts().tolist() == list(map(len, expected))
    apart = np.setdiff1d(np.arange(1, len(bins.first)), bins.offset)  # runs that follow another of their position
    assert (bins.first[apart] > bins.stop[apart - 1]).all(), "runs that touch are one"


@given(st.lists(st.lists(st.integers(0, 99), max_size=5, unique=True).map(sorted), max_size=5), st.data())
@settings(deadline=None)
def test_positions_are_taken_and_padded(rows: list[list[int]], data: st.DataObject) -> None:
    bins = of_lists(rows)
    order = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6)) if rows else []
    taken = bins.take(np.array(order, np.intp))
    expected = [rows[i] for i in order]
    width = max(map(len, expected), default=0)
    assert taken.padded().tolist() == [row + [-1] * (width - len(row)) for row in expected]
    assert taken.padded().dtype == np.int32


def test_the_first_base_of_an_exon_counts(tmp_path: Path) -> None:
    """A GTF's exon 100–100 is the 0-based base 99: of bins from base 36 on, the last base of the second."""
    gtf = tmp_path / "one.gtf"
    notes = 'gene_id "G"; gene_type "protein_coding"; gene_name "G";'
    gtf.write_text(f"chr1\tt\texon\t100\t100\t.\t+\t.\t{notes}\n")
    bins = overlapping_bins(merged_exons(gtf), OutputAxis(32, 4, 6), np.array(["chr1"]), np.array([30]))
    assert bins.at(0).tolist() == [1]


def test_slots_hold_all_bins_or_a_choice_from_a_stream_of_their_own() -> None:
    rows = [[3, 5], list(range(10, 30)), [], [7, 8, 9], list(range(50, 61))]
    slots = draw_exon_slots(of_lists(rows), 4, seed=999)
    rng = np.random.RandomState(999)
    assert slots.dtype == np.int32
    assert slots.tolist() == [
        [3, 5, -1, -1],
        rng.choice(rows[1], 4, replace=False).tolist(),
        [-1] * 4,
        [7, 8, 9, -1],
        rng.choice(rows[4], 4, replace=False).tolist(),
    ]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    with Genome(write_genome(tmp_path_factory.mktemp("genome") / "small.fa", LENGTHS)) as opened:
        yield opened


def sparse_exons() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    starts = {chrom: rng.integers(0, length, 40) for chrom, length in LENGTHS.items()}
    return {chrom: merge_intervals(np.stack([start, start + 150], axis=1)) for chrom, start in starts.items()}


def planned(genome: Genome, mask: ExonMask | None) -> Plan:
    return build_plan(genome, *annotate(LENGTHS), OPTIONS, **SMALL, exon_mask=mask)


def test_a_plan_with_exons_is_the_one_without_and_their_bins(genome: Genome) -> None:
    exons = sparse_exons()
    without, plan = planned(genome, None), planned(genome, ExonMask(exons, AXIS))
    for kind in KINDS:
        table, starts = plan.part(kind), plan.windows(kind)
        for name, (_, column) in without.part(kind).columns().items():
            np.testing.assert_array_equal(table.columns()[name][1], column)
        assert table.exons is not None
        expected = [
            by_base(list(map(tuple, exons[chrom].tolist())), AXIS, start) if valid else []
            for chrom, start, valid in zip(table.chrom.tolist(), starts.tolist(), table.valid.tolist(), strict=True)
        ]
        assert [table.exons.at(i).tolist() for i in range(len(table))] == expected
        assert {0, 5} < set(map(len, expected)), "some have none, some a few"
    baselines = plan.baselines
    assert baselines.exons is not None and baselines.exon_slots is not None
    np.testing.assert_array_equal(
        baselines.exon_slots, draw_exon_slots(baselines.exons, OPTIONS.bin_slots, OPTIONS.bin_seed)
    )


def test_hashes(genome: Genome) -> None:
    without, plan = planned(genome, None), planned(genome, ExonMask(sparse_exons(), AXIS))
    # That of the same plan before there were exons.
    assert without.sha256 == "51d29de612ec232045d72259377874e800f13ddcd8c508e0b0e492a729a11557"
    shifted = planned(genome, ExonMask(sparse_exons(), replace(AXIS, offset_bp=0)))
    for name in ("sha256", "effect_sha256", "activity_sha256"):
        assert len({getattr(each, name) for each in (without, plan, shifted)}) == 3
    again = Plan.from_datasets(plan.to_datasets())
    assert (again.sha256, again.exon_axis) == (plan.sha256, AXIS)


def test_exons_that_are_nowhere_are_warned_of(genome: Genome, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        plan = planned(genome, ExonMask({"1": np.array([[0, 10**6]])}, AXIS))
    assert "no output overlaps an exon" in caplog.text
    assert plan.baselines.exon_slots is not None and (plan.baselines.exon_slots == -1).all()
