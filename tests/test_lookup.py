"""Array kernels of the look-up: compiled equals plain, and both equal SciPy and the reference."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import percentileofscore

from chorus_store.errors import InputError
from chorus_store.lookup import rank, rank_rows, to_percentile

METHODS = ("weak", "strict", "mean")

# Few distinct entries, so that ties are common; and neighbours that only float64 tells from float32 numbers.
entries = st.sampled_from([-3.0, -1.0, 0.0, 0.1, 0.5, 1.0, 7.25]) | st.floats(-10, 10, width=32)
queries = entries.map(lambda x: float(np.float32(x))) | st.floats(allow_nan=True, allow_infinity=True)
queries = queries | entries.map(lambda x: float(np.nextafter(np.float64(np.float32(x)), np.inf)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Values of shape (n_rows, per_row) and ascending rows of shape (n_rows, width)."""
    n_rows, width, per_row = draw(st.integers(0, 4)), draw(st.integers(1, 20)), draw(st.integers(0, 5))
    rows = draw(hnp.arrays(np.float32, (n_rows, width), elements=entries.map(np.float32)))
    values = draw(hnp.arrays(np.float64, (n_rows, per_row), elements=queries))
    return values, np.sort(rows, axis=1)


@given(problems(), st.sampled_from(METHODS))
@settings(deadline=None)  # the first call compiles
def test_compiled_ranks_equal_the_plain_ones(problem, method):
    values, rows = problem
    plain = [rank(v, row, method) for v, row in zip(values, rows, strict=True)]
    np.testing.assert_array_equal(rank_rows(values, rows, method), np.reshape(plain, values.shape))


@given(problems(), st.sampled_from(METHODS))
@settings(max_examples=50)
def test_percentiles_equal_scipy(problem, method):
    values, rows = problem
    for v, row in zip(values, rows, strict=True):
        finite = v[~np.isnan(v)]
        ours = to_percentile(rank(finite, row, method), len(row))
        np.testing.assert_allclose(ours, percentileofscore(row.astype(float), finite, method) / 100, rtol=1e-12)


def test_values_are_compared_in_float64():
    row = np.array([0.1, 0.1, 0.2], np.float32)
    just_below = 0.1  # the float32 entries are 0.10000000149…
    assert rank(just_below, row) == 0
    assert rank_rows([[just_below]], row[None]) == 0
    assert rank(np.float32(0.1), row) == 2


def test_higher_dimensions_and_integers():
    rows = np.array([[0, 1, 2, 3], [10, 11, 12, 13]], np.float32)
    values = np.arange(12).reshape(2, 3, 2)
    assert rank_rows(values, rows).tolist() == [[[1, 2], [3, 4], [4, 4]], [[0, 0], [0, 0], [1, 2]]]


def test_signed_percentiles_are_centred():
    row = np.arange(-50, 50, dtype=np.float32)
    ranks = rank([-1e9, -1, np.nan, 1e9], row)
    np.testing.assert_array_equal(to_percentile(ranks, 100, signed=True), [-1, 0, np.nan, 1])


def test_refusals():
    with pytest.raises(InputError, match=r"'nearest'.*weak, strict, mean"):
        rank(1.0, np.zeros(3, np.float32), "nearest")
    with pytest.raises(ValueError, match="2 rows of values do not match 3"):
        rank_rows(np.zeros((2, 1)), np.zeros((3, 5), np.float32))


def is_tied(row: np.ndarray, value: float) -> bool:
    """Whether the value meets a run of equal entries, which the current reference breaks by a hash."""
    return bool((row.astype(float) == value).sum() > 1)


@pytest.mark.shared
@pytest.mark.parametrize("cdf", ["effect", "activity"])
def test_reference_single_lookups(shared: Path, cdf: str):
    toy = np.load(shared / "golden" / "toy_pertrack.npz")
    prefix = {"effect": "effect", "activity": "summary"}[cdf]
    row_of = {name: i for i, name in enumerate(toy["track_ids"]) if toy[f"{prefix}_counts"][i]}
    compared = 0
    for record in json.loads((shared / "golden" / "percentiles.json").read_text())["single"]:
        if record["track"] not in row_of or f"current_{cdf}" not in record:
            continue
        row = toy[f"{prefix}_cdfs"][row_of[record["track"]]]
        if is_tied(row, record["value"]):
            continue
        signed = record["signed"] and cdf == "effect"
        ours = to_percentile(rank(record["value"], row), len(row), signed)
        assert ours == record[f"current_{cdf}"], record
        compared += 1
    assert compared > 100


@pytest.mark.shared
def test_reference_batch_lookups(shared: Path):
    toy = np.load(shared / "golden" / "toy_pertrack.npz")
    names = toy["track_ids"].tolist()
    compared = 0
    for record in json.loads((shared / "golden" / "percentiles.json").read_text())["batch"]:
        if record["current_perbin"] is None or record["track"] not in names:
            continue
        row = toy["perbin_cdfs"][names.index(record["track"])]
        free = np.array([not is_tied(row, value) for value in record["values"]])
        ours = to_percentile(rank_rows([record["values"]], row[None]), len(row))[0]
        np.testing.assert_array_equal(ours[free], np.array(record["current_perbin"])[free])
        compared += int(free.sum())
    assert compared > 100
