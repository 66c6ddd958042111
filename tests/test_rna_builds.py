"""Whole builds of an oracle with tracks of gene expression, against a plain reading of their definition."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from builders import cli
from builders.oracle import BinArray, Exons, Reduced
from builders.pipeline import Build
from builders.settings import Inputs, Settings
from chorus_store.errors import PlanError
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.layout import Kind
from chorus_store.plan import Plan
from chorus_store.sequence import Codes
from tests import tiny
from tests.tiny_rna import OTHERS, RNA, Scarce, TinyRna, contents, predicted, stored_plan


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The tiny genome with exons so small that many windows have none, and a gene that does not code."""
    made = tiny.write_inputs(tmp_path_factory.mktemp("inputs"))
    assert made.gtf is not None
    lines = []
    for line in made.gtf.read_text().splitlines():
        fields = line.split("\t")
        if fields[2] == "exon":
            fields[4] = str(int(fields[3]) + 99)
        lines.append("\t".join(fields))
    notes = 'gene_id "L"; gene_type "lncRNA"; gene_name "L";'
    lines += [f"{contig}\tt\texon\t1\t{tiny.CONTIG_BP}\t.\t+\t.\t{notes}" for contig in tiny.CONTIGS]
    made.gtf.write_text("\n".join(lines) + "\n")
    return made


def build(inputs: Inputs, out: Path, *more: str, oracle: type[TinyRna] = TinyRna) -> int:
    return cli.run(oracle, tiny.arguments(inputs, out, *("--block", "8"), *more))


@pytest.fixture(scope="module")
def built(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    assert build(inputs, folder) == 0
    return folder


def exon_bins(gtf: Path, chrom: str, pos: int) -> list[int]:
    """Bins of the output, 64 bp from 640 bases into the window on, that hold a base of a coding exon."""
    output = pos - 1024 + 640
    bins = set()
    for line in gtf.read_text().splitlines():
        fields = line.split("\t")
        if fields[0] == chrom and fields[2] == "exon" and "protein_coding" in fields[8]:
            bases = np.arange(int(fields[3]) - 1, int(fields[4]))
            bins |= set(((bases - output) // 64).tolist())
    return sorted(bins & set(range(16)))


def expected(inputs: Inputs, plan: Plan, kind: Kind) -> list[dict[str, Any] | None]:
    """Of every position, exon bins and predictions; None where it is not scored."""
    assert inputs.gtf is not None
    return [
        at and {"exons": exon_bins(inputs.gtf, at.chrom, at.pos), "predictions": at.predictions}
        for at in predicted(inputs, plan, kind)
    ]


def mean_over(prediction: np.ndarray, bins: list[int]) -> np.ndarray:
    if not bins:
        return np.full(2, np.nan, np.float32)
    return prediction[bins][:, RNA].astype(np.float64).mean(axis=0).astype(np.float32)


def test_effects_are_of_means_over_exon_bins(inputs: Inputs, built: Path) -> None:
    store = FactStore(built / "tinyrna.zarr")
    rows = expected(inputs, stored_plan(built), "variants")
    for name, allele in (("effect/ref", 0), ("effect/alt", 1)):
        facts = store.read_columns(name, 0, 5).T
        for row, want in zip(facts, rows, strict=True):
            mean = np.full(2, np.nan) if want is None else mean_over(want["predictions"][allele], want["exons"])
            np.testing.assert_array_equal(row[RNA], mean)
            assert np.isfinite(row[OTHERS]).all() == (want is not None)
    measured = [want for want in rows if want and want["exons"]]
    scored = [want for want in rows if want]
    assert 0 < len(measured) < len(scored)
    with chorus_store.open(built / "tinyrna.zarr") as published:
        counts = published["effect_count"].values
        assert counts[RNA].tolist() == [len(measured)] * 2
        assert counts[OTHERS].tolist() == [len(scored)] * 3
        assert published["formula"].values[1] == "ln_fold_change" and bool(published["signed"].values[1])
        effects = [
            np.log((alt + 0.001) / (ref + 0.001))
            for want in measured
            for ref, alt in [[float(mean_over(p, want["exons"])[0]) for p in want["predictions"]]]
        ]
        assert min(effects) < 0 < max(effects)
        np.testing.assert_allclose(published["effect_cdf"].values[1, -1], max(effects), rtol=1e-6)
        np.testing.assert_allclose(published["effect_cdf"].values[1, 0], min(effects), rtol=1e-6)


def test_activities_are_of_exon_bins(inputs: Inputs, built: Path) -> None:
    store, plan = FactStore(built / "tinyrna.zarr"), stored_plan(built)
    rows = expected(inputs, plan, "baselines")
    slots = plan.baselines.exon_slots
    assert slots is not None
    summary = store.read_columns("summary/value", 0, 5).T
    perbin = store.read_columns("perbin/value", 0, 5).T.reshape(len(rows), -1, 5)
    n_summary = n_perbin = 0
    for i, want in enumerate(rows):
        if want is None:
            assert np.isnan(summary[i]).all() and np.isnan(perbin[i]).all()
            continue
        (prediction,), exons = want["predictions"], want["exons"]
        np.testing.assert_array_equal(summary[i, RNA], mean_over(prediction, exons))
        used = slots[i] >= 0
        assert used.sum() == min(len(exons), 5) and set(slots[i][used].tolist()) <= set(exons)
        np.testing.assert_array_equal(perbin[i][used][:, RNA], prediction[slots[i][used]][:, RNA])
        assert np.isnan(perbin[i][~used][:, RNA]).all()
        np.testing.assert_array_equal(perbin[i][:, OTHERS], prediction[plan.baselines.bins[64][i]][:, OTHERS])
        n_summary, n_perbin = n_summary + bool(exons), n_perbin + int(used.sum())
    with chorus_store.open(built / "tinyrna.zarr") as published:
        assert published["summary_count"].values[RNA].tolist() == [n_summary] * 2
        assert published["perbin_count"].values[RNA].tolist() == [n_perbin] * 2
        assert published["perbin_count"].values[0] == 5 * sum(want is not None for want in rows)


def test_the_store_says_which_mask_was_used(built: Path) -> None:
    with chorus_store.open(built / "tinyrna.zarr") as published:
        assert published.attrs["provenance"]["parameters"]["oracle"] == {"rna_mask": "exons"}
        described = published.attrs["provenance"]["layers"]["gene_expression"]
    assert (described["aggregation"], described["signed"]) == ("exon_mean", True)


@pytest.mark.parametrize("oracle", [TinyRna, Scarce])
def test_any_split_gives_the_same_bytes(inputs: Inputs, built: Path, tmp_path: Path, oracle: type[TinyRna]) -> None:
    for k in (3, 1, 2):
        assert build(inputs, tmp_path, "--shard", f"{k}/3", oracle=oracle) == 0
    assert contents(tmp_path) == contents(built)


class Filling(TinyRna):
    """Gives 0 where there is no exon bin."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        return Reduced(np.nan_to_num(right.statistics), None if right.bins is None else np.nan_to_num(right.bins))


def test_no_exon_bin_is_no_value_whatever_the_oracle_says(inputs: Inputs, built: Path, tmp_path: Path) -> None:
    assert build(inputs, tmp_path, oracle=Filling) == 0
    assert contents(tmp_path) == contents(built)


class Broken(TinyRna):
    """Not finite where it does not matter, and where it does: in one position of the plan, at a bin of an exon."""

    lost: Codes

    def predict(self, codes: Codes) -> np.ndarray:
        values = super().predict(codes)
        if np.array_equal(codes, self.lost):
            values[:, 1] = np.nan
        return values


def test_a_position_counts_for_every_track_or_for_none(inputs: Inputs, built: Path, tmp_path: Path) -> None:
    plan = stored_plan(built)
    baselines = plan.baselines
    assert baselines.exons is not None
    counts = baselines.exons.counts()
    with_exons, without = (int(np.flatnonzero(baselines.valid & some)[0]) for some in (counts > 0, counts == 0))
    for row, dropped in ((with_exons, 1), (without, 0)):
        start = int(plan.windows("baselines")[row])
        with Genome(inputs.fasta) as genome:
            Broken.lost = genome.fetch(str(baselines.chrom[row]), start, start + 2048)
        out = tmp_path / str(row)
        assert build(inputs, out, oracle=Broken) == 0
        with chorus_store.open(out / "tinyrna.zarr") as now, chorus_store.open(built / "tinyrna.zarr") as before:
            lost = before["perbin_count"].values - now["perbin_count"].values
            assert lost[OTHERS].tolist() == [5 * dropped] * 3
            assert lost[RNA].tolist() == [min(int(counts[row]), 5) * dropped] * 2


def test_exons_need_a_gtf(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PlanError, match="measured over exons: give --gtf"):
        Build(TinyRna(), Inputs(inputs.fasta), Settings(tmp_path, assembly="synthetic"))
    arguments = tiny.arguments(inputs, tmp_path, "--offline", n_tss=0, n_gene_bodies=0)
    arguments[3] = str(tmp_path / "nowhere.gtf")
    assert cli.run(TinyRna, arguments) == 2
    assert "--gtf" in capsys.readouterr().err
