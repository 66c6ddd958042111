"""Backgrounds of schema 1, made once by ``tests/data/make_schema1.py``, still answer as they did, by every door."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import chorus_store
from chorus_store import PerTrackNormalizer, info, manifest, validation
from chorus_store.errors import SchemaError
from chorus_store.facts import FactStore
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from tests.data import make_schema1

DATA = make_schema1.FOLDER
STORES = ("built.zarr", "older.zarr", "imported.zarr")
PLACES = (*STORES, "built_pertrack.npz")
#: What an NPZ file, and so a store that was imported, says of its tracks.
OF_AN_NPZ = {
    "track", "layer", "signed",
    *(f"{cdf}_{what}" for cdf in chorus_store.layout.CDFS for what in ("count", "retained")),
}  # fmt: skip


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    return dict(json.loads((DATA / "expected.json").read_bytes()))


def arrays(npz: Path) -> dict[str, np.ndarray]:
    with np.load(npz, allow_pickle=False) as opened:
        return {name: opened[name] for name in opened}


def require_labels(store: xr.Dataset, expected: Mapping[str, Any], names: set[str]) -> None:
    assert names <= store.variables.keys()
    for name in names:
        assert store[name].values.tolist() == expected[name], name


def names_in(place: str, expected: Mapping[str, Any]) -> set[str]:
    labels = {name for name, values in expected.items() if name in chorus_store.layout.VARIABLE and len(values) == 4}
    return labels if place in ("built.zarr", "older.zarr") else labels & OF_AN_NPZ


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("door", ["open", "engine"])
def test_by_our_own_doors(place: str, door: str, expected: dict[str, Any]) -> None:
    opened = chorus_store.open(DATA / place) if door == "open" else xr.open_dataset(DATA / place, engine="chorus")
    with opened as store:
        require_labels(store, expected, names_in(place, expected))
        require_answers(store, expected)


@pytest.mark.parametrize("place", STORES)
def test_as_any_reader_of_zarr(place: str, expected: dict[str, Any]) -> None:
    with xr.open_zarr(DATA / place) as store:
        require_labels(store, expected, names_in(place, expected))
        require_answers(store, expected)


def require_answers(store: xr.Dataset, expected: Mapping[str, Any]) -> None:
    for cdf in chorus_store.layout.CDFS:
        raw = np.ascontiguousarray(store[f"{cdf}_cdf"].values, "<f4")
        assert hashlib.sha256(raw.tobytes()).hexdigest() == expected[f"{cdf}_sha256"]
        for track, asked, answers in zip(
            expected["track"], expected[f"{cdf}_asked"], expected[f"{cdf}_percentile"], strict=True
        ):
            found = store.chorus.percentile(np.array(asked), track=track, cdf=cdf)
            np.testing.assert_allclose(found, answers, rtol=0, atol=1e-12)


@pytest.mark.parametrize("place", PLACES)
def test_by_the_normalizer(place: str, expected: dict[str, Any], tmp_path: Path) -> None:
    name = "motifs_pertrack.npz" if place.endswith(".npz") else "motifs.zarr"
    copy = shutil.copytree if (DATA / place).is_dir() else shutil.copy
    copy(DATA / place, tmp_path / name)
    normalizer = PerTrackNormalizer(tmp_path)
    assert normalizer.track_ids("motifs") == expected["track"]
    for track, signed, asked, rows in zip(
        expected["track"], expected["signed"], expected["effect_asked"], rows_of("effect"), strict=True
    ):
        assert normalizer.is_signed("motifs", track) is signed
        assert normalizer.effect_null_support("motifs", track) == (rows[0], rows[-1])
        for value in asked:
            plain = np.searchsorted(rows, value, side="right") / len(rows)
            found = normalizer.effect_percentile("motifs", track, value)
            assert found is not None
            assert np.searchsorted(rows, value) / len(rows) <= found <= min(1.0, plain)


def rows_of(cdf: str) -> np.ndarray:
    return arrays(DATA / "built_pertrack.npz")[f"{cdf}_cdfs"]


@pytest.mark.parametrize("place", PLACES)
def test_it_is_valid_and_described(place: str, expected: dict[str, Any]) -> None:
    report = validation.validate(DATA / place, deep=True, progress=False)
    assert report.ok, report
    document = info.describe(DATA / place)
    assert (document["n_tracks"], document["cdf_points"], document["genome"]) == (4, 10_000, "hg38")
    assert document["sampling"]["summary"]["offered"] == [34, 50]
    assert "4" in info.render(document)


def test_which_have_a_manifest() -> None:
    assert [manifest.read(DATA / place) is not None for place in STORES] == [True, False, True]


@pytest.mark.parametrize("place", ["built.zarr", "older.zarr"])
def test_the_plan_and_the_records_of_a_build(place: str, expected: dict[str, Any]) -> None:
    store = FactStore(DATA / place)
    assert store.discarded and not any(store.missing(kind) for kind in ("variants", "baselines"))
    assert store.tracks.track.tolist() == expected["track"]
    variants = chorus_store.layout.read_table(DATA / place, "plan/variants")
    assert (variants.sizes["sample"], set(variants["chrom"].values.tolist())) == (60, {"chr20", "chr21"})


@pytest.mark.parametrize("place", STORES)
def test_export_gives_the_npz_again(place: str, tmp_path: Path) -> None:
    shutil.copytree(DATA / place, tmp_path / place)
    exported = arrays(export_npz(tmp_path / place, tmp_path / "new_pertrack.npz", progress=False))
    published = arrays(DATA / "built_pertrack.npz")
    assert exported.keys() == published.keys()
    for name in published.keys() - {"build_config"}:
        np.testing.assert_array_equal(exported[name], published[name], err_msg=name)
    ours, theirs = (json.loads(str(one["build_config"][0])) for one in (exported, published))
    assert ours.items() >= theirs.items()


def test_there_and_back(tmp_path: Path, expected: dict[str, Any]) -> None:
    store = import_npz(DATA / "built_pertrack.npz", tmp_path / "motifs.zarr", oracle="motifs", progress=False)
    with chorus_store.open(store) as imported:
        require_answers(imported, expected)
    again = export_npz(store, tmp_path / "again_pertrack.npz", progress=False)
    for name, values in arrays(DATA / "built_pertrack.npz").items():
        np.testing.assert_array_equal(arrays(again)[name], values, err_msg=name)


def test_the_same_build_today_has_the_same_values(tmp_path: Path, expected: dict[str, Any]) -> None:
    """Another layout, other codecs or more attributes are no matter; what a reader is told is."""
    told = make_schema1.answers(make_schema1.build(tmp_path))
    assert expected.keys() <= told.keys()
    for name in expected.keys() - {"effect_sha256"}:  # of logarithms, whose last bit is the machine's
        assert told[name] == expected[name] or np.allclose(told[name], expected[name], rtol=1e-6), name
    with xr.open_zarr(DATA / "built.zarr") as then, xr.open_zarr(tmp_path / "motifs.zarr") as now:
        np.testing.assert_allclose(now["effect_cdf"], then["effect_cdf"], rtol=1e-6)
        assert now["effect_cdf"].dims == then["effect_cdf"].dims
        before, after = (store.attrs["provenance"]["plan"] for store in (then, now))
    assert after == before


def test_what_is_there_is_never_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("source", "target"):
        (tmp_path / name).write_text(name)
    make_schema1.put(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "target" and "left as it is" in capsys.readouterr().out


def test_no_file_is_ignored_by_git() -> None:
    files = [str(file) for file in DATA.rglob("*") if file.is_file()]
    listed = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        input="\n".join(files), cwd=DATA, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 128:
        pytest.skip(f"not a checkout: {listed.stderr.strip()}")
    assert len(files) > 100 and listed.stdout == ""


def test_a_later_schema_is_refused_by_every_door(tmp_path: Path) -> None:
    store = shutil.copytree(DATA / "older.zarr", tmp_path / "motifs.zarr")
    node = json.loads((store / "zarr.json").read_bytes())
    node["attributes"]["schema"]["version"] = 2
    (store / "zarr.json").write_text(json.dumps(node))
    for door in (
        chorus_store.open, FactStore, info.describe, validation.validate,
        lambda place: xr.open_zarr(place).chorus,
        lambda place: export_npz(place, tmp_path / "x_pertrack.npz"),
        lambda place: PerTrackNormalizer(place.parent).n_tracks("motifs"),
    ):  # fmt: skip
        with pytest.raises(SchemaError, match=r"the store is too new: its layout is version 2, .* upgrade"):
            door(store)


def test_an_npz_of_a_later_schema_is_refused_by_every_door(tmp_path: Path) -> None:
    later = arrays(DATA / "built_pertrack.npz")
    config = json.loads(str(later["build_config"][0]))
    later["build_config"] = np.array([json.dumps({**config, "schema_version": 5})])
    npz = tmp_path / "motifs_pertrack.npz"
    np.savez(npz, **later)
    for door in (
        chorus_store.open, info.describe,
        lambda place: import_npz(place, tmp_path / "imported.zarr"),
        lambda place: PerTrackNormalizer(place.parent).n_tracks("motifs"),
    ):  # fmt: skip
        with pytest.raises(SchemaError, match=r"too new: its build_config is version 5, .* upgrade"):
            door(npz)
    report = validation.validate(npz, progress=False)
    assert not report.ok and "too new" in report.findings[0].message
