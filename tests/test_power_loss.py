"""The power fails: what was not synced is torn or gone, and nothing is lost that was finished, nothing is wrong."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from chorus_store.facts import FactStore
from tests.crashing import Run, Server
from tests.disturbed import Scenario, finished

#: Names in a folder and their inodes.
Names = dict[str, int]


class Disk:
    """What is on disk of a folder, and not only in memory: everything at first, and later what was synced.

    A file is known by its inode, time and size, so that one that was written to after it was synced is not safe.
    """

    def __init__(self, folder: Path) -> None:
        self.files: set[tuple[int, int, int]] = set()
        self.folders: dict[int, Names] = {}
        for parent, _, names in os.walk(folder):
            with os.scandir(parent) as entries:
                self.folders[Path(parent).stat().st_ino] = {entry.name: entry.inode() for entry in entries}
            self.files |= {_identity(Path(parent, name)) for name in names}

    def follow(self, run: Run) -> None:
        """Take in what a run has synced."""
        for entry in run.synced:
            if isinstance(entry[1], dict):
                self.folders[entry[0]] = entry[1]
            else:
                self.files.add(tuple(entry))

    def cut_power(self, folder: Path, rng: random.Random) -> int:
        """Lose or tear, below a folder, what is not safe: every new name with even odds, every file; how many."""
        safe, lost = self.folders.get(folder.stat().st_ino, {}), 0
        for path in sorted(folder.iterdir()):
            if path.name not in safe and rng.random() < 0.5:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                lost += 1
            elif path.is_dir():
                lost += self.cut_power(path, rng)
            elif _identity(path) not in self.files:
                os.truncate(path, rng.choice([0, rng.randint(0, path.stat().st_size)]))
                lost += 1
        return lost


def _identity(file: Path) -> tuple[int, int, int]:
    status = file.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def recorded(run: Run) -> set[str]:
    """Units whose record a run has synced, and the folder that it is in: they are finished, whatever happens."""
    folders = [entry[2] for entry in run.synced if isinstance(entry[1], dict) and "zarr.json" in entry[1]]
    return {found[1] for path in folders if (found := re.search(r"progress/((variants|baselines)/\d{6})$", path))}


def lose_power(server: Server, build: Scenario, out: Path, stop: int, rng: random.Random) -> int:
    """Kill a build before a step, cut the power, ask as a reader, and finish it; how much was lost."""
    build.begin(out)
    disk, store = Disk(out), out / f"{build.oracle}.zarr"
    done = set(finished(store))
    run = build.run(server, out, stop=stop)
    assert run.code in (0, -signal.SIGKILL), run.said
    disk.follow(run)
    lost = disk.cut_power(out, rng)
    assert done | recorded(run) <= set(finished(store))
    build.check_reader(out)
    build.finish(server, out)
    shutil.rmtree(out)
    return lost


@pytest.mark.parametrize("name", ["fresh", "anew", "growing"])
def test_the_power_fails(crash_server: Server, builds: dict[str, Scenario], tmp_path: Path, name: str) -> None:
    build, rng = builds[name], random.Random(name)
    whole = len(build.undisturbed.steps)
    stops = [round(whole * (i + rng.random()) / 3) for i in range(3)] + [whole + 100]
    assert sum(lose_power(crash_server, build, tmp_path / "out", stop, rng) for stop in stops) > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_power_fails_often(crash_server: Server, builds: dict[str, Scenario], tmp_path: Path) -> None:
    rng = random.Random(5)
    lost = [
        lose_power(crash_server, build, tmp_path / "out", rng.randint(1, len(build.undisturbed.steps)), rng)
        for build in builds.values()
        for _ in range(40)
    ]
    print(f"\n{len(lost)} power failures, {sum(lost):,} files and folders lost or torn")
    assert sum(map(bool, lost)) > 60


def test_the_new_name_is_on_disk_before_anything_old_is_removed(builds: dict[str, Scenario]) -> None:
    for name in ("anew", "growing"):
        steps = builds[name].undisturbed.steps
        exchange = len(steps) - 1 - steps[::-1].index("exchange")
        assert steps[exchange + 1] == "fsync ."
        assert steps[exchange + 2].startswith("shutil.rmtree")


@pytest.mark.parametrize("name", ["effect/ref", "perbin/value"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_torn_shard_without_a_record_is_written_anew(
    builds: dict[str, Scenario], tmp_path: Path, name: str, kept: float
) -> None:
    """Zarr reads a shard that is written in part, such as the last one of an array, before it replaces it."""
    start = builds["anew"].start
    assert start
    facts = FactStore(Path(shutil.copytree(start / "tiny.zarr", tmp_path / "tiny.zarr")))
    kind = "variants" if name.startswith("effect") else "baselines"
    for unit in facts.units(kind):
        record = facts.record(unit)
        assert record
        shard, region = (
            facts._shard(name, unit),
            {a.name: facts.shape.region(a, unit) for a in facts.shape.arrays(kind)},
        )
        whole, values = shard.read_bytes(), {key: np.asarray(facts.array(key)[where]) for key, where in region.items()}
        facts.forget(unit)
        shard.unlink()
        shard.write_bytes(whole[: int(kept * len(whole))])
        facts.write(unit, values, {key: record[key] for key in record if key != "data"})
        assert shard.read_bytes() == whole
        assert facts.record(unit) == record
