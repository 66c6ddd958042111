"""Size of the CDFs in a store, by codec, against the NPZ; and what one row costs to read.

    python -m benchmarks.store_size [--tracks 256]

The populations are those of a full build: 10,000 effects, 31,500 summaries and 1,008,000 bins per track, gamma noise
of a scale of its own for every track.
"""

from __future__ import annotations

import argparse
import tempfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import zarr
from isal import isal_zlib

from benchmarks.measure import exit_code, medians, verdict
from chorus_store import layout
from chorus_store.grid import FloatArray, compact_rows
from chorus_store.layers import LAYERS


def cdfs(n_tracks: int) -> dict[str, FloatArray]:
    """Grids of populations as a build has them."""
    rng = np.random.default_rng(0)
    scale = rng.lognormal(0, 1, (n_tracks, 1))
    ref = rng.gamma(1.5, scale, (n_tracks, 10_000))
    alt = ref * np.exp(0.05 * rng.standard_t(3, ref.shape))
    summary = rng.gamma(1.5, scale, (n_tracks, 31_500)).astype(np.float32)
    perbin = [rng.gamma(0.5, scale[i], (1, 1_008_000)).astype(np.float32) for i in range(n_tracks)]
    return {
        "effect": compact_rows(LAYERS["tf_binding"].effect(ref, alt))[0],
        "summary": compact_rows(summary)[0],
        "perbin": np.concatenate([compact_rows(row)[0] for row in perbin]),
    }


def store_bytes(path: Path, rows: dict[str, FloatArray], codec: str) -> int:
    """Bytes of the CDF arrays of a store."""
    with layout.without_zarr_warnings():
        group = zarr.create_group(path, zarr_format=3)
        for cdf, values in rows.items():
            layout.create_cdf_array(group, f"{cdf}_cdf", len(values), codec=codec)[...] = values
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def deflated(values: FloatArray, compressor: object) -> int:
    """Bytes of an array in an NPZ."""
    return len(compressor.compress(values.tobytes())) + len(compressor.flush())  # type: ignore[attr-defined]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=256)
    args = parser.parse_args()
    rows = cdfs(args.tracks)
    raw = sum(values.nbytes for values in rows.values())
    savez = sum(deflated(values, zlib.compressobj(6)) for values in rows.values())
    exported = sum(deflated(values, isal_zlib.compressobj(1)) for values in rows.values())
    print(f"{args.tracks} tracks, {raw / 1e6:.0f} MB raw; NPZ as exported {exported / raw:.3f} of that, "
          f"np.savez_compressed {savez / raw:.3f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        for codec, target in (("blosc", 61.0), ("pcodec", 55.0)):
            path = Path(folder, codec)
            size = store_bytes(path, rows, codec)
            verdict(f"{codec}, of the exported NPZ", 100 * size / exported, target, "%", at_least=False)
            print(f"     {100 * size / savez:.1f} % of np.savez_compressed, {100 * size / raw:.1f} % of the raw bytes")
            with layout.without_zarr_warnings():
                array = zarr.open_array(path / "effect_cdf", mode="r")
            taken = medians({"row": partial(array.__getitem__, args.tracks // 2)}, repeats=51)["row"]
            print(f"     a row reads in {taken * 1e3:.1f} ms")
    return exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
