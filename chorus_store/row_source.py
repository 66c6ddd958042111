"""Rows of a background for another one: labels and counts in memory, CDFs block by block, and where they come from."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import fspath
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from zarr.core.sync import sync

from chorus_store import matching, opening, origins
from chorus_store.bars import patient
from chorus_store.errors import InputError, TrackNotFoundError
from chorus_store.layout import CDFS
from chorus_store.manifest import MANIFEST
from chorus_store.npz_contract import KEYS
from chorus_store.npz_file import NpzFile, open_npz_file
from chorus_store.places import Place, fingerprint, is_url, open_group
from chorus_store.selection import matching_rows

if TYPE_CHECKING:
    import xarray as xr
    import zarr

Column = npt.NDArray[Any]
Rows = npt.NDArray[np.float32]

#: Key in an NPZ of what a store calls so.
KEY_OF: Mapping[str, str] = {key.variable: name for name, key in KEYS.items()}
#: Rows of a CDF that are held at a time.
BLOCK_ROWS = 512


@dataclass(frozen=True)
class RowSource:
    """Some rows of an open background.

    Attributes
    ----------
    place : str
        Path or URL, for messages.
    dataset : Dataset
        The whole background.
    chosen : ndarray of int
        Its rows that are meant, ascending.
    npz : NpzFile or None
        The file, where it is one.
    group : zarr.Group or None
        The store, where it is one.
    """

    place: str
    dataset: xr.Dataset
    chosen: npt.NDArray[np.intp]
    npz: NpzFile | None = None
    group: zarr.Group | None = None

    @property
    def n_tracks(self) -> int:
        """Number of rows that are meant."""
        return len(self.chosen)

    @property
    def width(self) -> int:
        """Points of a CDF."""
        return int(self.dataset.sizes["quantile"])

    @property
    def cdfs(self) -> list[str]:
        """Its CDFs, by variable."""
        return [f"{cdf}_cdf" for cdf in CDFS if f"{cdf}_cdf" in self.dataset]

    @property
    def attributes(self) -> Mapping[str, Any]:
        """What the background says of itself."""
        return {str(name): value for name, value in self.dataset.attrs.items()}

    @cached_property
    def columns(self) -> dict[str, Column]:
        """All else that there is of each row, by variable; text as NumPy's, ``signed`` only where it is known."""
        names = [str(name) for name, variable in self.dataset.variables.items() if variable.dims[:1] == ("track",)]
        return {name: self._column(name) for name in names if name not in self.cdfs and self._is_known(name)}

    @property
    def track_ids(self) -> list[str]:
        """Identifiers of the rows."""
        ids: list[str] = self.columns["track"].tolist()
        return ids

    def blocks(self, cdf: str) -> Iterator[Rows]:
        """Rows of a CDF, some at a time; float32, C-ordered, finite and ascending. On terminals a bar shows how far.

        Raises
        ------
        CorruptStoreError
            Damaged rows, or rows that are no CDF; of a file perhaps only after the last block.
        """
        blocks = self._blocks_of_store(cdf) if self.npz is None else self._blocks_of_file(self.npz, cdf)
        with patient(of=f"{cdf} of {Path(self.place).name}", unit="tracks", total=self.n_tracks) as bar:
            for block in blocks:
                yield np.ascontiguousarray(block, "<f4")
                bar.update(len(block))

    def blocks_of_origin(self) -> list[origins.Block]:
        """Where the rows come from, as they follow one another."""
        attributes = self.attributes
        source = origins.UNKNOWN if self.is_in_memory else _source_of(self.place, self.group)
        known = origins.of(attributes, int(self.dataset.sizes["track"]))
        return origins.taken(known, self.chosen, source, origins.document_of(attributes))

    def select(self, chosen: npt.NDArray[np.intp]) -> RowSource:
        """Other rows of the same background."""
        return RowSource(self.place, self.dataset, chosen, self.npz, self.group)

    @property
    def is_in_memory(self) -> bool:
        """Whether the rows were given as arrays."""
        return self.npz is not None and self.place == IN_MEMORY

    def _column(self, name: str) -> Column:
        with opening.reading(f"{name} of {self.place}"):
            values: Column = self.dataset[name].values[self.chosen]
        return values.astype(np.str_) if values.dtype.kind == "O" else values

    def _is_known(self, name: str) -> bool:
        if name != "signed":
            return True
        if self.npz is not None:
            return "signed_flags" in self.npz.arrays
        imported = self.attributes["provenance"].get("imported")
        return imported is None or any(array["name"] == "signed_flags" for array in imported["arrays"])

    def _blocks_of_store(self, cdf: str) -> Iterator[Rows]:
        for start in range(0, self.n_tracks, BLOCK_ROWS):
            rows = self.dataset[cdf][self.chosen[start : start + BLOCK_ROWS]].values
            opening.require_rows(rows, f"{cdf} of {self.place}")
            yield rows

    def _blocks_of_file(self, npz: NpzFile, cdf: str) -> Iterator[Rows]:
        first = 0
        for block in npz.blocks(KEY_OF[cdf], BLOCK_ROWS):
            here = self.chosen[(self.chosen >= first) & (self.chosen < first + len(block))]
            if len(here):
                yield block[here - first]
            first += len(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.dataset.close()


#: What messages call rows that were given as arrays.
IN_MEMORY = "the new tracks"


def open_rows(place: Place) -> RowSource:
    """All rows of what `chorus_store.open` opens; to be closed, best by ``with``.

    Raises
    ------
    StoreNotFoundError, StoreUnreachableError, SchemaError, CorruptStoreError, MissingPackageError
        As `chorus_store.open`.
    """
    if fspath(place).endswith(".npz"):
        return rows_of_file(open_npz_file(place))
    from chorus_store.lazy import as_dataset

    group = open_group(place)
    dataset = as_dataset(group)
    return RowSource(fspath(place), dataset, np.arange(dataset.sizes["track"]), group=group)


def rows_of_file(npz: NpzFile) -> RowSource:
    """All rows of an open NPZ file, which is closed with them."""
    from chorus_store.npz_dataset import as_dataset

    return RowSource(npz.name, as_dataset(npz), np.arange(npz.n_tracks), npz)


def _source_of(place: Place, group: zarr.Group | None) -> dict[str, Any]:
    """Name of a background, and the SHA-256 of an NPZ file, of a store's manifest, or else of its ``zarr.json``."""
    if is_url(place):
        name = fspath(place).partition("?")[0].rstrip("/").rpartition("/")[2]
    else:
        name = Path(place).resolve().name
    return {"name": name, "sha256": fingerprint(place)["sha256"] if group is None else _sha256_of_store(group)}


def _sha256_of_store(group: zarr.Group) -> str:
    with opening.reading(str(group.store_path)):
        found = (sync((group.store_path / name).get()) for name in (f"{MANIFEST}/zarr.json", "zarr.json"))
        data = next(data for data in found if data is not None)
    return hashlib.sha256(data.to_bytes()).hexdigest()


def chosen_rows(
    source: RowSource, tracks: Collection[str] | None, pattern: str | None, labels: Mapping[str, Sequence[str] | None]
) -> RowSource:
    """Rows that are named, or that have the labels that are wanted; all of them where nothing is asked.

    Raises
    ------
    TrackNotFoundError
        No such track; names near matches.
    InputError
        No track fits; or as `chorus_store.selection.matching_rows`.
    """
    rows = matching_rows(source.dataset, pattern, **labels)
    if tracks is not None:
        row_of = {track: row for row, track in enumerate(source.track_ids)}
        named = [_row(track, row_of, source.place) for track in tracks]
        rows &= np.isin(np.arange(len(rows)), named)
    if not rows.any():
        raise InputError(f"no track of {source.place} is all that was asked for; see: python -m chorus_store tracks")
    return source.select(np.flatnonzero(rows))


def _row(track: str, row_of: Mapping[str, int], place: str) -> int:
    row = matching.find(track, row_of)
    if row is None:
        raise TrackNotFoundError(f"no track {track!r} in {place}; {matching.near(track, row_of)}")
    return row


def pieces(blocks: Iterable[Rows], first: int, step: int) -> Iterator[Rows]:
    """Blocks of rows cut anew, so that each piece ends where a multiple of ``step`` is reached.

    Parameters
    ----------
    blocks : iterable of ndarray
    first : int
        Row that the first of them becomes.
    step : int
        Rows of a shard.

    Examples
    --------
    >>> [len(piece) for piece in pieces([np.zeros((5, 2)), np.zeros((4, 2))], first=6, step=4)]
    [2, 4, 3]
    """
    held: list[Rows] = []
    wanted = step - first % step
    for block in blocks:
        while len(block) >= wanted:
            yield np.concatenate([*held, block[:wanted]])
            block, held, wanted = block[wanted:], [], step
        held.append(block)
        wanted -= len(block)
    if any(map(len, held)):
        yield np.concatenate(held)
