"""Builds of one plan that were scored apart, on hosts without a common disk, brought together unit by unit."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chorus_store import layout, origins
from chorus_store.bars import patient
from chorus_store.durable import make_folder, put_in_place, sync, sync_folder
from chorus_store.errors import CorruptStoreError, StoreMismatchError
from chorus_store.facts import FactStore
from chorus_store.files import group_node, sha256_of, write_atomically, writing
from chorus_store.swap import aside_name, recover, remove_stale
from chorus_store.units import KINDS, Unit

#: What a file system says that cannot give this file a second name: it is on another one, or has no hard links.
_CANNOT_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)
_PIECE_BYTES = 2**20


def differences(builds: Sequence[FactStore]) -> list[str]:
    """In what builds differ from the first of them, so that their units do not go together; none may."""
    first, *others = map(_identity, builds)
    return [
        f"{key} is {_short(first.get(key))} in {builds[0].path}, {_short(other.get(key))} in {build.path}"
        for build, other in zip(builds[1:], others, strict=True)
        for key in dict.fromkeys([*first, *other])
        if first.get(key) != other.get(key)
    ]


def _identity(build: FactStore) -> dict[str, Any]:
    return {
        **build.build["identity"],
        "assembly": build.root["genome"],
        "demo": build.root["demo"],
        "plan": build.build["plan"]["sha256"],
        "block": build.shape.block,
    }


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def merge_units(builds: Sequence[FactStore], out: Path) -> int:
    """Bring all finished units of some builds into one.

    Files become hard links; on another file system copies, compared with the checksums of their records. A build that
    is at ``out`` gets the units that it lacks, one after the other as if they were scored there. Otherwise one is made
    aside, with everything else that the first build has, and renamed. After an interruption this can be done again.

    Where each track has a model of its own, tracks that the first build does not have follow its own, in order.

    Parameters
    ----------
    builds : sequence of FactStore
        Without `differences`.
    out : Path
        The build to make, or to add to.

    Returns
    -------
    int
        Units that were brought.

    Raises
    ------
    StoreMismatchError
        A unit is there already and is not the same, or a track is another one; or another build is at ``out``.
    CorruptStoreError
        A file is not what was written.
    StoreWriteError
        Full disk or read-only folder.
    """
    recover(out)
    remove_stale(out)
    if out.exists():
        target = FactStore(out)
        if found := differences([target, builds[0]]):
            raise StoreMismatchError(f"{out} is another build: {'; '.join(found[:4])}; give another --out")
        return _bring_all(builds, target)
    staging = aside_name(out)
    with writing(out):
        try:
            make_folder(out.parent)
            shutil.copytree(builds[0].path, staging, copy_function=_link_or_copy, ignore=_units_of(builds[0].path))
            brought = _bring_all(builds, FactStore(staging))
            put_in_place(staging, out)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return brought


def _bring_all(builds: Sequence[FactStore], target: FactStore) -> int:
    others = [build for build in builds if build.path.resolve() != target.path.resolve()]
    return sum(_bring(build, target) for build in others)


def _units_of(store: Path) -> Any:
    """For `shutil.copytree`: leave out the units of a build, and what is unfinished."""
    records = {store / layout.PROGRESS / kind for kind in KINDS}
    arrays = {store / layout.SAMPLES / array.name for array in layout.FACT_ARRAYS}

    def ignored(folder: str, names: list[str]) -> set[str]:
        units = {name for name in names if Path(folder) in records and name != "zarr.json"}
        shards = {"c"} if Path(folder) in arrays else set()
        return units | shards | {name for name in names if name.endswith(".partial")}

    return ignored


def _bring(source: FactStore, target: FactStore) -> int:
    """Bring the rows, the finished units and the run records of a build into another one."""
    if origins.of(source.root, sys.maxsize) and not origins.of(target.root, sys.maxsize):
        warnings.warn(
            f"rows that were appended to {source.path} do not come along with its units; append them again: "
            f"python -m chorus_store append {target.path.name} {source.path} --track …",
            stacklevel=2,
        )
    target.add_tracks(source.tracks)
    row_of = {track: row for row, track in enumerate(target.tracks.track.tolist())}
    rows = [row_of[track] for track in source.tracks.track.tolist()]
    _require_same_tracks(source, target, rows)
    mine = {(unit.kind, unit.start, unit.first_track): unit for kind in KINDS for unit in target.units(kind)}
    brought = 0
    with writing(target.path):
        for unit, record in patient(list(_finished(source)), of=source.path.name, unit="units"):
            unit_there = mine[unit.kind, unit.start, rows[unit.first_track]]
            brought += _bring_unit(source.path, unit, target, unit_there, record)
        for run in (source.path / layout.RUNS).glob("*/zarr.json"):
            file = target.path / run.relative_to(source.path)
            if not file.exists():
                _bring_file(run, file, sha256_of(run))
    return brought


def _require_same_tracks(source: FactStore, target: FactStore, rows: list[int]) -> None:
    if target.tracks.select(np.array(rows)).digest() != source.tracks.digest():
        raise StoreMismatchError(
            f"tracks of the same name are not the same in {source.path} and in {target.path}; their units do not go "
            "together"
        )


def _finished(store: FactStore) -> Iterator[tuple[Unit, dict[str, Any]]]:
    for kind in KINDS:
        for unit in store.units(kind):
            record = store.record(unit)
            if record is not None:
                yield unit, record


def _bring_unit(source: Path, unit: Unit, target: FactStore, there: Unit, record: Mapping[str, Any]) -> bool:
    """Bring one unit, data first and its record last; False where it is there already."""
    known = target.record(there)
    if known is not None:
        if known["data"] != record["data"]:
            raise StoreMismatchError(
                f"unit {unit.name} of {source} is not the same as unit {there.name} of {target.path}: both were "
                "scored, with different results; remove the progress record of the wrong one and merge again"
            )
        return False
    for name, data in record["data"].items():
        file, copy = (
            layout.shard_file(store, f"{layout.SAMPLES}/{name}", each.shard)
            for store, each in ((source, unit), (target.path, there))
        )
        _bring_file(file, copy, data["sha256"])
    folder = target.path / layout.PROGRESS / there.name
    make_folder(folder)
    write_atomically(folder / "zarr.json", group_node(record))
    return True


def _bring_file(source: Path, target: Path, sha256: str) -> None:
    """A hard link, or else a copy that is compared with a checksum; appears whole."""
    make_folder(target.parent)
    aside = aside_name(target)
    try:
        found = _link_or_copy(source, aside)
        if found not in (None, sha256):
            raise CorruptStoreError(
                f"{source} is not what was written (checksum differs); delete it and score its unit again there, then "
                "merge again"
            )
        aside.replace(target)
        sync_folder(target.parent)
    finally:
        aside.unlink(missing_ok=True)


def _link_or_copy(source: str | Path, target: str | Path) -> str | None:
    """Give a file a second name, or else copy it; the SHA-256 of what was copied."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
    else:
        return None
    sha = hashlib.sha256()
    with Path(source).open("rb") as original, Path(target).open("wb") as copy:
        while piece := original.read(_PIECE_BYTES):
            sha.update(piece)
            copy.write(piece)
    sync(Path(target))
    return sha.hexdigest()
