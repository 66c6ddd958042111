"""What a lookup needs of a background, read from a store or an NPZ without xarray: track ids, counts, rows."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from chorus_store.errors import SchemaError, StoreMismatchError
from chorus_store.layers import LAYERS
from chorus_store.layout import BUILD_CONFIG_VERSION, CDFS, without_zarr_warnings
from chorus_store.npz_config import build_config
from chorus_store.npz_contract import variable_of
from chorus_store.npz_file import SUFFIX, NpzFile, open_npz_file
from chorus_store.opening import reading, require_rows
from chorus_store.places import Place, consolidated_arrays, open_group

#: The genome of all coordinates.
GENOME = "hg38"
#: What the reference compares with the windows of today's scores.
WINDOWS = {
    "histone_window_bp": LAYERS["histone_marks"].window_bp,
    "other_window_bp": LAYERS["tf_binding"].window_bp,
}

Column = npt.NDArray[Any]
Row = npt.NDArray[np.float32]


class Background(ABC):
    """Background of one oracle. What has been read stays in memory.

    Threads may share one: of two that ask for the same at once both may read it, and they get equal answers. A store
    has no locks here, so that a forked process may go on asking.

    Attributes
    ----------
    place : str
        Path or URL.
    names : collection of str
        Variables that there are, in the words of the store.
    build_config : mapping
        How it was built, as in ``build_config`` of the NPZ; empty where nothing is known.
    rows : dict of str to int
        Row of every track id, in row order.

    Raises
    ------
    SchemaError
        A track is named twice.
    CorruptStoreError
        The track ids are damaged.
    """

    def __init__(self, place: Place, names: Collection[str], build_config: Mapping[str, Any]) -> None:
        self.place, self.names, self.build_config = os.fspath(place), names, build_config
        track_ids = self._read_column("track").tolist()
        self.rows = {track: row for row, track in enumerate(track_ids)}
        if len(self.rows) < len(track_ids):
            raise SchemaError(f"{self.place} names a track twice; make it again with unique track ids")
        self._columns: dict[str, Column | None] = {}

    def row(self, cdf: str, row: int) -> Row | None:
        """CDF of one track; None where the background does not have it.

        Parameters
        ----------
        cdf : {"effect", "summary", "perbin"}
        row : int

        Returns
        -------
        ndarray of float32, shape (width,), or None
            Ascending.

        Raises
        ------
        CorruptStoreError
            The row is damaged or missing.
        """
        name = f"{cdf}_cdf"
        # Zarr's arrays spell out their byte order, in which neither memoryview nor numba knows them again.
        return self._read_row(name, row).view(np.float32) if name in self.names else None

    def column(self, name: str) -> Column | None:
        """Per-track variable, by its name in the store; None where the background does not have it."""
        if name not in self._columns:
            self._columns[name] = self._read_column(name) if name in self.names else None
        return self._columns[name]

    def count(self, cdf: str, row: int) -> int | None:
        """Values that were offered to a track's CDF; None where the background has no counts."""
        counts = self.column(f"{cdf}_count")
        return None if counts is None else int(counts[row])

    def summary(self) -> dict[str, Any]:
        """Numbers of tracks and samples; see `chorus_store.normalizer.PerTrackNormalizer.summary`."""
        signed, layers = self.column("signed"), self.column("layer")
        return {
            "place": self.place,
            "n_tracks": len(self.rows),
            "n_signed": 0 if signed is None else int(signed.sum()),
            "cdfs": {cdf: self._sampling(cdf) for cdf in CDFS if f"{cdf}_cdf" in self.names},
            "layers": {} if layers is None else dict(Counter(layers.tolist())),
        }

    def _sampling(self, cdf: str) -> dict[str, Any]:
        counts = self.column(f"{cdf}_count")
        if counts is None:
            return {"tracks": len(self.rows), "offered": None}
        offered = counts[counts > 0]
        return {"tracks": offered.size, "offered": [int(offered.min()), int(offered.max())] if offered.size else None}

    @abstractmethod
    def _read_row(self, name: str, row: int) -> Row: ...

    @abstractmethod
    def _read_column(self, name: str) -> Column: ...


class StoreBackground(Background):
    """Background in a store; a row is read with the rest of its chunk.

    Parameters
    ----------
    group : zarr.Group
        From `chorus_store.places.open_group`.
    place : path-like or str
        Where that is.
    """

    def __init__(self, group: zarr.Group, place: Place) -> None:
        self._group = group
        self._metadata = consolidated_arrays(group)
        self._chunks: dict[tuple[str, int], npt.NDArray[np.float32]] = {}
        n_tracks = self._metadata["track"].shape[0]
        super().__init__(place, self._metadata.keys(), build_config(group.attrs, n_tracks))

    def _read_row(self, name: str, row: int) -> Row:
        array = self._array(name)
        start: int = row - row % array.chunks[0]
        if (name, start) not in self._chunks:
            rows = self._read(array, slice(start, start + array.chunks[0]))
            require_rows(rows, f"{self.place}/{name}")
            self._chunks[name, start] = rows
        return self._chunks[name, start][row - start, :]

    def _read_column(self, name: str) -> Column:
        return self._read(self._array(name))

    def _array(self, name: str) -> zarr.Array[Any]:
        # Of metadata that are here already: a group would ask Zarr's event loop, which takes as long as a read.
        return zarr.Array(zarr.AsyncArray(self._metadata[name], self._group.store_path / name))

    def _read(self, array: zarr.Array[Any], rows: slice = slice(None)) -> npt.NDArray[Any]:
        with reading(f"{self.place}/{array.basename}"), without_zarr_warnings():
            return np.asarray(array[rows])


class NpzBackground(Background):
    """Background in an NPZ file, whose CDFs are inflated whole when one of their rows is first asked for.

    Parameters
    ----------
    npz : NpzFile
        Stays open.
    """

    def __init__(self, npz: NpzFile) -> None:
        self._npz = npz
        self._keys = {str(variable_of(key)): key for key in npz.arrays}
        super().__init__(npz.name, self._keys.keys(), npz.build_config or {})

    def _read_row(self, name: str, row: int) -> Row:
        return self._read_column(name)[row, :]

    def _read_column(self, name: str) -> Column:
        return self._npz.read(self._keys[name])


def backgrounds_folder(chosen: Place | None = None) -> Path:
    """Where backgrounds are: as chosen, else ``CHORUS_BACKGROUNDS_DIR``, else ``~/.chorus/backgrounds``; absolute."""
    folder = chosen or os.environ.get("CHORUS_BACKGROUNDS_DIR") or Path.home() / ".chorus" / "backgrounds"
    return Path(folder).resolve()


def find_background(folder: Path, oracle: str) -> Path | None:
    """The background of an oracle in a folder: its store, else a ``.zip`` of that, else its NPZ file, else None."""
    paths = (folder / f"{oracle}{suffix}" for suffix in (".zarr", ".zarr.zip", SUFFIX))
    return next((path for path in paths if path.exists()), None)


def open_background(place: Place) -> Background:
    """Open what is at a path or URL.

    Raises
    ------
    StoreNotFoundError, StoreUnreachableError, SchemaError, CorruptStoreError, MissingPackageError
        As `chorus_store.open`.
    """
    if not os.fspath(place).endswith(".npz"):
        return StoreBackground(open_group(place), place)
    with ExitStack() as stack:
        background = NpzBackground(stack.enter_context(open_npz_file(place)))
        stack.pop_all()
    return background


def require_genome(background: Background) -> None:
    """Refuse a background of another genome than `GENOME`.

    Raises
    ------
    StoreMismatchError
        The background says that it is of another genome.
    """
    genome = background.build_config.get("genome")
    if genome not in (None, GENOME):
        raise StoreMismatchError(
            f"{background.place} is a background of {genome}, and the current normalizer takes {GENOME} alone; "
            "take another file, or semantics='seed', which does not ask"
        )


def warn_of_age(background: Background) -> None:
    """Warn of a background that the reference calls superseded, or whose windows are not those of today's scores."""
    config = background.build_config
    version = config.get("schema_version")
    reasons = []
    if not any(f"{cdf}_retained" in background.names for cdf in CDFS):
        reasons.append("it does not say how many values were kept")
    if not isinstance(version, int) or version < BUILD_CONFIG_VERSION:
        reasons.append(f"the version of its build_config is {version}, not {BUILD_CONFIG_VERSION}")
    for key, window in WINDOWS.items():
        if config.get(key, window) != window:
            reasons.append(f"its {key} is {config[key]}, that of today's scores {window}")
    if reasons:
        warnings.warn(f"{background.place} is superseded: {'; '.join(reasons)}; build it again", stacklevel=2)
