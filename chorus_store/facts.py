"""Facts: what the model said, unit by unit, and the record of which units are finished.

A unit of work is one rectangle of the (position, track) plane and one shard of every array of its kind. It is
written whole, by one writer, data first and its progress record last; so units can be made in any order, by anyone,
and again.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from chorus_store import fact_columns, layout, nodes, rows, seal
from chorus_store.durable import make_folder, put_in_place, sync, sync_up
from chorus_store.errors import CorruptStoreError, StoreError, StoreMismatchError, StoreNotFoundError
from chorus_store.files import group_node, sha256_of, write_atomically, writing
from chorus_store.layout import Kind
from chorus_store.opening import is_published, read_attributes, reading, root_attributes
from chorus_store.swap import aside_name, remove_stale
from chorus_store.tracks import TrackTable
from chorus_store.units import KINDS, Shape, Unit

FloatArray = npt.NDArray[np.float32]

#: Attribute of ``/progress`` with those that the root group began with.
_ROOT = "root"


class FactStore:
    """The facts of one store, for reading and for writing unit by unit.

    Parameters
    ----------
    path : Path
        An existing ``{oracle}.zarr``.

    Raises
    ------
    StoreNotFoundError
        No store there.
    StoreMismatchError
        A store that holds no build.
    SchemaError
        Another kind of group, or another version of the layout.
    CorruptStoreError
        The build's own metadata are damaged. Damaged metadata of the root group are replaced by what the build began
        with, so that it goes on and the background can be published again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Attributes of the root group, and what the facts depend on.
        self.root = _root_attributes(path)
        self.build = read_attributes(path / layout.PROGRESS)
        if not self.build:
            raise StoreMismatchError(f"{path} holds no build (no {layout.PROGRESS} group); give another --out")
        try:
            self._begun = Shape.from_json(self.build["shape"])
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptStoreError(f"{path / layout.PROGRESS} is damaged ({error}); build again elsewhere") from error
        self._arrays: dict[str, zarr.Array[Any]] = {}

    @cached_property
    def shape(self) -> Shape:
        """Sizes of the fact arrays, with the tracks that were added since the store was begun."""
        return replace(self._begun, n_tracks=sum(self.lots()))

    def lots(self) -> list[int]:
        """Number of rows that the store was begun with, and of every lot of tracks that was added since."""
        return rows.lots(self.path, self._begun.n_tracks)

    @cached_property
    def tracks(self) -> TrackTable:
        """The track of every row: those that the store was begun with, then those added since.

        Raises
        ------
        CorruptStoreError
            The table cannot be read, or is not the one that the store was begun with.
        """
        with reading(f"the track table of {self.path}"):
            table = rows.read(self.path)
            said = self.build.get("inputs", {}).get("tracks", {})
            expected = said.get("table_sha256", said.get("sha256"))  # which is what early builds called it
        if expected and table.select(np.arange(self._begun.n_tracks)).digest() != expected:
            raise CorruptStoreError(
                f"the track table of {self.path} is not the one that it was begun with; copy the store again"
            )
        return table

    def add_tracks(self, tracks: TrackTable) -> None:
        """Add rows that are not there yet; the units of the others, their numbers and their facts stay as they are.

        Two processes that add tracks at the same time do so one after the other. An interruption leaves the store
        with the new rows or without them, and their units are missing like those of any other row.

        Parameters
        ----------
        tracks : TrackTable
            Wanted rows; those whose identifiers are there already are left out.

        Raises
        ------
        StoreMismatchError
            The oracle predicts all tracks at once, or the facts were discarded.
        StoreWriteError
            Full disk or read-only folder.
        """
        while len(new := np.flatnonzero(~np.isin(tracks.track, self.tracks.track))):
            if self._begun.tracks_per_unit > 1 or self.discarded:
                why = "its facts were discarded" if self.discarded else "all its tracks come out of one model"
                raise StoreMismatchError(f"{self.path} takes no more tracks: {why}; build anew with another --out")
            with writing(self.path):
                rows.add(self.path, tracks.select(new), before=len(self.tracks))
            self.__dict__.pop("tracks", None)
            self.__dict__.pop("shape", None)
        if not self.discarded:
            self.widen()

    def widen(self) -> None:
        """Give the fact arrays a column for every row; rows are added first, and this can be done again."""
        for array in self.shape.arrays():
            file = self.path / layout.SAMPLES / array.name / "zarr.json"
            with reading(str(file)):
                node = json.loads(file.read_bytes())
            if node["shape"][1] < self.shape.columns(array):
                node["shape"][1] = self.shape.columns(array)
                with writing(self.path):
                    write_atomically(file, json.dumps(node, indent=2).encode())
                self._arrays.pop(array.name, None)

    @classmethod
    def create(
        cls, path: Path, shape: Shape, build: Mapping[str, Any], root: Mapping[str, Any], tables: Mapping[str, Any]
    ) -> FactStore:
        """Make the store, or open the one that another process made meanwhile.

        Parameters
        ----------
        path : Path
            Where it shall be; made aside and renamed.
        shape : Shape
            Sizes of the arrays.
        build : mapping
            What the facts depend on; kept as attributes of ``/progress``. Must hold ``identity``.
        root : mapping
            Attributes of the root group.
        tables : mapping of name to Dataset
            Small tables below ``/plan``.
        """
        aside = aside_name(path)
        with writing(path):
            make_folder(path.parent)
            remove_stale(path)
            try:
                _create(aside, shape, build, root, tables)
                put_in_place(aside, path)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno != errno.ENOTEMPTY:
                    raise
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return cls(path)

    @property
    def discarded(self) -> bool:
        """Whether the background is published and the facts were discarded, so that nothing is left to build."""
        return is_published(self.root) and not self.root["provenance"]["facts"]["kept"]

    def array(self, name: str) -> zarr.Array[Any]:
        """The Zarr array of a `layout.FactArray`."""
        if name not in self._arrays:
            with reading(f"{self.path / layout.SAMPLES / name}"):
                array = nodes.open_array(self.path / layout.SAMPLES / name, "r+")
            self._arrays[name] = array.with_config({"write_empty_chunks": True})
        return self._arrays[name]

    def units(self, kind: Kind) -> list[Unit]:
        """All units of a kind, in plan order."""
        return self.shape.units(kind)

    def record(self, unit: Unit) -> dict[str, Any] | None:
        """Progress record of a unit whose data are there; None where the unit is still to be done."""
        try:
            said = json.loads((self.path / layout.PROGRESS / unit.name / "zarr.json").read_bytes())
            if seal.is_broken(said):
                return None
            record = {name: value for name, value in said["attributes"].items() if name != seal.SEAL}
            known = {array.name for array in self.shape.arrays(unit.kind)}
            for name, data in record["data"].items():
                if (
                    name not in known
                    or "sha256" not in data
                    or (not self.discarded and self._shard(name, unit).stat().st_size != data["bytes"])
                ):
                    return None
        except (
            FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError, RecursionError
        ):  # fmt: skip
            return None  # never finished, or torn by a power cut: the unit is redone
        return record

    def missing(self, kind: Kind) -> list[Unit]:
        """Units of a kind that are still to be done, in plan order."""
        return [unit for unit in self.units(kind) if self.record(unit) is None]

    def write(self, unit: Unit, facts: Mapping[str, FloatArray], record: Mapping[str, Any]) -> None:
        """Store a finished unit: data, checksums, then the record.

        Parameters
        ----------
        unit : Unit
            Which.
        facts : mapping of array name to ndarray of float32, shape (samples, tracks)
            One entry per array of the unit's kind; NaN where a value is missing.
        record : mapping
            Counts and drop reasons, kept in the progress record.

        Raises
        ------
        StoreWriteError
            Full disk, read-only folder.
        StoreMismatchError
            The store was removed or replaced since it was opened.
        """
        self._require_there(unit)
        try:
            self._write(unit, facts, record)
        except StoreError:
            self._require_there(unit)  # or that is why
            raise

    def _write(self, unit: Unit, facts: Mapping[str, FloatArray], record: Mapping[str, Any]) -> None:
        with writing(self.path):
            data = {}
            for array in self.shape.arrays(unit.kind):
                file = self._shard(array.name, unit)
                self._replace(array, unit, facts[array.name])
                sync(file)
                sync_up(file.parent, self.path / layout.SAMPLES / array.name)
                data[array.name] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
            folder = self.path / layout.PROGRESS / unit.name
            make_folder(folder)
            write_atomically(folder / "zarr.json", group_node({**record, "data": data}))

    def _replace(self, array: layout.FactArray, unit: Unit, values: FloatArray) -> None:
        """Write a shard. Zarr may read the one that is there first; a power cut may have torn that, and it goes."""
        region = self.shape.region(array, unit)
        try:
            self.array(array.name)[region] = values
        except OSError:
            raise
        except Exception:
            self._shard(array.name, unit).unlink()
            self.array(array.name)[region] = values

    def forget(self, unit: Unit) -> None:
        """Take back a unit, which is then still to be done."""
        with writing(self.path):
            (self.path / layout.PROGRESS / unit.name / "zarr.json").unlink(missing_ok=True)

    def verify(self, unit: Unit) -> None:
        """Compare a finished unit's files with the checksums of its record.

        Raises
        ------
        CorruptStoreError
            They differ; names the file and how to redo the unit.
        """
        record = self.record(unit)
        for name, data in (record or {"data": {}})["data"].items():
            file = self._shard(name, unit)
            if sha256_of(file) != data["sha256"]:
                raise CorruptStoreError(
                    f"{file} is not what was written (checksum differs); delete it and run the same command again: "
                    f"only unit {unit.name} is redone"
                )

    def read_columns(self, name: str, first: int, stop: int) -> FloatArray:
        """All samples of tracks [first, stop), track-major.

        Returns
        -------
        ndarray of float32, shape (tracks, samples), C-contiguous
        """
        return fact_columns.read_columns(self.path, f"{layout.SAMPLES}/{name}", self.array(name), first, stop)

    def read_rows(self, name: str, unit_rows: slice) -> FloatArray:
        """Some samples of all tracks, shape (samples, tracks)."""
        with reading(f"{self.path / layout.SAMPLES / name}"):
            return np.asarray(self.array(name)[unit_rows, :])

    def gene_rows(self, cdf: str) -> npt.NDArray[np.intp]:
        """Rows of the tracks whose values of a CDF are one per gene, in the order of the columns of those facts."""
        if not any(array.genes for array in self.shape.arrays_of(cdf)):
            return np.empty(0, np.intp)
        return np.flatnonzero(self.tracks.layer == "gene_expression")

    def gene_offset(self, kind: Kind) -> npt.NDArray[np.int64]:
        """Of every position of the plan, the number of genes before it, and last that of all; shape (n + 1,)."""
        name = f"{layout.PLAN}/{kind}/gene_offset"
        with reading(f"{self.path / name}"):
            return np.asarray(nodes.open_array(self.path / name)[...])

    def _require_there(self, unit: Unit) -> None:
        if read_attributes(self.path / layout.PROGRESS) != self.build or sum(self.lots()) < self.shape.n_tracks:
            raise StoreMismatchError(
                f"{self.path} was removed or replaced while unit {unit.name} was scored; if its disk was away, run the "
                "same command again; else remove what is left of it, or give another --out"
            )

    def _shard(self, name: str, unit: Unit) -> Path:
        return layout.shard_file(self.path, f"{layout.SAMPLES}/{name}", unit.shard)


def _root_attributes(path: Path) -> dict[str, Any]:
    """Attributes of the root group; where they are damaged or gone, those that the build began with."""
    try:
        return root_attributes(path)
    except (StoreNotFoundError, CorruptStoreError):
        try:
            begun: dict[str, Any] | None = read_attributes(path / layout.PROGRESS).get(_ROOT)
        except CorruptStoreError:
            begun = None
        if begun is None:
            raise
        return begun


def _create(
    path: Path, shape: Shape, build: Mapping[str, Any], root: Mapping[str, Any], tables: Mapping[str, Any]
) -> None:
    group = zarr.create_group(path, zarr_format=3, attributes=_sealed(root))
    for name, table in tables.items():
        layout.write_table(group, f"{layout.PLAN}/{name}", table)
    for array in shape.arrays():
        layout.create_fact_array(
            group,
            array.name,
            (shape.samples(array), shape.columns(array)),
            (shape.unit_samples(array), shape.tracks_per_unit),
        )
    group.create_group(layout.PROGRESS, attributes=_sealed({**build, "shape": shape.to_json(), _ROOT: root}))
    for kind in KINDS:
        group.create_group(f"{layout.PROGRESS}/{kind}")
    group.create_group(layout.RUNS)


def _sealed(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of a group with their seal, which is that of what JSON makes of them."""
    return seal.sealed(json.loads(json.dumps(dict(attributes))))


def progress(path: Path) -> dict[str, dict[str, int]]:
    """Units done and in all, per kind, of a store at any stage.

    Examples
    --------
    >>> progress(Path("enformer.zarr"))  # doctest: +SKIP
    {'variants': {'done': 79, 'units': 79}, 'baselines': {'done': 12, 'units': 247}}
    """
    store = FactStore(path)
    return {
        kind: {"done": len(units) - len(store.missing(kind)), "units": len(units)}
        for kind in KINDS
        for units in [store.units(kind)]
    }
