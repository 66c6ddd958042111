"""Tracks appended to NPZ files and stores: old rows stay, new rows answer, bad rows and crashes change nothing."""

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

import chorus_store
from chorus_store import layout, schema
from chorus_store.append import append_tracks
from chorus_store.errors import InputError, StoreNotFoundError
from chorus_store.normalizer import PerTrackNormalizer
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from chorus_store.swap import recover
from tests.stores import make_store

IDS = ["DNASE:new", "CHIP:a long name, longer than those that are there"]


def arrays(npz: Path) -> dict[str, np.ndarray]:
    with np.load(npz, allow_pickle=False) as file:
        return dict(file)


def exported(store: Path) -> dict[str, np.ndarray]:
    return arrays(export_npz(store, store.with_name(f"{store.name}.npz"), progress=False))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built store and its NPZ, with an array of its own in the NPZ."""
    folder = tmp_path_factory.mktemp("original")
    store = make_store(folder / "enformer.zarr", n_tracks=7, empty=(3,))
    for group in (layout.PLAN, layout.PROGRESS):
        (store / group).mkdir()
        (store / group / "zarr.json").write_text("{}")
    npz = export_npz(store, folder / "plain.npz", progress=False)
    np.savez(folder / "enformer_pertrack.npz", my_score=np.arange(7, dtype=np.float32), cutoffs=[1, 2], **arrays(npz))
    return folder


@pytest.fixture(scope="module")
def tracks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two more tracks, by the keys of the NPZ."""
    rows = exported(make_store(tmp_path_factory.mktemp("more") / "more.zarr", n_tracks=2, seed=5))
    return {**{name: rows[name].tolist() for name in rows if name != "build_config"}, "track_ids": IDS}


@pytest.fixture(params=["npz", "built", "imported"])
def place(request: pytest.FixtureRequest, original: Path, tmp_path: Path) -> Path:
    """A background of seven tracks to append to."""
    if request.param == "built":
        return Path(shutil.copytree(original / "enformer.zarr", tmp_path / "enformer.zarr"))
    if request.param == "imported":
        return import_npz(original / "enformer_pertrack.npz", tmp_path / "enformer.zarr", progress=False)
    return Path(shutil.copy(original / "enformer_pertrack.npz", tmp_path))


def contents(place: Path) -> dict[str, np.ndarray]:
    return arrays(place) if place.suffix == ".npz" else exported(place)


def rows_for(place: Path, tracks: dict[str, Any]) -> dict[str, Any]:
    """The tracks with what this background has besides."""
    return tracks if "my_score" not in contents(place) else {**tracks, "my_score": [8.0, 9.0]}


def test_rows_are_added_and_the_old_ones_stay(place: Path, tracks: dict[str, Any]):
    before, rows = contents(place), rows_for(place, tracks)
    normalizer = PerTrackNormalizer(place.parent)
    answer = normalizer.effect_percentile("enformer", "DNASE:00000", 0.5)
    assert normalizer.effect_percentile("enformer", "DNASE_new", 0.5) is None
    normalizer.append_tracks("enformer", rows)
    assert normalizer.n_tracks("enformer") == 9
    assert normalizer.effect_percentile("enformer", "DNASE:00000", 0.5) == answer
    expected = np.searchsorted(np.float32(tracks["effect_cdfs"][0]), 0.5, "right") / 200
    assert normalizer.effect_percentile("enformer", "DNASE_new", 0.5) == expected

    after = contents(place)
    assert list(after) == list(before)
    for name in set(after) - {"build_config", "cutoffs"}:
        np.testing.assert_array_equal(after[name][:7], before[name])
        np.testing.assert_array_equal(after[name][7:], np.asarray(rows[name], before[name].dtype.kind))
        assert name == "track_ids" or after[name].dtype == before[name].dtype
    assert after.get("cutoffs", [1, 2]) == pytest.approx([1, 2])
    was, now = (json.loads(str(a["build_config"][0])) for a in (before, after))
    assert now["n_tracks"] == 9
    unknown = {"name": "arrays", "sha256": None}
    rows_added = [{"first": 7, "stop": 9, "source": unknown, "provenance": None}]
    assert now == {**was, "n_tracks": 9, "rows": rows_added}
    assert sorted(path.name for path in place.parent.iterdir() if path.suffix != ".npz" or path == place) == [
        place.name
    ]


def test_append_twice(place: Path, tracks: dict[str, Any]):
    normalizer = PerTrackNormalizer(place.parent)
    rows = rows_for(place, tracks)
    normalizer.append_tracks("enformer", rows)
    normalizer.append_tracks("enformer", {**rows, "track_ids": ["x", "y"]})
    assert normalizer.track_ids("enformer")[7:] == [*IDS, "x", "y"]
    assert normalizer.effect_percentile("enformer", "y", 0.5) == normalizer.effect_percentile("enformer", IDS[1], 0.5)
    if place.suffix == ".zarr":
        with chorus_store.open(place) as store:
            spans = [(block["first"], block["stop"]) for block in store.attrs["provenance"]["rows"]]
            assert store.sizes["track"] == 11 and spans == [(7, 9), (9, 11)]
            schema.validate(store.attrs, "store")


def test_labels_of_a_store(original: Path, tracks: dict[str, Any], tmp_path: Path):
    place = Path(shutil.copytree(original / "enformer.zarr", tmp_path / "enformer.zarr"))
    given = {name: values for name, values in tracks.items() if name != "signed_flags"}
    given |= {"layers_per_row": ["histone_marks", "gene_expression"], "assay": ["CHIP", "RNA"]}
    PerTrackNormalizer(tmp_path).append_tracks("enformer", given)
    with chorus_store.open(place) as store:
        new = store.isel(track=slice(7, None))
        columns = {name: new[name].values.tolist() for name in new.variables if new[name].dims == ("track",)}
    assert (
        columns.items()
        >= {
            "track": IDS,
            "layer": ["histone_marks", "gene_expression"],
            "signed": [False, True],
            "window_bp": [2001, 0],
            "formula": ["log2_fold_change", "ln_fold_change"],
            "pseudocount": [1.0, 0.001],
            "resolution_bp": [128, 128],
            "assay": ["CHIP", "RNA"],
            "cell_type": ["", ""],
            "strand": ["", ""],
        }.items()
    )
    assert (place / layout.PLAN / "zarr.json").samefile(place / layout.PLAN / "zarr.json")
    assert {folder.name for folder in place.iterdir()} >= {layout.PLAN, layout.PROGRESS}


BAD: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "an id that is there": (lambda t: {**t, "track_ids": ["new", "DNASE:00000"]}, "it has DNASE:00000 already"),
    "an id twice": (
        lambda t: {**t, "track_ids": ["new", "new"]},
        "track_ids of the new tracks has 'new' 2 times; correct",
    ),
    "no counts": (lambda t: {k: v for k, v in t.items() if k != "effect_counts"}, "they lack effect_counts"),
    "no ids": (lambda t: {k: v for k, v in t.items() if k != "track_ids"}, "it needs track_ids"),
    "a key too many": (lambda t: {**t, "other": [1, 2]}, "it has no other"),
    "another width": (
        lambda t: {k: np.asarray(v)[:, :9] if k.endswith("cdfs") else v for k, v in t.items()},
        "its CDFs have 200 points and theirs 9",
    ),
    "descending": (lambda t: {**t, "effect_cdfs": np.flip(t["effect_cdfs"], 1)}, "does not ascend.*of track DNASE:new"),
    "NaN": (lambda t: {**t, "effect_cdfs": np.full((2, 200), np.nan)}, "is not finite"),
    "another number of rows": (lambda t: {**t, "effect_counts": [1, 2, 3]}, "has 3 entries along track"),
    "counts that are no integers": (lambda t: {**t, "effect_counts": [0.5, 1]}, "Cannot cast"),
    "negative counts": (lambda t: {**t, "effect_counts": [-1, 1]}, "is negative for track DNASE:new"),
    "objects": (lambda t: {**t, "other": [object(), None]}, "Object arrays cannot be saved"),
}


def test_bad_rows_change_nothing(place: Path, tracks: dict[str, Any]):
    def files() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in place.parent.rglob("*") if file.is_file()}

    rows, before = rows_for(place, tracks), files()
    for change, message in BAD.values():
        with pytest.raises(InputError, match=message):
            append_tracks(place, change(rows))
    assert files() == before


def test_where_nothing_can_be_appended(original: Path, tracks: dict[str, Any], tmp_path: Path):
    normalizer = PerTrackNormalizer(tmp_path, backgrounds={"remote": "https://example.org/a.zarr", "zip": "a.zarr.zip"})
    for oracle in ("remote", "zip"):
        with pytest.raises(InputError, match="cannot grow: tracks are appended to a local NPZ file or store"):
            normalizer.append_tracks(oracle, tracks)
    with pytest.raises(StoreNotFoundError, match="no background of enformer in"):
        normalizer.append_tracks("enformer", tracks)
    place = Path(shutil.copytree(original / "enformer.zarr", tmp_path / "enformer.zarr"))
    with pytest.raises(InputError, match=r"need layers \(chromatin_accessibility, .*\) in layers_per_row"):
        normalizer.append_tracks("enformer", {**tracks, "layers_per_row": ["something", "else"]})
    assert place.is_dir()


_KILLED = """
import json, os, sys
from pathlib import Path
from chorus_store import append, npz_append, store_append, swap

place, rows, point, call, exchanging = sys.argv[1:]
left = int(call)

def killing(action):
    def killed(*args, **options):
        global left
        left -= 1
        if left == 0:
            os._exit(9)
        return action(*args, **options)
    return killed

owner, _, name = point.partition(".")
owner = {"npz_append": npz_append, "store_append": store_append, "os": os, "Path": Path, "shutil": swap.shutil}[owner]
setattr(owner, name, killing(getattr(owner, name)))
if not int(exchanging):
    swap._exchanged = lambda new, old: False  # a file system that cannot
append.append_tracks(place, json.loads(rows))
"""


@pytest.mark.parametrize(
    ("name", "point", "call", "exchanging", "n_tracks"),
    [
        ("enformer_pertrack.npz", "npz_append.write_array", 3, True, 7),  # the first are those of the new rows
        ("enformer_pertrack.npz", "npz_append.write_cdf", 2, True, 7),
        ("enformer_pertrack.npz", "os.fsync", 1, True, 7),
        ("enformer.zarr", "os.link", 9, True, 7),
        ("enformer.zarr", "store_append.consolidate", 1, True, 7),
        ("enformer.zarr", "store_append.replace_directory", 1, True, 7),
        ("enformer.zarr", "shutil.rmtree", 18, True, 9),  # the first are of arrays that are written anew
        ("enformer.zarr", "Path.rename", 2, False, 7),
        ("enformer.zarr", "shutil.rmtree", 18, False, 9),
    ],
)
def test_a_crash_leaves_the_old_rows_or_all(
    original: Path,
    tracks: dict[str, Any],
    tmp_path: Path,
    name: str,
    point: str,
    call: int,
    exchanging: bool,
    n_tracks: int,
):
    source, place = original / name, tmp_path / name
    rows = rows_for(source, tracks)
    shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    before = contents(source)
    command = [sys.executable, "-c", _KILLED, str(place), json.dumps(rows), point, str(call), str(int(exchanging))]
    assert subprocess.run(command, check=False).returncode == 9
    recover(place)
    assert len(contents(place)["track_ids"]) == n_tracks
    if n_tracks == 7:
        append_tracks(place, rows)
    after = contents(place)
    for key in after.keys() - {"build_config", "cutoffs"}:
        np.testing.assert_array_equal(after[key][:7], before[key])
        np.testing.assert_array_equal(after[key][7:], np.asarray(rows[key], before[key].dtype.kind))
