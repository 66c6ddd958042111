"""A plain stand-in for the existing normalizer: the whole NPZ in memory, a dict of rows, one searchsorted per lookup.

Written from a description of the reference's way of working, not from its source.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt


class ReferenceNormalizer:
    """Percentiles from ``{oracle}_pertrack.npz`` files of one folder, each loaded whole when it is first asked."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._arrays: dict[str, dict[str, npt.NDArray]] = {}
        self._rows: dict[str, dict[str, int]] = {}

    def effect_percentile(self, oracle: str, track: str, raw: float, signed: bool = False) -> float | None:
        """Percentile of one value; None without a background."""
        arrays = self._load(oracle)
        row = self._rows[oracle].get(track)
        if row is None or arrays["effect_counts"][row] == 0:
            return None
        cdf = arrays["effect_cdfs"][row]
        percentile = min(_rank(cdf, track, float(raw)) / len(cdf), 1.0)
        return 2.0 * percentile - 1.0 if signed else percentile

    def _load(self, oracle: str) -> dict[str, npt.NDArray]:
        if oracle not in self._arrays:
            with np.load(self._directory / f"{oracle}_pertrack.npz", allow_pickle=False) as npz:
                self._arrays[oracle] = {key: npz[key] for key in npz.files}
            self._rows[oracle] = {str(track): row for row, track in enumerate(self._arrays[oracle]["track_ids"])}
        return self._arrays[oracle]


def _rank(cdf: npt.NDArray[np.float32], track: str, value: float) -> int:
    """Entries at or below a value; a hash draws among those equal to it."""
    right = int(np.searchsorted(cdf, value, side="right"))
    left = int(np.searchsorted(cdf, value, side="left"))
    if right - left < 2:
        return right
    digest = hashlib.blake2b(f"{track}\0{value!r}".encode(), digest_size=8).digest()
    return left + int.from_bytes(digest, "big") % (right - left + 1)
