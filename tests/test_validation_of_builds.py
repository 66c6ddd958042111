"""Validation of records, facts, runs, manifest and NPZ: each defect, made for real, is found and named."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import cli
from builders.settings import Inputs
from chorus_store import manifest
from chorus_store.append import append_tracks
from chorus_store.errors import StoreNotFoundError
from chorus_store.facts import FactStore
from chorus_store.files import group_node
from chorus_store.npz import export_npz
from chorus_store.validation import validate
from tests import tiny
from tests.data.make_schema1 import FOLDER as SCHEMA1
from tests.stores import make_store
from tests.test_splits import contents
from tests.validated import built as built  # fixtures
from tests.validated import change, errors, the_only
from tests.validated import inputs as inputs
from tests.validated import store as store


def rewrite(store: Path, unit: str, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write the record of a unit anew, with a seal that fits."""
    file = store / "progress" / unit / "zarr.json"
    record = {key: value for key, value in json.loads(file.read_bytes())["attributes"].items() if key != "seal"}
    change(record)
    file.write_bytes(group_node(record))
    return file


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"scored": 3}, "do not make 16"),
        ({"positions": 17}, "17 positions, and the unit has 16"),
        ({"dropped": {"window": 5}}, "do not make 16"),
        ({"dropped": None}, "not a record of a unit of work"),
    ],
)
def test_a_record_that_does_not_add_up(store: Path, wrong: dict[str, Any], message: str):
    file = rewrite(store, "variants/000000", lambda record: record.update(wrong))
    found = next(finding for finding in errors(store) if finding.check == "records")
    assert found.array == "progress/variants/000000"
    assert message in found.message
    assert str(file) in found.repair


def test_records_and_facts(store: Path):
    rewrite(store, "variants/000000", lambda record: record["data"].pop("effect/alt"))
    (store / "progress/variants/000001/zarr.json").unlink()
    shutil.rmtree(store / "progress/baselines/000000")
    shutil.copytree(store / "progress/baselines/000001", store / "progress/baselines/000099")
    found = {f.array: f.message for f in errors(store) if f.check == "records"}
    assert "facts ['effect/ref']" in found["progress/variants/000000"]
    assert found["progress/variants/000001"] == found["progress/baselines/000000"] == "missing"
    assert "that the build does not have" in found["progress/baselines/000099"]


def test_facts_that_were_scored_anew(store: Path):
    rewrite(store, "variants/000000", lambda record: record["data"]["effect/alt"].update(sha256="0" * 64))
    manifest.write(store)
    assert "not those that the background was made from" in the_only(store, "facts").message


def test_facts_of_another_size_and_with_other_bytes(store: Path, inputs: Inputs):
    shard = store / "samples/effect/ref/c/0/0"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    assert "damaged, or not of the data that are there" in next(
        f.message for f in errors(store) if f.check == "records"
    )
    shard.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    assert errors(store) == [], "it takes a deep look"
    found = the_only(store, "facts", deep=True)
    assert found.array == "samples/effect/ref/c/0/0"
    Path(found.repair.removeprefix("remove ").partition(" and run")[0]).unlink()
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, store.parent, "--block", "16")) == 0
    assert errors(store, deep=True) == []


def test_runs(store: Path):
    first, second, *_ = sorted((store / "runs").glob("*/zarr.json"))
    first.write_text(first.read_text().replace('"part": "', '"part": "x'))
    second.unlink()
    found = {f.array: f.message for f in errors(store) if f.check == "runs"}
    assert "its seal is broken" in found[f"runs/{first.parent.name}"]
    assert "missing or damaged" in found[f"runs/{second.parent.name}"]


def test_the_manifest(store: Path):
    (store / "plan/zarr.json").unlink()
    (store / "notes.txt").write_text("mine")
    found = [(f.array, f.message, f.severity) for f in validate(store, progress=False).findings if f.check == "files"]
    assert found == [("plan/zarr.json", "missing", "error"), ("notes.txt", "not listed in the manifest", "warning")]
    file = store / "manifest/zarr.json"
    file.write_text(file.read_text().replace('"plan/zarr.json"', '"plan/zarr.jsom"'))
    assert [f.array for f in errors(store) if f.check == "files"] == ["manifest/zarr.json"]


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "gone": lambda data: None,
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "changed": lambda data: data.replace(b'"genome": "', b'"genome": "x', 1),
}


def damage_root(store: Path, how: str) -> None:
    file = store / "zarr.json"
    data = DAMAGES[how](file.read_bytes())
    file.unlink() if data is None else file.write_bytes(data)


@pytest.mark.parametrize("how", DAMAGES)
def test_the_repair_of_the_root_repairs_it(store: Path, how: str):
    before = contents(store.parent)
    damage_root(store, how)
    (repair,) = {finding.repair for finding in errors(store, deep=True)}
    assert repair == f"python -m builders.tiny --part merge --out {store.parent}"
    assert cli.run(tiny.TinyOracle, shlex.split(repair)[3:]) == 0
    assert contents(store.parent) == before


@pytest.mark.parametrize("how", DAMAGES)
def test_a_build_goes_on_without_its_root(inputs: Inputs, store: Path, tmp_path: Path, how: str):
    out = tmp_path / "out"
    arguments = tiny.arguments(inputs, out, "--block", "16")
    assert cli.run(tiny.TinyOracle, [*arguments, "--part", "variants"]) == 0
    damage_root(out / "tiny.zarr", how)
    assert cli.run(tiny.TinyOracle, arguments) == 0
    assert contents(out) == contents(store.parent)


@pytest.mark.parametrize("how", DAMAGES)
def test_appended_rows_are_not_lost_with_the_root(store: Path, how: str, capsys: pytest.CaptureFixture[str]):
    with np.load(store.with_name("tiny_pertrack.npz")) as npz:
        row = {name: npz[name][:1] for name in npz.files if name != "build_config"}
    append_tracks(store, {**row, "track_ids": ["NEW"]})
    damage_root(store, how)
    merging = ["--part", "merge", "--out", str(store.parent)]
    before = contents(store.parent)
    assert cli.run(tiny.TinyOracle, merging) == 2
    assert "append them again" in capsys.readouterr().err
    assert contents(store.parent) == before
    assert cli.run(tiny.TinyOracle, [*merging, "--allow-fewer-tracks"]) == 0
    assert errors(store, deep=True) == []


def test_a_root_that_is_nowhere_else(tmp_path: Path):
    store = Path(shutil.copytree(SCHEMA1 / "built.zarr", tmp_path / "built.zarr"))
    (store / "zarr.json").unlink()
    with pytest.raises(StoreNotFoundError, match="no store at"):
        FactStore(store)
    assert {finding.repair for finding in errors(store)} == {f"copy {store} again, or build it again"}


def test_a_store_of_before_there_were_manifests(store: Path):
    shutil.rmtree(store / "manifest")
    report = validate(store, deep=True, progress=False)
    assert report.ok
    (found,) = report.findings
    assert (found.check, found.severity) == ("files", "warning")
    command = found.repair.removeprefix("python -m builders.tiny ")
    assert cli.run(tiny.TinyOracle, command.split()) == 0
    assert validate(store, deep=True, progress=False).findings == []


def test_a_stale_npz(store: Path, tmp_path: Path):
    npz = store.with_name("tiny_pertrack.npz")
    other = make_store(tmp_path / "enformer.zarr")
    for wrong in (export_npz(other, tmp_path / "other.npz", progress=False), tmp_path / "torn.npz"):
        if wrong.name == "torn.npz":
            wrong.write_bytes(npz.read_bytes()[:1000])
        (found,) = errors(store, npz=wrong)
        assert found.check == "npz"
        assert found.repair == f"python -m chorus_store export {store} --out {wrong}"
    change(store, "summary_cdf", slice(2, 4), 0.5)
    found = next(finding for finding in errors(store) if finding.check == "npz")
    assert (found.array, found.tracks, found.n) == ("summary_cdfs", ["TRK2", "TRK3"], 2)
