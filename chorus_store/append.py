"""More tracks for a background that is there: a new NPZ file or store, beside the old one and then in its place."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from chorus_store import layout
from chorus_store.errors import CorruptStoreError, InputError, SchemaError
from chorus_store.layers import LAYERS, Layer
from chorus_store.npz_contract import BUILD_CONFIG, CDF_KEYS, KEYS, dims_of
from chorus_store.npz_file import NpzFile, open_npz_file
from chorus_store.npz_writer import new_archive, write_array, write_cdf
from chorus_store.opening import is_imported, reading
from chorus_store.places import Place, is_url, open_group
from chorus_store.publish import consolidate
from chorus_store.swap import aside_name, recover, refusals, remove_stale, replace_directory, written_whole

Column = npt.NDArray[Any]

_KEY_OF = {key.variable: name for name, key in KEYS.items()}
#: What the layer of a track decides.
_BY_LAYER = ("signed", "window_bp", "formula", "pseudocount")
#: What a store has below its background.
_GROUPS = (layout.PLAN, layout.SAMPLES, layout.PROGRESS, layout.RUNS)
#: Rows of a CDF that are copied at a time.
_BLOCK_ROWS = 512


def append_tracks(place: Place, tracks: Mapping[str, npt.ArrayLike]) -> None:
    """Add tracks to a local background, after those that are there, which stay as they are.

    A whole new file or store is made beside the old one and takes its place in one step; a crash leaves the old one.
    Of a store only what grows is written; the rest are hard links. What the provenance says of samples and statistics
    stays that of the rows that were made together; ``appended``, in the attributes of a store and in ``build_config``,
    counts the rows that have come since, which are the last ones. Publishing a store again from its facts drops them.

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
    StoreWriteError
        Full disk, or a folder that cannot be written.

    Examples
    --------
    >>> append_tracks("legnet_pertrack.npz", {"track_ids": ["A549"], "effect_cdfs": row, ...})  # doctest: +SKIP
    """
    path = Path(place)
    if is_url(place) or path.suffix == ".zip":
        raise InputError(f"{place} cannot grow: tracks are appended to a local NPZ file or store")
    with _as_npz(tracks) as new:
        if path.suffix == ".npz":
            _append_to_npz(path, new)
        else:
            _append_to_store(path, new)


def _as_npz(tracks: Mapping[str, npt.ArrayLike]) -> NpzFile:
    """The new rows as an NPZ file in memory, so that they are checked as any file is."""
    buffer = io.BytesIO()
    try:
        with new_archive(buffer) as archive:
            for name, values in tracks.items():
                write_array(archive, name, _array(name, values))
        new = open_npz_file(buffer, name="the new tracks")
        for name in new.arrays:
            new.read(name)
    except (SchemaError, CorruptStoreError, ValueError, TypeError) as error:
        reason = str(error).partition("; ")[0]  # what follows is advice about files
        raise InputError(f"these tracks cannot be appended: {reason}; correct them and append again") from error
    return new


def _array(name: str, values: npt.ArrayLike) -> Column:
    """Values with the dtype of their key, where that loses nothing but precision."""
    dtype = KEYS[name].dtype if name in KEYS else None
    if dtype is None or dtype == "str":
        return np.asarray(values, dtype)
    return np.asarray(values).astype(dtype, casting="same_kind")


def _require_fit(
    where: Path, ids: Collection[str], width: int, needed: Collection[str], optional: Collection[str], new: NpzFile
) -> None:
    """Refuse rows that do not fit a background of these ids, of this width, with these keys per track."""
    reason = None
    if missing := sorted(set(needed) - new.arrays.keys()):
        reason = f"they lack {', '.join(missing)}"
    elif unknown := sorted(new.arrays.keys() - set(needed) - set(optional)):
        reason = f"it has no {', '.join(unknown)}"
    elif there := sorted(set(ids) & set(new.track_ids)):
        reason = f"it has {', '.join(there[:5])} already"
    elif new.n_points != width:
        reason = f"its CDFs have {width:,} points and theirs {new.n_points:,}"
    if reason:
        raise InputError(f"these tracks do not fit {where}: {reason}")


def _joined(name: str, old: Column, new: Column) -> Column:
    """Old rows and new; text gets as wide as it must be."""
    if old.shape[1:] != new.shape[1:] or not np.can_cast(new.dtype, old.dtype, "same_kind"):
        raise InputError(
            f"{name} is {old.dtype} of {old.shape[1:]} per track, and {new.dtype} of {new.shape[1:]} in the new tracks"
        )
    return np.concatenate([old, new if old.dtype.kind == "U" else new.astype(old.dtype)])


def _grown(build_config: str, n_tracks: int, n_new: int) -> str:
    """The document of a background that has grown."""
    config = json.loads(build_config)
    grown = {**config, "n_tracks": n_tracks, "appended": config.get("appended", 0) + n_new}
    return json.dumps(grown, sort_keys=True)


def _append_to_npz(path: Path, new: NpzFile) -> None:
    with written_whole(path) as file, open_npz_file(path) as old, new_archive(file) as archive:
        per_track = {
            name for name, member in old.arrays.items() if "track" in dims_of(name, member.shape, old.n_tracks)
        }
        _require_fit(path, old.track_ids, old.n_points, per_track, (), new)
        shape = (old.n_tracks + new.n_tracks, old.n_points)
        for name in old.arrays:
            if name in CDF_KEYS:
                write_cdf(archive, name, shape, chain(old.blocks(name, _BLOCK_ROWS), [new.read(name)]))
            elif name in per_track:
                write_array(archive, name, _joined(name, old.read(name), new.read(name)))
            elif name == BUILD_CONFIG:
                write_array(archive, name, np.array([_grown(str(old.build_config_text), shape[0], new.n_tracks)]))
            else:
                write_array(archive, name, old.read(name))


def _append_to_store(path: Path, new: NpzFile) -> None:
    recover(path)
    rows = _rows_for(path, new)
    remove_stale(path)
    staging = aside_name(path)
    with refusals(path):
        try:
            _link(path, staging, ignore=shutil.ignore_patterns(*_GROUPS))
            with reading(str(path)), layout.without_zarr_warnings():
                _grow(staging, rows, new)
            for name in _GROUPS:
                if (path / name).is_dir():
                    _link(path / name, staging / name, ignore=shutil.ignore_patterns("*.partial"))
            replace_directory(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _link(source: Path, target: Path, ignore: Callable[[Any, list[str]], set[str]]) -> None:
    """A second copy of a folder, of the same files: Zarr replaces files, it never writes into them."""
    shutil.copytree(source, target, copy_function=os.link, ignore=ignore)


def _rows_for(path: Path, new: NpzFile) -> dict[str, Column]:
    """New rows of every variable of a store that has one entry per track."""
    group: Any = open_group(path)
    arrays = {name: array for name, array in group.arrays() if "track" in (array.metadata.dimension_names or ())}
    keys = {_KEY_OF.get(name, name): name for name in arrays}
    labels = keys.keys() & {"signed_flags", *(layout.VARIABLE.keys() - _KEY_OF.keys())}
    with reading(str(path)):
        ids, width = group["track"][...].tolist(), group["quantile"].shape[0]
    _require_fit(path, ids, width, keys.keys() - labels, labels, new)
    return {name: new.read(key) if key in new.arrays else _label(arrays[name], new) for key, name in keys.items()}


def _label(array: zarr.Array[Any], new: NpzFile) -> Column:
    """What the new rows do not say of themselves."""
    name = array.basename
    if name in _BY_LAYER:
        return np.array([getattr(layer, name) for layer in _layers(new)])
    with reading(name):
        known = np.unique(array[...])
    if known.dtype.kind == "T":
        return np.full(new.n_tracks, "")
    if len(known) > 1:
        raise InputError(f"tracks differ in {name}; give the new tracks theirs too")
    return np.repeat(known, new.n_tracks)


def _layers(new: NpzFile) -> list[Layer]:
    names: list[str] = new.text("layers_per_row").tolist() if "layers_per_row" in new.arrays else []
    if not names or set(names) - LAYERS.keys():
        raise InputError(
            f"the new tracks need layers ({', '.join(LAYERS)}) in layers_per_row, or else their {', '.join(_BY_LAYER)}"
        )
    return [LAYERS[name] for name in names]


def _grow(store: Path, rows: Mapping[str, Column], new: NpzFile) -> None:
    """Write the new rows to the arrays of a store that nobody reads yet."""
    group: Any = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
    for name, values in rows.items():
        array: Any = group[name]
        if name.endswith("_cdf"):
            array.with_config({"write_empty_chunks": True}).append(values)
            continue
        old = array[...]
        joined = _joined(name, np.array(old.tolist()) if old.dtype.kind == "T" else old, values)
        del group[name]
        layout.write_array(group, name, joined, array.metadata.dimension_names, array.attrs.asdict())
    group.attrs.put(_attributes(group.attrs.asdict(), group["track"].shape[0], new))
    consolidate(store)


def _attributes(attributes: dict[str, Any], n_tracks: int, new: NpzFile) -> dict[str, Any]:
    """Root attributes of a store that has grown."""
    grown = {**attributes, "appended": attributes.get("appended", 0) + new.n_tracks}
    if is_imported(attributes):
        imported = dict(attributes["provenance"]["imported"])
        dtypes = {name: member.dtype for name, member in new.arrays.items()}
        if BUILD_CONFIG in imported:
            imported[BUILD_CONFIG] = _grown(imported[BUILD_CONFIG], n_tracks, new.n_tracks)
            dtypes[BUILD_CONFIG] = np.dtype(("U", len(imported[BUILD_CONFIG])))
        imported["arrays"] = _with_wider_text(imported["arrays"], dtypes)
        grown["provenance"] = {"imported": imported}
    return grown


def _with_wider_text(arrays: list[dict[str, str]], new: Mapping[str, np.dtype[Any]]) -> list[dict[str, str]]:
    """Arrays to export, with text as wide as the old and the new need it, and with those that are new."""
    dtypes = {array["name"]: np.dtype(array["dtype"]) for array in arrays}
    for name, dtype in new.items():
        if dtype.kind == "U" or name not in dtypes:
            dtypes[name] = np.promote_types(dtypes.get(name, dtype), dtype)
    return [{"name": name, "dtype": dtype.str} for name, dtype in dtypes.items()]
