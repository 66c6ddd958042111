"""What all benchmarks share: medians of interleaved runs, peak memory, and figures beside their targets."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

#: What a line begins with that `verdict` prints.
MET, MISSED = "ok  ", "MISS"
_missed: list[str] = []


def medians(contenders: dict[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Median seconds of every contender; all warm up, then take turns, so that a busy machine hits all alike."""
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


def apart(action: Callable[[], T]) -> tuple[T, int]:
    """Result of an action in a fresh process, and the bytes by which it raises the peak memory of that process.

    The process has imported the module of the action, which must be picklable, before it starts.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_watched, action).result()


def _watched(action: Callable[[], T]) -> tuple[T, int]:
    idle = peak_bytes()
    return action(), peak_bytes() - idle


def verdict(what: str, value: float, target: float, unit: str, *, at_least: bool = True) -> None:
    """Print a figure beside its target, and remember a miss."""
    met = value >= target if at_least else value <= target
    if not met:
        _missed.append(what)
    print(f"{MET if met else MISSED} {what}: {value:,.3g} {unit} (target {'≥' if at_least else '≤'} {target:,.3g})")


def exit_code() -> int:
    """1 if a verdict of this process was a miss, otherwise 0."""
    return int(bool(_missed))
