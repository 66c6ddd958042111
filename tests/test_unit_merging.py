"""Builds that were scored apart, brought together: the bytes of one build, whatever was scored where and how often."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from builders import cli as builder
from builders.settings import Inputs
from chorus_store import cli, layout
from chorus_store.append import append_from
from chorus_store.errors import CorruptStoreError, InputError, StoreMismatchError, StoreWriteError
from chorus_store.facts import FactStore, progress
from chorus_store.merging import Merged, merge
from chorus_store.opening import is_published
from chorus_store.validation import validate
from tests import tiny, tiny_models
from tests.growing import spans
from tests.npz_files import save
from tests.test_splits import contents

STORE, MODELS = "tiny.zarr", "tinymodels_demo.zarr"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return tiny.write_inputs(tmp_path_factory.mktemp("inputs"))


def build(inputs: Inputs, out: Path, *more: str, **sizes: int) -> int:
    return builder.run(tiny.TinyOracle, tiny.arguments(inputs, out, "--block", "8", *more, **sizes))


def build_models(inputs: Inputs, out: Path, names: str, *more: str) -> Path:
    assert builder.run(tiny_models.TinyModels, tiny_models.arguments(inputs, out, list(names), *more)) == 0
    return out / MODELS


@pytest.fixture(scope="module")
def undisturbed(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed")
    assert build(inputs, out) == 0
    return contents(out)


@pytest.fixture(scope="module")
def scored(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hosts that scored a third of the units each."""
    folder = tmp_path_factory.mktemp("scored")
    for k in (1, 2, 3):
        for part in ("variants", "baselines"):
            assert build(inputs, folder / f"host{k}", "--part", part, "--shard", f"{k}/3") == 0
    return folder


@pytest.fixture
def hosts(scored: Path, tmp_path: Path) -> list[Path]:
    """Copies of their stores, to be changed."""
    shutil.copytree(scored, tmp_path, dirs_exist_ok=True)
    return [tmp_path / f"host{k}" / STORE for k in (1, 2, 3)]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_bytes_of_one_build(
    inputs: Inputs, hosts: list[Path], tmp_path: Path, undisturbed: dict[str, str], order: Sequence[int]
) -> None:
    out = tmp_path / "all"
    n_units = sum(counts["units"] for counts in progress(hosts[0]).values())
    assert merge([hosts[k] for k in order], out / STORE) == Merged("units", n_units)
    assert {path.name for path in out.iterdir()} == {STORE}
    shard = layout.shard_file(Path(STORE), "samples/effect/ref", (0, 0))
    assert (out / shard).samefile(hosts[0].parent / shard)
    runs = [len(list((store / layout.RUNS).glob("*/zarr.json"))) for store in (*hosts, out / STORE)]
    assert runs[3] == sum(runs[:3]) > 3
    assert merge(hosts, out / STORE) == Merged("units", 0), "nothing is left to bring"
    assert build(inputs, out, "--part", "merge") == 0
    assert validate(out / STORE, deep=True, progress=False).ok
    assert contents(out) == undisturbed


def test_how_to_publish_what_the_builder_would_not_find(
    hosts: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.zarr"
    assert cli.main(["merge", *map(str, hosts), "--out", str(out)]) == 0
    command = f"python -m builders.tiny --part merge --out {tmp_path}"
    said = capsys.readouterr().out
    assert said.endswith(f"\nto publish it: rename {out} to {tmp_path / STORE}, then {command}\n")


def test_into_one_of_them(
    inputs: Inputs, hosts: list[Path], undisturbed: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = hosts
    assert cli.main(["merge", str(first), str(second), "--out", str(first)]) == 0
    missing = sum(counts["units"] - counts["done"] for counts in progress(first).values())
    assert capsys.readouterr().out.endswith(f"units of 2 builds, {missing} missing\n") and missing
    assert cli.main(["merge", str(third), str(first), "--out", str(first)]) == 0
    assert capsys.readouterr().out.endswith(f"python -m builders.tiny --part merge --out {first.parent}\n")
    assert build(inputs, first.parent, "--part", "merge") == 0
    assert contents(first.parent) == undisturbed


def test_on_another_file_system(
    inputs: Inputs, hosts: list[Path], tmp_path: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no second file system to be had in every test run, so hard links are refused as by one."""
    link, out = os.link, tmp_path / "all"

    def refused(source: Path, target: Path) -> None:
        if str(source).startswith(str(tmp_path / "host")):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        link(source, target)

    monkeypatch.setattr(os, "link", refused)
    file = layout.shard_file(hosts[1], "samples/summary/value", FactStore(hosts[1]).units("baselines")[1].shard)
    for damaged in (layout.shard_file(hosts[1], "samples/summary/value", (k, 0)) for k in range(20)):
        if damaged.exists():
            file = damaged
    data = bytearray(file.read_bytes())
    file.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(CorruptStoreError, match=f"{file} is not what was written.*score its unit again"):
        merge(hosts, out / STORE)
    assert list(out.iterdir()) == []
    file.write_bytes(data)
    merge(hosts, out / STORE)
    assert build(inputs, out, "--part", "merge") == 0
    assert contents(out) == undisturbed


_KILLED = """
import os, sys
from pathlib import Path
from chorus_store import unit_merging
from chorus_store.merging import merge

point, call, out, *places = sys.argv[1:]
left, action = int(call), getattr(unit_merging, point)

def killing(*args, **options):
    global left
    left -= 1
    if left == 0:
        os._exit(9)
    return action(*args, **options)

setattr(unit_merging, point, killing)
merge(places, out)
"""


@pytest.mark.parametrize(
    ("point", "call", "into_one"),
    [
        ("_bring_file", 1, False),
        ("_bring_file", 9, False),
        ("write_atomically", 4, False),
        ("put_in_place", 1, False),
        ("_bring_file", 9, True),
        ("write_atomically", 4, True),
    ],
)
def test_killed_and_repeated(
    inputs: Inputs,
    hosts: list[Path],
    undisturbed: dict[str, str],
    tmp_path: Path,
    point: str,
    call: int,
    into_one: bool,
) -> None:
    out = hosts[0] if into_one else tmp_path / "all" / STORE
    command = [sys.executable, "-c", _KILLED, point, str(call), str(out), *map(str, hosts)]
    assert subprocess.run(command, check=False).returncode == 9
    assert out.exists() == into_one
    merge(hosts, out)
    assert build(inputs, out.parent, "--part", "merge") == 0
    assert contents(out.parent) == undisturbed


def test_units_that_differ_are_named(inputs: Inputs, hosts: list[Path], tmp_path: Path) -> None:
    """A unit that two hosts scored, one of them on a device that computes otherwise."""
    assert build(inputs, hosts[0].parent, "--part", "variants") == 0
    store = FactStore(hosts[0])
    unit = next(unit for unit in store.units("variants") if FactStore(hosts[1]).record(unit))
    record = store.record(unit)
    assert record is not None
    facts = {name: np.zeros((unit.stop - unit.start, 7), np.float32) for name in ("effect/ref", "effect/alt")}
    store.write(unit, facts, {key: value for key, value in record.items() if key != "data"})
    for out in (tmp_path / "all" / STORE, hosts[1]):
        with pytest.raises(StoreMismatchError, match=f"unit {unit.name} of .* is not the same as unit {unit.name}"):
            merge(hosts[:2], out)
    assert not (tmp_path / "all" / STORE).exists()


def test_builds_that_do_not_go_together(inputs: Inputs, hosts: list[Path], tmp_path: Path) -> None:
    assert build(inputs, tmp_path / "bf16", "--part", "variants", "--precision", "bf16") == 0
    assert build(inputs, tmp_path / "plan", "--part", "variants", n_variants=20) == 0
    assert builder.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "block", "--part", "variants")) == 0
    for other, reason in (
        ("bf16", "precision is fp32 in .*, bf16 in"),
        ("plan", "n_variants is 30"),
        ("block", "block is 8 in"),
    ):
        with pytest.raises(StoreMismatchError, match=f"these builds do not go together: .*{reason}"):
            merge([hosts[0], tmp_path / other / STORE], tmp_path / "all" / STORE)
    with pytest.raises(StoreMismatchError, match="is another build: precision is bf16"):
        merge(hosts, tmp_path / "bf16" / STORE)
    with pytest.raises(InputError, match="at least two"):
        merge(hosts[:1], tmp_path / "all" / STORE)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="cannot write"):
        merge(hosts, tmp_path / "file" / STORE)


def test_each_host_has_other_models(inputs: Inputs, tmp_path: Path) -> None:
    """Rows are joined in order and units renumbered; what one host published is published anew with all."""
    whole = build_models(inputs, tmp_path / "whole", "abcd")
    first = build_models(inputs, tmp_path / "1", "ab")
    build_models(inputs, tmp_path / "2", "cd", "--part", "variants")
    second = build_models(inputs, tmp_path / "2", "cd", "--part", "baselines")
    third = build_models(inputs, tmp_path / "3", "da")
    out = tmp_path / "all" / MODELS
    assert merge([first, second, third], out) == Merged("units", 8)
    assert chorus_store.open(out)["track"].values.tolist() == ["a", "b"], "as the first one published them"
    build_models(inputs, out.parent, "abcd", "--part", "merge")
    name = "tinymodels_demo_pertrack.npz"
    assert (out.parent / name).read_bytes() == (whole.parent / name).read_bytes()
    assert FactStore(out).tracks.track.tolist() == list("abcd")


def more_rows(npz: Path, names: Sequence[str], out: Path) -> Path:
    """Rows of a background under other names."""
    arrays = dict(np.load(npz))
    picked = {key: values[: len(names)] if len(values) > 1 else values for key, values in arrays.items()}
    return save(out, {**picked, "track_ids": np.array(names)})


def test_rows_that_were_appended_outlive_publishing(
    inputs: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = build_models(inputs, tmp_path, "ab")
    npz = tmp_path / "tinymodels_demo_pertrack.npz"
    append_from(store, more_rows(npz, ["x", "c"], tmp_path / "more_pertrack.npz"))
    appended = contents(store)
    build_models(inputs, tmp_path, "ab", "--part", "merge")
    assert contents(store).items() >= appended.items()
    assert len(np.load(npz)["track_ids"]) == 4
    for codec in ("pcodec", "blosc"):
        build_models(inputs, tmp_path, "ab", "--part", "merge", "--codec", codec)
        with chorus_store.open(store) as dataset:
            assert dataset["track"].values.tolist() == ["a", "b", "x", "c"]
            np.testing.assert_array_equal(dataset["effect_cdf"][2:], dataset["effect_cdf"][:2])
        assert spans(store) == [(2, 4, "more_pertrack.npz")]
    assert contents(store).items() >= appended.items()
    build_models(inputs, tmp_path, "abc")
    assert chorus_store.open(store)["track"].values.tolist() == ["a", "b", "c", "x"]
    assert spans(store) == [(3, 4, "more_pertrack.npz")]
    assert validate(store, deep=True, progress=False).ok
    assert "1 tracks of" in caplog.text and "are scored now" in caplog.text
    assert np.load(npz)["track_ids"].tolist() == ["a", "b", "c", "x"]


def test_damaged_rows_that_were_appended(inputs: Inputs, tmp_path: Path) -> None:
    store = build_models(inputs, tmp_path, "a")
    npz = tmp_path / "tinymodels_demo_pertrack.npz"
    append_from(store, more_rows(npz, ["x"], tmp_path / "more_pertrack.npz"))
    shard = store / "effect_cdf/c/0/0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    arguments = tiny_models.arguments(inputs, tmp_path, "a", "--part", "merge")
    assert builder.run(tiny_models.TinyModels, arguments) == 2
    assert builder.run(tiny_models.TinyModels, [*arguments, "--allow-fewer-tracks"]) == 0
    assert chorus_store.open(store)["track"].values.tolist() == ["a"]


def test_appended_rows_do_not_come_with_units(inputs: Inputs, tmp_path: Path) -> None:
    first, second = (build_models(inputs, tmp_path / name, name) for name in "ab")
    npz = second.parent / "tinymodels_demo_pertrack.npz"
    append_from(second, more_rows(npz, ["x"], tmp_path / "more_pertrack.npz"))
    with pytest.warns(UserWarning, match="rows that were appended to .* do not come along"):
        merge([first, second], tmp_path / "all" / MODELS)
    assert is_published(FactStore(tmp_path / "all" / MODELS).root)
