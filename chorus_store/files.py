"""Files of a store: written whole or not at all, refusals explained, checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chorus_store import seal
from chorus_store.durable import sync_folder
from chorus_store.errors import ChorusStoreError, StoreWriteError
from chorus_store.swap import aside_name


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal of a write into a `StoreWriteError` that says what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ChorusStoreError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = "free some space and run the same command again; finished units are kept"
        else:
            advice = (
                "check that the folder is writable, on a file system with hard links, and run the same command again; "
                "finished units are kept"
            )
        raise StoreWriteError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a small file so that a reader, or a power cut, sees all of it or nothing."""
    with _aside(path, data) as aside:
        aside.replace(path)
        sync_folder(path.parent)


def write_once(path: Path, data: bytes) -> bool:
    """The same where there is no such file yet; False, and nothing done, where there is. One of many writers wins."""
    with _aside(path, data) as aside:
        try:
            os.link(aside, path)
        except FileExistsError:
            return False
        sync_folder(path.parent)
    return True


@contextmanager
def _aside(path: Path, data: bytes) -> Iterator[Path]:
    """A file beside ``path`` that holds the data, on disk; removed where it is left."""
    aside = aside_name(path)
    try:
        with aside.open("wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def group_node(attributes: Mapping[str, Any]) -> bytes:
    """``zarr.json`` of a group with these attributes and their seal: a record, written once."""
    return node_of(seal.sealed(attributes))


def node_of(attributes: Mapping[str, Any]) -> bytes:
    """``zarr.json`` of a group with these attributes."""
    node = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return (json.dumps(node, indent=2, allow_nan=False) + "\n").encode()


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
