"""Disks that fill, turn read-only or vanish, and workers that die: one sentence, nothing lost, and then equal bytes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import pytest

from builders import cli
from builders.oracle import BinArray, Reduced
from builders.settings import Inputs
from chorus_store.facts import progress
from chorus_store.sequence import Codes
from tests import tiny
from tests.clusters import local_cluster
from tests.test_bad_input import refused
from tests.test_publish import inputs, merge, mine, scored
from tests.test_splits import contents

__all__ = ["inputs", "mine", "scored"]  # fixtures

THINNED = ("--sampler", "algorithm-r", "--capacity", "9")


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("making a disk needs the right to mount a tmpfs")
    mount("-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def published(mine: Path, disk: Path) -> Path:
    """A background with its facts on that disk."""
    merge(mine)
    return Path(shutil.copytree(mine, disk / "out"))


def merging(out: Path) -> list[str]:
    return ["--part", "merge", "--out", str(out), *THINNED]


@contextmanager
def as_soon_as(there: Callable[[], bool], action: Callable[[], None]) -> Iterator[None]:
    """Do something in a thread of its own once something is there; it must have come to that."""
    done, over = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            if there():
                action()
                done.set()
                return
            time.sleep(0.0005)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert done.is_set()


def fill(disk: Path) -> None:
    """Write until there is no space left."""
    with (disk / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def compacting(out: Path) -> bool:
    return any(out.glob("tiny.zarr.*.partial/*_cdf"))


def exporting(out: Path) -> bool:
    return any(out.glob("tiny_pertrack.npz.*.partial"))


@pytest.mark.parametrize("moment", [compacting, exporting])
def test_a_disk_that_fills_during_merge_and_export(
    published: Path, mine: Path, disk: Path, capsys: pytest.CaptureFixture[str], moment: Callable[[Path], bool]
) -> None:
    before = contents(published)
    with as_soon_as(lambda: moment(published), lambda: fill(disk)):
        refused(capsys, merging(published), "No space left on device", "free some space")
    after = contents(published)
    kept = "tiny.zarr/" if moment is compacting else "tiny_pertrack.npz"
    assert {name for name in before if name.startswith(kept) and after.get(name) != before[name]} == set()
    assert sorted(path.name for path in published.iterdir()) == ["tiny.zarr", "tiny_pertrack.npz"]
    (disk / "filler").unlink()
    assert cli.run(tiny.TinyOracle, merging(published)) == 0
    merge(mine, *THINNED)
    assert contents(published) == contents(mine)


def disturbed(out: Path, happens: Callable[[], object]) -> type[tiny.TinyOracle]:
    """An oracle during whose scoring something happens to the disk, once a unit is finished."""
    happened: list[object] = []

    class Disturbed(tiny.TinyOracle):
        def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
            if not happened and any(out.glob("tiny.zarr/progress/variants/*/zarr.json")):
                happened.append(happens())
            return super().reduce(codes, bins)

    return Disturbed


def test_a_disk_that_turns_read_only(
    inputs: Inputs, mine: Path, disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tiny.arguments(inputs, disk / "out", "--block", "8")
    oracle = disturbed(disk / "out", lambda: mount("-o", "remount,ro", str(disk)))
    try:
        refused(capsys, arguments, "Read-only file system", "finished units are kept", oracle=oracle)
        done = progress(disk / "out/tiny.zarr")["variants"]["done"]
        refused(capsys, arguments, "Read-only file system")
    finally:
        mount("-o", "remount,rw", str(disk))
    assert done > 0
    assert cli.run(tiny.TinyOracle, arguments) == 0
    merge(mine)
    assert contents(disk / "out") == contents(mine)


def test_a_disk_that_vanishes_and_comes_back(
    inputs: Inputs, mine: Path, disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = tmp_path / "server"
    server.mkdir()
    mount("--bind", str(server), str(disk))  # as a network file system is, over the other
    arguments = tiny.arguments(inputs, disk / "out", "--block", "8")
    oracle = disturbed(disk / "out", lambda: subprocess.run(["umount", "-l", str(disk)], check=True))
    refused(capsys, arguments, "removed or replaced", oracle=oracle)
    assert not (disk / "out/tiny.zarr/zarr.json").exists(), "nothing passes for a store where the disk was"
    assert progress(server / "out/tiny.zarr")["variants"]["done"] > 0
    mount("--bind", str(server), str(disk))
    try:
        assert cli.run(tiny.TinyOracle, arguments) == 0
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    merge(mine)
    assert contents(server / "out") == contents(mine)


@pytest.mark.parametrize("mercy", [3, 0])
def test_workers_that_die(mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], mercy: int) -> None:
    """A death costs nothing; where tasks outlive none, the merge says so and can be repeated."""
    theirs = Path(shutil.copytree(mine, tmp_path / "theirs"))
    merge(mine)
    with dask.config.set({"distributed.scheduler.allowed-failures": mercy}), local_cluster(1, 1) as cluster:
        command = ["--part", "merge", "--out", str(theirs), "--dask", cluster.scheduler_address]
        with as_soon_as(lambda: bool(cluster.scheduler.tasks), lambda: kill(cluster, 1 if mercy else 60)):
            if mercy:
                assert cli.run(tiny.TinyOracle, command) == 0
            else:
                refused(capsys, command, "KilledWorker", "leave out --dask")
    merge(theirs)
    assert contents(theirs) == contents(mine)


def kill(cluster: Any, deaths: int) -> None:
    """Kill the worker of a cluster, which starts it again, so many times."""
    killed: set[int] = set()
    deadline = time.monotonic() + 60
    while len(killed) < deaths and time.monotonic() < deadline and cluster.scheduler.tasks:
        for nanny in list(cluster.workers.values()):
            if nanny.process is not None and nanny.process.pid and nanny.process.pid not in killed:
                killed.add(nanny.process.pid)
                with suppress(ProcessLookupError):
                    os.kill(nanny.process.pid, signal.SIGKILL)
        time.sleep(0.01)
