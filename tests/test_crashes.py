"""What a crash, a damaged file or a changed mind leaves behind, and that the next command mends it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from builders import cli, merge
from builders.settings import Inputs
from chorus_store import publish, swap
from chorus_store.errors import StoreNotFoundError, StoreWriteError
from chorus_store.facts import FactStore
from chorus_store.files import group_node
from tests import tiny
from tests.clusters import local_cluster
from tests.test_bad_input import refused
from tests.test_publish import inputs, mine, scored
from tests.test_publish import merge as merged
from tests.test_splits import contents

__all__ = ["inputs", "mine", "scored"]  # fixtures


def merging(out: Path, *more: str) -> list[str]:
    return ["--part", "merge", "--out", str(out), *more]


def left_behind(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def replace(file: Path, data: bytes) -> None:
    """Write a file anew; never into it, because published stores share their files."""
    file.unlink()
    file.write_bytes(data)


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    replace(file, bytes(data))


def test_without_exchange_the_directories_are_renamed(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged(mine)
    before = contents(mine)
    monkeypatch.setattr(swap, "_exchanged", lambda new, old: False)
    merged(mine, "--sampler", "algorithm-r", "--capacity", "9")
    assert contents(mine) != before
    merged(mine)
    assert contents(mine) == before
    assert left_behind(mine) == ["tiny.zarr", "tiny_pertrack.npz"]


_KILLED = """
import os, sys
from pathlib import Path
from builders import cli
from chorus_store import swap
from tests.tiny import TinyOracle

swap._exchanged = lambda new, old: False  # a file system that cannot
rename, renames = Path.rename, int(sys.argv[1])

def killed(self, target):
    global renames
    if "preflight" in str(self):
        return rename(self, target)
    if renames == 0:
        os._exit(9)
    renames -= 1
    rename(self, target)
    if renames == 0:
        os._exit(9)

Path.rename = killed
cli.run(TinyOracle, sys.argv[2:])
"""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_killed_between_the_renames(mine: Path, renames: int) -> None:
    """Where directories cannot be exchanged there is a moment without a store; the next command finds it again."""
    merged(mine)
    before = contents(mine)
    command = merging(mine, "--sampler", "algorithm-r", "--capacity", "9")
    died = subprocess.run([sys.executable, "-c", _KILLED, str(renames), *command], check=False)
    assert died.returncode == 9
    assert left_behind(mine) != ["tiny.zarr", "tiny_pertrack.npz"]
    merged(mine)
    assert contents(mine) == before
    assert left_behind(mine) == ["tiny.zarr", "tiny_pertrack.npz"]


def test_what_the_dead_left_is_removed(mine: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    merged(mine, "--discard-facts")
    left = mine / f"tiny.zarr.{socket.gethostname()}-{dead.pid}.partial"
    alive = mine / f"tiny.zarr.{socket.gethostname()}-{os.getppid()}.partial"
    left.mkdir()
    alive.mkdir()
    merged(mine, "--discard-facts")
    assert not left.exists()
    assert alive.exists()


def test_an_export_that_failed_is_made_up_for(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merged(mine)

    def fails(*args: object, **options: object) -> None:
        raise StoreWriteError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(merge, "export_npz", fails)
        assert cli.run(tiny.TinyOracle, merging(mine, "--sampler", "algorithm-r", "--capacity", "50")) == 2
    with np.load(mine / "tiny_pertrack.npz") as npz:
        assert npz["perbin_retained"].max() > 50, "the old NPZ is still there"
    merged(mine, "--sampler", "algorithm-r", "--capacity", "50")
    with np.load(mine / "tiny_pertrack.npz") as npz:
        assert npz["perbin_retained"].max() == 50


@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "flipped"])
def test_a_damaged_background_is_published_again(mine: Path, damage: str) -> None:
    merged(mine)
    before = contents(mine)
    shard = mine / "tiny.zarr/effect_cdf/c/0/0"
    data = shard.read_bytes()
    if damage == "removed":
        shard.unlink()
    elif damage == "flipped":
        flip(shard)
    else:
        replace(shard, data[:-40] if damage == "cut" else b"")
    merged(mine)
    assert contents(mine) == before


def test_publishing_reads_back_what_it_wrote(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    consolidate = publish.consolidate

    def and_damage(path: Path) -> None:
        consolidate(path)
        flip(path / "summary_cdf/c/0/0")

    with monkeypatch.context() as patch:
        patch.setattr(publish, "consolidate", and_damage)
        assert cli.run(tiny.TinyOracle, merging(mine)) == 2
    with pytest.raises(StoreNotFoundError, match="in progress"):
        chorus_store.open(mine / "tiny.zarr")
    merged(mine)


def test_discarded_facts_cannot_be_published_differently(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merged(mine, "--discard-facts")
    before = contents(mine)
    refused(capsys, merging(mine, "--sampler", "algorithm-r"), "sampler exact", "discarded", "--out")
    assert contents(mine) == before


def test_facts_are_compared_with_their_records_before_they_are_discarded(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FactStore(mine / "tiny.zarr")
    record = store.record(store.units("variants")[0])
    assert record
    record["data"]["effect/ref"]["sha256"] = record["data"]["effect/ref"]["sha256"][::-1]
    replace(mine / "tiny.zarr/progress/variants/000000/zarr.json", group_node(record))
    refused(capsys, merging(mine, "--discard-facts"), "effect/ref", "checksum differs", "variants/000000")
    assert (mine / "tiny.zarr/samples").exists()


@pytest.mark.parametrize("name", ["summary/value/c/2/0", "effect/alt/c/1/0", "perbin/value/c/0/0"])
def test_damaged_facts_are_named_and_redone_alone(
    mine: Path, inputs: Inputs, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(mine / "tiny.zarr/samples" / name)
    refused(capsys, merging(mine), name, "delete it and run the same command again")
    (mine / "tiny.zarr/samples" / name).unlink()
    store = FactStore(mine / "tiny.zarr")
    assert len(store.missing("variants")) + len(store.missing("baselines")) == 1
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, mine, "--block", "8")) == 0


@pytest.mark.parametrize(
    "name",
    ["plan/variants/zarr.json", "plan/tracks/track/zarr.json", "samples/effect/ref/zarr.json", "progress/zarr.json"],
)
def test_truncated_metadata_is_one_sentence(
    mine: Path, inputs: Inputs, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = mine / "tiny.zarr" / name
    replace(file, file.read_bytes()[: file.stat().st_size // 2])
    refused(capsys, tiny.arguments(inputs, mine, "--block", "8"), "tiny.zarr")


def test_two_stores_on_one_cluster_at_once(mine: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(mine, tmp_path / "other"))
    thinned = ("--sampler", "algorithm-r", "--capacity", "9")
    expected = []
    for folder, options in ((mine, ()), (other, thinned)):
        copy = Path(shutil.copytree(folder, tmp_path / f"expected-{folder.name}"))
        merged(copy, *options)
        expected.append(contents(copy))
    with local_cluster(1, 2) as cluster:
        command = ["--dask", cluster.scheduler_address]
        program = [sys.executable, "-m", "tests.tiny"]
        runs = [
            subprocess.Popen([*program, *merging(folder, *command, *options)])
            for folder, options in ((mine, ()), (other, thinned))
        ]
        assert [run.wait(120) for run in runs] == [0, 0]
    assert [contents(mine), contents(other)] == expected


@pytest.mark.parametrize("address", ["nonsense", "foo://x"])
def test_an_address_that_is_none_is_refused_before_any_work(
    inputs: Inputs, tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(capsys, tiny.arguments(inputs, tmp_path / "out", "--dask", address), f"at {address}")
    assert not (tmp_path / "out").exists()


def test_another_batch_is_another_build(mine: Path, inputs: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, tiny.arguments(inputs, mine, "--block", "8", "--batch", "3"), "batch is 4, asked for 3")


def test_a_store_that_is_removed_meanwhile_leaves_nothing(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "out/tiny.zarr"

    class Remover(tiny.TinyOracle):
        def predict(self, codes: np.ndarray) -> np.ndarray:
            shutil.rmtree(store, ignore_errors=True)
            return super().predict(codes)

    refused(capsys, tiny.arguments(inputs, tmp_path / "out", "--block", "8"), "removed or replaced", oracle=Remover)
    assert not store.exists()


def test_the_command_line_runs_off_the_main_thread(mine: Path) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(cli.run(tiny.TinyOracle, merging(mine))))
    thread.start()
    thread.join()
    assert codes == [0]
