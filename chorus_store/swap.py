"""Names for what is made aside, and putting it in place: atomically where the system can, recoverably elsewhere."""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import psutil

from chorus_store.durable import sync_folder, sync_tree
from chorus_store.errors import ChorusStoreError, StoreWriteError
from chorus_store.naming import with_a_name

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


def aside_name(path: Path) -> Path:
    """A name beside ``path`` that no other process uses, not even on another host of a shared file system."""
    return beside(path, f".{socket.gethostname()}-{os.getpid()}.partial")


def beside(path: Path, suffix: str) -> Path:
    """The name of ``path`` with a suffix; also of ``.``, which is the name of no folder."""
    whole = with_a_name(path)
    return whole.with_name(whole.name + suffix)


def remove_stale(path: Path) -> None:
    """Remove what processes of this host that are no longer alive left beside ``path``, files and folders."""
    prefix = f"{path.name}.{socket.gethostname()}-"
    for left in path.parent.glob(f"{glob.escape(prefix)}*.partial"):
        pid = left.name.removeprefix(prefix).removesuffix(".partial")
        # What has our own number was left by another process: in a container all may have the same.
        if pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid))):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextmanager
def written_whole(out: Path) -> Iterator[BinaryIO]:
    """A file beside ``out`` to write to; renamed to ``out`` at the end, removed on any failure.

    A link stays, and what it names is replaced. A device or a named pipe is no file that could be replaced: it is
    written to as it is.

    Raises
    ------
    StoreWriteError
        The operating system refused, or there is a folder of this name.
    """
    if out.is_dir():
        raise StoreWriteError(f"cannot write {out}: it is a folder; give the name of a file")
    if is_stream(out):
        with refusals(out), out.open("wb") as stream:
            yield stream
        return
    with refusals(out):
        out = out.resolve()
        partial = aside_name(out)
        remove_stale(out)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(out)
            sync_folder(out.parent)
        finally:
            partial.unlink(missing_ok=True)


def is_stream(path: Path) -> bool:
    """Whether there is a device, a named pipe or a socket at a path: what is neither replaced nor read twice."""
    return path.exists() and not (path.is_file() or path.is_dir())


@contextmanager
def refusals(out: Path | str) -> Iterator[None]:
    """Turn the operating system's refusal to write ``out`` into a `StoreWriteError` that says what to do."""
    try:
        yield
    except (ChorusStoreError, BrokenPipeError):  # of what was read meanwhile; a reader that has enough
        raise
    except OSError as error:
        raise StoreWriteError(
            f"cannot write {out}: {error.strerror or error}; free some space or give another path, "
            "and run the same command again"
        ) from error


def replace_directory(new: Path, old: Path) -> None:
    """Put the directory ``new`` in place of ``old``, which is removed.

    All of ``new`` is on disk before its name is, and its name before anything of ``old`` is gone. On Linux the two are
    exchanged in one step. Elsewhere, and on file systems that cannot, ``old`` is first renamed to ``{old}.old``; a
    crash before ``new`` takes its place is mended by `recover`.
    """
    sync_tree(new)
    if not _exchanged(new, old):
        aside = _old_name(old)
        old.rename(aside)
        new.rename(old)
        new = aside
    sync_folder(old.parent)
    shutil.rmtree(new)


def recover(path: Path) -> None:
    """Finish what a crash in the middle of `replace_directory` left: ``path`` is there again if it ever was."""
    aside = _old_name(path)
    if aside.is_dir():
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(path)


def _old_name(path: Path) -> Path:
    return beside(path, ".old")


def _exchanged(a: Path, b: Path) -> bool:
    """Exchange two directories with renameat2(2); False where that is not to be had."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(b))
