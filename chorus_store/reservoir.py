"""The reference's reservoir, replayed: Algorithm R with Python's random stream, at machine speed.

Waterman's Algorithm R (Knuth, TAOCP vol. 2, §3.4.2) keeps a uniform sample of a stream. The reference draws with one
``random.Random(12345)`` per sampler, shared by all tracks, so its survivors depend on the order of the offers alone.
Here CPython's Mersenne Twister (Matsumoto & Nishimura 1998) runs inside the kernel and continues the very same stream.
"""

from __future__ import annotations

import random
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

DEFAULT_SEED = 12345
DEFAULT_CAPACITY = 50_000

_N, _M = 624, 397


@numba.njit(nogil=True, cache=True)
def _twist(state: npt.NDArray[np.uint32]) -> None:
    upper, lower, matrix = np.uint32(0x80000000), np.uint32(0x7FFFFFFF), np.uint32(0x9908B0DF)
    for i in range(_N):
        y = (state[i] & upper) | (state[(i + 1) % _N] & lower)
        value = state[(i + _M) % _N] ^ (y >> np.uint32(1))
        state[i] = value ^ matrix if y & np.uint32(1) else value


@numba.njit(nogil=True, cache=True)
def _random_below(state: npt.NDArray[np.uint32], n: int, bits: int) -> int:
    """``Random._randbelow(n)``: getrandbits(bits) until it is below n; state[624] is the position."""
    while True:
        if state[_N] >= _N:
            _twist(state)
            state[_N] = 0
        y = state[state[_N]]
        state[_N] += np.uint32(1)
        y ^= y >> np.uint32(11)
        y ^= (y << np.uint32(7)) & np.uint32(0x9D2C5680)
        y ^= (y << np.uint32(15)) & np.uint32(0xEFC60000)
        y ^= y >> np.uint32(18)
        drawn = y >> np.uint32(32 - bits)
        if drawn < n:
            return int(drawn)


@numba.njit(nogil=True, cache=True)
def _offer(
    values: npt.NDArray[Any],
    batch: int,
    kept: npt.NDArray[Any],
    seen: npt.NDArray[np.int64],
    state: npt.NDArray[np.uint32],
) -> None:
    capacity = kept.shape[1]
    for start in range(0, values.shape[0], batch):
        stop = min(start + batch, values.shape[0])
        for track in range(values.shape[1]):
            n = seen[track]
            bits = 0
            while (n + 1) >> bits:
                bits += 1
            for i in range(start, stop):
                value = values[i, track]
                if np.isnan(value):
                    continue
                if n < capacity:
                    kept[track, n] = value
                else:
                    slot = _random_below(state, n + 1, bits)
                    if slot < capacity:
                        kept[track, slot] = value
                n += 1
                if (n + 1) >> bits:
                    bits += 1
            seen[track] = n


class Reservoir:
    """A uniform sample per track, with the reference's draws.

    Parameters
    ----------
    n_tracks : int
        Tracks that share the stream.
    capacity : int
        Values kept per track.
    seed : int
        Of ``random.Random``.
    dtype : dtype
        Of the values kept; float64 holds what the reference holds.

    Examples
    --------
    >>> reservoir = Reservoir(1, 2)
    >>> reservoir.offer(np.arange(10.0)[:, None])
    >>> reservoir.seen.tolist(), reservoir.kept.shape
    ([10], (1, 2))
    """

    def __init__(
        self,
        n_tracks: int,
        capacity: int = DEFAULT_CAPACITY,
        seed: int = DEFAULT_SEED,
        dtype: npt.DTypeLike = np.float64,
    ) -> None:
        if not 1 <= capacity < 2**31:
            raise ValueError(f"capacity must be from 1 to 2147483647, not {capacity}")
        self.kept = np.full((n_tracks, capacity), np.nan, dtype)
        self.seen = np.zeros(n_tracks, np.int64)
        # 624 words of state and the position in them.
        self._state = np.array(random.Random(seed).getstate()[1], dtype=np.uint32)

    def offer(self, values: npt.NDArray[Any], batch: int = 1) -> None:
        """Offer a block of samples to every track.

        Parameters
        ----------
        values : ndarray of float, shape (samples, tracks)
            In plan order; NaN is not an offer.
        batch : int
            Samples that one track is offered before the next track's turn: the bin slots of one position.
        """
        _offer(values, batch, self.kept, self.seen, self._state)

    @property
    def retained(self) -> npt.NDArray[np.int64]:
        """Values kept per track."""
        return np.minimum(self.seen, self.kept.shape[1])
