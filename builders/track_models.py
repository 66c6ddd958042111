"""The models of an oracle that has one for each track, and the records that say which a store was scored with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from builders.checksums import Described
from builders.oracle import Oracle
from chorus_store.errors import StoreMismatchError
from chorus_store.facts import FactStore
from chorus_store.units import KINDS, Unit


class TrackModels:
    """Name and checksum of every track's model; of an oracle that predicts all tracks at once, of none.

    Parameters
    ----------
    oracle : Oracle
    random_weights : callable
        What to say of random weights for a track.
    """

    def __init__(self, oracle: Oracle, random_weights: Callable[[str], dict[str, Any]]) -> None:
        self.per_track = oracle.tracks_per_unit is not None
        self._oracle, self._random_weights = oracle, random_weights
        self._tracks = set(oracle.tracks.track.tolist()) if self.per_track else set()

    @cached_property
    def described(self) -> Mapping[str, Mapping[str, Any]]:
        """By track; without a checksum where there is no such file."""
        return _Models({track: self._oracle.weights_of(track) for track in sorted(self._tracks)}, self._random_weights)

    def has(self, store: FactStore, unit: Unit) -> bool:
        """Whether a unit can be scored: a store may have rows for models that this oracle was not given."""
        return not self.per_track or _track_of(store, unit) in self._tracks

    def absent(self, store: FactStore) -> bool:
        """Whether a store has no rows yet for some of the tracks."""
        return not self._tracks <= set(store.tracks.track.tolist())

    def settle(self, store: FactStore) -> None:
        """Compare the models with those that a store was scored with.

        Where a model could not be loaded and its file is another one now, its units are taken back.

        Raises
        ------
        StoreMismatchError
            A track was scored with another model.
        """
        differing = set()
        for unit in [unit for kind in KINDS for unit in store.units(kind)]:
            record = store.record(unit)
            if record is None or not self.has(store, unit) or not self._differs(store, unit, record):
                continue
            if record["scored"]:
                differing.add(_track_of(store, unit))
            else:
                store.forget(unit)
        if differing:
            raise StoreMismatchError(
                f"{store.path} was scored with other models of {', '.join(sorted(differing)[:5])}; add them under "
                "other names, or give another --out to build anew"
            )

    def _differs(self, store: FactStore, unit: Unit, record: Mapping[str, Any]) -> bool:
        """Whether there is a model, and not the one of the record."""
        now = self.described[_track_of(store, unit)]["sha256"]
        return now is not None and now != record["model"]["sha256"]


class _Models(Mapping[str, Mapping[str, Any]]):
    """What is said of the model of every track; a file that has changed since its checksum was taken is refused.

    A model is loaded after that and asked about once it has been used, so it is the file of this checksum.
    """

    def __init__(self, files: Mapping[str, Path | None], random_weights: Callable[[str], dict[str, Any]]) -> None:
        self._files, self._checksums = files, Described()
        self._described = {
            track: self._checksums.of(file) if file else random_weights(track) for track, file in files.items()
        }

    def __getitem__(self, track: str) -> Mapping[str, Any]:
        described = self._described[track]
        self._checksums.require_unchanged(self._files[track])
        return described

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _track_of(store: FactStore, unit: Unit) -> str:
    return str(store.tracks.track[unit.first_track])
