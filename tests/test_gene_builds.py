"""Whole builds with one value per gene, against a plain reading of what that means."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from builders import cli, rna_masks
from builders.oracle import BinArray, Exons, Reduced
from builders.pipeline import Build
from builders.settings import Inputs, Settings
from chorus_store import info, layout
from chorus_store.budget import Sampler, most_samples, working_set
from chorus_store.errors import PlanError
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.layout import Kind
from chorus_store.merging import merge
from chorus_store.sequence import Codes
from chorus_store.validation import validate
from tests import tiny
from tests.tiny_rna import KINDS, OTHERS, RNA, Scarce, TinyRna, contents, predicted, stored_plan

Values = list[np.ndarray]


class ByGene(TinyRna):
    """Takes ``--rna-mask``."""

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        rna_masks.add_option(options)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> ByGene:
        made = cls()
        made.rna_mask = args.rna_mask
        return made


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """The tiny genome with small genes that overlap, share exons, and are not everywhere."""
    made = tiny.write_inputs(tmp_path_factory.mktemp("inputs"))
    assert made.gtf is not None
    rng = np.random.default_rng(8)
    lines = [line for line in made.gtf.read_text().splitlines() if "\tgene\t" in line]
    for contig in tiny.CONTIGS:
        for i, start in enumerate(rng.integers(1000, tiny.CONTIG_BP - 3000, 40).tolist()):
            kind = "lncRNA" if i % 5 == 4 else "protein_coding"
            notes = f'gene_id "{contig}E{i}"; gene_type "{kind}"; gene_name "E{i}";'
            exons = [(start, start + 120), (start + 100, start + 300), (start + 700, start + 710)]
            lines += [f"{contig}\tt\texon\t{a}\t{b}\t.\t+\t.\t{notes}" for a, b in exons]
            if i % 7 == 0:
                notes = notes.replace(f"E{i}", f"D{i}")
                lines += [f"{contig}\tt\texon\t{a}\t{b}\t.\t+\t.\t{notes}" for a, b in exons[:2]]
    made.gtf.write_text("\n".join(lines) + "\n")
    return made


def build(inputs: Inputs, out: Path, *more: str, oracle: type[TinyRna] = ByGene) -> int:
    return cli.run(oracle, tiny.arguments(inputs, out, "--block", "8", "--rna-mask", "gene", *more))


@pytest.fixture(scope="module")
def built(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    assert build(inputs, folder) == 0
    return folder


@dataclass
class Position:
    """What is to be expected of a position: predictions per allele, and the bins of its genes."""

    predictions: Values
    genes: list[list[int]]

    def means(self, allele: int = 0) -> Values:
        """Of every gene, the values of both tracks of expression."""
        profile = self.predictions[allele][:, RNA].astype(np.float64)
        return [profile[bins].mean(axis=0).astype(np.float32) for bins in self.genes]


def bins_of_genes(gtf: Path, chrom: str, pos: int) -> list[list[int]]:
    """Exon bins of every coding gene, base by base: ordered by start and identifier, without genes elsewhere."""
    exons: dict[str, list[tuple[int, int]]] = {}
    for line in gtf.read_text().splitlines():
        fields = line.split("\t")
        if fields[0] == chrom and fields[2] == "exon" and "protein_coding" in fields[8]:
            exons.setdefault(fields[8].split('"')[1], []).append((int(fields[3]) - 1, int(fields[4])))
    output, found = pos - 1024 + 640, []
    for gene in sorted(exons, key=lambda gene: (min(exons[gene]), gene)):
        bases = np.concatenate([np.arange(a, b) for a, b in exons[gene]])
        found.append(sorted(set(((bases - output) // 64).tolist()) & set(range(16))))
    return [bins for bins in found if bins]


def expected(inputs: Inputs, folder: Path, kind: Kind) -> list[Position | None]:
    """Every position; None where it is not scored."""
    gtf = inputs.gtf
    assert gtf is not None
    return [
        at and Position(at.predictions, bins_of_genes(gtf, at.chrom, at.pos))
        for at in predicted(inputs, stored_plan(folder), kind)
    ]


def cdf_of(values: list[float]) -> np.ndarray:
    """10,000 points of fewer values."""
    ordered = np.sort(np.array(values, np.float64))
    return np.interp(np.linspace(0, 1, 10_000), np.arange(len(ordered)) / len(ordered), ordered).astype(np.float32)


def effects_of(position: Position | None) -> Values:
    """Of every gene, the effects on both tracks."""
    if position is None:
        return []
    pairs = zip(position.means(0), position.means(1), strict=True)
    return [np.log((alt.astype(float) + 0.001) / (ref.astype(float) + 0.001)) for ref, alt in pairs]


def test_effects_are_of_single_genes(inputs: Inputs, built: Path) -> None:
    positions = expected(inputs, built, "variants")
    effects = [pair for position in positions for pair in effects_of(position)]
    counts = [len(position.genes) for position in positions if position]
    assert 0 in counts and max(counts) > 2
    shared = [np.intersect1d(p.genes[0], p.genes[1]).size for p in positions if p and len(p.genes) > 1]
    assert max(shared) > 0, "genes overlap"
    with chorus_store.open(built / "tinyrna.zarr") as published:
        assert published["effect_count"].values[RNA].tolist() == [len(effects)] * 2
        assert published["effect_count"].values[OTHERS].tolist() == [len(counts)] * 3
        for i, row in enumerate(RNA):
            np.testing.assert_array_equal(published["effect_cdf"].values[row], cdf_of([pair[i] for pair in effects]))


def test_activities_are_of_single_genes(inputs: Inputs, built: Path) -> None:
    positions = [position for position in expected(inputs, built, "baselines") if position]
    means = [pair for position in positions for pair in position.means()]
    with chorus_store.open(built / "tinyrna.zarr") as published:
        assert published["summary_count"].values[RNA].tolist() == [len(means)] * 2
        for i, row in enumerate(RNA):
            np.testing.assert_array_equal(published["summary_cdf"].values[row], cdf_of([pair[i] for pair in means]))


def test_facts_of_genes_are_in_plan_order(inputs: Inputs, built: Path) -> None:
    store = FactStore(built / "tinyrna.zarr")
    cases: list[tuple[str, Kind, int]] = [
        ("gene_effect/ref", "variants", 0),
        ("gene_effect/alt", "variants", 1),
        ("gene_summary/value", "baselines", 0),
    ]
    for name, kind, allele in cases:
        positions, facts = expected(inputs, built, kind), store.read_columns(name, 0, 2).T
        per_unit = len(facts) // len(store.units(kind))
        for unit in store.units(kind):
            of_unit = [p.means(allele) for p in positions[unit.start : unit.stop] if p]
            wanted = np.array([pair for means in of_unit for pair in means]).reshape(-1, 2)
            found = facts[unit.index * per_unit : (unit.index + 1) * per_unit]
            np.testing.assert_array_equal(found[: len(wanted)], wanted)
            assert np.isnan(found[len(wanted) :]).all()


def test_everything_else_is_as_with_merged_exons(inputs: Inputs, built: Path, tmp_path: Path) -> None:
    assert build(inputs, tmp_path, "--rna-mask", "exons") == 0
    of_genes, merged = (FactStore(folder / "tinyrna.zarr") for folder in (built, tmp_path))
    for array in merged.shape.arrays():
        np.testing.assert_array_equal(of_genes.read_columns(array.name, 0, 5), merged.read_columns(array.name, 0, 5))
    with chorus_store.open(of_genes.path) as now, chorus_store.open(merged.path) as before:
        for cdf, rows in (("effect", OTHERS), ("summary", OTHERS), ("perbin", range(5))):
            np.testing.assert_array_equal(now[f"{cdf}_cdf"].values[list(rows)], before[f"{cdf}_cdf"].values[list(rows)])


class ScarceByGene(ByGene, Scarce):
    """On a device that has memory for two sequences."""


@pytest.mark.parametrize("oracle", [ByGene, ScarceByGene])
def test_any_split_gives_the_same_bytes(inputs: Inputs, built: Path, tmp_path: Path, oracle: type[TinyRna]) -> None:
    for k in (3, 1, 2):
        assert build(inputs, tmp_path, "--shard", f"{k}/3", oracle=oracle) == 0
    assert contents(tmp_path) == contents(built)


def test_hosts_without_a_common_disk(inputs: Inputs, built: Path, tmp_path: Path) -> None:
    """Units with different numbers of genes go together."""
    places = [tmp_path / f"host{k}" for k in (1, 2)]
    for k, place in enumerate(places, 1):
        for part in ("variants", "baselines"):
            assert build(inputs, place, "--part", part, "--shard", f"{k}/2") == 0
    merged = merge([place / "tinyrna.zarr" for place in reversed(places)], tmp_path / "all/tinyrna.zarr")
    assert (merged.kind, merged.missing) == ("units", 0) and merged.added > 0
    assert build(inputs, tmp_path / "all", "--part", "merge") == 0
    assert contents(tmp_path / "all") == contents(built)


def test_a_lost_unit_is_done_again(inputs: Inputs, built: Path, tmp_path: Path) -> None:
    assert build(inputs, tmp_path, "--part", "variants") == 0
    (tmp_path / "tinyrna.zarr/samples/gene_effect/alt/c/2/0").unlink()
    assert build(inputs, tmp_path) == 0
    assert contents(tmp_path) == contents(built)


def reservoirs(offers: Iterator[list[list[float]]], capacity: int) -> tuple[list[int], list[list[float]]]:
    """The reference's sampler: of every position, of every track in turn, all its values."""
    rng, seen = random.Random(12345), [0] * 5
    kept: list[list[float]] = [[] for _ in range(5)]
    for tracks in offers:
        for track, values in enumerate(tracks):
            for value in values:
                if seen[track] < capacity:
                    kept[track].append(value)
                elif (slot := rng.randint(0, seen[track])) < capacity:
                    kept[track][slot] = value
                seen[track] += 1
    return seen, kept


def test_the_reservoir_takes_all_genes_of_a_position_track_by_track(
    inputs: Inputs, built: Path, tmp_path: Path
) -> None:
    assert build(inputs, tmp_path, "--sampler", "algorithm-r", "--capacity", "15") == 0
    store, positions = FactStore(built / "tinyrna.zarr"), expected(inputs, built, "variants")
    ref, alt = (store.read_columns(f"effect/{allele}", 0, 5).T.astype(float) for allele in ("ref", "alt"))
    with np.errstate(invalid="ignore"):
        plain = np.abs(np.log2((alt + 1) / (ref + 1)))
    offers = (
        [[pair[RNA.index(t)] for pair in effects_of(p)] if t in RNA else [plain[i, t]] for t in range(5)]
        for i, p in enumerate(positions)
        if p
    )
    seen, kept = reservoirs(offers, 15)
    with chorus_store.open(tmp_path / "tinyrna.zarr") as published:
        assert published["effect_count"].values.tolist() == seen
        assert published["effect_retained"].values.tolist() == [15] * 5
        for row in range(5):
            np.testing.assert_allclose(published["effect_cdf"].values[row], cdf_of(kept[row]), rtol=1e-6)


def test_the_store_says_which_mask_was_used(built: Path) -> None:
    store = built / "tinyrna.zarr"
    with chorus_store.open(store) as published:
        assert published.attrs["provenance"]["parameters"]["oracle"] == {"rna_mask": "gene"}
        assert published.attrs["provenance"]["layers"]["gene_expression"]["aggregation"] == "gene_exon_mean"
    assert "2; no window, gene_exon_mean, ln_fold_change, signed" in info.render(info.describe(store))
    with chorus_store.open(built / "tinyrna_pertrack.npz") as npz:
        statistics = npz.attrs["build_config"]["statistics_per_layer"]
    assert statistics["gene_expression"]["aggregation"] == "gene_exon_mean"


def test_the_store_is_valid(built: Path) -> None:
    report = validate(built / "tinyrna.zarr", deep=True, npz=built / "tinyrna_pertrack.npz", progress=False)
    assert report.ok, report.findings


def test_another_mask_is_another_build(
    inputs: Inputs, built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(built)
    assert build(inputs, built, "--rna-mask", "exons") == 2
    assert "rna_mask is gene, asked for exons" in capsys.readouterr().err
    assert contents(built) == before


class Lost(ByGene):
    """Not finite at one bin of one sequence."""

    lost: Codes
    bin: int

    def predict(self, codes: Codes) -> np.ndarray:
        values = super().predict(codes)
        if np.array_equal(codes, self.lost):
            values[self.bin, 1] = np.inf
        return values


def test_a_position_counts_for_every_track_and_gene_or_for_none(inputs: Inputs, built: Path, tmp_path: Path) -> None:
    plan, positions = stored_plan(built), expected(inputs, built, "baselines")
    row = next(i for i, p in enumerate(positions) if p and len(p.genes) > 1 and p.genes[0] != p.genes[1])
    position = positions[row]
    assert position is not None
    Lost.bin = position.genes[1][-1]
    start = int(plan.windows("baselines")[row])
    with Genome(inputs.fasta) as genome:
        Lost.lost = genome.fetch(str(plan.baselines.chrom[row]), start, start + 2048)
    assert build(inputs, tmp_path, oracle=Lost) == 0
    with chorus_store.open(tmp_path / "tinyrna.zarr") as now, chorus_store.open(built / "tinyrna.zarr") as before:
        lost = before["summary_count"].values - now["summary_count"].values
        assert lost[RNA].tolist() == [len(position.genes)] * 2
        assert lost[0] == 1
        assert np.isfinite(now["summary_cdf"].values).all()


def test_no_genes_are_no_samples(inputs: Inputs, tmp_path: Path) -> None:
    assert inputs.gtf is not None
    nowhere = tmp_path / "nowhere.gtf"
    lines = inputs.gtf.read_text().splitlines()
    nowhere.write_text("\n".join(line.replace("chr", "") if "\texon\t" in line else line for line in lines) + "\n")
    assert build(Inputs(inputs.fasta, nowhere, inputs.ccres), tmp_path) == 0
    with chorus_store.open(tmp_path / "tinyrna.zarr") as published:
        for cdf in layout.CDFS:
            assert (published[f"{cdf}_count"].values[RNA] == 0).all()
            assert (published[f"{cdf}_count"].values[OTHERS] > 0).all()


class Deaf(ByGene):
    """Gives no values of single genes."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        right = super().reduce(codes, bins, exons)
        return Reduced(right.statistics, right.bins)


class PerTrack(ByGene):
    tracks_per_unit = 1


def test_oracles_that_cannot(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(inputs, tmp_path / "deaf", oracle=Deaf) == 2
    assert "gives no values of single genes" in capsys.readouterr().err
    oracle = PerTrack()
    oracle.rna_mask = "gene"
    with pytest.raises(PlanError, match="use --rna-mask exons"):
        Build(oracle, inputs, Settings(tmp_path, assembly="synthetic"))


def test_memory_and_disk_count_genes(built: Path) -> None:
    shape = FactStore(built / "tinyrna.zarr").shape
    units = [unit for kind in KINDS for unit in shape.units(kind)]
    assert sum(map(shape.bytes_of, units)) == shape.total_bytes()
    without = replace(shape, gene_tracks=0, variant_genes=0, baseline_genes=0)
    of_variants, of_baselines = (len(shape.units(kind)) for kind in KINDS)
    samples = 2 * of_variants * shape.variant_genes + of_baselines * shape.baseline_genes
    assert shape.total_bytes() - without.total_bytes() == 4 * len(RNA) * samples
    for cdf, most in (
        ("effect", of_variants * shape.variant_genes),
        ("summary", of_baselines * shape.baseline_genes),
    ):
        assert most > max(map(without.samples, without.arrays_of(cdf)))
        assert most_samples(shape, cdf) == most
        for sampler in (Sampler(), Sampler("algorithm-r", 10)):
            taken, before = (working_set(each, cdf, sampler, 2**24, 2).nbytes for each in (shape, without))
            assert taken > before
