"""The manifest: the SHA-256 of every file of a published background, kept in it as the group ``manifest``.

What a store gets later is not listed: records of runs, and rows and units of work that are added to a published one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from chorus_store import layout, seal
from chorus_store.errors import CorruptStoreError
from chorus_store.facts import FactStore
from chorus_store.files import node_of, sha256_of, write_atomically
from chorus_store.opening import read_attributes, reading
from chorus_store.units import KINDS

MANIFEST = "manifest"
_OWN = f"{MANIFEST}/zarr.json"


def write(folder: Path) -> None:
    """List all files of a store; to be called last, before it is put in place.

    Equal stores get equal manifests. Fact shards are not read: their hashes are those of the progress records.

    Parameters
    ----------
    folder : Path
        A published store that nobody reads yet.
    """
    of_facts = fact_hashes(folder)
    files = {name: of_facts.get(name) or sha256_of(folder / name) for name in names(folder)}
    (folder / MANIFEST).mkdir(exist_ok=True)
    write_atomically(folder / _OWN, content(files))


def content(files: dict[str, str]) -> bytes:
    """``zarr.json`` of the manifest that lists these files."""
    return node_of({"files": files, "sha256": seal.digest(files)})


def read(folder: Path) -> dict[str, str] | None:
    """SHA-256 of every file by its path in the store; None where there is no manifest, as in a store of long ago.

    Raises
    ------
    CorruptStoreError
        The manifest is not what was written.
    """
    file = folder / _OWN
    with reading(str(file)):
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
    return parse(data, str(folder))


def parse(data: bytes, where: str) -> dict[str, str]:
    """What ``zarr.json`` of a manifest lists.

    Raises
    ------
    CorruptStoreError
        It is not, to the byte, what was written.
    """
    try:
        files = json.loads(data)["attributes"]["files"]
        intact = data == content(files) and not any(PurePosixPath(name).is_absolute() or ".." in name for name in files)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        intact = False
    if not intact:
        raise CorruptStoreError(f"the manifest of {where} is not what was written; copy or publish the store again")
    return dict(files)


def names(folder: Path) -> Iterator[str]:
    """Paths of the files that a manifest lists, in order: all but itself, records of runs, and what is unfinished."""
    found = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    for name in sorted(found):
        first, *_ = inside = name.split("/")
        is_run = first == layout.RUNS and len(inside) > 2
        if not (is_run or first == MANIFEST or name.endswith(".partial")):
            yield name


def is_background(name: str) -> bool:
    """Whether a file belongs to the background rather than to the build that it came from."""
    return name.partition("/")[0] not in layout.BUILD_GROUPS


def damaged(folder: Path, wanted: Callable[[str], bool] = lambda name: True) -> dict[str, str]:
    """Files that are not as listed, by their path: ``missing`` or ``changed``; every listed file is read.

    A manifest that is missing or damaged itself is one of them, and the only one.

    Parameters
    ----------
    folder : Path
        A published store.
    wanted : callable
        Which files, by path; all by default.
    """
    try:
        listed = read(folder)
    except CorruptStoreError:
        return {_OWN: "changed"}
    if listed is None:
        return {_OWN: "missing"}
    found = {}
    for name, expected in listed.items():
        file = folder / name
        if wanted(name) and not file.is_file():
            found[name] = "missing"
        elif wanted(name) and sha256_of(file) != expected:
            found[name] = "changed"
    return found


def fact_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every fact shard, by its path, as its unit's record says."""
    if not (folder / layout.SAMPLES).is_dir() or not read_attributes(folder / layout.PROGRESS):
        return {}
    store = FactStore(folder)
    return {
        layout.shard_file(Path(), f"{layout.SAMPLES}/{name}", unit.shard).as_posix(): data["sha256"]
        for kind in KINDS
        for unit in store.units(kind)
        for name, data in (store.record(unit) or {"data": {}})["data"].items()
    }
