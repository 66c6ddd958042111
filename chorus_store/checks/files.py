"""Checks of the files of a store against its manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from chorus_store import layout, manifest
from chorus_store.checks.findings import Finding, from_error
from chorus_store.checks.subject import Subject
from chorus_store.errors import CorruptStoreError
from chorus_store.files import sha256_of
from chorus_store.places import read_bytes

#: Where files may come after publication: rows and units of work that are added.
_GROWING = (layout.SAMPLES, layout.PROGRESS)


def check_files(subject: Subject) -> Iterator[Finding]:
    """Every file is there that the manifest lists; deep: with the bytes that were written."""
    try:
        listed = _listed(subject)
    except CorruptStoreError as error:
        yield from_error("files", error, subject.again, f"{manifest.MANIFEST}/zarr.json")
        return
    if listed is None:
        message = "not there, so changed files cannot be told; stores of early releases have none"
        yield Finding("files", manifest.MANIFEST, [], 1, message, subject.again, "warning")
        return
    found = _in_folder(subject.folder, listed, subject) if subject.folder else _elsewhere(subject, listed)
    for name, what in found:
        yield Finding("files", name, [], 1, what, _repair(subject, name))
    if subject.folder:
        others = [name for name in manifest.names(subject.folder) if name not in listed and not _may_come(name)]
        for name in others:
            yield Finding("files", name, [], 1, "not listed in the manifest", "remove it if it is not yours", "warning")


def _listed(subject: Subject) -> dict[str, str] | None:
    if subject.folder:
        return manifest.read(subject.folder)
    data = read_bytes(subject.place, f"{manifest.MANIFEST}/zarr.json")
    return None if data is None else manifest.parse(data, subject.place)


def _in_folder(folder: Path, listed: dict[str, str], subject: Subject) -> Iterator[tuple[str, str]]:
    """Path of every damaged file, and what it is."""
    recorded = manifest.fact_hashes(folder) if subject.deep else {}
    with subject.bar(len(listed), "files", " files") as bar:
        for name, expected in listed.items():
            bar.update()
            if not (folder / name).is_file():
                yield name, "missing"
            elif subject.deep and name in recorded:
                if recorded[name] != expected:
                    yield name, "not what was published, by its record"
            elif subject.deep and sha256_of(folder / name) != expected and not _is_widened(folder / name, expected):
                yield name, "not what was written (checksum differs)"


def _elsewhere(subject: Subject, listed: dict[str, str]) -> Iterator[tuple[str, str]]:
    """The same of an archive or a URL, of which only a deep check asks for every file."""
    if not subject.deep:
        return
    with subject.bar(len(listed), "files", " files") as bar:
        for name, expected in listed.items():
            bar.update()
            data = read_bytes(subject.place, name)
            if data is None:
                yield name, "missing"
            elif hashlib.sha256(data).hexdigest() != expected:
                yield name, "not what was written (checksum differs)"


def _may_come(name: str) -> bool:
    return name.partition("/")[0] in _GROWING


def _is_widened(file: Path, expected: str) -> bool:
    """Whether the metadata of a fact array have changed in nothing but the number of its tracks, which may grow."""
    if file.parts[-4:-3] != (layout.SAMPLES,) or file.name != "zarr.json":
        return False
    try:
        node = json.loads(file.read_bytes())
        for columns in range(node["shape"][1] - 1, 0, -1):
            node["shape"][1] = columns
            if hashlib.sha256(json.dumps(node, indent=2).encode()).hexdigest() == expected:
                return True
    except (ValueError, KeyError, TypeError, IndexError):
        pass
    return False


def _repair(subject: Subject, name: str) -> str:
    if manifest.is_background(name):
        return subject.again
    if name.startswith(f"{layout.SAMPLES}/") and not name.endswith("zarr.json"):
        return f"remove {Path(subject.place, name)} if it is there, and run the build again: only its unit is redone"
    return f"copy {Path(subject.place, name)} from another copy of the store, or build it again"
