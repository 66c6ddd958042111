"""An oracle with tracks of gene expression, and what it predicts at the positions of a plan."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from builders.oracle import BinArray, Exons, Head, Reduced, RnaOracle
from builders.reduction import reduce_arrays
from builders.settings import Inputs
from chorus_store import layout
from chorus_store.errors import DeviceMemoryError
from chorus_store.genome import Genome
from chorus_store.layout import Kind
from chorus_store.plan import Plan
from chorus_store.sequence import Codes, encode
from chorus_store.tracks import TrackTable

KINDS: tuple[Kind, Kind] = ("variants", "baselines")
RNA, OTHERS = [1, 3], [0, 2, 4]
ASSAYS = ("DNASE", "RNA", "CAGE", "RNA", "CHIP")
LAYERS = ("chromatin_accessibility", "gene_expression", "tss_activity", "gene_expression", "histone_marks")


class TinyRna(RnaOracle):
    """Noise seeded by the window's central bases, in two of five tracks of gene expression."""

    name = "tinyrna"
    title = "Tiny RNA"
    input_length_bp = 2048
    expected_tracks = 5
    default_batch = 4
    heads = (Head("profile", 64, 16, 640),)

    def __init__(self) -> None:
        rows = zip(ASSAYS, LAYERS, strict=True)
        self.tracks = TrackTable.from_rows(
            [(f"T{i}", "profile", i, a, x, "", "", ".") for i, (a, x) in enumerate(rows)]
        )

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> TinyRna:
        return cls()

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def predict(self, codes: Codes) -> np.ndarray:
        seed = int.from_bytes(hashlib.sha256(codes[1000:1048].tobytes()).digest()[:4], "little")
        return np.random.default_rng(seed).gamma(0.5, 1.0, (16, 5)).astype(np.float32)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        return reduce_arrays(self, {"profile": np.stack([self.predict(row) for row in codes])}, bins, exons)


class Scarce(TinyRna):
    """On a device that has memory for two sequences."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        if len(codes) > 2:
            raise DeviceMemoryError("no memory")
        return super().reduce(codes, bins, exons)


def stored_plan(folder: Path) -> Plan:
    return Plan.from_datasets({kind: layout.read_table(folder / "tinyrna.zarr", f"plan/{kind}") for kind in KINDS})


@dataclass(frozen=True)
class Predicted:
    """A position that is scored, and the prediction of each allele, the reference's first."""

    chrom: str
    pos: int
    predictions: list[np.ndarray]


def predicted(inputs: Inputs, plan: Plan, kind: Kind) -> Iterator[Predicted | None]:
    """Every position of a plan; None where it is not scored."""
    table = plan.part(kind)
    with Genome(inputs.fasta) as genome:
        for i in range(len(table)):
            chrom, pos = str(table.chrom[i]), int(table.pos[i])
            if not table.valid[i]:
                yield None
                continue
            codes = genome.fetch(chrom, pos - 1024, pos + 1024)
            predictions = [TinyRna().predict(codes)]
            if kind == "variants":
                codes[1023] = encode(str(plan.variants.alt[i]))[0]
                predictions.append(TinyRna().predict(codes))
            yield Predicted(chrom, pos, predictions)


def contents(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file() and "runs" not in file.parts)
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}
