"""Compacted facts → the published background: built aside, checked, put in place in one step.

The new root group is made next to the store, takes the plan, facts and records along as hard links, and is then
exchanged with the old directory. A reader sees the old background or the new one; a crash leaves one of the two.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from chorus_store import layout, manifest, provenance, schema
from chorus_store.budget import Sampler
from chorus_store.claims import described, holders
from chorus_store.compact import Compacted, compact, landmarks
from chorus_store.coverage import covered, require_no_loss
from chorus_store.errors import ChorusStoreError, CorruptStoreError, IncompleteStoreError, StoreMismatchError
from chorus_store.facts import FactStore
from chorus_store.files import writing
from chorus_store.grid import FloatArray
from chorus_store.opening import is_published, reading
from chorus_store.staging import consolidate, link_build
from chorus_store.store_append import carry
from chorus_store.swap import aside_name, recover, remove_stale, replace_directory
from chorus_store.tracks import TrackTable
from chorus_store.units import KINDS, Shape

log = logging.getLogger("chorus.publish")

_TRACK_COLUMNS = ("track", "layer", "assay", "cell_type", "description", "strand")
#: What the provenance takes over from the build as it was begun.
_INHERITED = ("software", "geometry", "plan")


@dataclass(frozen=True)
class PublishOptions:
    """How facts become a background.

    Attributes
    ----------
    sampler : Sampler
        Exact, or the reference's reservoir.
    codec : {"blosc", "pcodec"}
        Of the CDF arrays.
    memory_bytes, workers : int
        Budget and threads of compaction.
    discard_facts : bool
        Leave the facts behind once the background is in place.
    allow_fewer_tracks : bool
        Replace a background, and then its NPZ, by one that covers far fewer tracks.
    """

    sampler: Sampler = field(default_factory=Sampler)
    codec: str = "blosc"
    memory_bytes: int = 2 * 2**30
    workers: int = 2
    discard_facts: bool = False
    allow_fewer_tracks: bool = False


def publish(
    path: Path,
    options: PublishOptions,
    *,
    client: Any = None,
    on_rows: Callable[[int], object] = lambda rows: None,
) -> bool:
    """Compact the facts of a store and publish them as its root group.

    Parameters
    ----------
    path : Path
        The store.
    options : PublishOptions
        Sampler, codec, budget.
    client : distributed.Client, optional
        Compacts there instead of on threads.
    on_rows : callable
        Told how many tracks of a CDF have just been compacted.

    Returns
    -------
    bool
        False if this very background was published already, so nothing was done.

    Raises
    ------
    IncompleteStoreError
        Units of work are missing; lists them.
    StoreMismatchError
        The facts were discarded, and other options are asked for; or tracks were added meanwhile.
    CorruptStoreError
        Facts are not what was written, or the new background does not read back.
    CoverageError
        A background is there that covers many more tracks.
    StoreWriteError
        Full disk or read-only folder. The old background is untouched in every case.
    """
    recover(path)
    remove_stale(path)
    store = FactStore(path)
    if store.discarded:
        _require_these(store, {**store.build["parameters"], **_parameters(options)})
        return False
    store.widen()
    _require_complete(store)
    if is_up_to_date(store, options) and _is_whole(store):
        return False
    staging = aside_name(path)
    inherited = {key: store.build[key] for key in _INHERITED}
    known = {**inherited, "inputs": provenance.inputs(store), **_source(store, options)}
    with writing(path):
        try:
            _build(store, staging, options, known, client, on_rows)
            if FactStore(path).shape != store.shape:
                raise StoreMismatchError(f"tracks were added to {path} while it was merged; run the same command again")
            if is_published(store.root) and not options.allow_fewer_tracks:
                _require_no_loss(path, staging)
            replace_directory(staging, path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return True


def _require_no_loss(path: Path, staging: Path) -> None:
    """Refuse a new background that covers far fewer tracks than the old one; a damaged one makes way."""
    try:
        old = covered(path)
    except ChorusStoreError as error:
        log.warning("%s; publishing it again", error)
        return
    require_no_loss(old, covered(staging), path)


def facts_digest(store: FactStore, shape: Shape | None = None) -> str:
    """SHA-256 over the checksums of all units of a shape, in order: names the facts without reading them."""
    sha = hashlib.sha256()
    for kind in KINDS:
        for unit in (shape or store.shape).units(kind):
            record = store.record(unit) or {"data": {}}
            for name, data in sorted(record["data"].items()):
                sha.update(f"{unit.name} {name} {data['sha256']}\n".encode())
    return sha.hexdigest()


def is_up_to_date(store: FactStore, options: PublishOptions) -> bool:
    """Whether a store says that this very background is published; of the background itself nothing is read."""
    there = store.root.get("provenance", {})
    return store.discarded or all(there.get(key) == value for key, value in _source(store, options).items())


def _source(store: FactStore, options: PublishOptions) -> dict[str, Any]:
    """What a background is made from, in its provenance."""
    return {
        "parameters": {**store.build["parameters"], **_parameters(options)},
        "facts": {"sha256": facts_digest(store), "kept": not options.discard_facts},
    }


def _is_whole(store: FactStore) -> bool:
    """Whether no file of the background is damaged or missing."""
    for name, what in manifest.damaged(store.path, manifest.is_background).items():
        log.warning("%s is %s; publishing again", store.path / name, what)
        return False
    return True


def _require_these(store: FactStore, parameters: dict[str, Any]) -> None:
    there = store.root["provenance"]["parameters"]
    differing = [f"{name} {there.get(name)}" for name, value in parameters.items() if there.get(name) != value]
    if differing:
        raise StoreMismatchError(
            f"{store.path} was published with {', '.join(differing)} and its facts were discarded, so it cannot be "
            "published differently; give those options, or build anew with another --out"
        )


def _parameters(options: PublishOptions) -> dict[str, Any]:
    sampler = options.sampler
    return {
        "sampler": sampler.name,
        "capacity": sampler.capacity if sampler.name == "algorithm-r" else None,
        "cdf_points": layout.CDF_POINTS,
        "codec": options.codec,
    }


def _require_complete(store: FactStore) -> None:
    gaps = [unit.name for kind in KINDS for unit in store.missing(kind)]
    if gaps:
        shown = ", ".join(gaps[:5]) + (f" and {len(gaps) - 5} more" if len(gaps) > 5 else "")
        raise IncompleteStoreError(
            f"{store.path} cannot be merged: {len(gaps)} units of work are missing ({shown}); "
            "run --part variants and --part baselines (all shards) first, or --part all"
            + (f"; {described(others)}" if (others := holders(store.path, gaps)) else "")
        )


def _build(
    store: FactStore,
    staging: Path,
    options: PublishOptions,
    known: dict[str, Any],
    client: Any,
    on_rows: Callable[[int], object],
) -> None:
    """Make the complete new store directory at ``staging``."""
    tracks = store.tracks
    group = zarr.create_group(staging, zarr_format=3)
    compacted = compact(
        store,
        staging,
        tracks.layer.tolist(),
        sampler=options.sampler,
        codec=options.codec,
        memory_bytes=options.memory_bytes,
        workers=options.workers,
        client=client,
        on_rows=on_rows,
    )
    _write_labels(group, tracks, store.build["geometry"])
    for cdf, result in compacted.items():
        layout.write_root_array(group, f"{cdf}_count", result.offered)
        layout.write_root_array(group, f"{cdf}_retained", result.retained)
    attributes = {
        **{key: store.root[key] for key in ("schema", "oracle", "genome", "demo")},
        "provenance": {
            **known,
            "sampling": {cdf: provenance.sampling(result, options.sampler) for cdf, result in compacted.items()},
            "dropped": {kind: provenance.dropped(store, kind) for kind in KINDS},
            "scored": {kind: provenance.scored(store, kind) for kind in KINDS},
            "layers": {layer: provenance.layer(store, layer, compacted) for layer in tracks.layer_counts()},
        },
    }
    schema.validate(attributes, "store")
    group.attrs.put(attributes)
    consolidate(staging)
    _verify(store, staging, compacted, options.discard_facts)
    carry(store.path, staging, lossy=options.allow_fewer_tracks)
    link_build(store.path, staging, facts=not options.discard_facts)
    manifest.write(staging)


def _verify(store: FactStore, staging: Path, compacted: dict[str, Compacted], discarding: bool) -> None:
    """Read back what is about to be published; before facts are discarded, compare them with their checksums too."""
    for cdf, result in compacted.items():
        if not np.array_equal(_landmarks(staging, cdf), result.landmarks):
            raise CorruptStoreError(f"{cdf}_cdf does not read back as it was written to {staging}; check the disk")
    if discarding:
        for kind in KINDS:
            for unit in store.units(kind):
                store.verify(unit)


def _landmarks(path: Path, cdf: str) -> FloatArray:
    """The landmarks of every row of a CDF on disk, all of which is read.

    Raises
    ------
    CorruptStoreError
        A chunk is missing or damaged, or a row does not ascend.
    """
    found = []
    with layout.without_zarr_warnings(), reading(f"{path}/{cdf}_cdf"):
        array = zarr.open_array(path / f"{cdf}_cdf", mode="r", zarr_format=3)
        step = layout.tracks_per_shard(array.shape[0])
        for start in range(0, array.shape[0], step):
            rows = np.asarray(array[start : start + step])
            if not (np.diff(rows, axis=1) >= 0).all():  # NaN, which fills a lost chunk, does not ascend either
                raise CorruptStoreError(f"{path}/{cdf}_cdf has rows that do not ascend")
            found.append(landmarks(rows))
    return np.concatenate(found)


def _write_labels(group: zarr.Group, tracks: TrackTable, geometry: dict[str, Any]) -> None:
    for name in _TRACK_COLUMNS:
        layout.write_root_array(group, name, getattr(tracks, name))
    layers = tracks.layers()
    for name in ("signed", "formula", "pseudocount"):
        layout.write_root_array(group, name, [getattr(layer, name) for layer in layers])
    layout.write_root_array(group, "window_bp", provenance.windows(tracks, geometry))
    resolution = {head["name"]: head["resolution_bp"] for head in geometry["heads"]}
    layout.write_root_array(group, "resolution_bp", [resolution[head] for head in tracks.head.tolist()])
    layout.write_root_array(group, "quantile", np.linspace(0, 1, layout.CDF_POINTS))
