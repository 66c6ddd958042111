"""What validation finds, and what it says of a place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chorus_store.errors import ChorusStoreError

Severity = Literal["error", "warning"]
State = Literal["passed", "failed", "skipped"]

#: Tracks that a finding names; ``n`` counts all.
SHOWN_TRACKS = 5


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes
    ----------
    check : str
        Which check found it.
    array : str or None
        Array, file or group that it is about, as named below the store.
    tracks : list of str
        The first few tracks that are concerned.
    n : int
        How many there are: tracks, where any are named, else files or entries.
    message : str
        What is wrong.
    repair : str
        What to do about it.
    severity : {"error", "warning"}
        Only errors make a background invalid.
    """

    check: str
    array: str | None
    tracks: list[str]
    n: int
    message: str
    repair: str
    severity: Severity = "error"

    def __str__(self) -> str:
        shown = ", ".join(self.tracks)
        more = f" and {self.n - len(self.tracks):,} more" if self.n > len(self.tracks) else ""
        of_tracks = f" of {shown}{more}" if self.tracks else ""
        return f"{self.array or 'the background'}{of_tracks}: {self.message}"


@dataclass(frozen=True)
class Outcome:
    """One check, and whether it passed; skipped where there is nothing that it could look at."""

    name: str
    title: str
    state: State


@dataclass(frozen=True)
class Report:
    """All that was checked, and all that was found.

    Attributes
    ----------
    path : str
        Path or URL.
    deep : bool
        Whether every byte was read.
    checks : list of Outcome
    findings : list of Finding
    """

    path: str
    deep: bool
    checks: list[Outcome] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; warnings do not count."""
        return all(finding.severity == "warning" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "path": self.path,
            "ok": self.ok,
            "deep": self.deep,
            "checks": [asdict(check) for check in self.checks],
            "findings": [asdict(finding) for finding in self.findings],
        }


def about_tracks(
    check: str,
    array: str,
    ids: Sequence[str],
    bad: npt.NDArray[np.bool_],
    message: str,
    repair: str,
    severity: Severity = "error",
) -> Iterator[Finding]:
    """A finding about the tracks where ``bad`` is true, if there are any."""
    rows = np.flatnonzero(bad)
    if len(rows):
        shown = [str(ids[row]) for row in rows[:SHOWN_TRACKS].tolist()]
        yield Finding(check, array, shown, len(rows), message, repair, severity)


def from_error(check: str, error: ChorusStoreError, repair: str, array: str | None = None) -> Finding:
    """A finding that says what an error says, but for the advice at its end."""
    message, _, advice = str(error).rpartition("; ")
    return Finding(check, array, [], 1, message or advice, repair)
