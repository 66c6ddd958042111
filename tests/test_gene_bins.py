"""Exons gene by gene: from a GTF, on an output, and in a plan."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_store.annotations import gene_exons, merged_exons
from chorus_store.errors import AnnotationError, CorruptStoreError
from chorus_store.exon_bins import OutputAxis
from chorus_store.gene_bins import GeneExons, overlapping_genes
from chorus_store.genome import Genome
from chorus_store.layout import Kind
from chorus_store.plan import ExonMask, Plan, build_plan
from tests.test_exon_bins import AXIS, by_base
from tests.test_plan import LENGTHS, OPTIONS, SMALL, annotate, write_genome

KINDS: tuple[Kind, Kind] = ("variants", "baselines")
GTF = """\
chr1\tt\tgene\t101\t400\t.\t+\t.\tgene_id "G1"; gene_type "protein_coding"; gene_name "A";
chr1\tt\texon\t301\t400\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_type "protein_coding";
chr1\tt\texon\t101\t150\t.\t+\t.\tgene_id "G1"; transcript_id "T1"; gene_type "protein_coding";
chr1\tt\texon\t121\t200\t.\t+\t.\tgene_id "G1"; transcript_id "T2"; gene_type "protein_coding";
chr1\tt\texon\t301\t400\t.\t-\t.\tgene_id "G2"; transcript_id "T3"; gene_type "protein_coding";
chr1\tt\texon\t1\t50\t.\t-\t.\tgene_id "G3"; transcript_id "T4"; gene_type "lncRNA";
chr2\tt\texon\t1\t50\t.\t-\t.\tgene_id "G1"; transcript_id "T5"; gene_type "protein_coding";
"""
Found = dict[tuple[str, str], list[tuple[int, int]]]


def test_exons_of_a_gene_are_merged_and_genes_kept_apart(tmp_path: Path) -> None:
    (tmp_path / "a.gtf").write_text(GTF)
    genes = gene_exons(tmp_path / "a.gtf")
    assert genes.chrom.tolist() == ["chr1", "chr1", "chr2"]
    assert genes.gene_id.tolist() == ["G1", "G2", "G1"]
    assert genes.offset.tolist() == [0, 2, 3, 4]
    assert genes.exons.tolist() == [[100, 200], [300, 400], [300, 400], [0, 50]]
    merged = merged_exons(tmp_path / "a.gtf")
    assert {chrom: rows.tolist() for chrom, rows in genes.merged().items()} == {
        chrom: rows.tolist() for chrom, rows in merged.items()
    }


def test_exons_that_belong_to_no_gene_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gtf"
    path.write_text(GTF.replace('gene_id "G2"; ', ""))
    with pytest.raises(AnnotationError, match=r"a.gtf, line 5: an exon record without the attribute gene_id"):
        gene_exons(path)
    path.write_text(GTF.replace("protein_coding", "lncRNA"))
    with pytest.raises(AnnotationError, match="no exon records of protein-coding genes"):
        gene_exons(path)


named = st.tuples(st.sampled_from(["chr1", "chr2"]), st.sampled_from("ABCDE"))
intervals = st.lists(st.tuples(st.integers(0, 300), st.integers(1, 60)), min_size=1, max_size=4)


@given(
    st.dictionaries(named, intervals, min_size=1),
    st.builds(OutputAxis, st.integers(1, 9), st.integers(1, 12), st.integers(0, 50)),
    st.lists(st.tuples(st.sampled_from(["chr1", "chr2", "chr3", ""]), st.integers(0, 320)), max_size=6),
    st.data(),
)
@settings(deadline=None)
def test_genes_and_their_bins_are_those_base_by_base(
    drawn: Found, axis: OutputAxis, positions: list[tuple[str, int]], data: st.DataObject
) -> None:
    found = {gene: [(start, start + length) for start, length in rows] for gene, rows in drawn.items()}
    order = sorted(found, key=lambda gene: (min(found[gene])[0], gene[1]))
    expected = []
    for chrom, start in positions:
        bins = {gene: by_base(found[gene], axis, start) for gene in order if gene[0] == chrom}
        expected.append([(gene[1], at) for gene, at in bins.items() if at])
    starts = np.array([start for _, start in positions], np.int64)
    genes = overlapping_genes(GeneExons.of(found), axis, np.array([chrom for chrom, _ in positions], np.str_), starts)
    chosen = data.draw(st.lists(st.integers(0, len(positions) - 1), max_size=5)) if positions else []
    for some, wanted in (
        (genes, expected),
        (genes.take(np.array(chosen, np.intp)), [expected[i] for i in chosen]),
    ):
        rows = [range(a, b) for a, b in zip(some.offset[:-1].tolist(), some.offset[1:].tolist(), strict=True)]
        assert [[(str(some.gene_id[i]), some.bins.at(i).tolist()) for i in row] for row in rows] == wanted
    for block in (1, 2, 5):
        counts = list(map(len, expected))
        assert genes.most_of(block) == max(
            (sum(counts[i : i + block]) for i in range(0, len(counts), block)), default=0
        )


def test_ties_are_in_the_order_of_identifiers() -> None:
    found: Found = {("chr1", "B"): [(10, 20)], ("chr1", "C"): [(5, 30)], ("chr1", "A"): [(10, 12)]}
    assert GeneExons.of(found).gene_id.tolist() == ["C", "A", "B"]


def sparse_genes() -> GeneExons:
    rng = np.random.default_rng(4)
    found: Found = {}
    for chrom, length in LENGTHS.items():
        for i, start in enumerate(rng.integers(0, length - 3000, 25).tolist()):
            found[chrom, f"{chrom}g{i}"] = [(start, start + 150), (start + 700, start + 900)]
    return GeneExons.of(found)


def planned(tmp_path: Path, mask: ExonMask) -> Plan:
    with Genome(write_genome(tmp_path / "small.fa", LENGTHS)) as genome:
        return build_plan(genome, *annotate(LENGTHS), OPTIONS, **SMALL, exon_mask=mask)


def test_a_plan_with_genes_is_the_one_without_and_their_bins(tmp_path: Path) -> None:
    genes = sparse_genes()
    mask = ExonMask(genes.merged(), AXIS)
    without, plan = planned(tmp_path, mask), planned(tmp_path, replace(mask, genes=genes))
    assert without.sha256 != plan.sha256
    for kind in KINDS:
        table, before = plan.part(kind), without.part(kind)
        for name, (_, column) in before.columns().items():
            np.testing.assert_array_equal(table.columns()[name][1], column)
        assert table.genes is not None and table.exons is not None and before.genes is None
        counts = np.diff(table.genes.offset)
        assert (counts[~table.valid] == 0).all() and counts.max() > 1
        for i in range(len(table)):
            together = [table.genes.bins.at(j) for j in range(*table.genes.offset[i : i + 2].tolist())]
            assert set(np.concatenate([[], *together]).tolist()) == set(table.exons.at(i).tolist())
    again = Plan.from_datasets(plan.to_datasets())
    assert again.sha256 == plan.sha256
    assert again.variants.genes is not None and plan.variants.genes is not None
    assert again.variants.genes.gene_id.tolist() == plan.variants.genes.gene_id.tolist()


def test_a_plan_whose_genes_were_changed_is_refused(tmp_path: Path) -> None:
    genes = sparse_genes()
    datasets = planned(tmp_path, ExonMask(genes.merged(), AXIS, genes)).to_datasets()
    datasets["variants"]["gene_id"][0] = "another"
    with pytest.raises(CorruptStoreError, match="not the one that was written"):
        Plan.from_datasets(datasets)


@pytest.mark.shared
def test_genes_of_a_chromosome(shared: Path) -> None:
    """chr20 of GENCODE: windows of 196,608 bp every 100 kb, against a search by hand."""
    path = shared / "data/gencode_v44_mane_chr20.gtf.gz"
    found: dict[str, list[tuple[int, int]]] = {}
    with gzip.open(path, "rt") as file:
        for line in file:
            if "\texon\t" in line and 'gene_type "protein_coding"' in line:
                fields, gene = line.split("\t"), re.search('gene_id "([^"]+)"', line)
                assert gene is not None
                found.setdefault(gene[1], []).append((int(fields[3]) - 1, int(fields[4])))
    axis = OutputAxis(32, 6144, 163_840)
    starts = np.arange(0, 64_000_000, 100_000)
    genes = overlapping_genes(gene_exons(path), axis, np.full(len(starts), "chr20"), starts)
    assert len(found) == 519
    for i, start in enumerate(starts.tolist()):
        a, b = start + 163_840, start + 163_840 + 196_608
        inside = {gene for gene, exons in found.items() if any(x < b and y > a for x, y in exons)}
        assert set(genes.gene_id[slice(*genes.offset[i : i + 2])].tolist()) == inside
