"""From predictions to facts: in memory, through to disk, and overlapped with a model; encoding.

    python -m benchmarks.scoring [--tracks 5313] [--out DIR]

All figures are of one core for Enformer's geometry: 896 bins, 32 slots; a value is one number offered to a background.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.measure import exit_code, medians, verdict
from benchmarks.reference import ReferenceSampler, reference_one_hot, reference_position
from builders.batches import Batch
from builders.oracle import BinArray, Head, Oracle, Reduced
from builders.reduction import reduce_arrays
from builders.score import score
from builders.unit_facts import UnitFacts
from chorus_store import layout
from chorus_store.claims import Claims
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.plan import Baselines, Plan, PlanOptions, Variants
from chorus_store.sequence import Codes, encode, one_hot
from chorus_store.tracks import TrackTable
from chorus_store.units import Shape

BLOCK, SLOTS, BATCH = 128, 32, 4


class Canned(Oracle):
    """Enformer's geometry and layers around predictions that lie in memory, with a forward pass of a given time."""

    name, title = "canned", "Canned predictions"
    input_length_bp = 393_216
    heads = (Head("human", 128, 896, 139_264),)
    forward_s = 0.0

    def __init__(self, n_tracks: int) -> None:
        layers = ("chromatin_accessibility", "tf_binding", "histone_marks", "tss_activity")
        share = np.array([684, 2101, 1890, 638]) / 5313
        names = np.repeat(layers, np.diff(np.round(np.cumsum([0, *share]) * n_tracks).astype(int)))
        self.tracks = TrackTable.from_rows(
            [(f"T{i}", "human", i, "X", str(layer), "", "", ".") for i, layer in enumerate(names)]
        )
        rng = np.random.default_rng(0)
        self.prediction = rng.gamma(0.5, 1.0, (BATCH, 896, n_tracks)).astype(np.float32)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> Canned:
        raise NotImplementedError("made directly")

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        if self.forward_s:
            time.sleep(self.forward_s * len(codes))  # a device is busy, this core is not
        return reduce_arrays(self, {"human": self.prediction}, bins)


def make_plan(genome: Genome, n: int) -> Plan:
    """``n`` baseline positions along one contig."""
    (chrom,) = genome.lengths
    rng = np.random.default_rng(1)
    bins = np.stack([rng.choice(896, SLOTS, replace=False) for _ in range(n)]).astype(np.int32)
    column = np.full(n, chrom)
    pos = np.linspace(200_000, genome.lengths[chrom] - 200_000, n).astype(np.int64)
    baselines = Baselines(column, pos, np.full(n, "random"), np.ones(n, bool), {128: bins})
    none = np.empty(0, np.str_)
    variants = Variants(none, np.empty(0, np.int64), none, none, none, np.empty(0, bool))
    return Plan(PlanOptions(), 393_216, 0.5, {128: 896}, variants, baselines)


def forget(store: FactStore) -> None:
    """Remove the progress records, so that all is to be done again."""
    for record in (store.path / "progress").rglob("0*/zarr.json"):
        record.unlink()


def disk_rate(folder: Path, size: int) -> float:
    """Bytes per second of a plain sequential write."""
    data = np.random.default_rng(0).bytes(size)
    began = time.perf_counter()
    with (folder / "plain").open("wb") as handle:
        handle.write(data)
        os.fsync(handle.fileno())
    return size / (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=5313)
    parser.add_argument("--units", type=int, default=8, help="units written to disk")
    parser.add_argument("--out", type=Path, default=None, help="folder on the disk to measure")
    args = parser.parse_args()
    with threadpool_limits(1), tempfile.TemporaryDirectory(dir=args.out) as folder:
        measure(args.tracks, args.units, Path(folder))
    return exit_code()


def measure_encoding(bases: str) -> None:
    print("encoding 393,216 bp")
    sequence = bases[:393_216]
    seconds = medians(
        {
            "ours": lambda: one_hot(encode(sequence)),
            "codes": lambda: encode(sequence),
            "reference": lambda: reference_one_hot(sequence),
        }
    )
    verdict("encode and one-hot", seconds["ours"] * 1e3, 1, "ms", at_least=False)
    print(f"     base codes alone {seconds['codes'] * 1e3:.2f} ms; stand-in for the reference "
          f"{seconds['reference'] * 1e3:.0f} ms; ratio {seconds['reference'] / seconds['ours']:,.0f}")  # fmt: skip


def measure(n_tracks: int, units: int, folder: Path) -> None:
    oracle = Canned(n_tracks)
    fasta = folder / "genome.fa"
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(2).integers(0, 4, 4_000_000)].tobytes().decode()
    fasta.write_text(">chr1\n" + "\n".join(bases[i : i + 60] for i in range(0, len(bases), 60)) + "\n")
    genome = Genome(fasta)
    plan = make_plan(genome, BLOCK * units)
    shape = Shape(0, BLOCK * units, n_tracks, SLOTS, BLOCK, n_tracks)
    tables = {"tracks": oracle.tracks.to_dataset()}
    store = FactStore.create(folder / "facts.zarr", shape, {"identity": {}}, layout.root_attributes(), tables)
    unit = store.units("baselines")[0]
    values = n_tracks * (SLOTS + 1)

    measure_encoding(bases)
    print(f"reducing a position to {values:,} values, one core")
    facts = UnitFacts(store, plan, unit)
    codes = np.zeros((BATCH, 8), np.uint8)
    bins = {128: plan.baselines.bins[128][:BATCH]}
    batch = Batch(unit, 0, BATCH, codes, bins, False)
    summary, perbin = ReferenceSampler(n_tracks), ReferenceSampler(n_tracks)
    windows = [(441, 456) if layer == "histone_marks" else (447, 450) for layer in oracle.tracks.layer.tolist()]
    seconds = medians(
        {
            "facts": lambda: [facts.place(batch, reduce_arrays(oracle, {"human": oracle.prediction}, bins))
                              for _ in range(8)],
            "reference": lambda: reference_position(oracle.prediction[0], bins[128][0], windows, summary, perbin),
        }
    )  # fmt: skip
    ours, theirs = values * BATCH * 8 / seconds["facts"], values / seconds["reference"]
    verdict("in memory", ours / 1e6, 300, "M values/s")
    print(f"     stand-in for the reference: {theirs / 1e6:.2f} M values/s; ratio {ours / theirs:,.0f}")

    print("through to disk (checksums and fsync included), no model; median of 3")
    runs, claims = [], Claims(store.path, "benchmarks.scoring")
    for _ in range(3):
        forget(store)
        runs.append(score(store, oracle, genome, plan, store.units("baselines"), batch=BATCH, claims=claims))
    spent = sorted(runs, key=lambda run: run.wall_s)[1]
    written = values * BLOCK * units
    rate = written / spent.wall_s
    verdict("to disk", rate / 1e6, 60, "M values/s")
    waits = f"{spent.reading_s:.1f} s waiting for sequences, {spent.writing_s + spent.flushing_s:.1f} s for the disk"
    print(
        f"     {waits}, {spent.forward_s:.1f} s reducing, {spent.reducing_s:.1f} s placing; ratio {rate / theirs:,.0f}"
    )
    plain = disk_rate(folder, 4 * written) / 4
    print(f"     the disk itself takes {plain / 1e6:.0f} M values/s (sequential, fsync at the end)")

    print("overlapped with a model of 27 ms per sequence")
    forget(store)
    oracle.forward_s = 0.027
    spent = score(store, oracle, genome, plan, store.units("baselines"), batch=BATCH, claims=claims)
    steady = (spent.wall_s - spent.flushing_s) / (oracle.forward_s * spent.sequences) - 1
    verdict("time besides the forward passes", 100 * steady, 5, "%", at_least=False)
    print(f"     and {spent.flushing_s:.1f} s to write the last units, once per run")


if __name__ == "__main__":
    raise SystemExit(main())
