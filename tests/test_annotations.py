"""GTF and BED files, good and bad."""

from __future__ import annotations

import gzip
import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chorus_store.annotations import CCRE_CLASSES, merged_exons, read_ccres, read_genes
from chorus_store.errors import AnnotationError
from chorus_store.intervals import merge_intervals

GTF = """\
##description: made by hand
chr2\tHAVANA\tgene\t101\t200\t.\t+\t.\tgene_id "G1"; gene_type "protein_coding"; gene_name "B"; level 2;
chr2\tHAVANA\ttranscript\t101\t200\t.\t+\t.\tgene_id "G1"; gene_type "protein_coding"; gene_name "B";
chr2\tHAVANA\texon\t151\t200\t.\t+\t.\tgene_id "G1"; gene_type "protein_coding"; gene_name "B";
chr2\tHAVANA\texon\t101\t150\t.\t+\t.\tgene_id "G1"; gene_type "protein_coding"; gene_name "B";
chr1\tHAVANA\tgene\t5\t9\t.\t-\t.\tgene_id "G2"; gene_type "lncRNA"; gene_name "A";
chr1\tHAVANA\texon\t5\t9\t.\t-\t.\tgene_id "G2"; gene_type "lncRNA"; gene_name "A";
"""
BED = """\
chr1\t100\t200\tD1\tE1\tPLS
chr1\t300\t450\tD2\tE2\tdELS
chr10\t100\t200\tD3\tE3\tCA-H3K4me3
"""


@pytest.fixture(params=["plain", "gzipped", "windows"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def write(path: Path, text: str, form: str = "plain") -> Path:
    if form == "gzipped":
        path = path.with_name(path.name + ".gz")
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, newline="\r\n" if form == "windows" else None)
    return path


def test_genes_keep_file_order_and_numbers(tmp_path: Path, form: str) -> None:
    genes = read_genes(write(tmp_path / "g.gtf", GTF, form))
    assert len(genes) == 2
    assert genes.chrom.tolist() == ["chr2", "chr1"]
    assert (genes.start.tolist(), genes.end.tolist()) == ([101, 5], [200, 9])
    assert genes.strand.tolist() == ["+", "-"]
    assert genes.gene_name.tolist() == ["B", "A"]
    assert genes.gene_type.tolist() == ["protein_coding", "lncRNA"]


def test_ensembl_names_its_types_otherwise_and_leaves_genes_unnamed(tmp_path: Path) -> None:
    text = GTF.replace("gene_type", "gene_biotype").replace(' gene_name "A";', "")
    genes = read_genes(write(tmp_path / "g.gtf", text))
    assert genes.gene_type.tolist() == ["protein_coding", "lncRNA"]
    assert genes.gene_name.tolist() == ["B", "G2"]


def test_lost_tabs_are_forgiven(tmp_path: Path) -> None:
    genes = read_genes(write(tmp_path / "g.gtf", GTF.replace("\t", "   ")))
    assert genes.gene_name.tolist() == ["B", "A"]


def test_exons_of_coding_genes_are_merged_and_zero_based(tmp_path: Path, form: str) -> None:
    exons = merged_exons(write(tmp_path / "g.gtf", GTF, form))
    assert {chrom: intervals.tolist() for chrom, intervals in exons.items()} == {"chr2": [[100, 200]]}


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), min_size=1, max_size=12))
def test_merged_intervals_cover_the_same_bases(pairs: list[tuple[int, int]]) -> None:
    intervals = np.array([(start, start + length) for start, length in pairs])
    merged = merge_intervals(intervals)
    covered = np.zeros(100, bool)
    for start, end in intervals:
        covered[start:end] = True
    edges = np.flatnonzero(np.diff(covered, prepend=False, append=False))
    assert merged.tolist() == edges.reshape(-1, 2).tolist()


def test_ccres(tmp_path: Path, form: str, caplog: pytest.LogCaptureFixture) -> None:
    ccres = read_ccres(write(tmp_path / "c.bed", BED, form))
    assert ccres.chrom.tolist() == ["chr1", "chr1", "chr10"]
    assert (ccres.start.tolist(), ccres.end.tolist()) == ([100, 300, 100], [200, 450, 200])
    assert ccres.category.tolist() == ["PLS", "dELS", "CA-H3K4me3"]
    assert not caplog.records


@pytest.mark.parametrize(
    "line", ["chr1\t1\t2\tPLS", "chr1\t1\t2\ta\t0\t.\t1\t2\t0,0,0\tPLS", "chr1\t1\t2\ta\tb\tPLS,CTCF-bound"]
)
def test_class_is_the_last_column_without_its_suffix(tmp_path: Path, line: str) -> None:
    text = f"track name=x\nbrowser hide all\n# comment\n\n{line}\n"
    assert read_ccres(write(tmp_path / "c.bed", text)).category.tolist() == ["PLS"]


@pytest.mark.parametrize(
    ("order", "warns"), [([0, 1, 2], False), ([2, 0, 1], False), ([1, 0, 2], True), ([0, 2, 1], True)]
)
def test_unsorted_ccres_are_used_as_they_stand_with_a_warning(
    tmp_path: Path, order: list[int], warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [BED.splitlines(keepends=True)[i] for i in order]
    ccres = read_ccres(write(tmp_path / "c.bed", "".join(rows)))
    assert ccres.start.tolist() == [[100, 300, 100][i] for i in order]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warns
    assert ("is not sorted" in caplog.text) == warns


def test_other_classes_are_kept_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ccres = read_ccres(write(tmp_path / "c.bed", BED + "chr11\t1\t2\ta\tb\tCTCF-only,CTCF-bound\n"))
    assert len(ccres) == 4
    assert "{'CTCF-only': 1}" in caplog.text


GENE = GTF.splitlines()[1]
BAD_GTF = {
    "no type": (GTF.replace("gene_type", "kind"), "line 2: no attribute gene_type or gene_biotype; give"),
    "no name": (GTF.replace("gene_name", "label"), "no gene record has the attribute gene_name; give"),
    "no identifier": (GTF.replace("gene_id", "id"), "line 2: a gene record without the attribute gene_id"),
    "no genes": (GTF.replace("\tgene\t", "\tmRNA\t"), "has no gene records; give"),
    "empty": ("", "has no gene records"),
    "few columns": (GTF + "chr1\tHAVANA\tgene\t5\t9\n", "line 8: 5 columns where a GTF has 9"),
    "not a GTF": ("hello\nworld\n", "line 1: 1 columns where a GTF has 9"),
    "no number": (GENE.replace("101", "1e2"), "line 1: start '1e2' and end '200' are not both whole numbers"),
    "reversed": (GENE.replace("101", "300"), "line 1: start 300 and end 200 are negative or reversed"),
    "from zero": (GENE.replace("101", "0"), "line 1: start is 0, but GTF positions start at 1"),
}
BAD_BED = {
    "few columns": (BED + "chr1\t100\t200\n", "line 4: 3 tab-separated columns; expected 4 or more"),
    "spaces": (BED.replace("\t", " "), "line 1: 1 tab-separated columns"),
    "no number": (BED.replace("450", "x"), "line 2: start '300' and end 'x' are not both whole numbers"),
    "reversed": (BED.replace("450", "45"), "line 2: start 300 and end 45 are negative or reversed"),
    "negative": (BED.replace("300", "-3"), "line 2: start -3 and end 450 are negative or reversed"),
    "no known class": (
        "".join(f"chr1\t1\t2\tE{i}\n" for i in range(9)),
        r"no row has a known class in its last column \(there: E0, E1, E2, E3, E4\); expected PLS, dELS",
    ),
    "empty": ("# nothing\n", "has no cCREs; give"),
}


@pytest.mark.parametrize("name", BAD_GTF)
def test_bad_gtf(tmp_path: Path, name: str) -> None:
    text, message = BAD_GTF[name]
    with pytest.raises(AnnotationError, match=rf"bad\.gtf.*{message}"):
        read_genes(write(tmp_path / "bad.gtf", text))


@pytest.mark.parametrize("name", BAD_BED)
def test_bad_bed(tmp_path: Path, name: str) -> None:
    text, message = BAD_BED[name]
    with pytest.raises(AnnotationError, match=rf"bad\.bed.*{message}"):
        read_ccres(write(tmp_path / "bad.bed", text))


def test_gtf_without_coding_exons(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no exon records of protein-coding genes; give"):
        merged_exons(write(tmp_path / "g.gtf", GTF.replace("protein_coding", "lncRNA")))


@pytest.mark.parametrize("damage", ["half", "no end", "flipped"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    content = bytearray(gzip.compress("".join(f"chr1\t{i}\t{i + 1}\ta\tb\tPLS\n" for i in range(9999)).encode()))
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        del content[len(content) // 2 if damage == "half" else -4 :]
    (tmp_path / "c.bed.gz").write_bytes(content)
    with pytest.raises(AnnotationError, match=r"c\.bed\.gz is truncated or damaged|c\.bed\.gz, line|not text"):
        read_ccres(tmp_path / "c.bed.gz")


def test_not_text_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "c.bed").write_bytes(bytes(range(128, 256)))
    with pytest.raises(AnnotationError, match=r"c\.bed is not text; give"):
        read_ccres(tmp_path / "c.bed")
    with pytest.raises(AnnotationError, match=r"there is no file at .*none\.gtf"):
        read_genes(tmp_path / "none.gtf")
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_genes(tmp_path)


@pytest.mark.shared
def test_real_files(shared: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = shared / "data"
    genes = read_genes(data / "gencode_v44_mane_hg38.gtf.gz")
    assert len(genes) == 62_663
    assert set(np.unique(genes.strand).tolist()) == {"+", "-"}
    coding = genes.gene_type == "protein_coding"
    assert 19_000 < int(coding.sum()) < 21_000
    exons = merged_exons(data / "gencode_v44_mane_chr20.gtf.gz")
    assert list(exons) == ["chr20"]
    assert (exons["chr20"][1:, 0] > exons["chr20"][:-1, 1]).all()
    sample = read_genes(data / "gencode_v43_chr20_9.5-13.2Mb.gtf.gz")
    assert sample.gene_name[0] == "PAK5"
    ccres = read_ccres(data / "screen_v4_ccres_chr20_9550320-13038089.bed.gz")
    counts = Counter(ccres.category.tolist())
    assert (len(ccres), set(counts)) == (2_755, set(CCRE_CLASSES))
    assert counts["PLS"] == 31
    assert not caplog.records
