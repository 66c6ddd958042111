"""More rows for a store: a new one beside it, of the same files but for what grows, and then in its place."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from chorus_store import layout, manifest, nodes, origins, schema
from chorus_store.claims import MERGE, described, holders
from chorus_store.errors import CorruptStoreError, StoreBusyError, StoreMismatchError
from chorus_store.fitting import fit, joined
from chorus_store.opening import read_attributes, reading
from chorus_store.row_source import Rows, RowSource, open_rows, pieces
from chorus_store.staging import consolidate, link_background, link_build
from chorus_store.swap import aside_name, recover, refusals, remove_stale, replace_directory

log = logging.getLogger("chorus.publish")


def append_to_store(path: Path, new: RowSource) -> int:
    """Put a store in place that has the rows of another background after its own.

    Of each CDF the last file is written anew, if it is not full, and those that follow; labels and counts are written
    anew; the rest are hard links.

    Returns
    -------
    int
        Number of rows that it has now.

    Raises
    ------
    InputError
        The rows do not fit; see `chorus_store.fitting.fit`.
    StoreBusyError
        The store is being scored.
    StoreMismatchError
        The store was changed meanwhile.
    StoreWriteError
        Full disk, or a folder that cannot be written.
    """
    recover(path)
    remove_stale(path)
    if others := {name: holder for name, holder in holders(path).items() if name != MERGE}:
        raise StoreBusyError(f"{path} cannot grow while it is scored: {described(others)}; append once that is done")
    staging = aside_name(path)
    before = read_attributes(path)
    with refusals(path):
        try:
            link_background(path, staging)
            n_tracks = grow(staging, new, path)
            link_build(path, staging)
            manifest.write(staging)
            if read_attributes(path) != before:
                raise StoreMismatchError(f"{path} was changed while tracks were added; run the same command again")
            replace_directory(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return n_tracks


def carry(path: Path, staging: Path, *, lossy: bool) -> None:
    """Give a background that is about to replace another one the rows that were appended to that.

    Parameters
    ----------
    path : Path
        A store, published or not.
    staging : Path
        Its new background, which nobody reads yet. A track that it has already stays as it is there.
    lossy : bool
        Go on without them where they are damaged.

    Raises
    ------
    CorruptStoreError
        They are damaged.
    """
    try:
        if not (path / "zarr.json").is_file():
            raise CorruptStoreError(f"{path}/zarr.json is gone")
        appended = _appended(path)
        if not len(appended):
            return
        with open_rows(path) as old, open_rows(staging) as new:
            clashing = np.isin(np.array(old.track_ids)[appended], new.track_ids)
            if clashing.any():
                log.warning("%d tracks of %s were appended before, and are scored now", clashing.sum(), path)
            if not clashing.all():
                grow(staging, old.select(appended[~clashing]), path)
    except CorruptStoreError as error:
        if _has_all(staging, path):
            return
        if not lossy:
            raise CorruptStoreError(
                f"{error}; it has rows that were appended and are nowhere else in it: append them again, once it is "
                "published without them (--allow-fewer-tracks)"
            ) from error
        log.warning("%s; rows that were appended to it are left out", error)


def _has_all(staging: Path, damaged: Path) -> bool:
    """Whether a new background has every track of a damaged one, which may be none; no, where that cannot be told."""
    if not (damaged / "track").exists():
        return True
    try:
        with reading(f"{damaged}/track"):
            new, old = (set(np.asarray(nodes.open_array(folder / "track")).tolist()) for folder in (staging, damaged))
    except CorruptStoreError:
        return False
    return old <= new


def appended_tracks(path: Path) -> list[str]:
    """Identifiers of the rows that came to a store from elsewhere; none where it is not published, or damaged."""
    with suppress(CorruptStoreError):
        appended = _appended(path)
        if len(appended):
            with open_rows(path) as old:
                return old.select(appended).track_ids
    return []


def _appended(path: Path) -> npt.NDArray[np.intp]:
    """The rows that came to a store from elsewhere."""
    if not origins.of(read_attributes(path), sys.maxsize):
        return np.arange(0)
    with open_rows(path) as old:
        blocks = origins.of(old.attributes, old.n_tracks)
    return np.concatenate([np.arange(block["first"], block["stop"]) for block in blocks])


def grow(store: Path, new: RowSource, called: Path) -> int:
    """Write new rows to a background that nobody reads yet, the next one of ``called``; all rows that it has then."""
    with open_rows(store) as found, reading(str(called)), layout.without_zarr_warnings():
        old = replace(found, place=str(called))
        columns = {"signed": np.zeros(new.n_tracks, bool), **fit(new, old, old.track_ids, whole=new.is_in_memory)}
        group: Any = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        first, stop = old.n_tracks, old.n_tracks + new.n_tracks
        for name in old.cdfs:
            group[name].resize((stop, old.width))
            write_rows(group[name], first, new.blocks(name))
        for name, values in columns.items():
            before = old.dataset[name]
            text = before.dtype.kind == "O"
            column = joined(name, before.values.astype(np.str_) if text else before.values, values)
            del group[name]
            layout.write_array(group, name, column, tuple(map(str, before.dims)), before.attrs)
        blocks = [*origins.of(old.attributes, first), *origins.shifted(new.blocks_of_origin(), first)]
        attributes = origins.with_blocks(old.attributes, blocks)
        schema.validate(attributes, "store")
        group.attrs.put(attributes)
    consolidate(store)
    return stop


def write_rows(array: zarr.Array[Any], first: int, blocks: Iterable[Rows]) -> None:
    """Write rows to a CDF from row ``first`` on, every file once."""
    shards = array.shards or array.chunks
    whole = array.with_config({"write_empty_chunks": True})
    for rows in pieces(blocks, first, shards[0]):
        whole[first : first + len(rows)] = rows
        first += len(rows)
