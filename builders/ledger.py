"""What the files of the data directory are: ``observed.json`` records what came, and says later if it has changed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch

from chorus_store.errors import InputError

if TYPE_CHECKING:
    from builders.fetch import Resource

LEDGER = "observed.json"

log = logging.getLogger("chorus.resources")


def expected_checksum(resource: Resource, folder: Path) -> str | None:
    """What a file of the data directory must hash to: as recorded, else as pinned; None where nobody knows."""
    entry = read(folder).get(resource.file_name)
    if entry is not None:
        return str(entry["sha256"])
    return None if resource.unpack else resource.checksum  # that of an archive says nothing about its content


def verified(resource: Resource, folder: Path, option: str) -> Path:
    """A file of the data directory, if it still is what was downloaded.

    The digest is computed again only when size or time of change differ from the recorded ones. A file that
    was put there by hand is recorded as it is.

    Raises
    ------
    InputError
        The file has changed.
    """
    target = folder / resource.file_name
    entry = read(folder).get(resource.file_name)
    if entry is not None and entry["stamp"] == _stamp(target):
        return target
    expected = expected_checksum(resource, folder)
    if expected and not matches(target, expected):
        raise InputError(
            f"{target} is not what was downloaded from {resource.url} (its checksum is not {expected}); "
            f"delete it to download it again, or give a file of your own with --{option} PATH"
        )
    try:
        remember(folder, resource, target, entry["download"] if entry else None)
    except OSError as error:  # a folder that others look after
        log.info("cannot record %s in %s: %s", target.name, folder / LEDGER, error)
    return target


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's names and files."""
    if path.is_file():
        return f"sha256:{pooch.file_hash(str(path))}"
    sha = hashlib.sha256()
    for file in _files(path):
        sha.update(f"{file.relative_to(path).as_posix()} {pooch.file_hash(str(file))}\n".encode())
    return f"sha256:{sha.hexdigest()}"


def matches(path: Path, expected: str) -> bool:
    """Whether a file or a folder has this checksum."""
    algorithm, _, digest = expected.partition(":")
    if algorithm == "sha256":
        return _digest(path) == expected
    return bool(pooch.file_hash(str(path), alg=algorithm) == digest)


def _stamp(path: Path) -> list[int]:
    """Number of files, their bytes, and the last change: what tells cheaply that nothing happened."""
    stats = [file.stat() for file in _files(path)]
    return [len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)]


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def read(folder: Path) -> dict[str, Any]:
    """File name to what is recorded of it.

    Raises
    ------
    InputError
        The record is damaged.
    """
    try:
        ledger: dict[str, Any] = json.loads((folder / LEDGER).read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{folder / LEDGER} is damaged ({error}); delete it, and files are recorded anew") from error
    return ledger


def remember(folder: Path, resource: Resource, target: Path, download_checksum: str | None) -> None:
    """Record what a file is; two processes at once write the same entry."""
    ledger = read(folder)
    ledger[resource.file_name] = {
        "url": resource.url,
        "download": download_checksum,
        "sha256": _digest(target),
        "stamp": _stamp(target),
    }
    partial = folder / f".{LEDGER}.{os.getpid()}"
    partial.write_text(json.dumps(ledger, indent=2, sort_keys=True) + "\n")
    partial.replace(folder / LEDGER)
