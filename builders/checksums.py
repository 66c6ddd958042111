"""Checksums of files and folders, and whether they still are what they were when theirs was taken."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from chorus_store.errors import InputError
from chorus_store.files import sha256_of

Stamp = tuple[int, int, int]


def content_sha256(path: Path) -> str:
    """SHA-256 of a file, or of the names and checksums of all files of a folder, hexadecimal."""
    if path.is_file():
        return sha256_of(path)
    listing = "".join(f"{file.relative_to(path).as_posix()} {sha256_of(file)}\n" for file in files_of(path))
    return hashlib.sha256(listing.encode()).hexdigest()


def stamp(path: Path) -> Stamp:
    """Number of files, their bytes, and the last change: what tells cheaply that nothing happened."""
    stats = [file.stat() for file in files_of(path)]
    return len(stats), sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files of a folder, sorted."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


class Described:
    """Describes files by their content, and notices when they change before they were used.

    Examples
    --------
    >>> Described().of(Path("/dev/no/such.fa"))
    {'name': 'such.fa', 'sha256': None, 'bytes': None}
    """

    def __init__(self) -> None:
        self._stamps: dict[Path, Stamp] = {}

    def note(self, path: Path) -> None:
        """Remember what a file is like before it is read; one that is not there has nothing to remember."""
        if path.exists():
            self._stamps.setdefault(path, stamp(path))

    def of(self, path: Path) -> dict[str, Any]:
        """Name, SHA-256 and bytes of a file or a folder; the last two are None where there is neither."""
        if not path.exists():
            return {"name": path.name, "sha256": None, "bytes": None}
        self.note(path)
        return {"name": path.name, "sha256": content_sha256(path), "bytes": self._stamps[path][1]}

    def require_unchanged(self, *paths: Path | None) -> None:
        """Refuse files that are no longer as they were noted; to be called once they are read and described.

        Raises
        ------
        InputError
            Names the first one.
        """
        for path in paths:
            if path in self._stamps and not (path.exists() and stamp(path) == self._stamps[path]):
                raise InputError(
                    f"{path} changed while it was read, so nobody could say what the result is of; "
                    "run the same command again once nothing writes to it"
                )
