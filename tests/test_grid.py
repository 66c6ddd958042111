"""The grid of a population: golden, properties, and the quick sort against NumPy's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chorus_store.grid import compact_rows, grid_of_sorted, sort_values


@pytest.mark.shared
def test_golden_grids(shared: Path) -> None:
    with np.load(shared / "golden/compaction.npz") as golden:
        sizes = [int(key.removeprefix("sample_")) for key in golden if key.startswith("sample_")]
        assert sorted(sizes) == [0, 1, 2, 7, 999, 1000, 1001, 4321]
        for size in sizes:
            grids, counts = compact_rows(golden[f"sample_{size}"][None].copy(), 1000)
            np.testing.assert_array_equal(grids[0], golden[f"grid_{size}"].astype(np.float32))
            assert counts.tolist() == [size]


@given(hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(width=32)))
@settings(max_examples=300, deadline=None)
def test_radix_sort_is_numpys_sort(values: np.ndarray) -> None:
    np.testing.assert_array_equal(sort_values(values), np.sort(values[~np.isnan(values)]))


@pytest.mark.parametrize("size", [2047, 2048, 50_000])
def test_radix_sort_of_many(size: int) -> None:
    values = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    for each in (values, np.full(size, 0.25, np.float32), np.sort(values), np.sort(values)[::-1].copy()):
        before = each.copy()
        np.testing.assert_array_equal(sort_values(each), np.sort(each))
        np.testing.assert_array_equal(each, before)


def test_negative_nan_counts_as_missing() -> None:
    values = np.array([[1, 0, 3]], np.float32)
    values.view(np.uint32)[0, 1] = 0xFFC00000
    grids, counts = compact_rows(values, 2)
    assert (grids.tolist(), counts.tolist()) == ([[1.0, 3.0]], [2])


@given(st.lists(st.floats(-1e6, 1e6, width=32), max_size=80), st.integers(2, 50))
@settings(deadline=None)
def test_a_grid_ascends_and_keeps_the_extremes(values: list[float], points: int) -> None:
    grid = grid_of_sorted(np.sort(np.array(values, np.float32)), points)
    assert (np.diff(grid) >= 0).all()
    if values:
        assert grid[0] == min(values)
        assert grid[-1] == max(values)
    else:
        assert not grid.any()


@given(hnp.arrays(np.float32, (3, 40), elements=st.floats(0, 10, width=32) | st.just(float("nan"))))
@settings(deadline=None)
def test_float32_and_float64_agree(values: np.ndarray) -> None:
    narrow, counts = compact_rows(values.copy(), 16)
    wide, wide_counts = compact_rows(values.astype(np.float64), 16)
    np.testing.assert_array_equal(narrow, wide)
    np.testing.assert_array_equal(counts, wide_counts)
    np.testing.assert_array_equal(counts, (~np.isnan(values)).sum(axis=1))
