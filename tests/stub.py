"""The stub inputs of the golden outputs, as real files: genome, genes, cCREs and a model of noise.

The genome has hg38's chromosome lengths and is periodic, so one line of chr1's length holds every chromosome
as an overlapping stretch: the index, written by hand, says where each begins.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

LENGTHS = dict(
    zip(
        [*(f"chr{i}" for i in range(1, 23)), "chrX"],
        [
            248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636, 138394717,
            133797422, 135086622, 133275309, 114364328, 107043718, 101991189, 90338345, 83257441, 80373285,
            58617616, 64444167, 46709983, 50818468, 156040895,
        ],
        strict=True,
    )
)  # fmt: skip
PERIOD = 1_000_003
#: Every chromosome begins this much further into the period than the one before.
SHIFT = 7919
CLASSES = ("PLS", "dELS", "pELS", "CA-CTCF", "CA-TF", "TF", "CA-H3K4me3", "CA")
CLASS_SHARES = (0.2, 0.3, 0.15, 0.1, 0.05, 0.05, 0.1, 0.05)

Row = tuple[Any, ...]


def template() -> bytes:
    """One period of the genome; the first 5,000 bases are unknown."""
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    period = letters[np.random.default_rng(20240601).integers(0, 4, PERIOD)]
    period[:5000] = ord("N")
    return period.tobytes()


def tables(seed: int = 5) -> tuple[list[Row], list[Row], list[Row]]:
    """Genes, exons and cCREs, none of them sorted.

    Rows are (chrom, start, end, strand, name, type), (chrom, start, end, strand, name) and
    (chrom, start, end, class).
    """
    rng = np.random.default_rng(seed)
    chroms = list(LENGTHS)
    genes: list[Row] = []
    exons: list[Row] = []
    for number in range(6000):
        chrom = chroms[rng.integers(len(chroms))]
        length = int(rng.integers(1_000, 200_000))
        start = int(rng.integers(12_000_000, LENGTHS[chrom] - 12_000_000))
        strand = "+-"[rng.integers(2)]
        name = f"GENE{number % 5800}"
        kind = "protein_coding" if rng.random() < 0.75 else "lncRNA"
        genes.append((chrom, start, start + length, strand, name, kind))
        cuts = np.sort(rng.integers(start, start + length, 2 * int(rng.integers(1, 8))))
        exons += [(chrom, int(a), int(b), strand, name) for a, b in cuts.reshape(-1, 2) if b > a]
    n = 40_000
    of_ccre = [chroms[i] for i in rng.integers(len(chroms), size=n)]
    starts = np.array([rng.integers(11_000_000, LENGTHS[chrom] - 11_000_000) for chrom in of_ccre])
    ends = starts + rng.integers(150, 350, size=n)
    classes = [CLASSES[i] for i in rng.choice(8, size=n, p=CLASS_SHARES)]
    return genes, exons, list(zip(of_ccre, starts.tolist(), ends.tolist(), classes, strict=True))


def predict(sequence: str, n_bins: int, n_tracks: int) -> npt.NDArray[np.float32]:
    """Prediction of the stub model, (n_bins, n_tracks): noise seeded by the central 64 bases."""
    middle = len(sequence) // 2
    rng = np.random.default_rng(zlib.crc32(sequence[middle - 32 : middle + 32].encode()))
    return rng.gamma(0.5, 1.0, size=(n_bins, n_tracks)).astype(np.float32)


def stub_fasta(path: Path) -> Path:
    """Write the genome (250 MB) and its index."""
    header = b">chr1\n"
    line = max(LENGTHS.values())
    period = template()
    with path.open("wb") as file:
        file.write(header)
        for start in range(0, line, PERIOD):
            file.write(period[: line - start])
        file.write(b"\n")
    with path.with_name(path.name + ".fai").open("w") as index:
        for number, (chrom, length) in enumerate(LENGTHS.items()):
            assert SHIFT * number + length <= line
            index.write(f"{chrom}\t{length}\t{len(header) + SHIFT * number}\t{length}\t{length + 1}\n")
    return path


def stub_gtf(path: Path) -> Path:
    """Write the genes and exons; exons of a gene carry its type."""
    genes, exons, _ = tables()
    kinds = {(gene[0], gene[4]): gene[5] for gene in genes}
    with path.open("w") as file:
        for chrom, start, end, strand, name, kind in genes:
            attributes = f'gene_id "{name}"; gene_type "{kind}"; gene_name "{name}";'
            file.write(f"{chrom}\tstub\tgene\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n")
        for chrom, start, end, strand, name in exons:
            attributes = f'gene_id "{name}"; gene_type "{kinds[chrom, name]}"; gene_name "{name}";'
            file.write(f"{chrom}\tstub\texon\t{start}\t{end}\t.\t{strand}\t.\t{attributes}\n")
    return path


def stub_ccres(path: Path) -> Path:
    """Write the cCREs in the six-column form of the registry; not sorted."""
    _, _, ccres = tables()
    with path.open("w") as file:
        for number, (chrom, start, end, name) in enumerate(ccres):
            file.write(f"{chrom}\t{start}\t{end}\tEH38D{number:07d}\tEH38E{number:07d}\t{name}\n")
    return path


@pytest.fixture(scope="session")
def stub_genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stub genome as a FASTA file with its index, written once."""
    return stub_fasta(tmp_path_factory.mktemp("stub") / "stub.fa")
