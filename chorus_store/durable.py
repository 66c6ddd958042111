"""What is on disk, and not only in the system's memory, when the power fails: files, and their names in folders.

A new name is safe once its folder is synced, and a rename may be done only when all that it makes visible is safe.
"""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: A file system that cannot sync a folder says one of these; it keeps names in order by itself, or not at all.
_CANNOT = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
#: Files that are synced at the same time.
_AT_ONCE = 16


def sync(path: Path) -> None:
    """Force the bytes of a file to disk."""
    with path.open("r+b") as handle:  # Windows syncs only what may be written to
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Force the names in a folder to disk, where the system can do that."""
    if os.name == "nt":
        return  # folders cannot be opened there
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Force a folder and all that is below it to disk, but for files that have another name too: those were before."""
    listing = [(Path(parent), names) for parent, _, names in os.walk(folder)]
    files = [parent / name for parent, names in listing for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # a journal writes many requests as one
        list(pool.map(sync, [file for file in files if file.stat().st_nlink == 1]))
        list(pool.map(sync_folder, [parent for parent, _ in listing]))


def sync_up(folder: Path, top: Path) -> None:
    """Force the names in a folder, and in those above it as far as ``top``, to disk."""
    for each in (folder, *folder.parents):
        sync_folder(each)
        if each == top:
            return


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are not there yet, for good."""
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in new:
        sync_folder(each.parent)


def put_in_place(new: Path, path: Path) -> None:
    """Rename a folder to a name that is free, once all of it is on disk.

    Raises
    ------
    FileExistsError, OSError
        As `os.rename`, where the name is taken.
    """
    sync_tree(new)
    new.rename(path)
    sync_folder(path.parent)
