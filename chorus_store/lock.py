"""The file of one claim: made once, taken over from the dead, removed with the folder that it is in.

On the holder's own host the process decides whether a claim is anybody's: it is there, and began when the claim says.
On another host the file does: its holder touches it every `HEARTBEAT_S` seconds, and one that was not touched for
`STALE_S` seconds, by the clock of the file server, is nobody's.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from chorus_store.swap import aside_name

if sys.platform != "win32":
    import fcntl

HEARTBEAT_S = 60.0
STALE_S = 600.0

#: Start times that are told of one process differ by less; a second process of its number starts later.
_SAME_START_S = 5.0
#: The folder may be removed again and again by others that give up their last claim.
_ATTEMPTS = 100


@dataclass(frozen=True)
class Holder:
    """Who holds a claim.

    Attributes
    ----------
    host : str
    pid : int
    started : float
        When the process began, in seconds since 1970.
    since : str
        When it made the claim, ISO 8601.
    command : str
        What it is doing.
    """

    host: str
    pid: int
    started: float
    since: str
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since} ({self.command})"


def content(command: str) -> bytes:
    """A claim of this process."""
    since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    holder = Holder(socket.gethostname(), os.getpid(), _started(os.getpid()), since, command)
    return json.dumps(asdict(holder)).encode()


@functools.lru_cache(maxsize=1)
def _started(pid: int) -> float:
    return float(psutil.Process(pid).create_time())


def create(file: Path, claim: bytes) -> Holder | None:
    """Make a claim, or take over one that is nobody's; who holds it otherwise.

    Raises
    ------
    OSError
        It cannot be made here.
    """
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):  # given up, or the folder removed, just now
            holder = _attempt(file, claim)
            if holder is None:
                _heart.beat_for(file)
            return holder
    raise FileNotFoundError(f"{file.parent} cannot be made")


def remove(file: Path, claim: bytes) -> None:
    """Give up a claim, as far as that can be done, unless it was taken over by somebody who thought us dead."""
    _heart.stop(file)
    with suppress(OSError):
        if file.read_bytes() == claim:
            file.unlink()


def _attempt(file: Path, claim: bytes) -> Holder | None:
    file.parent.mkdir(exist_ok=True)
    aside = aside_name(file)
    try:
        aside.write_bytes(claim)
        os.link(aside, file)
        return None
    except FileExistsError:
        return _take_over(file, aside)
    finally:
        aside.unlink(missing_ok=True)


def _take_over(file: Path, aside: Path) -> Holder | None:
    with alone(file.parent):
        holder = live(file, aside.stat().st_mtime)
        if holder is None:
            aside.replace(file)
        return holder


def live(file: Path, now: float) -> Holder | None:
    """Who holds a claim; None where that is dead, or the file is not a whole claim: a power cut tore it."""
    touched = file.stat().st_mtime
    try:
        holder = Holder(**json.loads(file.read_bytes()))
        elsewhere = holder.host != socket.gethostname()
        return holder if (now - touched < STALE_S if elsewhere else _holds(holder, file)) else None
    except (ValueError, TypeError, OverflowError, RecursionError):
        return None


def _holds(holder: Holder, file: Path) -> bool:
    """Whether a process of this host is there and, where that is known, has not given its claim up."""
    try:
        same = abs(psutil.Process(holder.pid).create_time() - holder.started) < _SAME_START_S
        return same and (holder.pid != os.getpid() or _heart.beats_for(file))
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it is there, and no more is to be known
        return True


def now_on(folder: Path) -> float:
    """What the clock of the file server says, as far as it can be asked."""
    with suppress(OSError), tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime
    return time.time()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process (or thread) at a time does what is inside, of all that name the folder; any where it has no locks."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def tidy(folder: Path) -> None:
    """Remove claims that are nobody's, and the folder with the last one."""
    with alone(folder):
        now = now_on(folder)
        for file in folder.iterdir():
            with suppress(FileNotFoundError):
                if live(file, now) is None:
                    file.unlink()
        folder.rmdir()


class _Heart:
    """Touches the files of claims, in one thread for the whole process, while there are any."""

    def __init__(self) -> None:
        self._files: set[Path] = set()
        self._guard = threading.Lock()
        self._idle = threading.Event()

    def beat_for(self, file: Path) -> None:
        with self._guard:
            if not self._files:
                self._idle = threading.Event()
                threading.Thread(target=self._beat, args=(self._idle,), name="claims", daemon=True).start()
            self._files.add(file)

    def beats_for(self, file: Path) -> bool:
        with self._guard:
            return file in self._files

    def stop(self, file: Path) -> None:
        with self._guard:
            self._files.discard(file)
            if not self._files:
                self._idle.set()

    def _beat(self, idle: threading.Event) -> None:
        while not idle.wait(HEARTBEAT_S):
            with self._guard:
                files = list(self._files)
            for file in files:
                with suppress(OSError):
                    os.utime(file)


_heart = _Heart()
