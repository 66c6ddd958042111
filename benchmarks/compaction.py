"""Compaction: per track against the stand-in for the reference, and of a whole background in bounded memory.

    python -m benchmarks.compaction [--tracks 5313] [--positions 31500] [--memory 1G] [--out DIR]

The second part writes the facts of a whole background to disk first (21 GB at full size) and compacts them in a fresh
process, whose peak memory is reported.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import zarr

from benchmarks.measure import apart, exit_code, medians, verdict
from benchmarks.reference import reference_grid
from builders.options import parse_size
from chorus_store import layout
from chorus_store.compact import compact
from chorus_store.facts import FactStore
from chorus_store.grid import compact_rows
from chorus_store.units import Shape

BLOCK, SLOTS = 128, 32


def per_track(n: int = 50_000, tracks: int = 16) -> None:
    """Sort and grid of reservoirs of 50,000 values."""
    values = np.random.default_rng(0).gamma(0.5, 1.0, (tracks, n)).astype(np.float32)
    lists = [row.astype(np.float64).tolist() for row in values]
    seconds = medians(
        {
            "ours": lambda: compact_rows(values.copy()),
            "reference": lambda: [reference_grid(kept) for kept in lists],
        },
        repeats=9,
    )
    ours, theirs = (seconds[name] / tracks for name in ("ours", "reference"))
    print(f"compacting {n:,} values of a track: {ours * 1e3:.2f} ms, stand-in {theirs * 1e3:.2f} ms")
    verdict("ratio to the stand-in, one core", theirs / ours, 8, "×")


def write_facts(path: Path, n_tracks: int, positions: int) -> FactStore:
    """Gamma noise in all perbin facts; the other arrays stay empty."""
    shape = Shape(0, positions, n_tracks, SLOTS, BLOCK, n_tracks)
    store = FactStore.create(path, shape, {"identity": {}}, layout.root_attributes(), {})
    rng = np.random.default_rng(1)
    noise = rng.gamma(0.5, 1.0, BLOCK * SLOTS * n_tracks + 1_000_003).astype(np.float32)
    array = store.array("perbin/value")
    for unit in store.units("baselines"):
        rows = (unit.stop - unit.start) * SLOTS
        start = int(rng.integers(1_000_003))
        array[unit.start * SLOTS : unit.stop * SLOTS] = noise[start : start + rows * n_tracks].reshape(rows, n_tracks)
    return store


def whole(args: argparse.Namespace) -> None:
    """All tracks of a background, in a fresh process."""
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        path = Path(folder) / "facts.zarr"
        began = time.perf_counter()
        write_facts(path, args.tracks, args.positions)
        values = args.tracks * args.positions * SLOTS
        print(f"{values:,} values ({values * 4 / 2**30:.1f} GiB) written in {time.perf_counter() - began:.0f} s")
        os.sync()
        seconds, peak = apart(partial(compact_perbin, path, args.memory, args.workers))
    print(f"compacted on {args.workers} workers in {seconds:.0f} s: {values / seconds / 1e6:.0f} M values/s")
    verdict("peak memory over an idle process", peak / 2**30, args.memory / 2**30, "GiB", at_least=False)


def compact_perbin(path: Path, memory: int, workers: int) -> float:
    """Seconds to compact the perbin facts of a store."""
    store = FactStore(path)
    target = path.with_name("published.zarr")
    zarr.create_group(target, zarr_format=3)
    layers = ["chromatin_accessibility"] * store.shape.n_tracks
    began = time.perf_counter()
    compact(store, target, layers, memory_bytes=memory, workers=workers, cdfs=["perbin"])
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=5313)
    parser.add_argument("--positions", type=int, default=31_500)
    parser.add_argument("--memory", type=parse_size, default=2**30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="folder on the disk to measure")
    args = parser.parse_args()
    per_track()
    whole(args)
    return exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
