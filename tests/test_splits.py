"""However the work is split, interrupted or repeated, the bytes are the same."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builders import cli
from builders.oracle import BinArray, Reduced
from builders.settings import Inputs
from chorus_store.facts import progress
from chorus_store.sequence import Codes
from tests import tiny


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return tiny.write_inputs(tmp_path_factory.mktemp("inputs"))


def build(inputs: Inputs, out: Path, *more: str, oracle: type[tiny.TinyOracle] = tiny.TinyOracle, **sizes: int) -> int:
    return cli.run(oracle, tiny.arguments(inputs, out, "--block", "8", *more, **sizes))


def contents(out: Path) -> dict[str, str]:
    """SHA-256 of every file of a result, except the records of who ran what when."""
    files = (file for file in out.rglob("*") if file.is_file())
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
        if not (name := file.relative_to(out).as_posix()).startswith("tiny.zarr/runs/")
    }


@pytest.fixture(scope="module")
def undisturbed(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert build(inputs, out) == 0
    found = contents(out)
    assert {"tiny.zarr/zarr.json", "tiny.zarr/effect_cdf/c/0/0", "tiny_pertrack.npz"} <= set(found)
    return found


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
def test_shards_in_any_order(
    inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str], order: tuple[int, ...]
) -> None:
    for k in order:
        assert build(inputs, tmp_path, "--part", "baselines", "--shard", f"{k}/3") == 0
    assert build(inputs, tmp_path, "--part", "variants") == 0
    assert build(inputs, tmp_path, "--part", "merge") == 0
    assert contents(tmp_path) == undisturbed


def test_a_shard_of_all_scores_its_share_and_waits(inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    assert build(inputs, tmp_path, "--shard", "1/2") == 0
    done = progress(tmp_path / "tiny.zarr")
    assert all(0 < counts["done"] < counts["units"] for counts in done.values())
    assert not (tmp_path / "tiny_pertrack.npz").exists()
    assert build(inputs, tmp_path, "--shard", "2/2") == 0
    assert contents(tmp_path) == undisturbed


class Interrupted(tiny.TinyOracle):
    """Ctrl-C arrives in the middle of a forward pass."""

    passes: ClassVar[int] = 0

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        type(self).passes -= 1
        if self.passes < 0:
            raise KeyboardInterrupt
        return super().reduce(codes, bins)


@pytest.mark.parametrize("passes", [0, 1, 7, 16])
def test_interrupted_and_resumed(
    inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str], passes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    Interrupted.passes = passes
    assert build(inputs, tmp_path, oracle=Interrupted) == 130
    assert "interrupted" in capsys.readouterr().err
    before = {name: value for name, value in contents(tmp_path).items() if "/progress/" in name}
    assert build(inputs, tmp_path) == 0
    after = contents(tmp_path)
    assert after == undisturbed
    assert before.items() <= after.items(), "a finished unit was redone or lost"


def test_a_rerun_does_nothing(inputs: Inputs, tmp_path: Path) -> None:
    assert build(inputs, tmp_path) == 0
    times = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*") if file.is_file()}
    Interrupted.passes = 0  # would be interrupted at the first forward pass
    assert build(inputs, tmp_path, oracle=Interrupted) == 0
    assert {file: file.stat().st_mtime_ns for file in times} == times


def test_the_same_command_repairs_a_background_that_lost_a_file(
    inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    assert build(inputs, tmp_path) == 0
    # Labels, of which some are read as soon as the store is opened, counts, curves and their metadata.
    for name in ("track/c/0", "track/zarr.json", "layer/c/0", "effect_count/c/0", "perbin_cdf/c/0/0", "zarr.json"):
        (tmp_path / "tiny.zarr" / name).unlink()
        assert build(inputs, tmp_path) == 0, name
        assert contents(tmp_path) == undisturbed, name


def test_two_processes_at_once(inputs: Inputs, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    command = [sys.executable, "-m", "tests.tiny", *tiny.arguments(inputs, tmp_path, "--block", "8")]
    workers = [subprocess.Popen([*command, "--part", part]) for part in ("variants", "variants", "baselines")]
    assert [worker.wait(120) for worker in workers] == [0, 0, 0]
    assert build(inputs, tmp_path, "--part", "merge") == 0
    assert contents(tmp_path) == undisturbed


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_loses_no_finished_unit(inputs: Inputs, tmp_path: Path, sign: signal.Signals) -> None:
    sizes = {"n_variants": 3000, "n_random": 24}
    command = [sys.executable, "-m", "tests.tiny", *tiny.arguments(inputs, tmp_path / "a", "--block", "8", **sizes)]
    worker = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    records = tmp_path / "a/tiny.zarr/progress/variants"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and len(list(records.glob("*/zarr.json"))) < 20:
        time.sleep(0.01)
    worker.send_signal(sign)
    assert worker.wait(60) in (-signal.SIGKILL, 130)
    finished = {file: file.stat().st_mtime_ns for file in records.glob("*/zarr.json")}
    assert 20 <= len(finished) < 375
    assert build(inputs, tmp_path / "a", **sizes) == 0
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    assert build(inputs, tmp_path / "b", **sizes) == 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@given(
    n_variants=st.integers(1, 40),
    n_random=st.integers(1, 30),
    bin_slots=st.integers(1, 16),
    blocks=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    shards=st.integers(1, 4),
    data=st.data(),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_plan_any_block_any_split(
    inputs: Inputs,
    tmp_path_factory: pytest.TempPathFactory,
    n_variants: int,
    n_random: int,
    bin_slots: int,
    blocks: tuple[int, int],
    shards: int,
    data: st.DataObject,
) -> None:
    sizes = {"n_variants": n_variants, "n_random": n_random, "bin_slots": bin_slots}
    one, many = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("many")
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, one, "--block", str(blocks[0]), **sizes)) == 0
    for k in data.draw(st.permutations(range(1, shards + 1))):
        split = ("--block", str(blocks[1]), "--shard", f"{k}/{shards}")
        assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, many, *split, **sizes)) == 0
    assert (one / "tiny_pertrack.npz").read_bytes() == (many / "tiny_pertrack.npz").read_bytes()
    cdfs = [f"{cdf}_cdf/c/0/0" for cdf in ("effect", "summary", "perbin")]
    for name in cdfs:
        assert (one / "tiny.zarr" / name).read_bytes() == (many / "tiny.zarr" / name).read_bytes()
