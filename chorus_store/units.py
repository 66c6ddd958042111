"""Units of work: how the (position, track) plane is cut into rectangles, each one shard of every fact array."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from chorus_store import layout
from chorus_store.exon_bins import IntArray
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
    gene_tracks : int
        Tracks with one sample per gene; 0 where there are none, and so no facts of genes.
    variant_genes, baseline_genes : int
        Samples of one unit in the facts of genes: the genes of the unit that has most, 1 at least. Units with fewer
        are filled up.
    """

    n_variants: int
    n_baselines: int
    n_tracks: int
    bin_slots: int
    block: int
    tracks_per_unit: int
    gene_tracks: int = 0
    variant_genes: int = 0
    baseline_genes: int = 0

    @classmethod
    def from_json(cls, sizes: Mapping[str, Any]) -> Shape:
        """The shape of sizes by name, as `to_json` gives them.

        Raises
        ------
        ValueError, TypeError
            One is missing, unknown, or no size.
        """
        wrong = [f"{name} {size!r}" for name, size in dict(sizes).items() if type(size) is not int or size < 0]
        if wrong or not (sizes.get("block") and sizes.get("tracks_per_unit")):
            raise ValueError(f"its sizes are wrong: {', '.join(wrong) or 'units are empty'}")
        return cls(**sizes)

    def to_json(self) -> dict[str, int]:
        """The sizes by name, without those of genes where there are none."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != field.default
        }

    def arrays(self, kind: Kind | None = None) -> list[layout.FactArray]:
        """The fact arrays of one kind, or all."""
        return [
            array
            for array in layout.FACT_ARRAYS
            if (kind is None or array.kind == kind)
            and (self.bin_slots or not array.slots)
            and (self.gene_tracks or not array.genes)
        ]

    def arrays_of(self, cdf: str) -> list[layout.FactArray]:
        """The fact arrays that a CDF is made of."""
        return [array for array in self.arrays() if array.cdf == cdf]

    def positions(self, kind: Kind) -> int:
        """Positions of a kind."""
        return self.n_variants if kind == "variants" else self.n_baselines

    def slots(self, array: layout.FactArray) -> int:
        """Samples per position of an array that is not of genes."""
        return self.bin_slots if array.slots else 1

    def columns(self, array: layout.FactArray) -> int:
        """Tracks of an array."""
        return self.gene_tracks if array.genes else self.n_tracks

    def samples(self, array: layout.FactArray) -> int:
        """Samples of an array."""
        n = self.positions(array.kind)
        return math.ceil(n / self.block) * self.unit_samples(array) if array.genes else n * self.slots(array)

    def unit_samples(self, array: layout.FactArray) -> int:
        """Samples of an array in a full unit."""
        if array.genes:
            return self.variant_genes if array.kind == "variants" else self.baseline_genes
        return min(self.block, self.positions(array.kind)) * self.slots(array)

    def region(self, array: layout.FactArray, unit: Unit) -> tuple[slice, slice]:
        """Samples and tracks of a unit in an array."""
        if array.genes:
            first, n = unit.shard[0], self.unit_samples(array)
            return slice(first * n, (first + 1) * n), slice(0, self.gene_tracks)
        slots = self.slots(array)
        return slice(unit.start * slots, unit.stop * slots), slice(unit.first_track, unit.stop_track)

    def first_genes(self, kind: Kind, offset: IntArray) -> IntArray:
        """Sample of the first gene of every position in the facts of genes, shape (n,).

        Parameters
        ----------
        kind : Kind
        offset : ndarray of int64, shape (n + 1,)
            Of the plan's `gene_bins.GeneBins`.
        """
        per_unit = self.variant_genes if kind == "variants" else self.baseline_genes
        unit = np.arange(self.positions(kind)) // self.block
        first: IntArray = unit * per_unit + offset[:-1] - offset[unit * self.block]
        return first

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
        return 4 * sum(
            self.unit_samples(array) * min(self.tracks_per_unit, self.columns(array)) for array in self.arrays(kind)
        )

    def bytes_of(self, unit: Unit) -> int:
        """Bytes of the facts of a unit."""
        regions = [self.region(array, unit) for array in self.arrays(unit.kind)]
        cells: list[int] = [(rows.stop - rows.start) * (tracks.stop - tracks.start) for rows, tracks in regions]
        return 4 * sum(cells)

    def total_bytes(self) -> int:
        """Bytes of all facts."""
        return sum(4 * self.samples(array) * self.columns(array) for array in self.arrays())
