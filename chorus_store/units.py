"""Units of work: how the (position, track) plane is cut into rectangles, each one shard of every fact array."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chorus_store import layout
from chorus_store.layout import Kind

KINDS: tuple[Kind, Kind] = ("variants", "baselines")


@dataclass(frozen=True)
class Unit:
    """One unit of work: positions [start, stop) of one kind × tracks [first_track, stop_track)."""

    kind: Kind
    index: int
    start: int
    stop: int
    first_track: int
    stop_track: int
    shard: tuple[int, int]

    @property
    def name(self) -> str:
        """Name of its progress record."""
        return f"{self.kind}/{self.index:06d}"


@dataclass(frozen=True)
class Shape:
    """Sizes of the fact arrays.

    Attributes
    ----------
    n_variants, n_baselines, n_tracks, bin_slots : int
        Of the plan; ``bin_slots`` is 0 for scalar oracles, which have no perbin facts.
    block : int
        Positions of one unit.
    tracks_per_unit : int
        Tracks of one unit: all of them, or 1 for oracles with one model per track.
    """

    n_variants: int
    n_baselines: int
    n_tracks: int
    bin_slots: int
    block: int
    tracks_per_unit: int

    def arrays(self, kind: Kind | None = None) -> list[layout.FactArray]:
        """The fact arrays of one kind, or all."""
        return [
            array
            for array in layout.FACT_ARRAYS
            if (kind is None or array.kind == kind) and (self.bin_slots or not array.slots)
        ]

    def positions(self, kind: Kind) -> int:
        """Positions of a kind."""
        return self.n_variants if kind == "variants" else self.n_baselines

    def slots(self, array: layout.FactArray) -> int:
        """Samples per position of an array."""
        return self.bin_slots if array.slots else 1

    def units(self, kind: Kind) -> list[Unit]:
        """All units of a kind, in plan order."""
        n, tracks = self.positions(kind), self.tracks_per_unit
        return [
            Unit(kind, index, start, min(start + self.block, n), first, min(first + tracks, self.n_tracks), shard)
            for index, (shard, start, first) in enumerate(
                ((i, j), i * self.block, j * tracks)
                for j in range(math.ceil(self.n_tracks / tracks))
                for i in range(math.ceil(n / self.block))
            )
        ]

    def unit_bytes(self, kind: Kind) -> int:
        """Bytes of the facts of one full unit."""
        samples = sum(self.slots(array) for array in self.arrays(kind)) * min(self.block, self.positions(kind))
        return 4 * samples * self.tracks_per_unit

    def total_bytes(self) -> int:
        """Bytes of all facts."""
        return sum(4 * self.positions(array.kind) * self.slots(array) * self.n_tracks for array in self.arrays())
