"""Writes ``tests/data/schema1``: backgrounds of schema 1, small and whole, and the answers that they give.

They prove that later releases read what this one wrote, so they are made once: what is there is never replaced.

    python -m tests.data.make_schema1             make what is not there
    python -m tests.data.make_schema1 --out DIR   make all of it elsewhere, to look at
    python -m tests.data.make_schema1 --older     the build alone, called older: to be run with an older checkout

built.zarr, built_pertrack.npz   a build, its facts discarded: plan and records of progress are there
imported.zarr                    a store made of that NPZ file
older.zarr                       the same build by a release that wrote neither manifests nor seals
expected.json                    tracks, counts and percentiles

Nothing of it is drawn from a library's random stream, and all sums are of small whole numbers: any machine and any
release of any library makes the same values.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import chorus_store
from builders import cli
from builders.oracle import BinArray, Head, Oracle, Reduced
from builders.reduction import reduce_arrays
from chorus_store.npz_import import import_npz
from chorus_store.sequence import Codes, encode
from chorus_store.tracks import TrackTable

FOLDER = Path(__file__).resolve().parent / "schema1"
CONTIG_BP = 30_000
CONTIGS = ("chr20", "chr21")
CLASSES = ("PLS", "dELS", "pELS", "CA-CTCF", "CA-TF", "TF", "CA-H3K4me3", "CA")
OPTIONS = (
    "--n-variants", "60", "--n-random", "24", "--n-tss", "6", "--n-gene-bodies", "4", "--ccre", "all=2",
    "--variant-margin-bp", "1000", "--random-margin-bp", "1000", "--bin-slots", "4", "--block", "32", "--batch", "8",
    "--device", "cpu", "--workers", "1", "--memory", "64M", "--discard-facts",
)  # fmt: skip
#: Of the values asked about: so many between nothing and a little more than the largest.
N_VALUES = 7


class Motifs(Oracle):
    """Counts of a short motif for each track, in 16 bins of 64 bp."""

    name = "motifs"
    title = "Motif counts"
    licence = "MIT"
    input_length_bp = 1280
    expected_tracks = 4
    heads = (Head("motifs", 64, 16, 128),)
    plan_defaults: ClassVar[Mapping[str, object]] = {}
    tracks = TrackTable.from_rows(
        [
            ("DNASE:K562", "motifs", 0, "DNASE", "chromatin_accessibility", "K562", "DNASE:K562", "."),
            ("CAGE:K562:+", "motifs", 1, "CAGE", "tss_activity", "K562", "CAGE:K562", "+"),
            ("CHIP:CTCF:HepG2", "motifs", 2, "CHIP", "tf_binding", "HepG2", "CTCF → “HepG2”", "."),
            ("MPRA:HepG2", "motifs", 3, "LENTIMPRA", "promoter_activity", "HepG2", "", "."),
        ]
    )

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> Motifs:
        return cls()

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        assert weights is not None
        self.motifs = [encode(motif) for motif in weights.read_text().split()]

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        (head,) = self.heads
        stop = head.offset_bp + head.n_bins * head.resolution_bp
        counts = []
        for motif in self.motifs:
            found = np.ones((len(codes), stop - head.offset_bp), bool)
            for i, base in enumerate(motif):
                found &= codes[:, head.offset_bp + i : stop + i] == base
            counts.append(found.reshape(len(codes), head.n_bins, -1).sum(axis=2))
        return reduce_arrays(self, {head.name: np.stack(counts, axis=2).astype(np.float32)}, bins)


def write_inputs(folder: Path) -> list[str]:
    """A genome, genes, cCREs and weights as files of a folder; the options that name them."""
    fasta, gtf, bed = [], [], []
    for contig in CONTIGS:
        bases = hashlib.shake_256(contig.encode()).digest(CONTIG_BP)
        fasta.append(f">{contig}\n{bases.translate(b'ACGT' * 64).decode()}\n")
        for i in range(10):
            start = 1500 + 1200 * i
            notes = f'gene_id "{contig}g{i}"; gene_type "protein_coding"; gene_name "{contig}G{i}";'
            gtf.append(f"{contig}\tt\tgene\t{start}\t{start + 9000 + 500 * i}\t.\t{'+-'[i % 2]}\t.\t{notes}\n")
        for i in range(40):
            start = 1000 + 650 * i
            bed.append(f"{contig}\t{start}\t{start + 200}\tD{contig}{i}\tE{contig}{i}\t{CLASSES[i % 8]}\n")
    texts = {"fasta": fasta, "gtf": gtf, "ccres": bed, "weights": ["CG\nTA\nCAG\nGAT\n"]}
    options = []
    for option, lines in texts.items():
        (folder / f"{option}.txt").write_text("".join(lines))
        options += [f"--{option}", f"{option}.txt"]
    return options


def build(folder: Path, *more: str) -> Path:
    """Build in a folder; the store."""
    here = Path.cwd()
    os.chdir(folder)
    try:
        if code := cli.run(Motifs, [*write_inputs(folder), *OPTIONS, "--out", ".", *more]):
            raise SystemExit(code)
    finally:
        os.chdir(here)
    return folder / "motifs.zarr"


def answers(store: Path) -> dict[str, Any]:
    """What a reader is told of a background."""
    with chorus_store.open(store) as background:
        told: dict[str, Any] = {
            name: background[name].values.tolist()
            for name, variable in background.variables.items()
            if variable.dims == ("track",)
        }
        for cdf in ("effect", "summary", "perbin"):
            top = background[f"{cdf}_cdf"].values[:, -1].tolist()
            asked = [[round(peak * i / (N_VALUES - 2), 3) for i in range(N_VALUES)] for peak in top]
            told[f"{cdf}_asked"] = asked
            told[f"{cdf}_percentile"] = [
                [float(background.chorus.percentile(value, track=track, cdf=cdf)) for value in values]
                for track, values in zip(told["track"], asked, strict=True)
            ]
            told[f"{cdf}_sha256"] = hashlib.sha256(background[f"{cdf}_cdf"].values.astype("<f4").tobytes()).hexdigest()
    return told


def put(source: Path, target: Path) -> None:
    """Move a result to its place, unless there is something."""
    if target.exists():
        print(f"{target} is there already; left as it is")
    else:
        shutil.move(source, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--older", action="store_true", help="the build alone, as older.zarr")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        store = build(Path(folder))
        if args.older:
            put(store, out / "older.zarr")
            return
        npz = store.with_name("motifs_pertrack.npz").rename(Path(folder) / "built_pertrack.npz")
        expected = Path(folder) / "expected.json"
        expected.write_text(json.dumps(answers(store), indent=1) + "\n")
        put(import_npz(npz, Path(folder) / "imported.zarr", oracle="motifs", progress=False), out / "imported.zarr")
        for made, name in ((store, "built.zarr"), (npz, npz.name), (expected, expected.name)):
            put(made, out / name)


if __name__ == "__main__":
    main()
