"""NPZ export against ``np.savez_compressed``: time, size and memory (Linux).

python -m benchmarks.npz_export            a store of 5,313 tracks
python -m benchmarks.npz_export --tracks 600 --repeats 1
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from chorus_store.layout import CDF_POINTS
from chorus_store.npz import export_npz
from tests.memory import peak_growth
from tests.stores import make_store

#: What a process of its own runs while its memory is watched.
EXPORT = "from chorus_store.npz import export_npz; export_npz(*arguments, progress=False)"


def median_seconds(action: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tracks", type=int, default=5313, help="of the store")
    parser.add_argument("--repeats", type=int, default=3, help="of the export; the reference runs once")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="npz-export-") as folder:
        store, ours, theirs = (Path(folder, name) for name in ("enformer.zarr", "ours.npz", "theirs.npz"))
        print(f"making a store of {arguments.tracks:,} tracks …", flush=True)
        make_store(store, arguments.tracks, n_quantiles=CDF_POINTS)
        peak = peak_growth(EXPORT, store, ours)
        seconds = median_seconds(lambda: export_npz(store, ours, progress=False), arguments.repeats)

        arrays = dict(np.load(ours))
        reference = median_seconds(lambda: np.savez_compressed(theirs, **arrays), 1)
        raw = sum(array.nbytes for array in arrays.values())
        size, reference_size = ours.stat().st_size, theirs.stat().st_size
        print(f"raw arrays         {raw / 1e6:8.0f} MB")
        print(f"savez_compressed   {reference_size / 1e6:8.0f} MB {reference:8.2f} s (arrays in memory)")
        print(f"export_npz         {size / 1e6:8.0f} MB {seconds:8.2f} s (from the store on disk)")
        print(f"faster {reference / seconds:.1f} ×; size {size / reference_size:.3f} ×")
        print(f"peak memory +{peak / 1e6:.0f} MB")
        store_size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
        print(f"the store itself   {store_size / 1e6:8.0f} MB, {store_size / size:.3f} of the exported NPZ")


if __name__ == "__main__":
    main()
