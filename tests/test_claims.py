"""Two at once: one does the work, the other says who; what the dead have claimed is taken over."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from builders import cli
from builders.oracle import BinArray, Reduced
from builders.settings import Inputs
from chorus_store import claims, info, lock
from chorus_store.claims import Claims, exclusively, holders
from chorus_store.errors import StoreBusyError
from chorus_store.facts import FactStore, progress
from chorus_store.lock import STALE_S, Holder
from chorus_store.sequence import Codes
from tests import tiny
from tests.test_bad_input import refused
from tests.test_splits import build, contents, inputs, undisturbed

__all__ = ["inputs", "undisturbed"]  # fixtures

UNIT = "variants/000001"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "tiny.zarr"


def claimed(store: Path, holder: Holder | None = None, text: str | None = None, name: str = UNIT) -> Path:
    """A claim of somebody else, as a file."""
    file = claims.folder_of(store) / f"{name.replace('/', '-')}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(asdict(holder)) if holder else text or "")
    return file


def holder_here(**changes: object) -> Holder:
    """This process, which is alive, or some other."""
    return replace(Holder(**json.loads(lock.content("builders.tiny"))), **changes)  # type: ignore[arg-type]


def ago(file: Path, seconds: float) -> Path:
    os.utime(file, (time.time() - seconds,) * 2)
    return file


def dead() -> int:
    """Number of a process that was."""
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


def test_a_claim_is_held_given_up_and_leaves_nothing(store: Path) -> None:
    with Claims(store, "builders.tiny --part all") as mine, Claims(store, "other") as other:
        assert mine.take(UNIT) and not other.take(UNIT)
        assert (
            other.others[UNIT]
            == holders(store)[UNIT]
            == holder_here(command="builders.tiny --part all", since=other.others[UNIT].since)
        )
        mine.release(UNIT)
        assert holders(store) == {}
        assert other.take(UNIT) and other.others == {}
    assert not claims.folder_of(store).exists()


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_what_the_dead_hold_is_taken_over(store: Path, number: int) -> None:
    gone = {
        1: holder_here(pid=dead()),
        2: holder_here(pid=os.getppid(), started=0.0),  # the number is another process's now
        3: holder_here(host="elsewhere"),
        4: holder_here(),  # this process could not remove it
    }[number]
    ago(claimed(store, gone), STALE_S + 60)
    with Claims(store, "builders.tiny") as mine:
        assert mine.take(UNIT)
        assert holders(store)[UNIT].pid == os.getpid()


def test_another_host_is_judged_by_its_heartbeat(store: Path) -> None:
    elsewhere = holder_here(host="elsewhere", pid=1)
    file = ago(claimed(store, elsewhere), STALE_S - 60)
    with Claims(store, "builders.tiny") as mine:
        assert not mine.take(UNIT)
        assert mine.others[UNIT] == elsewhere
        ago(file, STALE_S + 60)
        assert mine.take(UNIT)


def test_a_process_touches_its_claims(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.01)
    with Claims(store, "builders.tiny") as mine:
        mine.take(UNIT)
        (file,) = claims.folder_of(store).iterdir()
        ago(file, STALE_S + 60)
        deadline = time.monotonic() + 30
        while time.time() - file.stat().st_mtime > STALE_S and time.monotonic() < deadline:
            time.sleep(0.01)
        assert time.time() - file.stat().st_mtime < STALE_S
    assert not any(thread.name == "claims" and thread.is_alive() for thread in _ended(threading.enumerate()))


def _ended(threads: list[threading.Thread]) -> list[threading.Thread]:
    for thread in threads:
        if thread.name == "claims":
            thread.join(10)
    return threads


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"host": 1, "pid": "x", "started": null, "since": 1}', "[" * 100_000]
)
def test_a_torn_claim_is_nobodys(store: Path, text: str) -> None:
    claimed(store, text=text)
    with Claims(store, "builders.tiny") as mine:
        assert holders(store) == {}
        assert mine.take(UNIT)
    assert not claims.folder_of(store).exists()


def test_a_claim_that_was_taken_over_is_not_removed(store: Path) -> None:
    with Claims(store, "builders.tiny") as mine:
        mine.take(UNIT)
        claimed(store, holder_here(host="elsewhere"))
    assert holders(store)[UNIT].host == "elsewhere"


_TAKER = """
import sys
from pathlib import Path
from chorus_store.claims import Claims

mine = Claims(Path(sys.argv[1]), "taker")
for name in sys.stdin:
    print(mine.take(name.strip()), flush=True)
    sys.stdin.readline()
    mine.release(name.strip())
    print(flush=True)
"""


def test_of_many_that_take_over_one_wins(store: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with ExitStack() as stack:
        takers = [
            stack.enter_context(subprocess.Popen([sys.executable, "-c", _TAKER, str(store)], **pipes)) for _ in range(4)
        ]
        for number in range(25):
            claimed(store, holder_here(pid=dead()) if number % 2 else None)
            assert sorted(_told(takers, UNIT)) == ["False", "False", "False", "True"]
            _told(takers, "release")


def _told(takers: list[subprocess.Popen[str]], line: str) -> list[str]:
    """Say something to all at once, and hear what they answer."""
    for taker in takers:
        assert taker.stdin
        taker.stdin.write(f"{line}\n")
    return [taker.stdout.readline().strip() for taker in takers if taker.stdout]


@pytest.mark.parametrize("obstacle", ["a file", "nowhere"])
def test_where_no_claim_can_be_made_work_goes_on(tmp_path: Path, obstacle: str) -> None:
    store = tmp_path / ("tiny.zarr" if obstacle == "a file" else "no/such/folder/tiny.zarr")
    if obstacle == "a file":
        claims.folder_of(store).write_text("in the way")
    with Claims(store, "builders.tiny") as mine, exclusively(store, "builders.tiny"):
        assert mine.take(UNIT)
        mine.release(UNIT)


def test_a_held_unit_is_left_and_said(
    inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str], capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    store = tmp_path / "tiny.zarr"
    with Claims(store, "builders.tiny --part all --gpu 1") as theirs:
        theirs.take(UNIT)
        assert build(inputs, tmp_path, "--part", "variants") == 0
        said = rf"{UNIT} is held by process {os.getpid()} on \S+, since \S+ \(builders.tiny --part all --gpu 1\)"
        assert re.search(said, caplog.text)
        units = progress(store)["variants"]
        assert units["done"] == units["units"] - 1
        refused(capsys, tiny.arguments(inputs, tmp_path, "--block", "8"), "cannot be merged yet", said, "run the same")
        assert progress(store)["baselines"]["done"] == progress(store)["baselines"]["units"], "the rest is done"
        refused(capsys, ["--part", "merge", "--out", str(tmp_path)], "1 units of work are missing", said)
        assert {name: held["pid"] for name, held in info.describe(store)["claims"].items()} == {UNIT: os.getpid()}
        assert re.search(said, info.render(info.describe(store)))
    assert build(inputs, tmp_path) == 0
    assert contents(tmp_path) == undisturbed


def test_a_unit_that_becomes_free_is_done_at_the_end(
    inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    theirs = Claims(tmp_path / "tiny.zarr", "builders.tiny")

    class Meanwhile(tiny.TinyOracle):
        def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
            theirs.release(UNIT)
            return super().reduce(codes, bins)

    theirs.take(UNIT)
    assert build(inputs, tmp_path, oracle=Meanwhile) == 0
    assert contents(tmp_path) == undisturbed


def test_a_shard_whose_unit_is_held_leaves_it(inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    with Claims(tmp_path / "tiny.zarr", "builders.tiny --shard 2/2") as theirs:
        theirs.take(UNIT)
        assert build(inputs, tmp_path, "--shard", "1/2") == 0
        assert build(inputs, tmp_path, "--shard", "2/2") == 0
        assert not (tmp_path / "tiny_pertrack.npz").exists()
    assert build(inputs, tmp_path, "--shard", "2/2") == 0
    assert contents(tmp_path) == undisturbed


def test_a_second_merge_says_who_is_at_the_first(
    inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("variants", "baselines"):
        assert build(inputs, tmp_path, "--part", part) == 0
    merging = ["--part", "merge", "--out", str(tmp_path)]
    with exclusively(tmp_path / "tiny.zarr", "builders.tiny --part merge"):
        said = (
            rf"being published by process {os.getpid()} on \S+, since \S+ \(builders.tiny --part merge\); wait for it"
        )
        refused(capsys, merging, said)
        with pytest.raises(StoreBusyError, match=said):
            exclusively(tmp_path / "tiny.zarr", "another").__enter__()
    assert cli.run(tiny.TinyOracle, merging) == 0
    assert contents(tmp_path) == undisturbed


def test_two_whole_builds_at_once(inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """They share the units; whoever comes to the end first may find the other at work, and says so."""
    command = [sys.executable, "-m", "tests.tiny", *tiny.arguments(inputs, tmp_path, "--block", "8")]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    for worker, text in zip(workers, said, strict=True):
        assert worker.returncode == 0 or (worker.returncode == 2 and re.search(r"^error: .*process \d+ on", text, re.M))
    assert 0 in [worker.returncode for worker in workers]
    assert contents(tmp_path) == undisturbed


def test_a_claim_that_is_stolen_costs_nothing(inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """Claims are removed while they are held: both builders do the same units, and the bytes are the same."""

    class Thief(tiny.TinyOracle):
        def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
            shutil.rmtree(claims.folder_of(tmp_path / "tiny.zarr"), ignore_errors=True)
            return super().reduce(codes, bins)

    assert build(inputs, tmp_path, oracle=Thief) == 0
    assert contents(tmp_path) == undisturbed
    assert FactStore(tmp_path / "tiny.zarr").missing("variants") == []
