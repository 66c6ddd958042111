"""Several stores → one: builds unit by unit, or backgrounds track by track."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from chorus_store import layout, manifest, naming, origins, schema
from chorus_store.claims import exclusively
from chorus_store.coverage import covered, require_no_loss
from chorus_store.durable import put_in_place
from chorus_store.errors import InputError, StoreMismatchError
from chorus_store.facts import FactStore
from chorus_store.fitting import fit, joined, require_kin
from chorus_store.npz_import import attributes_of, has_to_make_way
from chorus_store.opening import is_published
from chorus_store.places import Place, is_url
from chorus_store.row_source import Column, RowSource, open_rows
from chorus_store.staging import consolidate
from chorus_store.store_append import write_rows
from chorus_store.swap import aside_name, recover, refusals, remove_stale, replace_directory
from chorus_store.unit_merging import differences, merge_units
from chorus_store.units import KINDS


@dataclass(frozen=True)
class Merged:
    """What was done.

    Attributes
    ----------
    kind : {"units", "tracks"}
        What was joined.
    added : int
        Units that were brought, or tracks of the new background.
    missing : int
        Units that are still to be scored; 0 of tracks.
    """

    kind: Literal["units", "tracks"]
    added: int
    missing: int = 0


def merge(places: Sequence[Place], out: Place, *, overwrite: bool = False, allow_fewer_tracks: bool = False) -> Merged:
    """Join builds that were scored apart, or backgrounds of different tracks.

    Units are joined if all places hold builds with their facts and of one identity: the same plan, scored with the same
    options (see `chorus_store.unit_merging.merge_units`). ``--part merge`` of the builder then gives the same bytes as
    if one process had scored them all. Everything else is joined track by track, as published backgrounds: the new
    store has the rows of the first, then those of the next. What it says of itself, its columns and its codec are those
    of the first; for all other rows its provenance keeps where they come from.

    Parameters
    ----------
    places : sequence of path-like or str
        At least two. Builds are local folders; backgrounds whatever `chorus_store.open` opens.
    out : path-like
        The store to make; appears whole or not at all. Of units it may be there, and then gets those that it lacks.
    overwrite : bool
        Replace a background that was merged or imported before.
    allow_fewer_tracks : bool
        Replace it even by one that covers far fewer tracks.

    Returns
    -------
    Merged

    Raises
    ------
    InputError
        Fewer than two places, one of them twice, something is at ``out`` already, tracks that are there twice, or rows
        that do not fit.
    StoreMismatchError
        Builds of another identity of which one is not published, units that were scored twice with different results,
        or backgrounds that do not go together; see `chorus_store.append.append_from`.
    CoverageError
        What is to be overwritten covers many more tracks.
    StoreNotFoundError, StoreUnreachableError, SchemaError, CorruptStoreError
        As `chorus_store.open`.
    StoreBusyError
        Another process is replacing what is at ``out``.
    StoreWriteError
        Full disk, or a folder that cannot be written.

    Examples
    --------
    >>> merge(["host1/enformer.zarr", "host2/enformer.zarr"], "all/enformer.zarr")  # doctest: +SKIP
    Merged(kind='units', added=326, missing=0)
    """
    if len(places) < 2:
        raise InputError("give at least two stores to merge")
    known = [place if is_url(place) else Path(place).resolve() for place in places]
    if twice := [place for k, place in enumerate(places) if known[k] in known[:k]]:
        raise InputError(f"{twice[0]} is given twice; give each store once")
    builds = [build for place in places if (build := _build_at(place))]
    if len(builds) == len(places):
        differing = differences(builds)
        if not differing:
            added = merge_units(builds, Path(out))
            store = FactStore(Path(out))
            return Merged("units", added, sum(len(store.missing(kind)) for kind in KINDS))
        if not all(is_published(build.root) for build in builds):
            raise StoreMismatchError(f"these builds do not go together: {'; '.join(differing[:4])}")
    return Merged("tracks", _merge_tracks(places, Path(out), overwrite, allow_fewer_tracks))


def _build_at(place: Place) -> FactStore | None:
    """The build with its facts at a place; None where there is something else."""
    path = Path(place)
    if is_url(place) or path.is_file() or not (path / layout.PROGRESS).is_dir():
        return None
    build = FactStore(path)
    return None if build.discarded else build


def _merge_tracks(places: Sequence[Place], path: Path, overwrite: bool, allow_fewer_tracks: bool) -> int:
    """Make a background of the rows of all; returns their number."""
    with refusals(path), exclusively(path, "merge"), ExitStack() as stack:
        parts = [stack.enter_context(open_rows(place)) for place in places]
        columns = _columns(parts)
        recover(path)
        replacing = has_to_make_way(path, overwrite)
        remove_stale(path)
        staging = aside_name(path)
        try:
            _write(staging, parts, columns)
            manifest.write(staging)
            if replacing and not allow_fewer_tracks:
                require_no_loss(covered(path), covered(staging), path)
            replace_directory(staging, path) if replacing else put_in_place(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return len(columns["track"])


def _columns(parts: Sequence[RowSource]) -> dict[str, Column]:
    """Everything but the CDFs that the new background says of each track."""
    base, *others = parts
    columns, ids = dict(base.columns), set(base.track_ids)
    for part in others:
        require_kin(base, part)
        for name, values in fit(part, base, ids).items():
            columns[name] = joined(name, columns[name], values)
        ids.update(part.track_ids)
    columns.setdefault("signed", np.zeros(len(columns["track"]), bool))
    return columns


def _write(staging: Path, parts: Sequence[RowSource], columns: dict[str, Column]) -> None:
    """Make the whole store at ``staging``."""
    base, n_tracks = parts[0], len(columns["track"])
    attributes = _attributes(parts)
    documents = attributes["provenance"]
    codec = (documents.get("imported") or documents["parameters"])["codec"]
    group = zarr.create_group(staging, zarr_format=3, attributes=attributes)
    with layout.without_zarr_warnings():
        for name, variable in base.dataset.variables.items():
            dims = tuple(map(str, variable.dims))
            if name in base.cdfs:
                array = layout.create_cdf_array(group, str(name), n_tracks, base.width, codec)
                write_rows(array, 0, chain.from_iterable(part.blocks(str(name)) for part in parts))
            else:
                values = columns.get(str(name), variable.values)
                layout.write_array(group, str(name), values, dims, variable.attrs)
    consolidate(staging)


def _attributes(parts: Sequence[RowSource]) -> dict[str, Any]:
    """Root attributes of the new store."""
    base, *others = parts
    attributes = dict(base.attributes) if base.npz is None else attributes_of(base.npz, None, "blosc")
    provenance = dict(attributes["provenance"])
    if "facts" in provenance:  # which stay where they are
        provenance["facts"] = {**provenance["facts"], "kept": False}
    blocks, first = origins.of(attributes, base.n_tracks), base.n_tracks
    for part in others:
        blocks = [*blocks, *origins.shifted(part.blocks_of_origin(), first)]
        first += part.n_tracks
    attributes = origins.with_blocks({**attributes, "provenance": provenance}, blocks)
    schema.validate(attributes, "store")
    return attributes


def command(arguments: argparse.Namespace) -> None:
    """``python -m chorus_store merge``."""
    choices = {"overwrite": arguments.force, "allow_fewer_tracks": arguments.allow_fewer_tracks}
    merged = merge(arguments.stores, arguments.out, **choices)
    if merged.kind == "tracks":
        print(f"{arguments.out}: {merged.added:,} tracks of {len(arguments.stores)} backgrounds, published")
        return
    print(f"{arguments.out}: {merged.added:,} units of {len(arguments.stores)} builds, {merged.missing:,} missing")
    if not merged.missing:
        print(f"to publish it: {naming.publishing(FactStore(arguments.out).root, arguments.out)}")
