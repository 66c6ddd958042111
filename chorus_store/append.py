"""More tracks for a background that is there: given as arrays, or taken from another store or NPZ file."""

from __future__ import annotations

import argparse
import io
from collections.abc import Collection, Mapping, Sequence
from os import fspath
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chorus_store.claims import exclusively
from chorus_store.errors import CorruptStoreError, InputError, SchemaError
from chorus_store.fitting import require_kin
from chorus_store.npz_append import append_to_npz
from chorus_store.npz_contract import KEYS
from chorus_store.npz_file import NpzFile, open_npz_file
from chorus_store.npz_writer import new_archive, write_array
from chorus_store.places import Place, is_url
from chorus_store.row_source import IN_MEMORY, RowSource, chosen_rows, open_rows, rows_of_file
from chorus_store.store_append import append_to_store


def append_tracks(place: Place, tracks: Mapping[str, npt.ArrayLike]) -> None:
    """Add tracks to a local background, after those that are there, which stay as they are.

    A whole new file or store is made beside the old one and takes its place in one step; a crash leaves the old one.
    Of a store only what grows is written; the rest are hard links. What the provenance says of samples and statistics
    stays that of the rows that were made together; its list ``rows`` says where the others come from.

    Parameters
    ----------
    place : path-like
        ``{oracle}.zarr`` or ``{oracle}_pertrack.npz``.
    tracks : mapping of str to array_like
        New rows by the keys of the NPZ: all keys, and no others, that the background has one entry per track of.
        CDFs (n, width), everything else (n, …). A store takes its labels (``assay``, ``cell_type``, …) by their own
        names; those that are left out are as the layer has them, or empty, or ``resolution_bp`` as in all other tracks.

    Raises
    ------
    InputError
        Not a local file or folder. Keys that are missing or unknown; arrays of another shape or dtype, CDFs that are
        not finite or do not ascend, ids that repeat or are there already; a layer that is not known.
    StoreNotFoundError, SchemaError, CorruptStoreError
        As `chorus_store.open`.
    StoreBusyError
        Another process is replacing the background.
    StoreWriteError
        Full disk, or a folder that cannot be written.

    Examples
    --------
    >>> append_tracks("legnet_pertrack.npz", {"track_ids": ["A549"], "effect_cdfs": row, ...})  # doctest: +SKIP
    """
    with rows_of_file(_as_npz(tracks)) as new:
        _append(_local(place), new)


def append_from(
    place: Place,
    source: Place,
    tracks: Collection[str] | None = None,
    *,
    layer: Sequence[str] | None = None,
    assay: Sequence[str] | None = None,
    cell_type: Sequence[str] | None = None,
    pattern: str | None = None,
) -> tuple[int, int]:
    """Add tracks of another background to a local one; see `append_tracks`.

    They come in the order that they have there, block by block, so that memory does not grow with their number. Labels
    and counts that the local background has no place for are left out. Its provenance keeps, for these rows, the name
    and the SHA-256 of what they were taken from and all that this says of itself.

    Parameters
    ----------
    place : path-like
        ``{oracle}.zarr`` or ``{oracle}_pertrack.npz``.
    source : path-like or str
        What `chorus_store.open` opens: a store or an NPZ file of the same oracle; path or URL.
    tracks : collection of str, optional
        Identifiers of those that are wanted; all by default.
    layer, assay, cell_type, pattern : optional
        Only tracks that have these labels, as `chorus_store.accessor.ChorusAccessor.tracks` selects them.

    Returns
    -------
    (int, int)
        Number of tracks that were added, and of those that there are now.

    Raises
    ------
    TrackNotFoundError
        No such track in the source; names near matches.
    InputError
        No track fits the labels; or, as of `append_tracks`, the rows do not fit.
    StoreMismatchError
        The source is of another oracle or genome, was measured over other windows, or is a demonstration and the
        local background is not.
    StoreNotFoundError, StoreUnreachableError, SchemaError, CorruptStoreError, StoreBusyError, StoreWriteError
        As `chorus_store.open` and `append_tracks`.

    Examples
    --------
    >>> append_from("chrombpnet.zarr", "https://example.org/chrombpnet.zarr", ["ATAC:GM12878"])  # doctest: +SKIP
    (1, 787)
    """
    path = _local(place)
    labels = {"layer": layer, "assay": assay, "cell_type": cell_type}
    with open_rows(source) as everything:
        new = chosen_rows(everything, tracks, pattern, labels)
        with open_rows(path) as old:
            require_kin(old, new)
        return new.n_tracks, _append(path, new)


def _local(place: Place) -> Path:
    if is_url(place) or fspath(place).endswith(".zip"):
        raise InputError(f"{place} cannot grow: tracks are appended to a local NPZ file or store")
    return Path(place)


def _append(path: Path, new: RowSource) -> int:
    with exclusively(path, "append"):
        return append_to_npz(path, new) if path.suffix == ".npz" else append_to_store(path, new)


def _as_npz(tracks: Mapping[str, npt.ArrayLike]) -> NpzFile:
    """The new rows as an NPZ file in memory, so that they are checked as any file is."""
    buffer = io.BytesIO()
    try:
        with new_archive(buffer) as archive:
            for name, values in tracks.items():
                write_array(archive, name, _array(name, values))
        new = open_npz_file(buffer, name=IN_MEMORY)
        for name in new.arrays:
            new.read(name)
    except (SchemaError, CorruptStoreError, ValueError, TypeError) as error:
        reason = str(error).partition("; ")[0]  # what follows is advice about files
        raise InputError(f"these tracks cannot be appended: {reason}; correct them and append again") from error
    return new


def _array(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Values with the dtype of their key, where that loses nothing but precision."""
    dtype = KEYS[name].dtype if name in KEYS else None
    if dtype is None or dtype == "str":
        return np.asarray(values, dtype)
    return np.asarray(values).astype(dtype, casting="same_kind")


def command(arguments: argparse.Namespace) -> None:
    """``python -m chorus_store append``."""
    wanted = {name: getattr(arguments, name) for name in ("layer", "assay", "cell_type", "pattern")}
    added, n_tracks = append_from(arguments.store, arguments.source, arguments.track, **wanted)
    print(f"{arguments.store}: {added:,} tracks added, {n_tracks:,} now")
