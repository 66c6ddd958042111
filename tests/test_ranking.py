"""Ranking: every fast search equals the plain definition, on whatever arrays come."""

from __future__ import annotations

import subprocess
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_store import ranking
from chorus_store.compiled_search import count_below
from chorus_store.errors import InputError
from chorus_store.ranking import rank, rank_rows
from chorus_store.ties import randomized_rank

METHODS = ("weak", "strict", "mean", "randomized")
SEARCHES = (count_below, ranking.count_by_row, ranking.count_together)

# Few distinct entries, so that ties are common; zeros of both signs, denormals, and the ends of float32.
entries = st.sampled_from([-np.inf, -3.0, -0.0, 0.0, 0.1, 0.5, 1.0, 7.25, 1e-45, -1e-45, 3.4028234e38, np.inf])
entries = entries.map(np.float32) | st.floats(width=32, allow_nan=False).map(np.float32)


@st.composite
def queries(draw: st.DrawFn) -> float:
    """An entry; a neighbour of one that only float64 tells from it; any number; NaN."""
    entry = np.float64(draw(entries))
    around = st.sampled_from([entry, np.nextafter(entry, -np.inf), np.nextafter(entry, np.inf), np.nan])
    return float(draw(around | st.floats()))


@st.composite
def problems(draw: st.DrawFn) -> dict[str, object]:
    """Arguments of `rank_rows`: values (n, k) or (n,), float32 or float64, of any layout; rows (m, width)."""
    m, width, n = draw(st.integers(0, 4)), draw(st.integers(1, 40)), draw(st.integers(0, 5))
    shape = (n, *draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=12)))
    rows = np.sort(draw(hnp.arrays(np.float32, (m, width), elements=entries)), axis=1)
    values = draw(hnp.arrays(np.float64, shape, elements=queries()))
    with np.errstate(over="ignore"):
        values = values.astype(draw(st.sampled_from([np.float64, np.float32])))
    layouts = {
        "C": lambda a: a,
        "transposed": lambda a: np.asfortranarray(a),
        "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
        "reversed": lambda a: a[::-1].copy()[::-1],
    }
    return {
        "values": layouts[draw(st.sampled_from(sorted(layouts)))](values),
        "rows": rows.astype(draw(st.sampled_from([np.float32, np.float64]))),
        "index": draw(hnp.arrays(np.int64, n, elements=st.integers(-1, m - 1))),
        "labels": [f"track {i}" for i in range(n)],
    }


def plain(values, rows, index, labels, method):
    """`rank_rows` as it is defined."""
    ranks = np.full(values.shape, np.nan)
    for i, row in enumerate(index):
        if row >= 0:
            ranks[i] = rank(values[i], rows[row], method, labels[i])
    return ranks


@given(problems(), st.sampled_from(METHODS), st.sampled_from(SEARCHES))
@settings(deadline=None, max_examples=200)  # the first call compiles
def test_every_search_equals_the_definition(problem, method, search):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_search", lambda *sizes: search)
        patch.setattr(ranking, "_BLOCK", 8)
        patch.setattr(ranking, "_WIDE", 3)
        ranks = rank_rows(**problem, method=method)
    assert ranks.shape == problem["values"].shape
    np.testing.assert_array_equal(ranks, plain(**problem, method=method))


@given(problems())
@settings(deadline=None, max_examples=50)
def test_the_definition_equals_python(problem):
    for value_row, row, label in zip(problem["values"], problem["rows"], problem["labels"], strict=False):
        for value in map(float, np.ravel(value_row)):
            left, right = sum(x < value for x in row.tolist()), sum(x <= value for x in row.tolist())
            expected = (right, left, (left + right) / 2, randomized_rank(label, value, left, right))
            got = [float(rank(value, row, method, label)) for method in METHODS]
            np.testing.assert_array_equal(got, np.full(4, np.nan) if np.isnan(value) else expected)


def test_values_are_compared_in_float64():
    row = np.array([0.1, 0.1, 0.2], np.float32)
    just_below = 0.1  # the float32 entries are 0.10000000149…
    assert rank(just_below, row) == 0
    assert rank_rows([[just_below]], row[None], [0]) == 0
    assert rank(np.float32(0.1), row) == 2


@pytest.mark.parametrize("method", METHODS)
def test_large_problems(method):
    """Whole blocks and parts of blocks, both orders of axes, and the choice of a search by size."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.standard_gamma(2, (300, 500)).astype(np.float32).round(2), axis=1)
    values = rng.standard_gamma(2, (3500, 300)).round(2)
    values[rng.random(values.shape) < 0.01] = np.nan
    index = rng.permutation(300) - 1
    labels = [f"track {i}" for i in range(300)]
    expected = plain(values.T, rows, index, labels, method)
    for asked in (values.T, np.ascontiguousarray(values.T), values.T[:, :7], values.T[:, 0]):
        ranks = rank_rows(asked, rows, index, method, labels)
        np.testing.assert_array_equal(ranks, expected[:, : asked.shape[1]] if asked.ndim == 2 else expected[:, 0])
        assert np.argsort(ranks.strides).tolist() == np.argsort(asked.strides).tolist()


def test_higher_dimensions_and_integers():
    rows = np.array([[0, 1, 2, 3], [10, 11, 12, 13]], np.float32)
    values = np.arange(12).reshape(2, 3, 2)
    assert rank_rows(values, rows, [0, 1]).tolist() == [[[1, 2], [3, 4], [4, 4]], [[0, 0], [0, 0], [1, 2]]]
    assert rank_rows(values[:1], rows, [1]).tolist() == [[[0, 0], [0, 0], [0, 0]]]


def test_rows_are_not_copied_nor_values_changed():
    rows, values = np.zeros((2, 3), np.float32), np.ones((2, 4))
    rows.flags.writeable = values.flags.writeable = False
    assert (rank_rows(values, rows[::-1], [1, 0]) == 3).all()


def test_few_values_need_no_numba():
    code = (
        "import sys, numpy as np; from chorus_store.lookup import percentile;"
        "few, many = (np.ones((5313, k)) for k in (20, 200)); rows = np.zeros((5313, 8), 'f4');"
        "percentile(few, rows, np.arange(5313)); assert 'numba' not in sys.modules;"
        "percentile(many, rows, np.arange(5313)); assert 'numba' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "nearest"}, "'nearest'.*weak, strict, mean, randomized"),
        ({"values": np.zeros((0, 2)), "index": [], "method": "nearest"}, "'nearest'"),
        ({"index": [0]}, r"shape \(1,\).*2 rows of values"),
        ({"index": [0, 3]}, "from 0 to 3, of 3 rows"),
        ({"index": [-2, 0]}, "from -2 to 0, of 3 rows"),
        ({"rows": np.zeros((3, 5), ">f4")}, "dtype >f4.*float32 or float64"),
        ({"rows": np.zeros(5, np.float32)}, r"shape \(5,\)"),
        ({"method": "randomized"}, "give 2 labels"),
        ({"method": "randomized", "labels": ["a"]}, "give 2 labels"),
    ],
)
def test_refusals(arguments, message):
    fine = {"values": np.zeros((2, 1)), "rows": np.zeros((3, 5), np.float32), "index": [0, 1]}
    with pytest.raises(InputError, match=message):
        rank_rows(**fine | arguments)


def test_refusals_of_the_definition():
    with pytest.raises(InputError, match=r"'nearest'.*weak, strict, mean"):
        rank(1.0, np.zeros(3, np.float32), "nearest")
