"""Timing for all benchmarks: medians of several runs, contenders interleaved, so that a busy machine hits all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path


def medians(contenders: dict[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Median seconds of every contender; each runs once beforehand to warm up, then all take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(repeats):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak_bytes() -> int:
    """Largest resident set of this process so far (Linux); unlike ru_maxrss not inherited from the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def verdict(what: str, value: float, target: float, unit: str, *, at_least: bool = True) -> None:
    """Print a figure beside its target."""
    met = value >= target if at_least else value <= target
    print(f"{'ok  ' if met else 'MISS'} {what}: {value:,.3g} {unit} (target {'≥' if at_least else '≤'} {target:,.3g})")
