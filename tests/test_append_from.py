"""Tracks of other backgrounds: as if all were built at once, with their sources, and refused where they do not fit."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from chorus_store import cli, layout, origins, schema, store_append
from chorus_store.append import append_from, append_tracks
from chorus_store.claims import Claims, exclusively
from chorus_store.errors import (
    CorruptStoreError,
    InputError,
    StoreBusyError,
    StoreMismatchError,
    StoreNotFoundError,
    TrackNotFoundError,
)
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from chorus_store.validation import validate
from tests.growing import FORMS, assert_equal, blocks, contents, files, part, spans
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.memory import peak_growth
from tests.npz_files import background, save, with_current_keys
from tests.stores import archive, edit_root, make_store

OLD, NEW = [0, 1, 2, 3, 4], [5, 6, 7, 8]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of nine tracks."""
    return make_store(tmp_path_factory.mktemp("whole") / "enformer.zarr", 9, empty=(3, 6))


@pytest.mark.parametrize("source_form", FORMS)
@pytest.mark.parametrize("form", FORMS)
def test_as_if_built_at_once(whole: Path, tmp_path: Path, form: str, source_form: str) -> None:
    place, source = part(whole, OLD, tmp_path / "a", form), part(whole, NEW, tmp_path / "b", source_form)
    wanted = part(whole, [*OLD, *NEW], tmp_path / "c", form)
    assert append_from(place, source) == (4, 9)
    if form == "built" and source_form != "built":  # an NPZ has no labels
        for name, values in contents(place).items():
            expected = contents(wanted)[name]
            lost = name in ("assay", "cell_type", "description", "strand")
            np.testing.assert_array_equal(values, np.where(np.arange(9) < 5, expected, "") if lost else expected)
    else:
        assert_equal(place, wanted)
    assert spans(place) == [(5, 9, source.name)]
    if place.suffix == ".zarr":
        assert validate(place, deep=True, progress=False).ok
    assert not list(tmp_path.rglob("*.partial")) + list(tmp_path.rglob("*.claims"))


def test_from_an_archive_and_over_http(whole: Path, tmp_path: Path, site: Site) -> None:
    stores = [part(whole, [i], tmp_path / str(i), "npz" if i == 6 else "built") for i in (0, 4, 5, 6)]
    zipped = archive(stores[1], tmp_path / "one.zip")
    site.files["/x.npz"] = stores[3].read_bytes()
    for source in (str(zipped), site.add(stores[2]), f"{site.url}/x.npz"):
        append_from(stores[0], source)
    assert contents(stores[0])["track"].tolist() == contents(whole)["track"][[0, 4, 5, 6]].tolist()
    manifest = hashlib.sha256((stores[2] / "manifest/zarr.json").read_bytes()).hexdigest()
    npz = hashlib.sha256(stores[3].read_bytes()).hexdigest()
    assert [block["source"] for block in blocks(stores[0])][1:] == [
        {"name": "enformer.zarr", "sha256": manifest},
        {"name": "x.npz", "sha256": npz},
    ]


def test_tracks_that_are_chosen(whole: Path, tmp_path: Path) -> None:
    source = part(whole, range(9), tmp_path / "b")
    wanted: list[tuple[dict[str, Any], list[int]]] = [
        ({"tracks": ["CHIP:00007", "CHIP:00001"]}, [1, 7]),
        ({"tracks": ["CHIP_00006"]}, [6]),
        ({"layer": ["tf_binding"], "cell_type": "HepG2"}, [1]),
        ({"pattern": "cage"}, [3, 8]),
        ({"pattern": "cage", "tracks": ["CAGE:00008", "RNA:00004"]}, [8]),
    ]
    for number, (selection, rows) in enumerate(wanted):
        place = part(whole, [0], tmp_path / str(number), "npz" if number % 2 else "built")
        append_from(place, source, **selection)
        assert_equal(place, whole, [0, *rows])
    with pytest.raises(TrackNotFoundError, match=r"no track 'CAGE:0009' in .*near matches: CAGE:0000"):
        append_from(place, source, ["CAGE:0009"])
    with pytest.raises(InputError, match="is all that was asked for"):
        append_from(place, source, ["CAGE:00008"], layer=["tf_binding"])


def saying(**config: Any) -> Callable[[Path], Path]:
    """A source whose ``build_config`` says something else."""

    def edit(folder: Path) -> Path:
        arrays = with_current_keys(background(2, 200))
        document = json.loads(str(arrays["build_config"][0])) | config
        return save(folder / "x.npz", {**arrays, "build_config": np.array([json.dumps(document)])})

    return edit


def without(*names: str) -> Callable[[Path], Path]:
    """A source that lacks some arrays."""

    def edit(folder: Path) -> Path:
        arrays = with_current_keys(background(2, 200))
        return save(folder / "enformer_pertrack.npz", {k: v for k, v in arrays.items() if k not in names})

    return edit


REFUSED: dict[str, tuple[Callable[[Path], Path], type[Exception], str]] = {
    "another oracle": (saying(oracle="sei"), StoreMismatchError, "oracle of .* is sei, of .* enformer"),
    "no oracle": (saying(oracle=None), StoreMismatchError, "does not say which oracle it is of"),
    "another genome": (saying(genome="mm10"), StoreMismatchError, "genome of .* is mm10, of .* hg38"),
    "other windows": (
        saying(histone_window_bp=501),
        StoreMismatchError,
        "histone_window_bp of .* is 501, of .* 2001",
    ),
    "a demonstration": (saying(demo=True), StoreMismatchError, "is a demonstration, and .* is not"),
    "another width": (
        lambda folder: save(folder / "enformer_pertrack.npz", with_current_keys(background(2, 9))),
        InputError,
        "its CDFs have 200 points and theirs 9",
    ),
    "no perbin": (without("perbin_cdfs"), InputError, "they lack perbin_cdfs"),
    "no counts": (without("effect_counts"), InputError, "they lack effect_counts"),
    "no layers": (without("layers_per_row"), InputError, "they lack layers_per_row"),
    "ids that are there": (
        lambda folder: make_store(folder / "x.zarr", 2),
        InputError,
        "it has DNASE:00000, CHIP:00001 already",
    ),
    "nothing": (lambda folder: folder / "nothing.zarr", StoreNotFoundError, "no store at"),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_does_not_fit_changes_nothing(whole: Path, tmp_path: Path, form: str) -> None:
    place = part(whole, OLD, tmp_path / "a", form)
    before = files(place.parent)
    (tmp_path / "b").mkdir()
    for reason, (make, error, message) in REFUSED.items():
        with pytest.raises(error, match=message):
            append_from(place, make(tmp_path / "b"))
        assert files(place.parent) == before, reason
        shutil.rmtree(tmp_path / "b/x.zarr", ignore_errors=True)
    for remote in ("https://example.org/enformer.zarr", tmp_path / "enformer.zarr.zip"):
        with pytest.raises(InputError, match="cannot grow"):
            append_from(remote, place)
    with exclusively(place, "merge"), pytest.raises(StoreBusyError, match=r"is being published by process \d+"):
        append_from(place, part(whole, NEW, tmp_path / "c"))


def test_signs_that_nobody_knows(tmp_path: Path) -> None:
    arrays = {name: values for name, values in with_current_keys(background(4, 9)).items() if name != "signed_flags"}
    del arrays["layers_per_row"]
    rows = {name: (values[:2], values[2:]) for name, values in arrays.items() if values.shape[:1] == (4,)}
    npz = save(tmp_path / "enformer_pertrack.npz", {name: old for name, (old, _) in rows.items()})
    store = import_npz(npz, tmp_path / "enformer.zarr", progress=False)
    new = {name: values for name, (_, values) in rows.items()}
    for folder in ("unsigned", "signed"):
        (tmp_path / folder).mkdir()
    unsigned = save(tmp_path / "unsigned/enformer_pertrack.npz", new)
    signed = save(tmp_path / "signed/enformer_pertrack.npz", {**new, "signed_flags": np.array([False, True])})
    with pytest.raises(InputError, match=r"need layers .* or else their signed"):
        append_from(signed, npz)
    for place in (npz, store):
        with pytest.raises(InputError, match="does not say which tracks are signed, so it takes none that are"):
            append_from(place, signed)
        append_from(place, unsigned)
        assert contents(place)["signed"].tolist() == [False] * 4


def test_provenance_of_every_row_is_kept(whole: Path, tmp_path: Path) -> None:
    """Append, export, import, append, choose: each row keeps what it was taken from."""
    store, second, third = (part(whole, rows, tmp_path / str(rows)) for rows in ([0, 1], [2, 3], [4, 5]))
    fourth = part(whole, [6], tmp_path / "d", "npz")
    documents = [chorus_store.open(source).attrs["provenance"] for source in (second, third)]
    append_from(store, second)
    npz = export_npz(store, tmp_path / "enformer_pertrack.npz", progress=False)
    assert spans(npz) == [(2, 4, "enformer.zarr")] and blocks(npz) == blocks(store)
    append_from(npz, third)
    imported = import_npz(npz, tmp_path / "imported.zarr", progress=False)
    again = export_npz(imported, tmp_path / "again_pertrack.npz", progress=False)
    np.testing.assert_equal(dict(np.load(again)), dict(np.load(npz)))
    append_from(imported, fourth)
    assert [span[:2] for span in spans(imported)] == [(2, 4), (4, 6), (6, 7)]
    exported = export_npz(imported, tmp_path / "last_pertrack.npz", progress=False)
    assert blocks(exported) == blocks(imported)
    found = blocks(imported)
    assert [block["provenance"] for block in found[:2]] == documents
    assert found[2]["provenance"] == json.loads(str(np.load(fourth)["build_config"][0]))
    with chorus_store.open(imported) as dataset:
        schema.validate(dataset.attrs, "store")

    other = part(whole, [8], tmp_path / "e")
    append_from(other, imported, ["DNASE:00000", "CAGE:00003", "RNA:00004", "CHIP:00006"])
    assert [span[:2] for span in spans(other)] == [(1, 2), (2, 3), (3, 4), (4, 5)]
    taken = blocks(other)
    assert taken[0]["source"]["name"] == "imported.zarr" and "rows" not in taken[0]["provenance"]
    assert [block["source"] for block in taken[1:]] == [block["source"] for block in found]


def test_rows_that_an_older_release_counted(whole: Path, tmp_path: Path) -> None:
    npz = part(whole, OLD, tmp_path, "npz")
    arrays = dict(np.load(npz))
    config = json.loads(str(arrays["build_config"][0])) | {"appended": 2}
    old = save(tmp_path / "enformer_pertrack.npz", {**arrays, "build_config": np.array([json.dumps(config)])})
    store = import_npz(old, tmp_path / "imported.zarr", progress=False)
    assert spans(store) == [(3, 5, "arrays")]
    np.testing.assert_equal(dict(np.load(export_npz(store, tmp_path / "x.npz", progress=False))), dict(np.load(old)))
    for place in (store, old):
        append_from(place, part(whole, [8], tmp_path / f"for {place.name}"))
        assert spans(place) == [(3, 5, "arrays"), (5, 6, "enformer.zarr")]
    assert "appended" not in json.loads(str(np.load(old)["build_config"][0]))


@pytest.mark.parametrize(
    "foreign",
    [5, [1], [{"first": 0}], [{"first": 3, "stop": 2, "source": {"name": "x", "sha256": None}, "provenance": None}]],
)
def test_a_document_that_means_something_else(foreign: Any) -> None:
    assert origins.of({"build_config": {"rows": foreign}}, 9) == []


def test_only_the_last_file_of_a_cdf_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "TRACKS_PER_SHARD", 8)
    whole = make_store(tmp_path / "whole.zarr", 40)
    store, source = part(whole, range(20), tmp_path / "a"), part(whole, range(20, 40), tmp_path / "b", "npz")
    old = chorus_store.open(store)
    shards = [store / f"effect_cdf/c/{i}/0" for i in range(3)]
    inodes = [shard.stat().st_ino for shard in shards]
    append_from(store, source)
    assert [shard.stat().st_ino == inode for shard, inode in zip(shards, inodes, strict=True)] == [True, True, False]
    rows = contents(whole)["effect_cdf"]
    np.testing.assert_array_equal(contents(store)["effect_cdf"], rows)
    np.testing.assert_array_equal(old["effect_cdf"], rows[:20])


def test_while_others_are_at_work(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, source = part(whole, OLD, tmp_path / "a"), part(whole, NEW, tmp_path / "b")
    with Claims(place, "score") as claims:
        assert claims.take("variants/000003")
        with pytest.raises(StoreBusyError, match=r"cannot grow while it is scored: variants/000003 is held by"):
            append_from(place, source)

    def grow(*arguments: Any) -> int:
        edit_root(place, lambda node: node["attributes"].update(note="of another tool"))
        return store_append_grow(*arguments)

    store_append_grow = store_append.grow
    monkeypatch.setattr(store_append, "grow", grow)
    with pytest.raises(StoreMismatchError, match="was changed while tracks were added"):
        append_from(place, source)
    assert_equal(place, whole, OLD)
    monkeypatch.undo()
    append_from(place, source)
    assert chorus_store.open(place).attrs["note"] == "of another tool"


def test_a_source_that_is_damaged_changes_nothing(whole: Path, tmp_path: Path) -> None:
    npz = part(whole, NEW, tmp_path / "b", "npz")
    data = bytearray(npz.read_bytes())
    at = data.index(b"perbin_cdfs.npy") + 2000
    data[at] ^= 255
    npz.write_bytes(data)
    store = part(whole, NEW, tmp_path / "c")
    (store / "perbin_cdf/c/0/0").unlink()
    for form in FORMS:
        place = part(whole, OLD, tmp_path / form, form)
        before = files(place.parent)
        for source in (npz, store):
            with pytest.raises(CorruptStoreError, match="perbin"):
                append_from(place, source)
            assert files(place.parent) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    n_tracks = 3000
    rows = np.broadcast_to(np.linspace(0, 9, 10_000, dtype="f4").round(1), (n_tracks, 10_000))
    ids = np.array([f"T{i}" for i in range(n_tracks)])
    (tmp_path / "b").mkdir()
    npz = save(tmp_path / "b/x_pertrack.npz", {"track_ids": ids, "effect_cdfs": rows}, compressed=False)
    small = save(tmp_path / "x_pertrack.npz", {"track_ids": ids[:1] + "-", "effect_cdfs": rows[:1]})
    store = import_npz(small, tmp_path / "x.zarr", progress=False)
    code = "from chorus_store import append, lazy, npz_dataset; append.append_from(*arguments)"
    assert peak_growth(code, small, npz) < 110e6 < rows.nbytes
    assert peak_growth(code, store, npz) < 110e6 < rows.nbytes


def test_the_command_line(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, source = (str(part(whole, rows, tmp_path / name)) for name, rows in (("a", OLD), ("b", NEW)))
    assert cli.main(["append", place, source, "--track", "CHIP:00006", "--track", "RNA:00004"]) == 2
    assert "no track 'RNA:00004'" in capsys.readouterr().err
    assert cli.main(["append", place, source, "--layer", "tf_binding"]) == 0
    assert capsys.readouterr().out == f"{place}: 1 tracks added, 6 now\n"
    assert cli.main(["append", place, source, "--pattern", "CAGE|^DNASE"]) == 0
    assert cli.main(["info", place]) == 0
    shown = capsys.readouterr().out
    assert "\nrows from elsewhere (3)\n  5:6                      enformer.zarr  sha256 " in shown
    assert cli.main(["append", place, source]) == 2
    assert "it has DNASE:00005, CHIP:00006, CAGE:00008 already" in capsys.readouterr().err


def test_arrays_have_no_source(whole: Path, tmp_path: Path) -> None:
    rows = {
        name: values[NEW]
        for name, values in np.load(part(whole, range(9), tmp_path / "b", "npz")).items()
        if len(values) == 9
    }
    place = part(whole, OLD, tmp_path / "a")
    append_tracks(place, rows)
    assert blocks(place) == [{"first": 5, "stop": 9, "source": {"name": "arrays", "sha256": None}, "provenance": None}]
