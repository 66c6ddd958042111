"""A folder that nothing may leave: no write outside, no process, no connection, no pickle; memory and time end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

#: Processor time after which something hangs, and memory that may be taken beyond what there is.
SECONDS = 10
BYTES = 2**30
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Audit events whose arguments, so many of them, are paths that are changed.
_CHANGES = {
    "os.mkdir": 1, "os.rmdir": 1, "os.remove": 1, "os.rename": 2, "os.link": 2, "os.symlink": 2, "os.truncate": 1,
    "os.chmod": 1, "os.chown": 1, "os.utime": 1, "shutil.rmtree": 1,
}  # fmt: skip
#: Audit events that no parser has cause for.
_FORBIDDEN = frozenset((
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty",
    "os.kill", "os.killpg",
    "pickle.find_class", "socket.connect", "socket.getaddrinfo", "webbrowser.open",
))  # fmt: skip


class Escape(BaseException):
    """Something was tried that no parser may do; not an Exception, so that no handler takes it for bad input."""


class Hang(BaseException):
    """A parser took too long."""


class _Guard:
    """The audit hook, which Python can add and never remove."""

    folder: Path | None = None
    escapes: list[str]

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is not None and (said := self._escape(event, arguments)):
            self.escapes.append(said)
            raise Escape(said)

    def _escape(self, event: str, arguments: tuple[Any, ...]) -> str | None:
        if event in _FORBIDDEN:
            return f"{event} {arguments!r:.200}"
        paths = arguments[: _CHANGES.get(event, 0)]
        if event == "open" and arguments[2] & _WRITES:
            paths = arguments[:1]
        outside = [path for path in paths if not isinstance(path, int) and not self._inside(path)]
        return f"{event} {outside[0]!r}" if outside else None

    def _inside(self, path: Any) -> bool:
        whole = os.path.realpath(os.fspath(path))
        whole = os.fsdecode(whole)
        return whole == os.devnull or Path(whole).is_relative_to(self.folder or "")


_guard = _Guard()
_installed: list[_Guard] = []


@contextmanager
def sandbox(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the folder working directory and home, and refuse, as `Escape`, all that leaves it."""
    if not _installed:
        sys.addaudithook(_guard)
        _installed.append(_guard)
    patch.chdir(folder)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "TMPDIR", "CHORUS_DATA_DIR", "CHORUS_BACKGROUNDS_DIR"):
        patch.setenv(name, str(folder))
    patch.setattr("tempfile.tempdir", str(folder))
    patch.setattr(sys, "dont_write_bytecode", True)
    before = set(folder.parent.rglob("*"))
    _guard.folder, _guard.escapes = folder.resolve(), []
    try:
        with _little_memory():
            yield
    finally:
        _guard.folder = None
    assert not _guard.escapes
    left = {path for path in set(folder.parent.rglob("*")) - before if not path.is_relative_to(folder)}
    assert not left, f"written outside: {left}"


@contextmanager
def _little_memory() -> Iterator[None]:
    """Let the process grow by no more than `BYTES`, where the system can tell how large it is."""
    status = Path("/proc/self/statm")
    if not status.exists():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(status.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def in_time() -> Iterator[None]:
    """Raise `Hang` where what is inside needs more than `SECONDS` of the processor."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(f"more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
