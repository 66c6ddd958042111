"""Damage to the files of a store, and what a store answers, for tests that every damage is noticed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import chorus_store
from chorus_store import info
from chorus_store.checks.findings import Report
from chorus_store.errors import ChorusStoreError
from chorus_store.layout import CDFS
from chorus_store.normalizer import PerTrackNormalizer

VALUES = xr.DataArray([-1.0, 0.0, 0.01, 0.3, 2.0, 50.0], dims="value")
#: What a damaged store may say otherwise: what takes how many bytes, and which units are to be done again.
_OF_THE_DISK = ("bytes", "progress")


@dataclass(frozen=True)
class Damage:
    """One way to damage a file: remove it, keep so many of its bytes, or flip bits of one.

    Attributes
    ----------
    kind : {"deleted", "emptied", "truncated", "flipped"}
    at : float
        Where, as a fraction of the file.
    bits : int
        Which are flipped.
    """

    kind: str
    at: float = 0.0
    bits: int = 0

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:.0%}" if self.at else self.kind

    def apply(self, data: bytes) -> bytes | None:
        """Content of the file afterwards; None where there is none."""
        place = min(int(self.at * len(data)), len(data) - 1)
        match self.kind:
            case "deleted":
                return None
            case "emptied":
                return b""
            case "truncated":
                return data[:place]
        return data[:place] + bytes([data[place] ^ self.bits]) + data[place + 1 :]


def damages(flips: int) -> list[Damage]:
    """Deleted, emptied, truncated at three lengths, and so many flips: half of them over the file, half at its end."""
    places = [(i + 0.5) / flips if i % 2 else 1 - 0.02 * (i + 0.5) / flips for i in range(flips)]
    spread = [Damage("flipped", at, (0x01, 0xFF, 0x20, 0x04)[i // 2 % 4]) for i, at in enumerate(places)]
    cut = [Damage("truncated", at) for at in (0.1, 0.5, 0.99)]
    return [Damage("deleted"), Damage("emptied"), *cut, *spread]


@contextmanager
def damaged(file: Path, damage: Damage) -> Iterator[bool]:
    """The file as it is after the damage, and whether it is another one then; afterwards as it was."""
    data = file.read_bytes()
    after = damage.apply(data)
    file.unlink()
    if after is not None:
        file.write_bytes(after)
    try:
        yield after != data
    finally:
        file.write_bytes(data)


def answers(place: Path) -> dict[str, Any]:
    """Everything that is asked of a background: percentiles of every track, labels, what ``info`` says."""
    with chorus_store.open(place) as store:
        tracks = store["track"].values.tolist()
        found = {str(name): store[name].values for name in store.variables if store[name].ndim < 2}
        for cdf in (cdf for cdf in CDFS if f"{cdf}_cdf" in store):
            found[f"{cdf}_percentile"] = store.chorus.percentile(VALUES, tracks, cdf=cdf).values
    normalizer = PerTrackNormalizer(semantics="seed", backgrounds={"any": place})
    found["normalizer"] = np.array([normalizer.effect_percentile("any", track, 0.3) for track in tracks], float)
    told = {key: value for key, value in info.describe(place).items() if key not in _OF_THE_DISK}
    return {**found, "runs": told.pop("runs", []), "info": told}


def same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether a background answers like the other one, to the bit; of runs it may have lost the record."""
    runs = all(run in b["runs"] for run in a["runs"] if run.keys() != {"id"})
    return runs and a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a.keys() - {"runs"})


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return bool(a == b)


@dataclass
class Figures:
    """What became of the damages of one place.

    Attributes
    ----------
    place : Path
        Of what is damaged, and asked.
    check : callable
        Validates it.
    cases, found, refused, right : int
        All; those that validation found; those after which asking raised an error; after which it gave right answers.
    missed, wrong : list of str
        Those that validation did not find or did not name; after which an answer was wrong, or another error came.
    """

    place: Path
    check: Callable[[], Report]
    cases: int = 0
    found: int = 0
    refused: int = 0
    right: int = 0
    missed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The numbers in words."""
        return f"{self.cases:,} damages, {self.found:,} found; {self.refused:,} refused, {self.right:,} answered right"

    def try_out(self, file: Path, damage: Damage, expected: Mapping[str, Any]) -> None:
        """Damage a file, validate and ask, and mend it again."""
        case = f"{file.relative_to(self.place.parent)} {damage}"
        with damaged(file, damage) as differs:
            if not differs:
                return
            self.cases += 1
            self._validate(file, case)
            self._ask(case, expected)

    def _validate(self, file: Path, case: str) -> None:
        try:
            said = [f"{finding} {finding.repair}" for finding in self.check().findings]
        except ChorusStoreError as error:
            said = [str(error)]
        except Exception as error:
            said = []
            case += f" ({error!r})"
        if any(_is_named(file, self.place, text) for text in said):
            self.found += 1
        else:
            self.missed.append(f"{case}: {said}")

    def _ask(self, case: str, expected: Mapping[str, Any]) -> None:
        try:
            if same(answers(self.place), expected):
                self.right += 1
            else:
                self.wrong.append(case)
        except ChorusStoreError:
            self.refused += 1
        except Exception as error:
            self.wrong.append(f"{case}: {error!r}")


def _is_named(file: Path, place: Path, text: str) -> bool:
    """Whether a text says where a file is: the file, or the array or group that it belongs to."""
    inside = (file.relative_to(place) if file != place else Path(file.name)).as_posix()
    return inside in text or inside.partition("/c/")[0].removesuffix("/zarr.json") in text
