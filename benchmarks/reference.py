"""A plain-Python stand-in for the way of working that this project replaces: per-value reservoirs, per-track loops.

Written from a description of the reference (one shared ``random.Random``, Python lists, float64), not from its source.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np


class ReferenceSampler:
    """Reservoirs of Python floats, filled one value at a time."""

    def __init__(self, n_tracks: int, capacity: int = 50_000, seed: int = 12345) -> None:
        self.kept: list[list[float]] = [[] for _ in range(n_tracks)]
        self.seen = [0] * n_tracks
        self._capacity, self._random = capacity, random.Random(seed)

    def offer(self, track: int, values: Iterable[float]) -> None:
        """Offer values to one track."""
        kept, n = self.kept[track], self.seen[track]
        for value in values:
            if n < self._capacity:
                kept.append(float(value))
            else:
                slot = self._random.randint(0, n)
                if slot < self._capacity:
                    kept[slot] = float(value)
            n += 1
        self.seen[track] = n


def reference_grid(kept: list[float], points: int = 10_000) -> np.ndarray:
    """Compaction of one reservoir."""
    values = np.sort(np.array(kept, dtype=np.float64))
    if len(values) >= points:
        return values[np.linspace(0, len(values) - 1, points, dtype=int)].astype(np.float32)
    return np.interp(np.linspace(0, 1, points), np.arange(len(values)) / len(values), values).astype(np.float32)


def reference_position(
    prediction: np.ndarray, bins: np.ndarray, windows: list[tuple[int, int]], summary: ReferenceSampler,
    perbin: ReferenceSampler,
) -> None:  # fmt: skip
    """What is done with the prediction of one baseline position: track by track."""
    for track, (first, stop) in enumerate(windows):
        summary.offer(track, [float(prediction[first:stop, track].sum())])
        perbin.offer(track, prediction[bins, track])


def reference_one_hot(sequence: str) -> np.ndarray:
    """One-hot encoding, base by base."""
    matrix = np.zeros((len(sequence), 4), np.float32)
    index = {"A": 0, "C": 1, "G": 2, "T": 3}
    for i, base in enumerate(sequence.upper()):
        if base in index:
            matrix[i, index[base]] = 1.0
    return matrix
