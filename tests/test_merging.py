"""Backgrounds of different tracks, joined into one store."""

from __future__ import annotations

import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chorus_store
from chorus_store import cli, layout, merging
from chorus_store.append import append_from
from chorus_store.errors import (
    CorruptStoreError,
    CoverageError,
    InputError,
    StoreMismatchError,
    StoreNotFoundError,
    StoreWriteError,
)
from chorus_store.merging import Merged, merge
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from chorus_store.validation import validate
from tests.growing import FORMS, assert_equal, blocks, contents, files, part, spans
from tests.npz_files import background, save, with_current_keys
from tests.stores import archive, make_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("whole") / "enformer.zarr", 9, empty=(3, 6))


@pytest.mark.parametrize("form", FORMS)
def test_the_rows_of_all_in_order(whole: Path, tmp_path: Path, form: str) -> None:
    parts = [part(whole, rows, tmp_path / str(k), form) for k, rows in enumerate(([6, 0], [1], [8, 2, 3]))]
    out = tmp_path / "new" / "enformer.zarr"
    assert merge(parts, out) == Merged("tracks", 6)
    assert_equal(out, whole, [6, 0, 1, 8, 2, 3])
    assert spans(out) == [(2, 3, parts[1].name), (3, 6, parts[2].name)]
    assert validate(out, deep=True, progress=False).ok
    assert chorus_store.open(out)["effect_cdf"].encoding["chunks"] == (4, 200)
    assert {path.name for path in out.parent.iterdir()} == {out.name}
    npz = export_npz(out, tmp_path / "x_pertrack.npz", progress=False)
    assert blocks(npz) == blocks(out)
    with chorus_store.open(out) as store:
        assert "facts" not in store.attrs["provenance"] or not store.attrs["provenance"]["facts"]["kept"]


def test_of_any_kind_with_what_they_were_made_of(whole: Path, tmp_path: Path) -> None:
    grown = part(whole, [0, 1], tmp_path / "a")
    append_from(grown, part(whole, [2], tmp_path / "b", "npz"))
    zipped = archive(part(whole, [3], tmp_path / "c"), tmp_path / "c.zip")
    merge([grown, zipped, part(whole, [4], tmp_path / "d", "imported")], tmp_path / "one.zarr")
    merge([part(whole, [5, 6], tmp_path / "e", "npz"), tmp_path / "one.zarr"], tmp_path / "two.zarr")
    assert_equal(tmp_path / "two.zarr", whole, [5, 6, 0, 1, 2, 3, 4])
    assert spans(tmp_path / "two.zarr") == [
        (2, 4, "one.zarr"), (4, 5, "enformer_pertrack.npz"), (5, 6, "c.zip"), (6, 7, "enformer.zarr"),
    ]  # fmt: skip


def test_a_codec_and_shards_of_its_own(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npz = part(whole, [0, 1, 2], tmp_path / "a", "npz")
    first = import_npz(npz, tmp_path / "pcodec.zarr", codec="pcodec", progress=False)
    monkeypatch.setattr(layout, "TRACKS_PER_SHARD", 4)
    merge([first, part(whole, range(3, 9), tmp_path / "b", "npz")], tmp_path / "new.zarr")
    assert_equal(tmp_path / "new.zarr", whole)
    metadata = (tmp_path / "new.zarr/effect_cdf/zarr.json").read_text()
    assert "pcodec" in metadata
    assert len(list((tmp_path / "new.zarr/effect_cdf/c").iterdir())) == 3


def test_what_does_not_go_together(whole: Path, tmp_path: Path) -> None:
    first, second = part(whole, [0, 1], tmp_path / "a"), part(whole, [1, 2], tmp_path / "b", "npz")
    third = part(whole, [3], tmp_path / "c", oracle={"name": "sei", "title": "Sei", "version": "1", "licence": ""})
    fourth, out = part(whole, [4], tmp_path / "d"), tmp_path / "out.zarr"
    fifth = part(whole, [5], tmp_path / "e", "npz")
    before = files(tmp_path)
    for stores, error, message in (
        ([first, second], InputError, "it has CHIP:00001 already"),
        ([first, fourth, tmp_path / "c/../d" / fourth.name], InputError, r"d/enformer\.zarr is given twice; give each"),
        ([first, third], StoreMismatchError, "oracle of .* is sei"),
        ([first, tmp_path / "nothing.zarr"], StoreNotFoundError, "no store at"),
        ([first], InputError, "at least two stores"),
    ):
        with pytest.raises(error, match=message):
            merge(stores, out)
    (fourth / "perbin_cdf/c/0/0").unlink()
    with pytest.raises(CorruptStoreError, match="perbin_cdf"):
        merge([first, fourth], out)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="cannot write"):
        merge([first, fifth], tmp_path / "file" / "out.zarr")
    (tmp_path / "file").unlink()
    del before[fourth / "perbin_cdf/c/0/0"]
    assert files(tmp_path) == before and not out.exists()


def test_what_may_be_replaced(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [str(part(whole, rows, tmp_path / str(k), "npz")) for k, rows in enumerate(([0, 1], [2, 3], [4]))]
    out = tmp_path / "out.zarr"
    assert cli.main(["merge", *parts, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: 5 tracks of 3 backgrounds, published\n"
    assert cli.main(["merge", *parts, "--out", str(out)]) == 2
    assert "is there already; give another --out, or let it be replaced (--force)" in capsys.readouterr().err
    assert cli.main(["merge", *parts[::-1], "--out", str(out), "--force"]) == 0
    assert_equal(out, whole, [4, 2, 3, 0, 1])
    with pytest.raises(CoverageError, match="--allow-fewer-tracks"):
        merge(parts[1:], out, overwrite=True)
    merge(parts[1:], out, overwrite=True, allow_fewer_tracks=True)
    assert_equal(out, whole, [2, 3, 4])
    built = make_store(tmp_path / "built.zarr")
    for place in (built, Path(parts[0])):
        before = files(tmp_path)
        with pytest.raises(StoreMismatchError, match="was not imported or merged, so it is not replaced"):
            merge(parts, place, overwrite=True)
        assert files(tmp_path) == before


def test_interrupted(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [part(whole, rows, tmp_path / str(k)) for k, rows in enumerate(([0, 1], [2, 3]))]
    merge(parts, tmp_path / "out.zarr")
    before = files(tmp_path)

    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(merging, "consolidate", interrupt)
        for out in ("out.zarr", "new.zarr"):
            with pytest.raises(KeyboardInterrupt):
                merge(parts, tmp_path / out, overwrite=True)
            assert files(tmp_path) == before
    merge(parts, tmp_path / "new.zarr")
    assert_equal(tmp_path / "new.zarr", whole, range(4))


@given(st.lists(st.integers(0, 3), min_size=8, max_size=8), st.randoms(use_true_random=False), st.booleans())
@settings(deadline=None, max_examples=12)
def test_any_partition_in_any_order(owners: list[int], random: np.random.Generator, appending: bool) -> None:
    """Select by label: every row is as in the file that had them all, and its block names the file that it is from."""
    whole = with_current_keys(background(8, 12))
    groups = [[row for row, owner in enumerate(owners) if owner == group] for group in set(owners)]
    if len(groups) < 2:
        groups = [[0], list(range(1, 8))]
    random.shuffle(groups)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        places = []
        for number, rows in enumerate(groups):
            (folder / str(number)).mkdir()
            arrays = {key: values[rows] if values.shape[:1] == (8,) else values for key, values in whole.items()}
            places.append(save(folder / f"{number}/enformer_pertrack.npz", arrays))
        if appending:
            out = import_npz(places[0], folder / "out.zarr", progress=False)
            for place in places[1:]:
                append_from(out, place)
        else:
            out = folder / "out.zarr"
            merge(places, out)
        found = contents(export_npz(out, folder / "out.npz", progress=False))
        order = [whole["track_ids"].tolist().index(track) for track in found["track"].tolist()]
        assert order == [row for group in groups for row in group]
        for cdf in layout.CDFS:
            np.testing.assert_array_equal(found[f"{cdf}_cdf"], whole[f"{cdf}_cdfs"][order])
            np.testing.assert_array_equal(found[f"{cdf}_count"], whole[f"{cdf}_counts"][order])
        ends = np.cumsum([len(group) for group in groups]).tolist()
        assert [span[:2] for span in spans(out)] == list(pairwise(ends))
