"""NPZ export against ``np.savez_compressed``: time, size and memory (Linux).

    python -m benchmarks.npz_export [--tracks 5313] [--repeats 3]

The export reads a store on disk, its contender has the arrays in memory.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.measure import apart, exit_code, medians, verdict
from chorus_store.layout import CDF_POINTS
from chorus_store.npz import export_npz
from tests.stores import make_store


def compare(store: Path, ours: Path, theirs: Path, repeats: int) -> None:
    """Export a store both ways."""
    export = partial(export_npz, store, ours, progress=False)
    _, peak = apart(export)
    arrays = dict(np.load(ours))
    seconds = medians({"ours": export, "theirs": lambda: np.savez_compressed(theirs, **arrays)}, repeats)
    size, their_size = ours.stat().st_size, theirs.stat().st_size
    print(f"{sum(array.nbytes for array in arrays.values()) / 1e6:.0f} MB of arrays")
    print(f"     savez_compressed: {their_size / 1e6:.0f} MB in {seconds['theirs']:.2f} s")
    print(f"     export_npz: {size / 1e6:.0f} MB in {seconds['ours']:.2f} s")
    verdict("faster than np.savez_compressed", seconds["theirs"] / seconds["ours"], 5, "×")
    verdict("size beside np.savez_compressed", size / their_size, 1.06, "×", at_least=False)
    verdict("peak memory over an idle process", peak / 1e6, 300, "MB", at_least=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=5313, help="of the store")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, ours, theirs = (Path(folder, name) for name in ("enformer.zarr", "ours.npz", "theirs.npz"))
        make_store(store, args.tracks, n_quantiles=CDF_POINTS)
        compare(store, ours, theirs, args.repeats)
    return exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
