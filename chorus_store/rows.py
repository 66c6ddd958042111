"""The rows of a store: the tracks that it was begun with, and lots of tracks that were added since.

Only the store of an oracle with one model per track grows. A lot is one small file, named after the number of rows
before it; it is created whole by whoever is first, and never changed. So rows keep their numbers, whoever adds some
at the same time, and the units of work of other rows do not notice.
"""

from __future__ import annotations

from pathlib import Path

from chorus_store import layout
from chorus_store.durable import make_folder
from chorus_store.files import group_node, write_once
from chorus_store.opening import read_attributes
from chorus_store.tracks import TrackTable


def read(store: Path) -> TrackTable:
    """All rows of a store, in order."""
    table = TrackTable.from_dataset(layout.read_table(store, f"{layout.PLAN}/tracks"))
    while columns := read_attributes(_lot(store, len(table))):
        table = table.followed_by(TrackTable.from_json(columns))
    return table


def lots(store: Path, begun: int) -> list[int]:
    """Number of rows that a store was begun with, which is given, and of every lot since."""
    sizes = [begun]
    while columns := read_attributes(_lot(store, sum(sizes))):
        sizes.append(len(columns["track"]))
    return sizes


def add(store: Path, tracks: TrackTable, before: int) -> bool:
    """Add a lot to a store of ``before`` rows; False if somebody else has added one meanwhile."""
    folder = _lot(store, before)
    make_folder(folder)
    return write_once(folder / "zarr.json", group_node(tracks.to_json()))


def _lot(store: Path, before: int) -> Path:
    return store / layout.PROGRESS / "tracks" / f"{before:06d}"
