"""The replayed reservoir keeps what the reference's keeps."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_store.reservoir import Reservoir


@pytest.mark.shared
def test_golden_streams(shared: Path) -> None:
    for name, case in json.loads((shared / "golden/algorithm_r.json").read_text()).items():
        reservoir = Reservoir(case["n_tracks"], case["capacity"], case["seed"])
        first = 0
        for size in case["batches"]:
            offers = np.arange(first, first + size, dtype=float)[:, None].repeat(case["n_tracks"], axis=1)
            reservoir.offer(offers, batch=size)
            first += size
        assert reservoir.kept.tolist() == case["reservoirs"], name
        assert reservoir.seen.tolist() == case["counts"], name


def plain(values: np.ndarray, batch: int, capacity: int, seed: int) -> list[list[float]]:
    """Algorithm R as a textbook has it, with Python's own generator."""
    rng, kept = random.Random(seed), [[] for _ in range(values.shape[1])]
    seen = [0] * values.shape[1]
    for start in range(0, len(values), batch):
        for track in range(values.shape[1]):
            for value in values[start : start + batch, track]:
                if np.isnan(value):
                    continue
                if seen[track] < capacity:
                    kept[track].append(value)
                elif (slot := rng.randint(0, seen[track])) < capacity:
                    kept[track][slot] = value
                seen[track] += 1
    return kept


@given(
    n_samples=st.integers(0, 120),
    n_tracks=st.integers(1, 4),
    batch=st.integers(1, 9),
    capacity=st.integers(1, 30),
    seed=st.integers(0, 2**32),
    missing=st.sampled_from([0.0, 0.2]),
    pieces=st.integers(1, 4),
)
@settings(max_examples=60, deadline=None)
def test_equals_the_plain_loop(
    n_samples: int, n_tracks: int, batch: int, capacity: int, seed: int, missing: float, pieces: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.random((n_samples * batch, n_tracks))
    values[rng.random(values.shape) < missing] = np.nan
    reservoir = Reservoir(n_tracks, capacity, seed)
    for part in np.array_split(np.arange(n_samples), pieces):
        if len(part):
            reservoir.offer(values[part[0] * batch : (part[-1] + 1) * batch], batch)
    expected = plain(values, batch, capacity, seed)
    for track in range(n_tracks):
        assert reservoir.kept[track, : reservoir.retained[track]].tolist() == expected[track]


def test_a_long_stream_crosses_powers_of_two() -> None:
    values = np.random.default_rng(1).random((150_000, 1))
    reservoir = Reservoir(1, 100)
    reservoir.offer(values, 32)
    assert reservoir.kept[0].tolist() == plain(values, 32, 100, 12345)[0]


@pytest.mark.parametrize("capacity", [0, 2**31])
def test_capacity_out_of_range(capacity: int) -> None:
    with pytest.raises(ValueError, match="capacity"):
        Reservoir(1, capacity)
