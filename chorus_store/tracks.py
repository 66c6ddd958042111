"""The track table: what each row of a background measures, and which output channel of the model it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from chorus_store.errors import TrackTableError
from chorus_store.layers import LAYERS, Layer

StringArray = npt.NDArray[np.str_]


@dataclass(frozen=True, eq=False)
class TrackTable:
    """Columns of equal length, one entry per track, in NPZ row order.

    Attributes
    ----------
    track : ndarray of str, shape (n_tracks,)
        Unique identifiers.
    head : ndarray of str
        Name of the model head that predicts the track.
    channel : ndarray of int64
        Channel of that head.
    assay, layer, cell_type, description, strand : ndarray of str
        Assay in upper case, canonical layer (a key of `layers.LAYERS`), biosample, free text, and
        ``+``, ``-`` or ``.``.

    Raises
    ------
    TrackTableError
        Columns of different lengths, no tracks, an empty or repeated identifier, an unknown layer.
    """

    track: StringArray
    head: StringArray
    channel: npt.NDArray[np.int64]
    assay: StringArray
    layer: StringArray
    cell_type: StringArray
    description: StringArray
    strand: StringArray

    def __post_init__(self) -> None:
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) != 1:
            raise TrackTableError(f"columns of the track table differ in length: {lengths}")
        if len(self.track) == 0:
            raise TrackTableError("the track table has no tracks")
        names, counts = np.unique(self.track, return_counts=True)
        if (counts > 1).any():
            raise TrackTableError(f"track identifiers are repeated: {', '.join(names[counts > 1][:5])}")
        if (self.track == "").any():
            raise TrackTableError(f"row {int(np.argmax(self.track == ''))} has an empty track identifier")
        unknown = sorted(set(self.layer.tolist()) - set(LAYERS))
        if unknown:
            raise TrackTableError(f"unknown layers {unknown}; known layers: {', '.join(LAYERS)}")

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[str, str, int, str, str, str, str, str]]) -> TrackTable:
        """Build from rows in the order of the attributes.

        Examples
        --------
        >>> row = ("ENCFF833POA", "human", 0, "DNASE", "chromatin_accessibility", "cerebellum", "", ".")
        >>> len(TrackTable.from_rows([row]))
        1
        """
        if not rows:
            raise TrackTableError("the track table has no tracks")
        columns = list(zip(*rows, strict=True))
        text = [np.asarray(column, dtype=np.str_) for column in columns]
        return cls(text[0], text[1], np.asarray(columns[2], np.int64), *text[3:])

    def __len__(self) -> int:
        return len(self.track)

    def __repr__(self) -> str:
        counts = ", ".join(f"{name} {n}" for name, n in self.layer_counts().items())
        return f"<TrackTable {len(self)} tracks: {counts}>"

    def layer_counts(self) -> dict[str, int]:
        """Tracks per layer, in the order of the layer table."""
        return {name: n for name in LAYERS if (n := int((self.layer == name).sum()))}

    def layers(self) -> list[Layer]:
        """The layer of every track."""
        return [LAYERS[name] for name in self.layer.tolist()]

    def to_dataset(self) -> xr.Dataset:
        """The same columns as a Dataset with the dimension ``track``."""
        return xr.Dataset({field.name: ("track", getattr(self, field.name)) for field in fields(self)})

    @classmethod
    def from_dataset(cls, table: xr.Dataset) -> TrackTable:
        """What `to_dataset` made a Dataset of."""
        return cls(**{field.name: table[field.name].values for field in fields(cls)})

    def to_json(self) -> dict[str, list[Any]]:
        """The columns as JSON values."""
        return {field.name: getattr(self, field.name).tolist() for field in fields(self)}

    @classmethod
    def from_json(cls, columns: Mapping[str, list[Any]]) -> TrackTable:
        """What `to_json` made JSON values of."""
        return cls.from_rows(list(zip(*(columns[field.name] for field in fields(cls)), strict=True)))

    def select(self, rows: npt.NDArray[np.integer[Any]]) -> TrackTable:
        """Some rows, in the order of their indices."""
        return TrackTable(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def followed_by(self, others: TrackTable) -> TrackTable:
        """These rows, then others."""
        pairs = {field.name: (getattr(self, field.name), getattr(others, field.name)) for field in fields(self)}
        return TrackTable(**{name: np.concatenate(pair) for name, pair in pairs.items()})

    def digest(self) -> str:
        """SHA-256 over all columns, hexadecimal."""
        sha = hashlib.sha256()
        for field in fields(self):
            column = "\x1f".join(map(str, getattr(self, field.name).tolist()))
            sha.update(f"{field.name}\x1e{column}\x1d".encode())
        return sha.hexdigest()
