"""Checks of the rows of every CDF: readable, finite, ascending, and such as compaction makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from chorus_store.checks.findings import Finding, Severity, about_tracks
from chorus_store.checks.regrid import is_grid
from chorus_store.checks.subject import Subject
from chorus_store.errors import CorruptStoreError
from chorus_store.opening import ascends

_DAMAGED = "cannot be read"
_ORDER = "missing, not finite, or not ascending"
_NEGATIVE = "negative, though the track is unsigned"
_GRID = "not the grid of as many values as were kept, so not made by compaction"
_CONSTANT = "one value repeated, though more than one was kept"


def check_rows(subject: Subject) -> Iterator[Finding]:
    """Every row of every CDF."""
    for cdf in subject.cdfs:
        rows = RowCheck(subject, cdf)
        for span, block in subject.blocks(cdf):
            rows.look(span, block)
        yield from rows.findings()


class RowCheck:
    """What is wrong with the rows of one CDF, found block by block.

    Parameters
    ----------
    subject : Subject
        With a background.
    cdf : str
        Which.
    """

    def __init__(self, subject: Subject, cdf: str) -> None:
        self._subject, self._cdf = subject, cdf
        self._retained = subject.column(f"{cdf}_retained")
        self._own = np.arange(subject.n_tracks) < subject.n_own
        self._unsigned = ~subject.background["signed"].values.astype(np.bool_) if cdf == "effect" else None
        self._bad: dict[str, npt.NDArray[np.bool_]] = {}

    def look(self, span: slice, rows: npt.NDArray[Any] | CorruptStoreError) -> None:
        """Look at some rows, or at what kept them from being read."""
        if isinstance(rows, CorruptStoreError):
            self._note(_DAMAGED, span, np.ones(span.stop - span.start, np.bool_))
            return
        good = ascends(rows)
        self._note(_ORDER, span, ~good)
        good &= self._own[span]
        if self._unsigned is not None:
            self._note(_NEGATIVE, span, good & self._unsigned[span] & (rows[:, 0] < 0))
        if self._retained is not None:
            retained = self._retained[span]
            self._note(_GRID, span, good & ~is_grid(rows, np.where(good, retained, self._subject.n_points)))
            self._note(_CONSTANT, span, good & (retained > 1) & (rows[:, 0] == rows[:, -1]))

    def findings(self) -> Iterator[Finding]:
        """What was found so far."""
        name = f"{self._cdf}_cdf"
        for message, bad in self._bad.items():
            again = self._subject.again if message == _DAMAGED else self._subject.afresh(name)
            yield from about_tracks("rows", name, self._subject.ids, bad, message, again, self._severity(message))

    def _note(self, message: str, span: slice, bad: npt.NDArray[np.bool_]) -> None:
        if bad.any():
            self._bad.setdefault(message, np.zeros(self._subject.n_tracks, np.bool_))[span] |= bad

    def _severity(self, message: str) -> Severity:
        """Other people's files follow other rules, and a track may be silent."""
        of_others = message in (_NEGATIVE, _GRID) and not self._subject.is_built
        return "warning" if of_others or message == _CONSTANT else "error"
