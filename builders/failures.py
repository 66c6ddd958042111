"""Failures that should be rare, counted while a build runs: it stops where nearly everything fails."""

from __future__ import annotations

from builders.unit_facts import UnitFacts
from chorus_store.errors import ModelError

#: Positions, or models of one track each, of which so many are enough to tell.
TELLING_POSITIONS, TELLING_MODELS = 256, 25
#: The part of them that is nearly all.
NEARLY_ALL = 0.9


class Failures:
    """What one run has tried, and what of it failed.

    Positions that the plan leaves out are not counted: a window that leaves its contig, too many unknown bases.
    """

    def __init__(self) -> None:
        self._positions = self._lost = 0
        self._models: dict[int, str | None] = {}

    def count(self, facts: UnitFacts, *, own_model: bool) -> None:
        """Count the positions of a finished unit; of tracks with models of their own, the model."""
        tried = facts.unit.stop - facts.unit.start - facts.dropped.get("window", 0)
        lost = facts.dropped.get("non-finite", 0) + facts.dropped.get("model", 0)
        if own_model:
            self.count_model(facts.unit.first_track, "it gives no finite prediction" if lost == tried else None)
        else:
            self._positions += tried
            self._lost += lost

    def count_model(self, first_track: int, reason: str | None) -> None:
        """Count a model of its own track; ``reason`` is None for one that gives predictions."""
        self._models[first_track] = self._models.get(first_track) or reason

    def require_few(self) -> None:
        """Stop the build where nearly all of what was tried has failed.

        Raises
        ------
        ModelError
            Says how many of how many, and what to look at.
        """
        if self._positions >= TELLING_POSITIONS and self._lost > NEARLY_ALL * self._positions:
            raise ModelError(
                f"{self._lost:,} of the {self._positions:,} positions scored so far have no finite prediction (NaN or "
                "infinity), so the build stops here; check --weights, and try --precision fp32 and another device. "
                "Finished units are kept"
            )
        reasons = [reason for reason in self._models.values() if reason is not None]
        if len(self._models) >= TELLING_MODELS and len(reasons) > NEARLY_ALL * len(self._models):
            raise ModelError(
                f"{len(reasons):,} of the {len(self._models):,} models tried so far cannot be used, so the build stops "
                f"here; the last of them: {reasons[-1]}. Check --tracks and --weights. Finished units are kept"
            )
