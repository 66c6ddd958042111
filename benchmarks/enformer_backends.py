"""Time and memory of one Enformer sequence: head on all bins or on the needed ones, by precision and backend.

    python -m benchmarks.enformer_backends                                   full size, seeded random weights
    python -m benchmarks.enformer_backends --size small --repeats 5
    python -m benchmarks.enformer_backends --backend tensorflow --weights DIR

Every row runs in a fresh process; its peak memory is what that adds to an idle one.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import apart, medians
from builders.enformer import Enformer
from chorus_store.tracks import TrackTable

ALL_BINS = 896
SLOTS = 32


def tracks() -> TrackTable:
    """A table of the published number of tracks and layers."""
    layers = np.repeat(
        ["chromatin_accessibility", "tf_binding", "histone_marks", "tss_activity"], [684, 2101, 1890, 638]
    )
    return TrackTable.from_rows(
        [(f"TRK{i}", "human", i, "-", str(layer), "", "", ".") for i, layer in enumerate(layers)]
    )


def measure(options: argparse.Namespace, precision: str, every_bin: bool) -> tuple[float, float]:
    """Seconds to load, and seconds per sequence."""
    oracle = Enformer(tracks(), backend=options.backend, size=options.size)
    started = time.perf_counter()
    oracle.load(options.weights, device=options.device, precision=precision)
    loading = time.perf_counter() - started
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (options.batch, oracle.input_length_bp), dtype=np.uint8)
    slots = np.arange(ALL_BINS) if every_bin else rng.choice(ALL_BINS, SLOTS, replace=False)
    bins = {128: np.broadcast_to(slots.astype(np.int32), (options.batch, len(slots)))}
    seconds = medians({"batch": lambda: oracle.reduce(codes, bins)}, options.repeats)["batch"]
    return loading, seconds / options.batch


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("torch", "tensorflow"), default="torch")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", nargs="+", default=None, help="default: what the backend has on a CPU")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    precisions = options.precision or (["fp32", "bf16"] if options.backend == "torch" else ["fp32"])
    print(f"{options.backend}, {options.size} size, {options.device}, batches of {options.batch}")
    print(f"{'precision':9}  {'head on':>11}  {'load s':>7}  {'s/sequence':>10}  {'peak GiB':>8}")
    for precision in precisions:
        for every_bin in (True, False):
            (loading, seconds), peak = apart(partial(measure, options, precision, every_bin))
            what = f"{ALL_BINS} bins" if every_bin else "needed bins"
            print(f"{precision:9}  {what:>11}  {loading:7.1f}  {seconds:10.3f}  {peak / 2**30:8.2f}", flush=True)


if __name__ == "__main__":
    main()
