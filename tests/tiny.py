"""An oracle small enough to build hundreds of times, and a genome with everything that a plan needs."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np

from builders import cli
from builders.oracle import BinArray, Head, Oracle, Reduced
from builders.reduction import reduce_arrays
from builders.settings import Inputs
from chorus_store.sequence import Codes
from chorus_store.tracks import TrackTable

CONTIG_BP = 40_000
CONTIGS = ("chr19", "chr20", "chr21")
CLASSES = ("PLS", "dELS", "pELS", "CA-CTCF", "CA-TF", "TF", "CA-H3K4me3", "CA")


class TinyOracle(Oracle):
    """Gamma noise seeded by the window's central bases: 16 bins of 64 bp, 7 tracks of all unsigned layers."""

    name = "tiny"
    title = "Tiny"
    input_length_bp = 2048
    expected_tracks = 7
    default_batch = 4
    heads = (Head("tiny", 64, 16, 512),)
    plan_defaults: ClassVar[Mapping[str, object]] = {}

    def __init__(self) -> None:
        assays = ("DNASE", "CAGE", "CHIP", "CHIP", "ATAC", "CAGE", "CHIP")
        layers = (
            "chromatin_accessibility", "tss_activity", "histone_marks", "tf_binding",
            "chromatin_accessibility", "tss_activity", "tf_binding",
        )  # fmt: skip
        self.tracks = TrackTable.from_rows(
            [
                (f"TRK{i}", "tiny", i, a, x, f"cell{i}", "", ".")
                for i, (a, x) in enumerate(zip(assays, layers, strict=True))
            ]
        )

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> TinyOracle:
        return cls()

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def predict(self, codes: Codes) -> np.ndarray:
        middle = codes[len(codes) // 2 - 32 : len(codes) // 2 + 32]
        rng = np.random.default_rng(zlib.crc32(middle.tobytes()))
        return rng.gamma(0.5, 1.0, (16, 7)).astype(np.float32)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        return reduce_arrays(self, {"tiny": np.stack([self.predict(row) for row in codes])}, bins)


def write_inputs(folder: Path, seed: int = 3) -> Inputs:
    """A genome with runs of N, genes and cCREs, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    fasta, gtf, bed = [], [], []
    for contig in CONTIGS:
        bases = np.frombuffer(b"ACGT", np.uint8)[rng.integers(0, 4, CONTIG_BP)]
        for start in rng.integers(0, CONTIG_BP - 2000, 3):
            bases[start : start + 1500] = ord("N")
        fasta.append(f">{contig}\n{bases.tobytes().decode()}\n")
        for i, start in enumerate(np.sort(rng.integers(2000, CONTIG_BP - 18_000, 12)).tolist()):
            notes = f'gene_id "{contig}g{i}"; gene_type "protein_coding"; gene_name "{contig}G{i}";'
            end = start + int(rng.integers(500, 15_000))
            gtf += [f"{contig}\tt\t{kind}\t{start}\t{end}\t.\t{'+-'[i % 2]}\t.\t{notes}" for kind in ("gene", "exon")]
        for i, start in enumerate(np.sort(rng.integers(10, CONTIG_BP - 400, 60)).tolist()):
            bed.append(f"{contig}\t{start}\t{start + 200}\tD{contig}{i}\tE{contig}{i}\t{CLASSES[i % 8]}")
    (folder / "genome.fa").write_text("".join(fasta))
    (folder / "genes.gtf").write_text("\n".join(gtf) + "\n")
    (folder / "ccres.bed").write_text("\n".join(bed) + "\n")
    return Inputs(folder / "genome.fa", folder / "genes.gtf", folder / "ccres.bed")


def arguments(inputs: Inputs, out: Path, *more: str, **sizes: int) -> list[str]:
    """A command line for a small plan; ``sizes`` are options such as ``n_variants=20``."""
    options: dict[str, int] = {
        "n_variants": 30, "n_random": 24, "n_tss": 6, "n_gene_bodies": 4, "variant_margin_bp": 1000,
        "random_margin_bp": 1000, "bin_slots": 5, **sizes,
    }  # fmt: skip
    return [
        *("--fasta", str(inputs.fasta), "--gtf", str(inputs.gtf), "--ccres", str(inputs.ccres), "--out", str(out)),
        *(text for key, value in options.items() for text in (f"--{key.replace('_', '-')}", str(value))),
        *("--ccre", "all=2", "--workers", "2", "--memory", "64M"),
        *more,
    ]


if __name__ == "__main__":
    raise SystemExit(cli.run(TinyOracle))
