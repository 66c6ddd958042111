"""Array kernels of the look-up: they equal SciPy, their own definitions, and the reference."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import percentileofscore

from chorus_store import lookup, matching
from chorus_store.errors import InputError
from chorus_store.lookup import percentile, quantile, rank, to_percentile

METHODS = ("weak", "strict", "mean", "randomized")

# Few distinct entries, so that ties are common; and neighbours that only float64 tells from float32 numbers.
entries = st.sampled_from([-3.0, -1.0, 0.0, 0.1, 0.5, 1.0, 7.25]) | st.floats(-10, 10, width=32)
entries = entries.map(np.float32)
queries = entries.map(float) | st.floats() | entries.map(lambda x: float(np.nextafter(np.float64(x), np.inf)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values (n, k), ascending rows (m, width), and an index without -1."""
    m, width, n = draw(st.integers(1, 4)), draw(st.integers(1, 20)), draw(st.integers(0, 5))
    rows = draw(hnp.arrays(np.float32, (m, width), elements=entries))
    values = draw(hnp.arrays(np.float64, (n, draw(st.integers(0, 5))), elements=queries))
    index = draw(hnp.arrays(np.int64, n, elements=st.integers(0, m - 1)))
    return values, np.sort(rows, axis=1), index


@given(problems(), st.sampled_from(["weak", "strict", "mean"]))
@settings(deadline=None, max_examples=50)
def test_percentiles_equal_scipy(problem, method):
    values, rows, index = problem
    values = np.nan_to_num(values)
    ours = percentile(values, rows, index, method=method)
    theirs = [percentileofscore(rows[row].astype(float), v, method) for row, v in zip(index, values, strict=True)]
    np.testing.assert_allclose(ours, np.reshape(theirs, values.shape) / 100, rtol=1e-12)


@given(problems(), st.sampled_from(METHODS), st.data())
@settings(deadline=None, max_examples=50)
def test_percentiles_are_defined_by_ranks(problem, method, data):
    values, rows, index = problem
    n, width = len(values), rows.shape[1]
    flags = hnp.arrays(bool, n)
    absolute, signed = data.draw(flags), data.draw(flags)
    denominators = data.draw(st.none() | hnp.arrays(np.int64, n, elements=st.integers(1, 2 * width)))
    labels = [f"track {i}" for i in range(n)]
    ours = percentile(
        values, rows, index,
        method=method, absolute=absolute, signed=signed, denominators=denominators, labels=labels,
    )  # fmt: skip
    for i in range(n):
        ranks = rank(np.abs(values[i]) if absolute[i] else values[i], rows[index[i]], method, labels[i])
        share = np.minimum(ranks / (width if denominators is None else denominators[i]), 1)
        np.testing.assert_array_equal(ours[i], 2 * share - 1 if signed[i] else share)


@given(problems(), st.sampled_from(["weak", "strict", "mean"]))
@settings(deadline=None, max_examples=50)
def test_percentiles_never_fall_as_values_rise(problem, method):
    values, rows, index = problem
    values = np.sort(np.nan_to_num(values), axis=1)
    assert (np.diff(percentile(values, rows, index, method=method), axis=1) >= 0).all()


def test_rows_that_do_not_exist_answer_nan():
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    np.testing.assert_array_equal(percentile([1.0, 1.0, 9.0], rows, [0, -1, 1], signed=True), [0, np.nan, 1])
    np.testing.assert_array_equal(quantile([0.5, 0.5], rows, [-1, 1]), [np.nan, 5])
    np.testing.assert_array_equal(lookup.exceedance([6.0, 14.0], rows, [-1, 1]), [np.nan, 2])
    assert np.isnan(percentile(np.ones((3, 2)), rows[:0], [-1] * 3)).all()


def test_signed_percentiles_are_centred():
    row = np.arange(-50, 50, dtype=np.float32)
    ranks = rank([-1e9, -1, np.nan, 1e9], row)
    np.testing.assert_array_equal(to_percentile(ranks, 100, signed=True), [-1, 0, np.nan, 1])


@given(problems(), st.booleans())
@settings(deadline=None, max_examples=50)
def test_quantiles_invert_percentiles(problem, signed):
    values, rows, index = problem
    p = percentile(values, rows, index, signed=signed)
    found = quantile(p, rows, index, signed=signed)
    for i, row in enumerate(index):
        asked = values[i][~np.isnan(values[i])]
        entry = np.clip(rank(asked, rows[row]).astype(int), 1, rows.shape[1]) - 1
        np.testing.assert_array_equal(found[i][~np.isnan(values[i])], rows[row][entry])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(values))


@given(problems(), st.booleans(), st.data())
@settings(deadline=None, max_examples=50)
def test_quantiles_are_the_smallest_entries_that_reach_p(problem, signed, data):
    _, rows, index = problem
    width, low = rows.shape[1], -1 if signed else 0
    grid = st.integers(0, width).map(lambda i: float(to_percentile(i, width, signed)))
    share = grid | grid.map(lambda x: min(np.nextafter(x, 2), 1.0)) | st.floats(low, 1)
    p = data.draw(hnp.arrays(np.float64, (len(index), 3), elements=share))
    found = quantile(p, rows, index, signed=signed)
    assert (percentile(found, rows, index, signed=signed) >= p).all()
    for i, row in enumerate(index):
        for entry, asked in zip(found[i], p[i], strict=True):
            before = rows[row][rows[row] < entry]
            assert (to_percentile(rank(before, rows[row]), width, signed) < asked).all()


@given(st.floats(0, 1), st.integers(1, 30))
@settings(deadline=None, max_examples=50)
def test_quantiles_equal_numpy(p, width):
    rows = np.random.default_rng(width).standard_normal((1, width)).astype(np.float32)
    rows.sort()
    # NumPy does not correct rounding errors at p = i / width; between the grid points there are none.
    p = float(np.clip((np.floor(p * width) + 0.5) / width, 0, 1))
    assert quantile([p], rows, [0]) == np.quantile(rows[0], p, method="inverted_cdf")


def test_quantiles_out_of_range():
    rows = np.arange(4, dtype=np.float32)[None]
    p = [[-1.5, -1.0, -0.5, 0.0, 1.0, 1.5, np.nan]]
    np.testing.assert_array_equal(quantile(p, rows, [0]), [[np.nan] * 3 + [0, 3] + [np.nan] * 2])
    np.testing.assert_array_equal(quantile(p, rows, [0], signed=True), [[np.nan, 0, 0, 1, 3, np.nan, np.nan]])


def test_standard_errors():
    assert lookup.standard_error(0.5, 10_000) == 0.005
    assert lookup.standard_error(0.0, 10_000, signed=True) == 0.01
    assert lookup.standard_error(1.0, 50) == pytest.approx(np.sqrt(0.01 * 0.99 / 50))
    np.testing.assert_array_equal(lookup.standard_error([0.0, np.nan, 0.5], [8, 8, 0])[1:], np.nan)
    n, true = 400, 0.93
    observed = np.random.default_rng(0).binomial(n, true, 20_000) / n
    assert observed.std() == pytest.approx(float(lookup.standard_error(true, n)), rel=0.02)


def test_support_and_exceedance():
    rows = np.array([[-2, 1, 4], [1, 2, 4], [-4, -2, -1]], np.float32)
    low, high = lookup.support(rows)
    assert (low.tolist(), high.tolist()) == ([-2, 1, -4], [4, 4, -1])
    values = np.array([[8.0, -8.0, 4.0, np.nan]] * 3)
    nan = np.nan
    signed = [[2, 4, nan, nan], [2, nan, nan, nan], [nan, 2, nan, nan]]
    unsigned = [[2, 2, nan, nan], [2, 2, nan, nan], [nan] * 4]
    np.testing.assert_array_equal(lookup.exceedance(values, rows, range(3), signed=True), signed)
    np.testing.assert_array_equal(lookup.exceedance(values, rows, range(3)), unsigned)
    mixed = lookup.exceedance(values, rows, range(3), signed=[False, True, True])
    np.testing.assert_array_equal(mixed, unsigned[:1] + signed[1:])


def test_rescaling():
    rows = np.stack([np.arange(100), np.arange(100) - 49.5]).astype(np.float32)
    floor, peak = lookup.anchors(rows, 0.5, 1.0)
    assert (floor.tolist(), peak.tolist()) == ([50, 0.5], [99, 49.5])
    values = np.array([[-1.0, 74.5, 999.0, np.nan]])
    np.testing.assert_array_equal(lookup.rescale(values, 50.0, 99.0, max_value=3), [[0, 0.5, 3, np.nan]])
    np.testing.assert_array_equal(lookup.rescale([0.0, 1.0, 3.0], -5.0, 1.0, max_value=9, log=True), [0, 1, 2])
    np.testing.assert_array_equal(lookup.rescale([0.0, 1.0], 0.0, 0.0, max_value=1.5), [0, 1.5])
    unit = lookup.signed_unit(rows, 0.5)
    assert unit.tolist() == [50, 25.5]
    np.testing.assert_array_equal(lookup.signed_rescale([-100, 25, 999], unit[0], max_value=3), [-2, 0.5, 3])
    assert np.isnan(lookup.signed_rescale(1.0, 1e-10, max_value=3))
    for action in (lambda q: lookup.anchors(rows, 0.5, q), lambda q: lookup.signed_unit(rows, q)):
        with pytest.raises(InputError, match=r"1\.1 is no position"):
            action(1.1)


class Golden:
    """The toy backgrounds, as the two generations of the reference see them, and what they answered."""

    def __init__(self, folder: Path) -> None:
        self.toy = dict(np.load(folder / "toy_pertrack.npz"))
        self.records = json.loads((folder / "percentiles.json").read_text())
        self.rows = {name: i for i, name in enumerate(self.toy["track_ids"].tolist())}

    def index(self, track: str, cdf: str, generation: str) -> int:
        """Row of a track that has this CDF, else -1."""
        row = matching.find(track, self.rows) if generation == "current" else self.rows.get(track)
        return -1 if row is None or self.toy[f"{cdf}_counts"][row] == 0 else row

    def percentiles(self, values: Any, track: str, cdf: str, generation: str, signed: bool = False) -> np.ndarray:
        rows, row = self.toy[f"{cdf}_cdfs"], self.index(track, cdf, generation)
        rule: dict[str, Any] = {"method": "randomized", "labels": [track]}
        if generation == "seed":
            rule = {"denominators": [np.clip(self.toy[f"{cdf}_counts"][row], 1, rows.shape[1])]}
        return percentile(np.reshape(values, (1, -1)), rows, [row], signed=signed, **rule)[0]

    def shown(self, track: str) -> np.ndarray | None:
        """The row by which the current generation rescales."""
        cdfs = [cdf for cdf in ("perbin", "summary", "effect") if self.index(track, cdf, "current") >= 0]
        return self.toy[f"{cdfs[0]}_cdfs"][self.index(track, cdfs[0], "current")] if cdfs else None


@pytest.fixture(scope="module")
def golden(shared: Path) -> Golden:
    return Golden(shared / "golden")


def same(ours: Any, theirs: Any) -> bool:
    """Exact equality, with None for NaN."""
    wanted = np.array(np.nan if theirs is None else theirs, np.float64)
    return np.array_equal(np.broadcast_to(ours, wanted.shape), wanted, equal_nan=True)


@pytest.mark.shared
@pytest.mark.parametrize("generation", ["seed", "current"])
def test_reference_single_lookups(golden: Golden, generation: str):
    compared = 0
    for record in golden.records["single"]:
        track, value, signed = record["track"], record["value"], record["signed"]
        for key, cdf, centred in (
            (f"{generation}_effect", "effect", signed),
            (f"{generation}_activity", "summary", False),
        ):
            if key in record:
                assert same(golden.percentiles(value, track, cdf, generation, centred)[0], record[key]), record
                compared += 1
    assert compared > 900


@pytest.mark.shared
def test_reference_support_and_exceedance(golden: Golden):
    rows = golden.toy["effect_cdfs"]
    ends = np.stack(lookup.support(rows), axis=1)
    for record in golden.records["single"]:
        row = golden.index(record["track"], "effect", "current")
        beyond = lookup.exceedance([record["value"]], rows, [row], signed=record["signed"])[0]
        assert same(beyond, record["current_exceedance"]), record
        if record.get("current_support") is not None:
            assert ends[row].tolist() == record["current_support"]


@pytest.mark.shared
@pytest.mark.parametrize("generation", ["seed", "current"])
def test_reference_batch_lookups(golden: Golden, generation: str):
    for record in golden.records["batch"]:
        ours = golden.percentiles(record["values"], record["track"], "perbin", generation)
        assert same(ours if record[f"{generation}_perbin"] is not None else ours[0], record[f"{generation}_perbin"])


def rescalings(golden: Golden) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Records of batches, and our answers to them where a track has something to rescale by."""
    for record in golden.records["batch"]:
        values, ours = np.array(record["values"]), {}
        if record["track"] in golden.rows:
            ends = lookup.anchors(golden.toy["perbin_cdfs"][golden.rows[record["track"]]], 0.95, 0.99)
            ours["seed_rescale"] = lookup.rescale(values, *ends, max_value=1.5)
        row = golden.shown(record["track"])
        if row is not None:
            ours["current_rescale"] = lookup.rescale(values, *lookup.anchors(row, 0.95, 0.99), max_value=3)
            logarithmic = lookup.anchors(row, 0.995, 0.999)
            ours["current_rescale_log"] = lookup.rescale(values, *logarithmic, max_value=3, log=True)
            unit = lookup.signed_unit(row[None], 0.99)[0]
            scaled = lookup.signed_rescale(values - 1, unit, max_value=3)
            if not np.isnan(scaled).all():
                ours["current_signed_rescale_of_values_minus_1"] = scaled
        yield record, ours


@pytest.mark.shared
def test_reference_rescaling(golden: Golden):
    compared = 0
    for record, ours in rescalings(golden):
        for key in (key for key in record if "rescale" in key):
            assert (key in ours) == (record[key] is not None), (record["track"], key)
            assert key not in ours or same(ours[key], record[key]), (record["track"], key)
            compared += key in ours
    assert compared > 30
