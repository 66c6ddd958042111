"""Look-ups in memory through ``lookup.percentile``: one core, threads, one variant, against ``np.searchsorted``.

    python -m benchmarks.lookups [--tracks 5313] [--variants 1000] [--threads N]

The stand-in holds float32 rows and asks them for float64 values, track by track; it neither takes absolute values
nor signs, which ``percentile`` does.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from benchmarks.measure import exit_code, medians, verdict
from chorus_store.layout import CDF_POINTS
from chorus_store.lookup import percentile

Array = npt.NDArray[np.floating]


class Background:
    """CDF rows in memory, every fifth of them signed."""

    def __init__(self, tracks: int, rng: np.random.Generator) -> None:
        self.rows = rng.standard_gamma(2, (tracks, CDF_POINTS), dtype=np.float32)
        self.signed = np.arange(tracks) % 5 == 0
        self.rows[self.signed] -= 2
        self.rows.sort(axis=1)

    def percentile(self, values: Array, tracks: slice = slice(None)) -> Array:
        """Of values (track, …)."""
        signed = self.signed[tracks]
        index = np.arange(len(self.rows))[tracks]
        return percentile(values[tracks], self.rows, index, absolute=~signed, signed=signed)

    def in_threads(self, values: Array, threads: int, pool: ThreadPoolExecutor) -> list[Array]:
        """The same, each thread a share of the tracks."""
        edges = np.linspace(0, len(values), threads + 1, dtype=int).tolist()
        blocks = [slice(*pair) for pair in pairwise(edges)]
        return list(pool.map(partial(self.percentile, values), blocks))

    def stand_in(self, values: Array) -> Array:
        """Weak percentiles, track by track."""
        ranks = [np.searchsorted(row, asked, "right") for row, asked in zip(self.rows, values, strict=True)]
        return np.array(ranks) / CDF_POINTS


def compare(background: Background, values: Array, threads: int) -> None:
    """Everything against everything else, in turns."""
    by_variant = np.ascontiguousarray(values.T).T
    with ThreadPoolExecutor(threads) as pool:
        contenders: dict[str, Callable[[], object]] = {
            "(track, variant)": partial(background.percentile, values),
            "(variant, track)": partial(background.percentile, by_variant),
            "threads": partial(background.in_threads, values, threads, pool),
            "stand-in": partial(background.stand_in, values),
        }
        seconds = medians(contenders)
    for order in ("(track, variant)", "(variant, track)"):
        verdict(f"{order} on one core", values.size / seconds[order] / 1e6, 30, "M look-ups/s")
    print(f"     np.searchsorted: {values.size / seconds['stand-in'] / 1e6:.3g} M look-ups/s")
    verdict("faster than np.searchsorted", seconds["stand-in"] / seconds["(track, variant)"], 3, "×")
    verdict(f"speed of {threads} threads", seconds["(track, variant)"] / seconds["threads"], 0.8 * threads, "×")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tracks", type=int, default=5313)
    parser.add_argument("--variants", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=min(4, os.cpu_count() or 1))
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    background = Background(args.tracks, rng)
    values = rng.standard_gamma(2, (args.tracks, args.variants))
    one = medians({"one variant": partial(background.percentile, values[:, 0].copy())})["one variant"]
    assert "numba" not in sys.modules
    verdict("one variant over all tracks, numba not loaded", 1000 * one, 5, "ms", at_least=False)
    compare(background, values, args.threads)
    return exit_code()


if __name__ == "__main__":
    raise SystemExit(main())
