"""Ties broken by a hash: the rule of the reference, value by value and in batches."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_store.ties import break_ties, randomized_rank


def test_the_hash_is_of_label_and_repr():
    digest = int.from_bytes(blake2b(b"DNASE:c\x000.1", digest_size=8).digest(), "big")
    assert randomized_rank("DNASE:c", 0.1, 10, 17) == 10 + digest % 8


@given(st.text(), st.floats(allow_nan=False), st.integers(0, 100), st.integers(2, 100))
@settings(max_examples=30)
def test_ranks_stay_within_the_run_and_repeat(label, value, left, run):
    drawn = randomized_rank(label, value, left, left + run)
    assert left <= drawn <= left + run
    assert drawn == randomized_rank(label, value, left, left + run)


def test_a_single_equal_is_no_tie():
    assert randomized_rank("a", 1.0, 4, 4) == 4
    assert randomized_rank("a", 1.0, 4, 5) == 5


def test_every_rank_of_a_run_is_drawn():
    assert {randomized_rank(f"track {i}", 0.0, 2, 5) for i in range(200)} == {2, 3, 4, 5}


def test_zeros_of_either_sign_hash_apart():
    values, ties = np.array([[0.0, -0.0]]), np.array([[1000, 1000]])
    broken = break_ties(values, ["a"], np.zeros_like(ties), ties)
    assert broken.tolist() == [[randomized_rank("a", v, 0, 1000) for v in (0.0, -0.0)]]
    assert broken[0, 0] != broken[0, 1]


def test_batches_equal_a_loop():
    rng = np.random.default_rng(0)
    values = rng.integers(-2, 3, (20, 50)) / 4
    row = np.sort(rng.integers(-8, 9, 40) / 16)
    left, right = (np.searchsorted(row, values, side) for side in ("left", "right"))
    assert 0 < (right - left >= 2).mean() < 1
    labels = [f"track {i % 7}" for i in range(20)]
    loop = [
        [randomized_rank(labels[i], float(values[i, j]), int(left[i, j]), int(right[i, j])) for j in range(50)]
        for i in range(20)
    ]
    np.testing.assert_array_equal(break_ties(values, labels, left, right), loop)


def test_a_float32_value_is_hashed_as_the_float_that_it_is():
    value = np.array([[0.1]], np.float32)
    broken = break_ties(value, ["a"], np.array([[0]]), np.array([[10**6]]))
    assert broken[0, 0] == randomized_rank("a", 0.10000000149011612, 0, 10**6)
