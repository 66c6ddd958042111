"""The kernels of a comparison against SciPy and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from chorus_store.distance import ALPHA, kolmogorov_smirnov, landmarks, ratio, sampling_noise


def rows(n: int, width: int, floats: bool) -> st.SearchStrategy[np.ndarray]:
    """Ascending rows: of any float32, or of so few values that most are tied."""
    anything = st.floats(-(2.0**99), 2.0**99, width=32) if floats else st.integers(-3, 3).map(float)
    return hnp.arrays(np.float32, (n, width), elements=anything).map(lambda values: np.sort(values, axis=1))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of SciPy's p-values, which nobody asks for
@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 3), st.integers(1, 40), st.integers(1, 40), st.booleans())
def test_the_distance_is_scipys(data: st.DataObject, n: int, width_a: int, width_b: int, floats: bool):
    a, b = data.draw(rows(n, width_a, floats)), data.draw(rows(n, width_b, floats))
    expected = [stats.ks_2samp(*pair, method="asymp").statistic for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(kolmogorov_smirnov(a, b), expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(kolmogorov_smirnov(b, a), kolmogorov_smirnov(a, b))


@settings(deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 7))
def test_the_same_distribution_function_is_at_distance_0(data: st.DataObject, width: int, times: int):
    a = data.draw(rows(3, width, floats=False))
    assert kolmogorov_smirnov(a, a.repeat(times, axis=1)).tolist() == [0, 0, 0]
    assert kolmogorov_smirnov(a, a + np.float32(7)).tolist() == [1, 1, 1]


def test_constant_rows():
    flat, half = np.zeros((1, 10), np.float32), np.float32([[0] * 5 + [1] * 5])
    assert kolmogorov_smirnov(flat, half) == 0.5
    assert kolmogorov_smirnov(flat, flat[:, :3]) == 0


def test_float64_is_not_cast_to_float32():
    single, double = np.float32([[0.1, 0.2]]), np.array([[0.1, 0.2]])
    assert (
        kolmogorov_smirnov(single, double) == stats.ks_2samp(single[0].astype(np.float64), double[0]).statistic == 0.5
    )


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.001])
def test_the_noise_is_the_limit_that_scipy_knows(alpha: float):
    n, m = 31_500, 10_000
    exact = stats.kstwobign.isf(alpha) * np.sqrt((n + m) / (n * m))
    np.testing.assert_allclose(sampling_noise(n, m, alpha), exact, rtol=1e-4)


def test_samples_of_one_distribution_stay_within_the_noise():
    rng = np.random.default_rng(1)
    a, b = (np.sort(rng.standard_gamma(2, (2000, width)), axis=1) for width in (400, 700))
    beyond = (kolmogorov_smirnov(a, b) > sampling_noise(400, 700)).mean()
    assert ALPHA / 3 < beyond < 2 * ALPHA
    assert (kolmogorov_smirnov(a, b + 0.5) > sampling_noise(400, 700)).all()


def test_noise_of_unknown_samples_is_unknown():
    assert np.isnan(sampling_noise([0, np.nan, 5], [5, 5, 0])).all()


@settings(deadline=None)
@given(st.data(), st.integers(1, 40))
def test_landmarks_are_entries_of_the_absolute_row(data: st.DataObject, width: int):
    a = data.draw(rows(4, width, floats=True))
    sizes = np.sort(np.abs(a), axis=1)
    expected = sizes[:, [min(int(q * width), width - 1) for q in (0.5, 0.99, 1)]]
    np.testing.assert_array_equal(landmarks(a), expected)


def test_ratios_at_0():
    assert ratio([0, 2, 0, 3], [0, 0, 2, 2]).tolist() == [1, np.inf, 0, 1.5]
    assert np.isnan(ratio([np.nan, 0, np.nan], [0, np.nan, np.nan])).all()
