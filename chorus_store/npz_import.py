"""``{oracle}_pertrack.npz`` → a published store that opens like any other, and exports to the same arrays again.

The CDFs are streamed shard by shard, so memory does not grow with the number of tracks. The store is made aside and
then renamed: a failure leaves what was there before.
"""

from __future__ import annotations

import re
import shutil
import sys
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tqdm import tqdm

from chorus_store import layout, manifest, naming, origins, schema
from chorus_store.coverage import covered, require_replaceable
from chorus_store.durable import put_in_place
from chorus_store.errors import InputError, StoreMismatchError, StoreNotFoundError
from chorus_store.npz_contract import BUILD_CONFIG, CDF_KEYS, dims_of, variable_of
from chorus_store.npz_file import NpzFile, open_npz_file
from chorus_store.opening import is_imported, root_attributes
from chorus_store.places import fingerprint
from chorus_store.staging import consolidate
from chorus_store.swap import aside_name, recover, refusals, remove_stale, replace_directory

_ORACLE = re.compile(r"[a-z0-9][a-z0-9_-]*")


def import_npz(
    npz: str | PathLike[str],
    out: str | PathLike[str],
    *,
    oracle: str | None = None,
    overwrite: bool = False,
    allow_fewer_tracks: bool = False,
    progress: bool = True,
    codec: str = "blosc",
) -> Path:
    """Make a store of a background that exists as an NPZ file, of any age and with whatever it holds.

    Parameters
    ----------
    npz : path-like
        ``{oracle}_pertrack.npz``. ``track_ids`` and one CDF are enough; arrays of other names are carried.
    out : path-like
        The ``{oracle}.zarr`` to make; appears whole or not at all.
    oracle : str, optional
        Name of the oracle; by default what the file says, in ``build_config`` or by its name.
    overwrite : bool
        Replace a store that was imported before. One that was built, or anything else, is never replaced.
    allow_fewer_tracks : bool
        Replace it even by one that covers far fewer tracks.
    progress : bool
        Show a progress bar when stderr is a terminal.
    codec : {"blosc", "pcodec"}
        Of the CDFs.

    Returns
    -------
    Path
        ``out``.

    Raises
    ------
    StoreNotFoundError, SchemaError, CorruptStoreError
        No file, or one that cannot be imported; see `chorus_store.npz_file.open_npz_file`.
    InputError
        Something is at ``out`` already, the oracle has no name, or the codec is unknown.
    StoreMismatchError
        What is to be overwritten was not imported.
    CoverageError
        What is to be overwritten covers many more tracks.
    StoreWriteError
        Full disk, or a folder that cannot be written; nothing is left behind.

    Examples
    --------
    >>> import_npz("enformer_pertrack.npz", "enformer.zarr")  # doctest: +SKIP
    PosixPath('enformer.zarr')
    """
    path = Path(out)
    with layout.without_zarr_warnings():
        layout.cdf_codecs(codec)
    with open_npz_file(npz) as source, refusals(path):
        recover(path)
        replacing = has_to_make_way(path, overwrite)
        if replacing and not allow_fewer_tracks:
            require_replaceable(path, covered(npz))
        remove_stale(path)
        staging = aside_name(path)
        try:
            _write(source, staging, attributes_of(source, oracle, codec), progress)
            manifest.write(staging)
            replace_directory(staging, path) if replacing else put_in_place(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return path


def default_path(npz: str | PathLike[str], oracle: str | None = None) -> Path:
    """Where the store goes unless told otherwise: beside the file, as ``{oracle}.zarr``.

    That of a demonstration goes to ``{oracle}_demo.zarr``, where nobody takes it for the real background.

    Raises
    ------
    StoreNotFoundError, SchemaError, CorruptStoreError
        As `import_npz`.
    InputError
        The oracle has no name.
    """
    with open_npz_file(npz) as source:
        demo = bool((source.build_config or {}).get("demo"))
        return Path(npz).with_name(naming.store_name(_oracle(source, oracle), demo))


def _oracle(source: NpzFile, given: str | None) -> str:
    name = given or source.oracle
    if name is None or not _ORACLE.fullmatch(name):
        what = f"{name!r} is no name of an oracle" if name else "the file does not say which oracle it is of"
        raise InputError(f"{source.name}: {what}; give one of lower-case letters, digits, _ and - (--oracle)")
    return name


def has_to_make_way(path: Path, overwrite: bool) -> bool:
    """Whether there is a store that has to make way; refused unless it was imported or merged, and may go.

    Raises
    ------
    InputError
        Something is there, and may not be replaced.
    StoreMismatchError
        A store that was built, or something else.
    """
    if not path.exists():
        return False
    if not overwrite:
        raise InputError(f"{path} is there already; give another --out, or let it be replaced (--force)")
    try:
        attributes = root_attributes(path)
    except StoreNotFoundError:
        attributes = {}
    merged = bool(origins.of(attributes, sys.maxsize)) and not (path / layout.PROGRESS).exists()
    if not merged and not is_imported(attributes):
        raise StoreMismatchError(
            f"{path} was not imported or merged, so it is not replaced; give another --out, or remove it"
        )
    return True


def attributes_of(source: NpzFile, oracle: str | None, codec: str) -> dict[str, Any]:
    """Root attributes of a store with the arrays of a file.

    Parameters
    ----------
    source : NpzFile
        At a path or URL; read whole for its SHA-256.
    oracle : str, optional
        By default what the file says.
    codec : str
        Of the CDFs in the store.

    Raises
    ------
    InputError
        The oracle has no name.
    SchemaError
        What the file says of itself has the wrong form.
    """
    name, config = _oracle(source, oracle), source.build_config or {}
    imported = {
        "name": Path(source.name).name,
        **fingerprint(source.name),
        "codec": codec,
        "arrays": [{"name": name, "dtype": member.dtype.str} for name, member in source.arrays.items()],
    }
    if source.build_config_text is not None:
        imported["build_config"] = source.build_config_text
    blocks = origins.of({"build_config": config}, source.n_tracks)
    attributes = {
        **layout.root_attributes(),
        "oracle": {"name": name, "title": name, "version": "", "licence": ""},
        "genome": config.get("genome"),
        "demo": config.get("demo", False),
        "provenance": origins.grown({"imported": imported}, blocks),
    }
    schema.validate(attributes, "store")
    return attributes


def _write(source: NpzFile, staging: Path, attributes: dict[str, Any], progress: bool) -> None:
    """Make the whole store at ``staging``."""
    codec = attributes["provenance"]["imported"]["codec"]
    group = zarr.create_group(staging, zarr_format=3, attributes=attributes)
    layout.write_root_array(group, "quantile", np.linspace(0, 1, source.n_points))
    if "signed_flags" not in source.arrays:
        layout.write_root_array(group, "signed", np.zeros(source.n_tracks))
    total = sum(source.arrays[name].nbytes for name in CDF_KEYS if name in source.arrays)
    with tqdm(total=total, unit="B", unit_scale=True, desc=staging.name, disable=not progress or None) as bar:
        for name in source.arrays:
            if name in CDF_KEYS:
                _write_cdf(source, name, group, codec, bar)
            elif name != BUILD_CONFIG:
                _write_small(source, name, group)
    consolidate(staging)


def _write_cdf(source: NpzFile, name: str, group: zarr.Group, codec: str, bar: Any) -> None:
    with layout.without_zarr_warnings():
        array = layout.create_cdf_array(group, variable_of(name), source.n_tracks, source.n_points, codec)
        first = 0
        for rows in source.blocks(name, layout.tracks_per_shard(source.n_tracks)):
            array[first : first + len(rows)] = rows
            first += len(rows)
            bar.update(rows.nbytes)


def _write_small(source: NpzFile, name: str, group: zarr.Group) -> None:
    member, variable = source.arrays[name], variable_of(name)
    values = source.text(name) if member.dtype.kind == "U" else source.read(name)
    if variable in layout.VARIABLE:
        layout.write_root_array(group, variable, values)
    else:
        layout.write_array(group, variable, values, dims_of(name, member.shape, source.n_tracks))
