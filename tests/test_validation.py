"""Validation: every defect, made for real in a copy of a published store, is found by its check and named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import cli
from builders.settings import Inputs
from chorus_store import layout, manifest
from chorus_store.append import append_tracks
from chorus_store.checks.regrid import is_grid
from chorus_store.cli import main
from chorus_store.errors import CorruptStoreError, SchemaError, StoreNotFoundError
from chorus_store.facts import FactStore
from chorus_store.grid import grid_of_sorted
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from chorus_store.staging import consolidate
from chorus_store.validation import CHECKS, validate
from tests import tiny
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.stores import archive, edit_root, make_store
from tests.validated import built as built  # fixtures
from tests.validated import change, errors, the_only
from tests.validated import inputs as inputs
from tests.validated import store as store

TRACKS = [f"TRK{i}" for i in range(7)]


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_in_order(store: Path, tmp_path: Path, deep: bool):
    report = validate(store, deep=deep, progress=False)
    assert report.ok
    assert report.findings == []
    assert {check.name for check in report.checks if check.state == "passed"} == {check.name for check in CHECKS}
    imported = import_npz(store.with_name("tiny_pertrack.npz"), tmp_path / "imported.zarr", progress=False)
    for place in (store.with_name("tiny_pertrack.npz"), imported, archive(store, tmp_path / "tiny.zarr.zip")):
        assert validate(place, deep=deep, progress=False).findings == []


def test_all_of_the_algorithms_and_stages(inputs: Inputs, tmp_path: Path):
    arguments = tiny.arguments(inputs, tmp_path, "--block", "16")
    assert cli.run(tiny.TinyOracle, [*arguments, "--part", "variants"]) == 0
    unpublished = validate(tmp_path / "tiny.zarr", deep=True, progress=False)
    assert unpublished.ok
    assert {check.name for check in unpublished.checks if check.state == "passed"} >= {"plan", "records", "facts"}
    assert {check.name for check in unpublished.checks if check.state == "skipped"} >= {"rows", "files", "npz"}
    assert cli.run(tiny.TinyOracle, [*arguments, "--sampler", "algorithm-r", "--capacity", "12"]) == 0
    assert validate(tmp_path / "tiny.zarr", deep=True, progress=False).findings == []
    assert cli.run(tiny.TinyOracle, [*arguments, "--codec", "pcodec", "--discard-facts"]) == 0
    assert validate(tmp_path / "tiny.zarr", deep=True, progress=False).findings == []


def test_over_http(store: Path, site: Site):
    url = site.add(store)
    assert validate(url, deep=True, progress=False).findings == []
    site.files["/tiny.zarr/effect_cdf/c/0/0"] = b""
    del site.files["/tiny.zarr/plan/zarr.json"]
    found = {finding.array for finding in validate(url, deep=True, progress=False).findings}
    assert found == {"effect_cdf", "effect_cdf/c/0/0", "plan/zarr.json"}


def test_rows_that_came_from_elsewhere(store: Path):
    rows = np.sort(np.random.default_rng(0).random((2, 10_000)).astype(np.float32), axis=1)
    new = {f"{cdf}_cdfs": rows for cdf in layout.CDFS}
    counts = {f"{cdf}_{what}": np.array([900_000, 12]) for cdf in layout.CDFS for what in ("counts", "retained")}
    append_tracks(store, {"track_ids": ["A", "B"], "layers_per_row": ["tf_binding"] * 2, **new, **counts})
    (found,) = errors(store, deep=True)
    assert (found.check, found.array) == ("npz", "track_ids")
    export_npz(store, store.with_name("tiny_pertrack.npz"), progress=False)
    assert errors(store, deep=True) == []


@pytest.mark.parametrize(
    ("name", "index", "value", "check", "message"),
    [
        ("summary_cdf", (5, 7), 1e9, "rows", "not ascending"),
        ("perbin_cdf", (5, 0), np.nan, "rows", "missing, not finite"),
        ("effect_cdf", (5, -1), np.inf, "rows", "not finite"),
        ("effect_cdf", (5, 0), -1.0, "rows", "negative, though the track is unsigned"),
        ("layer", 5, "weather", "labels", "no layer of chromatin_accessibility"),
        ("signed", 5, True, "labels", "not what the layer has"),
        ("window_bp", 5, 2, "labels", "not what the layer has"),
        ("formula", 5, "difference", "labels", "not what the layer has"),
        ("pseudocount", 5, 2.0, "labels", "not what the layer has"),
        ("strand", 5, "?", "labels", "none of"),
        ("resolution_bp", 5, 3, "labels", "no resolution of the model"),
        ("cell_type", 5, "HeLa", "labels", "not as in the plan"),
        ("effect_retained", 5, -1, "counts", "more values kept than effect_count offered, or fewer than none"),
        ("summary_retained", 5, 10**6, "counts", "more values kept than summary_count offered"),
        ("perbin_retained", 5, 3, "counts", "not what the sampler exact keeps"),
    ],
)
def test_a_track_that_is_wrong_is_named(store: Path, name: str, index: Any, value: Any, check: str, message: str):
    change(store, name, index, value)
    found = next(finding for finding in errors(store) if (finding.check, finding.array) == (check, name))
    assert message in found.message
    assert (found.tracks, found.n) == (["TRK5"], 1)
    assert "--part merge" in found.repair


def test_the_repair_of_a_row_repairs_it(store: Path, inputs: Inputs):
    change(store, "effect_cdf", (2, slice(5000, None)), 9.0)
    found = next(finding for finding in errors(store) if finding.check == "rows")
    folder, _, command = found.repair.removeprefix("remove ").partition(", then python -m builders.tiny ")
    shutil.rmtree(folder)
    assert cli.run(tiny.TinyOracle, command.split()) == 0
    assert errors(store, deep=True) == []


@pytest.mark.parametrize(
    "wrong",
    [
        lambda sample, width: np.pad(sample, (width - len(sample), 0)),  # a row that was never filled
        lambda sample, width: np.pad(sample, (0, width - len(sample)), mode="edge"),  # a repeated filler
        lambda sample, width: np.interp(np.linspace(0, 1, width), np.linspace(0, 1, len(sample)), sample),
        lambda sample, width: np.repeat(sample, -(-width // len(sample)))[:width],  # steps
        lambda sample, width: grid_of_sorted(sample[1:], width),  # of fewer values
    ],
)  # fmt: skip
def test_rows_that_compaction_does_not_make(store: Path, wrong: Callable[[np.ndarray, int], np.ndarray]):
    sample = np.sort(np.random.default_rng(1).gamma(2.0, 1.0, 30))
    retained = zarr.open_array(store / "effect_retained", mode="r")[3]
    assert retained == 30
    change(store, "effect_cdf", 3, wrong(sample, 10_000).astype(np.float32))
    found = the_only(store, "rows")
    assert found.tracks == ["TRK3"]
    assert "not the grid of as many values" in found.message
    change(store, "effect_cdf", 3, grid_of_sorted(sample))
    assert not [finding for finding in errors(store) if finding.check == "rows"]


@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=120), points=st.integers(2, 130),
)  # fmt: skip
@settings(deadline=None)
def test_every_grid_is_one(values: list[float], points: int):
    sample = np.sort(np.array(values, np.float32))
    assert is_grid(grid_of_sorted(sample, points)[np.newaxis], np.array([len(sample)])).all()


def test_a_track_without_samples_has_zeros(store: Path):
    for name in ("perbin_count", "perbin_retained"):
        change(store, name, 6, 0)
    found = next(finding for finding in errors(store) if finding.check == "rows")
    assert (found.array, found.tracks) == ("perbin_cdf", ["TRK6"])


def test_identifiers(store: Path):
    change(store, "track", slice(None), ["TRK0", "", "TRK2", "TRK3", "TRK0", "TRK5", "TRK6"])
    found = [(f.tracks, f.message) for f in errors(store) if f.check == "tracks"]
    assert found == [([""], "no identifier"), (["TRK0"], "more than one row")]


def test_the_grid(store: Path):
    change(store, "quantile", 17, 0.5)
    assert the_only(store, "quantiles").n == 1


def test_more_values_than_positions(store: Path):
    for name in ("effect_count", "effect_retained"):
        change(store, name, 1, 31)
    found = [finding for finding in errors(store) if finding.check == "sampling"]
    assert [f.tracks for f in found if "than the positions allow" in f.message] == [["TRK1"]]
    assert [f.array for f in found if "not what the provenance says" in f.message] == [
        "effect_count",
        "effect_retained",
    ]


def test_most_tracks_are_silent(tmp_path: Path):
    path = make_store(tmp_path / "enformer.zarr", empty=(0, 1, 2, 3, 5))
    found = [finding for finding in errors(path) if finding.check == "yield"]
    assert [finding.array for finding in found] == ["effect_count", "summary_count", "perbin_count"]
    assert "only 17% of the tracks have some" in found[0].message
    assert errors(make_store(tmp_path / "fewer.zarr", empty=(0, 1, 4))) == []


def test_a_file_that_has_no_checksum(store: Path):
    def forget(node: dict[str, Any]) -> None:
        node["attributes"]["provenance"]["inputs"]["genes"]["sha256"] = None

    edit_root(store, forget)
    manifest.write(store)
    assert the_only(store, "provenance").array == "inputs.genes"


def test_attributes_that_do_not_follow_their_schema(store: Path):
    edit_root(store, lambda node: node["attributes"].update(genome=38))
    manifest.write(store)
    assert "$.genome" in the_only(store, "schema").message


def test_another_plan(store: Path):
    array = zarr.open_group(store, mode="r+", use_consolidated=False)["plan/variants/pos"]
    array[0] += 1
    found = [finding.check for finding in errors(store)]
    assert found == ["plan"]


def test_one_damaged_array_does_not_end_the_rest(store: Path):
    shard = layout.shard_file(store, "summary_cdf", (0, 0))
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    change(store, "strand", 5, "?")
    (store / "effect_count/c/0").unlink()
    found = {(f.check, f.array): f for f in errors(store)}
    assert found["rows", "summary_cdf"].tracks == TRACKS[:4]
    assert found["labels", "strand"].tracks == ["TRK5"]
    assert any("effect_count" in finding.message for finding in found.values())


def test_what_cannot_be_checked(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    zarr.create_group(tmp_path / "foreign.zarr", zarr_format=3, attributes={"title": "sea surface"})
    for place, kind in (
        ("none.zarr", StoreNotFoundError),
        ("folder", StoreNotFoundError),
        ("foreign.zarr", SchemaError),
    ):
        with pytest.raises(kind):
            validate(tmp_path / place)


def test_the_command(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", str(store), "--deep"]) == 0
    assert "✓ rows" in capsys.readouterr().out
    change(store, "summary_cdf", (5, 7), 1e9)
    assert main(["validate", str(store)]) == 3
    text = capsys.readouterr().out
    assert "✗ rows" in text
    assert "error (rows): summary_cdf of TRK5: missing, not finite, or not ascending" in text
    assert "  repair: remove " in text
    assert main(["validate", str(store), "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["deep"]) == (False, False)
    assert {check["name"]: check["state"] for check in document["checks"]}["rows"] == "failed"
    assert document["findings"][0].keys() == {"check", "array", "tracks", "n", "message", "repair", "severity"}
    assert main(["validate", str(tmp_path / "none.zarr")]) == 2
    assert "there is nothing" in capsys.readouterr().err
    assert main(["validate", str(store), "--npz", str(tmp_path / "none.npz")]) == 2
    assert f"no file {tmp_path / 'none.npz'} to compare with" in capsys.readouterr().err
    code = f"from chorus_store.cli import main; raise SystemExit(main(['validate', {str(store)!r}]))"
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, env={"PYTHONIOENCODING": "ascii"})
    assert b"FAIL rows" in plain.stdout
    assert plain.returncode == 3


def test_export_refuses_what_does_not_validate(store: Path):
    npz = store.with_name("tiny_pertrack.npz")
    before = npz.read_bytes()
    for name, index, value in (("perbin_cdf", (5, 7), 1e9), ("effect_retained", 5, 3), ("signed", 5, True)):
        mine = Path(shutil.copytree(store, store.with_name("worse.zarr"), dirs_exist_ok=True))
        change(mine, name, index, value)
        with pytest.raises(CorruptStoreError, match=r"does not validate: .*python -m chorus_store validate"):
            export_npz(mine, npz, progress=False)
        assert npz.read_bytes() == before
        shutil.rmtree(mine)


def test_a_widened_store_is_as_it_was_published(store: Path):
    """Rows that were added after publication change the metadata of the facts, in which nothing else may change."""
    file = store / "samples/effect/ref/zarr.json"
    node = json.loads(file.read_bytes())
    node["shape"][1] += 2
    file.write_text(json.dumps(node, indent=2))
    assert [f.check for f in errors(store, deep=True)] == ["arrays"], "the build has no such rows"
    assert FactStore(store).shape.n_tracks == 7
    node["shape"][0] += 2
    file.write_text(json.dumps(node, indent=2))
    assert [f.array for f in errors(store, deep=True) if f.check == "files"] == ["samples/effect/ref/zarr.json"]


def test_old_roots_have_no_seal(tmp_path: Path):
    path = make_store(tmp_path / "enformer.zarr")
    node = json.loads((path / "zarr.json").read_bytes())
    del node["attributes"]["seal"]
    (path / "zarr.json").write_text(json.dumps(node))
    assert errors(path) == []
    node["attributes"]["genome"] = "hg19"
    (path / "zarr.json").write_text(json.dumps(node))
    assert errors(path) == []
    consolidate(path)
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"hg19"', '"hg38"'))
    assert "its seal is broken" in next(f.message for f in errors(path) if f.check == "metadata")
