"""Ties broken by a hash, so that a value among equal entries gets a rank that looks random but is always the same.

The rule and its hash are those of the current reference normalizer.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt


def randomized_rank(label: str, value: float, left: int, right: int) -> int:
    """Rank of a value that equals the entries ``left`` to ``right - 1`` of its row.

    Parameters
    ----------
    label : str
        Track identifier, as it was asked for.
    value : float
        The value itself, a Python float: its ``repr`` is hashed.
    left, right : int
        Number of entries below the value, and at or below it.

    Returns
    -------
    int
        ``right`` for fewer than two equal entries; else ``left`` to ``right``, by an 8-byte BLAKE2b of label and value.

    Examples
    --------
    >>> randomized_rank("DNASE:c", 0.0, 0, 400), randomized_rank("DNASE:c", 0.5, 400, 401)
    (332, 401)
    """
    if right - left < 2:
        return right
    digest = blake2b(f"{label}\0{value!r}".encode(), digest_size=8).digest()
    return left + int.from_bytes(digest, "big") % (right - left + 1)


def break_ties(
    values: npt.NDArray[np.floating[Any]], labels: Sequence[str], left: npt.NDArray[Any], right: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """`randomized_rank` of ``values[i, j]``, of track ``labels[i]``, for every i and j.

    Parameters
    ----------
    values : ndarray of float, shape (n, k)
    labels : sequence of str, length n
    left, right : ndarray of int, shape (n, k)
        Number of entries of row i below the value, and at or below it.

    Returns
    -------
    ndarray of float64, shape (n, k)
    """
    ranks = right.astype(np.float64)
    drawn: dict[tuple[int, str], int] = {}  # zeros come often; by text, since 0.0 and -0.0 are equal but hash apart
    for i, j in np.argwhere(right - left >= 2).tolist():
        value = float(values[i, j])
        key = i, repr(value)
        if key not in drawn:
            drawn[key] = randomized_rank(labels[i], value, int(left[i, j]), int(right[i, j]))
        ranks[i, j] = drawn[key]
    return ranks
