"""The plan: the reference's, draw for draw; its hashes, its round trip, and what it refuses."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chorus_store import layout
from chorus_store.annotations import CCRE_CLASSES, CCres, Genes, read_ccres, read_genes
from chorus_store.errors import CorruptStoreError, PlanError
from chorus_store.exon_bins import ExonBins, OutputAxis
from chorus_store.genome import Genome
from chorus_store.layout import Kind
from chorus_store.plan import Baselines, Plan, PlanOptions, Variants, build_plan, window_starts
from tests.stub import stub_ccres, stub_gtf

ENFORMER: dict[str, Any] = {
    "input_length_bp": 393_216,
    "max_unknown_fraction": 0.5,
    "bins_by_resolution": {128: 896},
}
SMALL: dict[str, Any] = {
    "input_length_bp": 2_000,
    "max_unknown_fraction": 0.5,
    "bins_by_resolution": {32: 64, 128: 40},
}
OPTIONS = PlanOptions(
    n_variants=200,
    n_random=100,
    ccre_counts={"PLS": 20, "CA": 10},
    n_tss=12,
    n_gene_bodies=9,
    variant_margin_bp=1_500,
    random_margin_bp=2_000,
)
NO_ANNOTATIONS = replace(OPTIONS, ccre_counts={}, n_tss=0, n_gene_bodies=0)
LENGTHS = {"chr1": 300_000, "chr2": 200_000, "chrX": 150_000}


def write_genome(path: Path, lengths: dict[str, int], seed: int = 1) -> Path:
    """Random contigs whose first fifth is unknown."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for chrom, length in lengths.items():
            bases = rng.choice(list("ACGT"), length)
            bases[: length // 5] = "N"
            file.write(f">{chrom}\n{''.join(bases)}\n")
    return path


def annotate(lengths: dict[str, int], n: int = 60, seed: int = 2) -> tuple[Genes, CCres]:
    """Genes and cCREs anywhere on the contigs."""
    rng = np.random.default_rng(seed)
    chrom = rng.choice(list(lengths), n)
    start = np.array([rng.integers(1, lengths[str(name)] - 30_000) for name in chrom])
    names = np.array([f"G{i}" for i in range(n)])
    genes = Genes(chrom, start, start + 20_000, np.tile(["+", "-"], n // 2), names, np.full(n, "protein_coding"))
    category = np.array(CCRE_CLASSES)[np.arange(n) % 2 * 7]
    return genes, CCres(chrom, start, start + 301, category)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Genome]:
    with Genome(write_genome(tmp_path_factory.mktemp("genome") / "small.fa", LENGTHS)) as opened:
        yield opened


@pytest.fixture(scope="module")
def plan(genome: Genome) -> Plan:
    return build_plan(genome, *annotate(LENGTHS), OPTIONS, **SMALL)


def golden(path: Path) -> dict[str, list[str]]:
    with gzip.open(path, "rt") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


@pytest.mark.shared
def test_plan_is_the_references(stub_genome: Path, shared: Path, tmp_path: Path) -> None:
    genes, ccres = read_genes(stub_gtf(tmp_path / "stub.gtf")), read_ccres(stub_ccres(tmp_path / "stub.bed"))
    with Genome(stub_genome) as genome:
        genome.check_assembly("hg38")
        plan = build_plan(genome, genes, ccres, PlanOptions(), **ENFORMER)
    for table, file in ((plan.variants, "enformer_variants"), (plan.baselines, "enformer_baselines")):
        for name, column in golden(shared / f"golden/{file}.tsv.gz").items():
            assert list(map(str, getattr(table, name).tolist())) == column, name
    expected = json.loads((shared / "golden/enformer_bins.json").read_text())
    bins = plan.baselines.bins[128][plan.baselines.valid]
    assert len(bins) == expected["valid_positions"]
    assert bins[:3].tolist() == expected["first_three"]
    assert hashlib.sha256(bins.astype("<i4").tobytes()).hexdigest() == expected["bins_sha256_le_i4"]
    assert plan.strata() == {
        "variants": {"random": 9_953},
        "baselines": {"ccre": 11_500, "gene_body": 2_000, "random": 15_000, "tss": 3_000},
    }


@pytest.mark.shared
def test_human_chr20_alone(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "chr20.fa"
    with gzip.open(shared / "data/hg38_chr20.fa.gz") as packed, path.open("wb") as plain:
        shutil.copyfileobj(packed, plain)
    genes = read_genes(shared / "data/gencode_v44_mane_hg38.gtf.gz")
    ccres = read_ccres(shared / "data/screen_v4_ccres_chr20_9550320-13038089.bed.gz")
    with Genome(path) as genome:
        plan = build_plan(genome, genes, ccres, PlanOptions(), **ENFORMER)
    assert set(plan.variants.chrom.tolist()) == set(plan.baselines.chrom.tolist()) == {"chr20"}
    strata = plan.strata()["baselines"]
    assert strata["random"] == 15_000
    assert strata["ccre"] == 31 + 1727 + 190 + 201 + 30 + 123 + 76 + 377
    assert 500 < strata["tss"] < 600
    assert plan.variants.valid.mean() > 0.95


def test_windows_and_validity(genome: Genome, plan: Plan) -> None:
    kinds: tuple[Kind, Kind] = ("variants", "baselines")
    for kind in kinds:
        table, starts = plan.part(kind), plan.windows(kind)
        for chrom, start, valid in zip(table.chrom.tolist(), starts.tolist(), table.valid.tolist(), strict=True):
            inside = start >= 0 and start + 2_000 <= LENGTHS[chrom]
            assert valid == (inside and (genome.fetch(chrom, start, start + 2_000) == 4).mean() <= 0.5)
    assert 0 < plan.baselines.valid.sum() < len(plan.baselines)
    variants = plan.variants
    codes = [genome.fetch(c, s, s + 2_000)[999] for c, s in zip(variants.chrom, plan.windows("variants"), strict=True)]
    assert ["ACGT"[code] for code in codes] == variants.ref.tolist()


def test_window_rule() -> None:
    assert window_starts(np.array([1_000, 5]), 8).tolist() == [996, 1]


def test_bins_of_every_resolution(plan: Plan) -> None:
    valid = plan.baselines.valid
    for resolution, n_bins in SMALL["bins_by_resolution"].items():
        bins = plan.baselines.bins[resolution]
        assert (bins.dtype, bins.shape) == (np.dtype(np.int32), (len(valid), 32))
        assert (bins[~valid] == -1).all()
        assert bins[valid].min() == 0
        assert bins[valid].max() == n_bins - 1


def test_scalar_oracle_has_no_bins(genome: Genome) -> None:
    plan = build_plan(genome, *annotate(LENGTHS), OPTIONS, **{**SMALL, "bins_by_resolution": {}})
    assert plan.baselines.bins == {}
    assert Plan.from_datasets(plan.to_datasets()).sha256 == plan.sha256


def test_subset_of_chromosomes_leaves_the_others_out(tmp_path: Path) -> None:
    lengths = {"chr2": 200_000, "chrUn": 50_000}
    genes, ccres = annotate(LENGTHS)
    with Genome(write_genome(tmp_path / "g.fa", lengths)) as genome:
        plan = build_plan(genome, genes, ccres, OPTIONS, **SMALL)
    assert set(plan.variants.chrom.tolist()) == set(plan.baselines.chrom.tolist()) == {"chr2"}


def test_chrx_ccres_stay_in_the_draw_of_a_genome_with_all_autosomes(tmp_path: Path) -> None:
    lengths = {f"chr{i}": 40_000 for i in range(1, 23)}
    genes, ccres = annotate({**lengths, "chrX": 40_000}, n=400)
    with Genome(write_genome(tmp_path / "g.fa", lengths)) as genome:
        plan = build_plan(genome, genes, ccres, replace(OPTIONS, ccre_counts={"PLS": 999}), **SMALL)
    on_x = plan.baselines.chrom == "chrX"
    assert on_x.sum() == ((ccres.chrom == "chrX") & (ccres.category == "PLS")).sum() > 0
    assert not plan.baselines.valid[on_x].any()
    assert set(plan.baselines.stratum[on_x].tolist()) == {"ccre"}


def test_same_inputs_give_the_same_plan(genome: Genome, plan: Plan) -> None:
    again = build_plan(genome, *annotate(LENGTHS), OPTIONS, **SMALL)
    assert again.sha256 == plan.sha256
    other = build_plan(genome, *annotate(LENGTHS), replace(OPTIONS, variant_seed=43), **SMALL)
    assert other.effect_sha256 != plan.effect_sha256
    assert other.activity_sha256 == plan.activity_sha256
    assert other.sha256 != plan.sha256


def test_repr_counts(plan: Plan) -> None:
    assert repr(plan).startswith(f"<Plan {plan.sha256[:12]}, windows of 2,000 bp>\n  variants: ")
    assert "tss 12)" in repr(plan)


def texts(n: int) -> st.SearchStrategy[npt.NDArray[np.str_]]:
    names = st.text(st.characters(exclude_categories=["C"]), max_size=4)
    return st.lists(names, min_size=n, max_size=n).map(lambda column: np.array(column, np.str_))


@st.composite
def plans(draw: st.DrawFn, exons: bool) -> Plan:
    """Any arrays that a plan could hold, empty ones too."""
    n, m = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    options = PlanOptions(bin_slots=3, n_tss=draw(st.integers(0, 9)))
    of_sample = [draw(texts(n)) for _ in range(4)]
    pos = [draw(hnp.arrays(np.int64, size, elements=st.integers(-(2**62), 2**62))) for size in (n, m)]
    valid = [draw(hnp.arrays(np.bool_, size)) for size in (n, m)]
    variants = Variants(of_sample[0], pos[0], *of_sample[1:], valid[0])
    resolutions = draw(st.dictionaries(st.integers(1, 128), st.integers(3, 2**31 - 1), max_size=2))
    bins = {res: draw(hnp.arrays(np.int32, (m, 3))) for res in resolutions}
    baselines = Baselines(draw(texts(m)), pos[1], draw(texts(m)), valid[1], bins)
    plan = Plan(options, draw(st.integers(2, 2**20)), draw(st.floats(0, 1)), resolutions, variants, baselines)
    if not exons:
        return plan
    return replace(
        plan,
        variants=replace(variants, exons=draw(exon_bins(n))),
        baselines=replace(baselines, exons=draw(exon_bins(m)), exon_slots=draw(hnp.arrays(np.int32, (m, 3)))),
        exon_axis=OutputAxis(32, draw(st.integers(1, 10_000)), draw(st.integers(0, 10_000))),
    )


@st.composite
def exon_bins(draw: st.DrawFn, n: int) -> ExonBins:
    offset = np.cumsum([0, *draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))])
    first, stop = (draw(hnp.arrays(np.int32, int(offset[-1]))) for _ in range(2))
    return ExonBins(offset, first, stop)


def columns(plan: Plan) -> dict[str, npt.NDArray[Any]]:
    kinds: tuple[Kind, Kind] = ("variants", "baselines")
    return {f"{kind}.{name}": column for kind in kinds for name, (_, column) in plan.part(kind).columns().items()}


def assert_same(plan: Plan, other: Plan) -> None:
    assert (plan.sha256, plan.options) == (other.sha256, other.options)
    assert (plan.input_length_bp, plan.max_unknown_fraction) == (
        other.input_length_bp,
        other.max_unknown_fraction,
    )
    assert (plan.bins_by_resolution, plan.exon_axis) == (other.bins_by_resolution, other.exon_axis)
    assert columns(plan).keys() == columns(other).keys()
    for name, column in columns(plan).items():
        np.testing.assert_array_equal(column, columns(other)[name])
        assert column.dtype.kind == columns(other)[name].dtype.kind


@given(st.booleans().flatmap(plans))
def test_round_trip_through_datasets(plan: Plan) -> None:
    assert_same(plan, Plan.from_datasets(plan.to_datasets()))


@given(plans(exons=True), st.data())
def test_any_change_changes_the_hash(plan: Plan, data: st.DataObject) -> None:
    before = (plan.sha256, plan.effect_sha256, plan.activity_sha256)
    filled = [(name, column) for name, column in columns(plan).items() if column.size]
    if not filled:
        return
    name, column = data.draw(st.sampled_from(filled))
    changed = column.copy().astype("<U9") if column.dtype.kind == "U" else column.copy()
    spot = data.draw(st.integers(0, column.size - 1))
    old = changed.flat[spot]
    changed.flat[spot] = f"{old}x" if isinstance(old, str) else (not old if changed.dtype == bool else old ^ 1)
    table, _, key = name.partition(".")
    of_variants = table == "variants"
    old_table = plan.variants if of_variants else plan.baselines
    assert old_table.exons is not None
    change: dict[str, Any] = {key: changed}
    if key.startswith("bins_"):
        change = {"bins": {**plan.baselines.bins, int(key[5:-2]): changed}}
    elif key in ("exon_offset", "exon_first", "exon_stop"):
        change = {"exons": replace(old_table.exons, **{key[5:]: changed})}
    other = replace(plan, **{table: replace(old_table, **change)})
    assert other.sha256 != before[0]
    assert (other.effect_sha256 != before[1]) == of_variants
    assert (other.activity_sha256 != before[2]) == (not of_variants)


def test_hash_is_of_the_content_and_not_of_its_storage(plan: Plan) -> None:
    wider = replace(plan.variants, chrom=plan.variants.chrom.astype("<U30"), pos=plan.variants.pos.astype(">i8"))
    assert replace(plan, variants=wider).sha256 == plan.sha256


def test_round_trip_through_a_store(plan: Plan, tmp_path: Path) -> None:
    root = zarr.create_group(tmp_path / "s.zarr", zarr_format=3)
    for kind, table in plan.to_datasets().items():
        layout.write_table(root, kind, table)
    kinds: tuple[Kind, Kind] = ("variants", "baselines")
    assert_same(plan, Plan.from_datasets({kind: layout.read_table(tmp_path / "s.zarr", kind) for kind in kinds}))


def test_changed_datasets_are_refused(plan: Plan) -> None:
    datasets = plan.to_datasets()
    datasets["variants"]["pos"][0] += 1
    with pytest.raises(CorruptStoreError, match="not the one that was written; build it again"):
        Plan.from_datasets(datasets)
    with pytest.raises(CorruptStoreError, match=r"cannot be read .*bins_32bp.*; build it again"):
        Plan.from_datasets({**plan.to_datasets(), "baselines": plan.to_datasets()["baselines"].drop_vars("bins_32bp")})


def test_options_round_trip_through_json() -> None:
    assert PlanOptions.from_dict(json.loads(json.dumps(OPTIONS.to_dict()))) == OPTIONS
    assert PlanOptions.from_dict({}) == PlanOptions()
    assert PlanOptions().wanted() == {"random": 15_000, "ccre": 11_500, "tss": 3_000, "gene_body": 2_000}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_tss": -1}, "sizes must be 0 or more: n_tss"),
        ({"n_gene_bodies": 2**64}, "sizes must be at most 1,000,000,000: n_gene_bodies"),
        ({"ccre_counts": {"PLS": -1}}, "sizes must be 0 or more: PLS"),
        ({"ccre_counts": {"DNase": 1}}, r"unknown cCRE classes \['DNase'\]; known classes: PLS"),
        ({"bin_slots": 0}, "must be 1 or more"),
        ({"n_varaints": 5}, "unknown plan options: n_varaints"),
    ],
)
def test_bad_options(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        PlanOptions.from_dict(change)


@pytest.mark.parametrize(
    ("options", "geometry", "message"),
    [
        (OPTIONS, {}, "need genes: give --gtf"),
        (replace(OPTIONS, n_tss=0, n_gene_bodies=0), {}, "needs cCREs: give --ccres"),
        (replace(NO_ANNOTATIONS, n_variants=0, n_random=0), {}, "nothing to draw: all sizes are 0"),
        (NO_ANNOTATIONS, {"input_length_bp": 2_001}, "even length, not 2001 bp"),
        (NO_ANNOTATIONS, {"bins_by_resolution": {128: 31}}, "the output has 31; use fewer --bin-slots"),
        (
            replace(NO_ANNOTATIONS, variant_margin_bp=100_001),
            {},
            "chr2 has 200,000 bp.*smaller --variant-margin-bp",
        ),
        (
            replace(NO_ANNOTATIONS, random_margin_bp=190_000),
            {},
            "chr2 has 200,000 bp.*smaller --random-margin-bp",
        ),
        (
            NO_ANNOTATIONS,
            {"input_length_bp": 400_000},
            "none of 1.. variants has a window that lies in its contig",
        ),
        (
            replace(NO_ANNOTATIONS, n_variants=0),
            {"max_unknown_fraction": -1.0},
            "none of 100 baseline positions",
        ),
    ],
)
def test_impossible_plans(genome: Genome, options: PlanOptions, geometry: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        build_plan(genome, None, None, options, **{**SMALL, **geometry})


def test_genome_without_autosomes_of_that_name(tmp_path: Path) -> None:
    with (
        Genome(write_genome(tmp_path / "g.fa", {"1": 9_000, "2": 9_000})) as genome,
        pytest.raises(PlanError, match=r"none of chr1 … chr22 \(it has 1, 2, …\).*prefix 'chr'"),
    ):
        build_plan(genome, None, None, NO_ANNOTATIONS, **SMALL)


def test_nothing_but_unknown_bases(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    path.write_text(f">chr1\n{'N' * 9_000}\n")
    with (
        Genome(path) as genome,
        pytest.raises(PlanError, match="200 variants were wanted and none could be drawn"),
    ):
        build_plan(genome, None, None, NO_ANNOTATIONS, **SMALL)


def test_absent_class_and_empty_strata_are_named(genome: Genome, caplog: pytest.LogCaptureFixture) -> None:
    genes, ccres = annotate({"1": 300_000, "2": 200_000})
    plan = build_plan(genome, genes, ccres, OPTIONS, **SMALL)
    assert plan.strata()["baselines"] == {"random": 100}
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "no cCRE of class PLS, CA on the chromosomes of the genome; left out" in warnings[0]
    assert [next(s for s in ("ccre", "tss", "gene_body") if s in text) for text in warnings[1:]] == [
        "ccre",
        "tss",
        "gene_body",
    ]
    with pytest.raises(PlanError, match="41 baseline positions were wanted and none could be drawn; check that genome"):
        build_plan(genome, genes, ccres, replace(OPTIONS, n_random=0, ccre_counts={"PLS": 20}), **SMALL)
