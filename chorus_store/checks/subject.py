"""The place that is being validated: its background, its build and its NPZ file, as far as each is there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cached_property, partial
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from tqdm import tqdm

from chorus_store import layout, manifest, naming, opening, origins
from chorus_store.errors import ChorusStoreError, CorruptStoreError, SchemaError, StoreMismatchError
from chorus_store.facts import FactStore
from chorus_store.layout import CDFS
from chorus_store.places import Place, is_url

if TYPE_CHECKING:
    import xarray as xr

#: Rows of a CDF that are held at a time.
BLOCK_TRACKS = 256


class Subject:
    """What is validated.

    Parameters
    ----------
    place : path-like or str
        Of a store at any stage of its build, an archive of one, or an NPZ file; path or URL.
    store : Dataset or None
        The background; None where it is damaged or not published yet.
    attributes : mapping
        Of the root group; of an NPZ file, its own.
    problem : ChorusStoreError, optional
        Why the background cannot be opened.
    deep : bool
        Read every byte.
    npz : path-like, optional
        The NPZ file to compare with the store; by default the one beside it, if there is one.
    progress : bool
        Show progress bars when stderr is a terminal.
    """

    def __init__(
        self,
        place: Place,
        store: xr.Dataset | None,
        attributes: Mapping[str, Any],
        problem: ChorusStoreError | None = None,
        *,
        deep: bool = False,
        npz: Place | None = None,
        progress: bool = False,
    ) -> None:
        self.place, self.store, self.attributes, self.problem = fspath(place), store, attributes, problem
        self.deep, self._given_npz, self._progress = deep, npz, progress
        #: The store as a local folder, or None.
        self.folder = folder_of(place)

    @property
    def is_npz(self) -> bool:
        """Whether the place is that of an NPZ file."""
        return self.place.endswith(".npz")

    @property
    def is_imported(self) -> bool:
        """Whether the background came from an NPZ file."""
        return opening.is_imported(self.attributes)

    @property
    def is_built(self) -> bool:
        """Whether the background was compacted by this project, so that it is known what it must look like."""
        return "provenance" in self.attributes and not self.is_imported

    @property
    def provenance(self) -> Mapping[str, Any]:
        """What a background that was built says of itself; {} of any other."""
        return self.attributes["provenance"] if self.is_built else {}

    @cached_property
    def n_tracks(self) -> int:
        """Rows of the background."""
        return self.background.sizes["track"]

    @property
    def n_points(self) -> int:
        """Columns of its CDFs."""
        return self.background.sizes["quantile"]

    @cached_property
    def n_own(self) -> int:
        """Rows that were made together; those after them came from elsewhere."""
        return min((block["first"] for block in origins.of(self.attributes, self.n_tracks)), default=self.n_tracks)

    @property
    def background(self) -> xr.Dataset:
        """The background, for checks that need one."""
        assert self.store is not None
        return self.store

    @property
    def cdfs(self) -> list[str]:
        """Names of the CDFs that there are."""
        return [cdf for cdf in CDFS if f"{cdf}_cdf" in self.background]

    @cached_property
    def ids(self) -> list[str]:
        """Track identifiers."""
        return [str(track) for track in self.background["track"].values.tolist()]

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """A variable with one entry per track; None where there is none.

        Raises
        ------
        CorruptStoreError
            It is damaged.
        """
        return self.background[name].values if name in self.background else None

    def blocks(self, cdf: str) -> Iterator[tuple[slice, npt.NDArray[Any] | CorruptStoreError]]:
        """Rows of a CDF, block by block; where one is damaged chunk by chunk, of which some are errors."""
        array = self.background[f"{cdf}_cdf"]
        with self.bar(self.n_tracks, f"{cdf}_cdf", " rows") as bar:
            for start in range(0, self.n_tracks, BLOCK_TRACKS):
                span = slice(start, min(start + BLOCK_TRACKS, self.n_tracks))
                yield from self._readable(array, span)
                bar.update(span.stop - span.start)

    def _readable(
        self, array: xr.DataArray, span: slice, step: int = layout.TRACKS_PER_CHUNK
    ) -> Iterator[tuple[slice, npt.NDArray[Any] | CorruptStoreError]]:
        try:
            yield span, array[span].values
        except CorruptStoreError as error:
            if self.is_npz or span.stop - span.start <= step:
                yield span, error
                return
            for first in range(span.start, span.stop, step):
                yield from self._readable(array, slice(first, min(first + step, span.stop)))

    def bar(self, total: int, what: str, unit: str) -> Any:
        """A progress bar."""
        return tqdm(total=total, desc=what, unit=unit, leave=False, disable=not self._progress or None)

    @cached_property
    def build(self) -> FactStore | None:
        """The build that the background comes from, or is going to come from; None where there is none."""
        if self.folder is None or not (self.folder / layout.PROGRESS).is_dir():
            return None
        with suppress(StoreMismatchError):
            return FactStore(self.folder)
        return None

    @cached_property
    def npz(self) -> Path | None:
        """The NPZ file to compare the store with."""
        if self._given_npz is not None:
            return Path(self._given_npz)
        if self.folder is None or self.store is None:
            return None
        name = naming.npz_name(self.attributes["oracle"]["name"], self.attributes["demo"])
        beside = naming.with_a_name(self.folder).with_name(name)
        return beside if beside.is_file() else None

    @property
    def again(self) -> str:
        """How to make the background again."""
        try:
            return self._again()
        except (LookupError, TypeError, AttributeError):  # attributes that do not follow their schema
            return f"copy {self.place} again"

    @cached_property
    def _root(self) -> Mapping[str, Any]:
        """Attributes of the root group, or what the build knows of them; {} where they are nowhere."""
        if not self.attributes:
            with suppress(ChorusStoreError):
                return self.build.root if self.build else {}
        return self.attributes

    def _again(self) -> str:
        if self.is_npz:
            return "export the file again, or copy it again"
        if self.is_imported:
            source = shlex.quote(self.attributes["provenance"]["imported"]["name"])
            return f"python -m chorus_store import {source} --out {self.place} --force"
        if self._root and self.folder and (self.folder / layout.SAMPLES).is_dir():
            return naming.publishing(self._root, self.folder)
        return f"copy {self.place} again, or build it again"

    def afresh(self, array: str) -> str:
        """How to make an array of the background again that was published as it is."""
        if "python -m builders" in self.again:
            return f"remove {Path(self.place, array)}, then {self.again}"
        return self.again


def folder_of(place: Place) -> Path | None:
    """A place as a local folder, or None where it is none."""
    return Path(place) if not is_url(place) and Path(place).is_dir() else None


def open_subject(place: Place, *, deep: bool = False, npz: Place | None = None, progress: bool = False) -> Subject:
    """What is at a place, damaged or not.

    Raises
    ------
    ChorusStoreError
        There is nothing that could be checked: not a store, one of another version, a server that does not answer.
    """
    attributes: Mapping[str, Any] = {}
    folder, subject = folder_of(place), partial(Subject, place, deep=deep, npz=npz, progress=progress)
    try:
        if folder is not None:
            attributes = opening.root_attributes(folder)
            if not opening.is_published(attributes) and (folder / layout.PROGRESS).is_dir():
                return subject(None, attributes)
        store = opening.open(place)
        return subject(store, store.attrs)
    except ChorusStoreError as error:
        if not _is_damage(place, error, attributes):
            raise
        return subject(None, attributes, error)


def _is_damage(place: Place, error: ChorusStoreError, attributes: Mapping[str, Any]) -> bool:
    """Whether what cannot be opened is a background all the same, but a damaged one."""
    folder = folder_of(place)
    if folder and "zarr.json" in manifest.damaged(folder, lambda name: name == "zarr.json"):
        return True
    if isinstance(error, SchemaError):
        return fspath(place).endswith(".npz") or (opening.is_published(attributes))
    return isinstance(error, CorruptStoreError)
