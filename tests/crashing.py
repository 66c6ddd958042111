"""The real command line in forked processes that can be killed before any file-system event; `Server` starts them.

Run as a module it is the server: it has imported everything, uses nothing of it, and forks for every request, so a run
takes a tenth of the time that a fresh interpreter would need.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from builders import cli

#: Before which event a process is killed: its number, from 1; or its name, and its number among those of that name.
Stop = int | tuple[str, int] | None

_READING = ("shutil.copytree", "shutil.copyfile", "shutil.copymode", "shutil.copystat")
_OF_THE_PROCESS = [
    (re.compile(rf"{re.escape(socket.gethostname())}-\d+"), "HOST-PID"),
    (re.compile(r"[0-9a-f]{32}"), "UUID"),
    (re.compile(r"\d{8}T\d{6}\.\d+-\d+"), "RUN"),
    (re.compile(r"(effect|summary|perbin)-\w{8}\b"), r"\1-SCRATCH"),
]


@dataclass
class Run:
    """What became of one process.

    Attributes
    ----------
    code : int
        Exit code; -9 where it was killed.
    steps : list of str
        File-system events below the folder, in order: what is done to which path.
    synced : list
        What was forced to disk, in order: for a file its identity; for a folder its inode, its names and path.
    said : str
        Standard output and error.
    seconds : float
        From its start to its end.
    """

    code: int
    steps: list[str] = field(default_factory=list)
    synced: list[Any] = field(default_factory=list)
    said: str = ""
    seconds: float = 0.0


class Server:
    """A process that runs command lines in forks of itself."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.crashing"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.__exit__(None, None, None)

    def run(
        self,
        folder: Path,
        oracle: str,
        arguments: Sequence[str],
        *,
        stop: Stop = None,
        after: float | None = None,
    ) -> Run:
        """Run an oracle's command line to its end, or until it is killed: before an event, or after some time.

        Parameters
        ----------
        folder : Path
            Events below it count.
        oracle : {"tiny", "growing"}
        arguments : list of str
        stop : int or (str, int), optional
            See `Stop`.
        after : float, optional
            Seconds.
        """
        log = folder.with_name(f"{folder.name}.log")
        request = {"folder": str(folder), "oracle": oracle, "arguments": arguments, "stop": stop, "after": after}
        assert self._process.stdin and self._process.stdout
        began = time.monotonic()
        self._process.stdin.write(json.dumps({**request, "log": str(log)}) + "\n")
        self._process.stdin.flush()
        run = Run(int(self._process.stdout.readline()))
        run.seconds = time.monotonic() - began
        for line in log.read_text().splitlines(keepends=True):
            if line.startswith('["step"') and line.endswith("\n"):
                run.steps.append(json.loads(line)[1])
            elif line.startswith('["synced"') and line.endswith("\n"):
                run.synced.append(json.loads(line)[1])
            else:
                run.said += line
        return run


class Steps:
    """An audit hook that logs what is done to files below a folder, and ends the process before one of the events."""

    def __init__(self, folder: str, stop: int | list[Any] | None) -> None:
        self._folder, self._stop = folder, stop
        self._count, self._count_of = 0, Counter[str]()
        self._lock = threading.Lock()

    def install(self) -> None:
        sys.addaudithook(self)
        os.fsync = functools.partial(self._fsync, os.fsync)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        what = _described(event, arguments, self._folder)
        if what is not None:
            self._step(what)

    def _step(self, what: str) -> None:
        with self._lock:
            self._count += 1
            self._count_of[what] += 1
            _log("step", what)
            if self._stop in (self._count, [what, self._count_of[what]]):
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)

    def _fsync(self, fsync: Any, handle: int) -> None:
        path = _path_of(handle)
        name = _relative(path, self._folder)
        self._step(f"fsync {name}")
        fsync(handle)
        status = os.fstat(handle)
        if os.path.isdir(path):  # noqa: PTH112 - Path would raise audit events of its own
            with os.scandir(handle) as entries:
                _log("synced", [status.st_ino, {entry.name: entry.inode() for entry in entries}, name])
        else:
            _log("synced", [status.st_ino, status.st_mtime_ns, status.st_size])


def _log(kind: str, what: Any) -> None:
    os.write(2, (json.dumps([kind, what]) + "\n").encode())


def _described(event: str, arguments: tuple[Any, ...], folder: str) -> str | None:
    """An event as text, if it changes files below a folder."""
    if event == "ctypes.dlsym":
        return "exchange" if arguments[1] == "renameat2" else None
    if event == "open":
        path, _, flags = arguments
        if not isinstance(path, str | bytes) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return None
        paths = [os.fsdecode(path)]
    elif event in ("os.rename", "os.link"):
        paths = [_resolved(arguments[0], arguments[2]), _resolved(arguments[1], arguments[3])]
    elif event in ("os.remove", "os.rmdir"):
        paths = [_resolved(arguments[0], arguments[1])]
    elif event == "os.mkdir":
        paths = [_resolved(arguments[0], arguments[2])]
    elif event in ("os.truncate", "os.utime") or (event.startswith("shutil.") and event not in _READING):
        paths = [os.fsdecode(arguments[0])]
    else:
        return None
    if not any(path.startswith(f"{folder}/") for path in paths):
        return None
    return " ".join([event.removeprefix("os."), *(_relative(path, folder) for path in paths)])


def _resolved(path: Any, folder: int) -> str:
    """A path that may be relative to an open folder, as `shutil.rmtree` has them."""
    text = os.fsdecode(path)
    return text if folder < 0 or text.startswith("/") else f"{_path_of(folder)}/{text}"


def _path_of(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")  # noqa: PTH115 - Path would raise audit events of its own


def _relative(path: str, folder: str) -> str:
    """A path below the folder without what differs from process to process."""
    text = path.removeprefix(folder).removeprefix("/") or "."
    for pattern, name in _OF_THE_PROCESS:
        text = pattern.sub(name, text)
    return text


def _serve() -> None:
    from tests.growing_oracle import GrowingOracle
    from tests.tiny import TinyOracle

    oracles = {"tiny": TinyOracle, "growing": GrowingOracle}
    _import_all()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(oracles[request["oracle"]], request)
        if request["after"] is not None:
            time.sleep(request["after"])
            os.kill(child, signal.SIGKILL)  # dead or alive: it is not waited for yet
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _import_all() -> None:
    """Import what a whole build imports, and compile what it compiles, so that no child has to."""
    from chorus_store.grid import compact_rows
    from tests import tiny

    for dtype in (np.float32, np.float64):
        compact_rows(np.zeros((1, 3), dtype))
    with tempfile.TemporaryDirectory() as folder:
        listing = Path(folder, "modules.json")
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            arguments = tiny.arguments(tiny.write_inputs(Path(folder, "inputs")), Path(folder, "out"))
            code = cli.run(tiny.TinyOracle, [*arguments, "--sampler", "algorithm-r", "--capacity", "2"])
            listing.write_text(json.dumps(list(sys.modules)))
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        for name in json.loads(listing.read_text()):
            with suppress(ImportError):
                importlib.import_module(name)


def _become(oracle: Any, request: dict[str, Any]) -> None:
    """The child: its output and its log go to one file."""
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    for standard in (1, 2):
        os.dup2(log, standard)
    sys.argv = ["tests.crashing", *request["arguments"]]
    Steps(request["folder"], request["stop"]).install()
    code = cli.run(oracle, request["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _serve()
