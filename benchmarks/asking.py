"""Percentiles from a store against the existing normalizer's way of working on the NPZ of the same background (Linux).

    python -m benchmarks.asking [--tracks 5313] [--repeats 5]

The stand-in is ``benchmarks.reference_normalizer``; the NPZ is written by ``np.savez_compressed``, as the reference's
are. Fresh processes are timed from outside, from the start of the interpreter to its end, with the files in the page
cache.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

import chorus_store
from benchmarks.measure import exit_code, medians, verdict
from benchmarks.reference_normalizer import ReferenceNormalizer
from chorus_store.layout import CDF_POINTS
from chorus_store.normalizer import PerTrackNormalizer
from chorus_store.npz import export_npz
from tests.stores import make_store

T = TypeVar("T")

ORACLE, TRACK, VALUE = "enformer", "CHIP:00001", 0.3141592653589793
STAND_IN, NORMALIZER, ACCESSOR, WITH_DASK = "stand-in", "PerTrackNormalizer", "accessor", "accessor on xr.open_zarr"

#: Calls of what takes milliseconds in a row: what runs between them, reading hundreds of megabytes, empties the caches.
IN_A_ROW = 10

#: What a fresh process runs; the folder is its argument.
_FRESH = {
    STAND_IN: f"""
from benchmarks.reference_normalizer import ReferenceNormalizer
answer = ReferenceNormalizer(folder).effect_percentile("{ORACLE}", "{TRACK}", {VALUE})
""",
    NORMALIZER: f"""
from chorus_store.normalizer import PerTrackNormalizer
answer = PerTrackNormalizer(folder).effect_percentile("{ORACLE}", "{TRACK}", {VALUE})
""",
    ACCESSOR: f"""
import chorus_store
answer = chorus_store.open(f"{{folder}}/{ORACLE}.zarr").chorus.percentile({VALUE}, track="{TRACK}")
""",
    WITH_DASK: f"""
import xarray as xr
import chorus_store
answer = xr.open_zarr(f"{{folder}}/{ORACLE}.zarr").chorus.percentile({VALUE}, track="{TRACK}")
""",
}
_REPORT = """
status = open("/proc/self/status").read()
print(answer, int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


def make_files(folder: Path, n_tracks: int) -> None:
    """A store, and the NPZ of the same background."""
    store = make_store(folder / f"{ORACLE}.zarr", n_tracks, n_quantiles=CDF_POINTS)
    exported = export_npz(store, folder / "exported.npz", progress=False)
    with np.load(exported) as npz:
        np.savez_compressed(folder / f"{ORACLE}_pertrack.npz", **npz)
    exported.unlink()


def fresh_processes(folder: Path, repeats: int) -> None:
    """First percentile of a process, imports included: time and peak memory."""
    outputs: dict[str, list[tuple[float, float]]] = {name: [] for name in _FRESH}

    def run(name: str) -> None:
        command = [sys.executable, "-c", f"import sys; folder = sys.argv[1]{_FRESH[name]}{_REPORT}", str(folder)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        outputs[name].append(tuple(map(float, output.split())))

    seconds = medians({name: partial(run, name) for name in _FRESH}, repeats)
    peaks = {name: np.median([peak for _, peak in runs]) for name, runs in outputs.items()}
    require_equal({answer for runs in outputs.values() for answer, _ in runs})
    for name in _FRESH:
        faster = f"{seconds[STAND_IN] / seconds[name]:.1f} × as fast"
        print(f"     {name}: {seconds[name]:.2f} s, {faster}, {peaks[name] / 1e6:.0f} MB")
    for name in (NORMALIZER, ACCESSOR, WITH_DASK):
        verdict(f"first percentile of a process, {name}, faster", seconds[STAND_IN] / seconds[name], 6, "×")
        verdict(f"its memory, {name}, of the stand-in's", peaks[name] / peaks[STAND_IN], 0.25, "×", at_least=False)


def warm_opening(folder: Path, repeats: int) -> None:
    """Open and first percentile in a process that has imported everything."""
    question = (ORACLE, TRACK, VALUE)
    path = folder / f"{ORACLE}.zarr"
    contenders = {
        STAND_IN: lambda: ReferenceNormalizer(folder).effect_percentile(*question),
        NORMALIZER: in_a_row(lambda: PerTrackNormalizer(folder).effect_percentile(*question)),
        ACCESSOR: in_a_row(lambda: chorus_store.open(path).chorus.percentile(VALUE, track=TRACK)),
    }
    seconds = medians(contenders, repeats)
    for name in (NORMALIZER, ACCESSOR):
        seconds[name] /= IN_A_ROW
        print(f"     {name}: {seconds[name] * 1e3:.1f} ms")
        verdict(f"open and first percentile, {name}, faster", seconds[STAND_IN] / seconds[name], 300, "×")


def scalar_calls(folder: Path, repeats: int) -> None:
    """One value at a time, of tracks that have been asked for before; every fifth is tied."""
    ours, theirs = PerTrackNormalizer(folder), ReferenceNormalizer(folder)
    tracks = ours.track_ids(ORACLE)[:8]
    entries = [ours.effect_null_support(ORACLE, track) or (0.0, 0.0) for track in tracks]
    values = [(track, value) for track, ends in zip(tracks, entries, strict=True) for value in (0.1, 1.0, 3.0, *ends)]

    def loop(normalizer: PerTrackNormalizer | ReferenceNormalizer) -> list[float | None]:
        percentile = normalizer.effect_percentile
        return [percentile(ORACLE, track, value) for _ in range(200) for track, value in values]

    require_equal({tuple(loop(ours)), tuple(loop(theirs))})
    seconds = medians({NORMALIZER: partial(loop, ours), STAND_IN: partial(loop, theirs)}, repeats)
    calls = 200 * len(values)
    print(f"     stand-in: {seconds[STAND_IN] / calls * 1e6:.1f} µs a call")
    verdict("a scalar call", seconds[NORMALIZER] / calls * 1e6, 10, "µs", at_least=False)
    verdict("scalar calls, faster", seconds[STAND_IN] / seconds[NORMALIZER], 2.3, "×")


def one_variant(folder: Path, repeats: int) -> None:
    """One value for every track."""
    path = folder / f"{ORACLE}.zarr"
    loaded = chorus_store.open(path).load()
    tracks = loaded["track"].values.tolist()
    values = np.random.default_rng(1).gamma(2.0, size=len(tracks))

    def from_npz() -> list[float | None]:
        normalizer = ReferenceNormalizer(folder)
        return [
            normalizer.effect_percentile(ORACLE, track, value, signed)
            for track, value, signed in zip(tracks, values.tolist(), loaded["signed"].values.tolist(), strict=True)
        ]

    contenders = {
        "loaded": in_a_row(lambda: loaded.chorus.percentile(values)),
        "closed": lambda: chorus_store.open(path).chorus.percentile(values),
        STAND_IN: from_npz,
    }
    require_equal({tuple(contender()) for contender in contenders.values()})
    seconds = medians(contenders, repeats)
    print(f"     from the closed store {seconds['closed']:.2f} s, through the NPZ {seconds[STAND_IN]:.2f} s")
    verdict("one variant over all tracks, loaded", seconds["loaded"] / IN_A_ROW * 1e3, 20, "ms", at_least=False)
    verdict("one variant from a closed store, faster", seconds[STAND_IN] / seconds["closed"], 5, "×")


def in_a_row(action: Callable[[], T]) -> Callable[[], T]:
    """The action as often as `IN_A_ROW` says; the answer is the last one."""

    def repeated() -> T:
        for _ in range(IN_A_ROW - 1):
            action()
        return action()

    return repeated


def require_equal(answers: set[object]) -> None:
    """A benchmark of wrong answers shows nothing."""
    if len(answers) != 1:
        raise AssertionError(f"the contenders differ: {answers}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=5313, help="of the store")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, args.tracks)
        for part in (fresh_processes, warm_opening, scalar_calls, one_variant):
            part(folder, args.repeats)
    return exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
