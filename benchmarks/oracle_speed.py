"""Seconds per 1,000 sequences of an oracle with random weights, facts included: forward passes and their reduction.

    python -m benchmarks.oracle_speed legnet
    python -m benchmarks.oracle_speed enformer --tracks targets_human.txt.gz --device cuda:0 --precision bf16 --batch 8
    python -m benchmarks.oracle_speed chrombpnet --demo      its models have the published size in a demo too

Options that are not known here go to the oracle. Of an oracle with one model per track, the first model is timed; where
gene expression is measured, over six bases of a hundred, what exons take around transcription start sites.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from builders import ORACLES, conformance, load_oracle
from builders.options import parser_of
from builders.oracle import BinArray, Exons, Oracle, RnaOracle
from chorus_store.exon_bins import ExonBins
from chorus_store.plan import PlanOptions

#: One exon bin in so many, in runs of the length of an exon.
EXON_SPACING, EXON_BP = 17, 150


def made(name: str, tracks: Path | None, options: list[str]) -> Oracle:
    """The oracle as its own command line makes it."""
    cls = load_oracle(name)
    return cls.from_options(parser_of(cls).parse_args(["--random-weights", "0", *options]), tracks)


def exons_of(oracle: RnaOracle, batch: int, slots: int) -> Exons:
    """Exons at equal distances, the same in every sequence, and the first of their bins."""
    head = oracle.exon_head()
    assert head is not None
    length = max(EXON_BP // head.resolution_bp, 1)
    first = np.arange(0, head.n_bins - length, EXON_SPACING * length, dtype=np.int32)
    bins = ExonBins(np.arange(batch + 1) * len(first), np.tile(first, batch), np.tile(first + length, batch))
    return Exons(bins, np.tile(bins.at(0)[:slots], (batch, 1)))


def seconds_per_batch(oracle: Oracle, batch: int, repeats: int) -> float:
    """Median seconds of `Oracle.reduce` over batches of random sequences, with bins, after one that does not count."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (batch, oracle.input_length_bp), dtype=np.uint8)
    slots = PlanOptions(**oracle.plan_defaults).bin_slots
    bins: dict[int, BinArray] = {
        r: rng.integers(0, n, (batch, slots), dtype=np.int32) for r, n in oracle.bins_by_resolution().items()
    }
    exons = exons_of(oracle, batch, slots) if isinstance(oracle, RnaOracle) else None
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        if isinstance(oracle, RnaOracle):
            oracle.reduce(codes, bins, exons)
        else:
            oracle.reduce(codes, bins or None)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("oracle", choices=sorted(ORACLES))
    parser.add_argument("--tracks", type=Path, help="its track table, if it needs one")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--batch", type=int, help="sequences per pass; the oracle's own by default")
    parser.add_argument("--repeats", type=int, default=3)
    args, options = parser.parse_known_args()
    oracle = made(args.oracle, args.tracks, options)
    oracle.load(None, device=args.device, precision=args.precision)
    model = next(iter(conformance.models(oracle)))
    batch = args.batch or oracle.default_batch
    seconds = seconds_per_batch(model, batch, args.repeats) / batch * 1000
    print(f"{args.oracle}: {seconds:,.3g} s per 1,000 sequences ({args.device}, {args.precision}, batches of {batch})")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
