"""What the files of the data directory are: ``observed.json`` records what came, and says later if it has changed."""

from __future__ import annotations

import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pooch

from builders.checksums import content_sha256, stamp
from chorus_store.errors import InputError
from chorus_store.lock import alone

if TYPE_CHECKING:
    from builders.fetch import Resource

LEDGER = "observed.json"
_SHA256 = re.compile("sha256:[0-9a-f]{64}")

log = logging.getLogger("chorus.resources")


def expected_checksum(resource: Resource, folder: Path) -> str | None:
    """What a file of the data directory must hash to: as recorded, else as pinned; None where nobody knows."""
    entry = read(folder).get(resource.file_name)
    if entry is not None:
        return str(entry["sha256"])
    return None if resource.unpack else resource.checksum  # that of an archive says nothing about its content


def checksum_now(resource: Resource, folder: Path) -> str | None:
    """What a build would find, without a download: of the file that is there, else what is known of the one to come."""
    target = folder / resource.file_name
    if not target.exists():
        return expected_checksum(resource, folder)
    entry = read(folder).get(resource.file_name)
    current = entry is not None and entry["stamp"] == list(stamp(target))
    return str(entry["sha256"]) if entry and current else f"sha256:{content_sha256(target)}"


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
    if entry is not None and entry["stamp"] == list(stamp(target)):
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


def matches(path: Path, expected: str) -> bool:
    """Whether a file or a folder has this checksum."""
    algorithm, _, digest = expected.partition(":")
    if algorithm == "sha256":
        return content_sha256(path) == digest
    return bool(pooch.file_hash(str(path), alg=algorithm) == digest)


def read(folder: Path) -> dict[str, Any]:
    """File name to what is recorded of it.

    Raises
    ------
    InputError
        The record is damaged.
    """
    try:
        ledger: dict[str, Any] = json.loads((folder / LEDGER).read_bytes())
        for name, entry in ledger.items():
            _check(name, entry)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / LEDGER} is damaged ({error}); delete it, and files are recorded anew") from error
    return ledger


def _check(name: str, entry: Any) -> None:
    sound = (
        isinstance(entry, dict)
        and {"url", "download", "sha256", "stamp"} <= entry.keys()
        and _SHA256.fullmatch(str(entry["sha256"]))
        and (entry["download"] is None or _SHA256.fullmatch(str(entry["download"])))
    )
    if not sound:
        raise ValueError(f"{name!r} has no checksum that can be compared")


def remember(folder: Path, resource: Resource, target: Path, download_checksum: str | None) -> None:
    """Record what a file is, beside what other processes record meanwhile."""
    entry = {
        "url": resource.url,
        "download": download_checksum,
        "stamp": stamp(target),  # taken first: a change while it is hashed is noticed
        "sha256": f"sha256:{content_sha256(target)}",
    }
    with alone(folder):
        partial = folder / f".{LEDGER}.{os.getpid()}"
        partial.write_text(json.dumps({**read(folder), resource.file_name: entry}, indent=2, sort_keys=True) + "\n")
        partial.replace(folder / LEDGER)
