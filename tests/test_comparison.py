"""Comparing two backgrounds: alignment, drift, labels, provenance, and the command ``diff``."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

import chorus_store
from builders import cli as builder
from chorus_store.cli import main
from chorus_store.comparison import compare
from chorus_store.differences import Change
from chorus_store.distance import sampling_noise
from chorus_store.errors import ChorusStoreError, CorruptStoreError, InputError, SchemaError
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from chorus_store.staging import consolidate
from tests import npz_files, tiny
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.stores import OFFERED, archive, make_store

#: Of a comparison that finds no drift, at most; the medians are 1 where both are 0 too.
SAME = {"ks": 0.0, "excess": 0.0, "p50_ratio": 1.0, "p99_ratio": 1.0, "max_ratio": 1.0}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("old") / "enformer.zarr", 12)


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("new") / "enformer.zarr", 12, seed=1)


def changed(store: Path, out: Path, change: Callable[[zarr.Group], None]) -> Path:
    """A copy of a store in which something has changed."""
    shutil.copytree(store, out)
    change(zarr.open_group(out, mode="r+", use_consolidated=False))
    consolidate(out)
    return out


def npz(path: Path, **arrays: Any) -> Path:
    return npz_files.save(path, {name: np.asarray(values) for name, values in arrays.items()})


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["diff", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_background_against_itself_in_every_form(old: Path, tmp_path: Path, site: Site):
    file = export_npz(old, tmp_path / "enformer_pertrack.npz")
    forms = (old, file, import_npz(file, tmp_path / "imported.zarr"), archive(old, tmp_path / "enformer.zarr.zip"))
    for other in (*forms, site.add(old), chorus_store.open(old), xr.open_zarr(old)):
        for found in (compare(old, other), compare(other, old)):
            assert (found.removed, found.added, found.respelt, found.reordered) == ((), (), {}, False)
            assert (found.labels, found.provenance) == ([], [])
            assert found.drift.sizes == {"cdf": 3, "track": 12}
            for name, value in SAME.items():
                assert (found.drift[name] == value).all()
            assert found.n_beyond(0) == 0


def test_every_number_is_what_the_rows_say(tmp_path: Path):
    a = chorus_store.open(make_store(tmp_path / "a.zarr", 150, n_quantiles=64, decimals=1))
    b = chorus_store.open(make_store(tmp_path / "b.zarr", 140, 1, n_quantiles=50, decimals=1))
    b = b.isel(track=np.random.default_rng(0).permutation(140)[:135])
    b = b.assign({name: b[name] // 4 for name in ("effect_retained", "summary_retained", "perbin_retained")})
    found = compare(a, b)
    common = [track for track in a["track"].values if track in set(b["track"].values)]
    assert found.drift["track"].values.tolist() == common
    assert len(common) == 135
    assert set(found.removed) == set(a["track"].values) - set(common)
    assert (found.added, found.reordered) == ((), True)
    for cdf in ("effect", "summary", "perbin"):
        for track in common:
            pair = [store[f"{cdf}_cdf"].sel(track=track).values for store in (a, b)]
            drift = found.drift.sel(cdf=cdf, track=track)
            assert drift["ks"] == pytest.approx(stats.ks_2samp(*pair, method="asymp").statistic, abs=1e-12)
            sizes = [np.sort(np.abs(row)) for row in pair]
            for name, q in (("p50", 0.5), ("p99", 0.99), ("max", 1)):
                low, high = (size[min(int(q * size.size), size.size - 1)] for size in sizes)
                assert [drift[f"{name}_{side}"].item() for side in "ab"] == [low, high]
                assert drift[f"{name}_ratio"] == (np.float64(high) / low if low or high else 1)
            n = OFFERED[cdf]
            assert (drift["samples_a"], drift["samples_b"]) == (n, n // 4)
            assert drift["noise"] == sampling_noise(n, n // 4)
            assert drift["excess"] == drift["ks"] / drift["noise"]


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(power=st.integers(-20, 20))
def test_scaled_rows_have_that_ratio(old: Path, power: int):
    store = chorus_store.open(old).load()
    scaled = store.assign({name: store[name] * np.float32(2.0**power) for name in ("effect_cdf", "summary_cdf")})
    found = compare(store, scaled).drift
    for name in ("p50", "p99", "max"):
        assert (found[f"{name}_ratio"].sel(cdf=["effect", "summary"]) == 2.0**power).all()
        assert (found[f"{name}_ratio"].sel(cdf="perbin") == 1).all()
    assert (found["ks"].sel(cdf="perbin") == 0).all()
    assert ((found["ks"].sel(cdf="summary") > 0) == (power != 0)).all()


def test_tracks_with_samples_on_one_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    a = make_store(tmp_path / "a.zarr", empty=(0, 1))
    b = make_store(tmp_path / "b.zarr", empty=(1, 2, 3))
    found = compare(a, b, cdfs=["summary"])
    drift = found.drift.sel(cdf="summary")
    assert np.isnan(drift["ks"].values).tolist() == [True] * 4 + [False] * 3
    assert np.isnan(drift["p50_a"].values).tolist() == [True, True] + [False] * 5
    assert np.isnan(drift["p99_b"].values).tolist() == [False, True, True, True] + [False] * 3
    assert np.isnan(drift["max_ratio"].values).tolist() == [True] * 4 + [False] * 3
    assert drift["samples_b"].values.tolist() == [31_500, 0, 0, 0, 31_500, 31_500, 31_500]
    assert found.n_beyond(1) == 3
    code, out, err = run(capsys, a, b, "--cdf", "summary", "--fail-above", "1")
    assert (code, err) == (3, "further than 1: 3 of 7 CDFs\n")
    assert "summary: samples in A alone: 2\n" in out
    assert "summary: samples in B alone: 1\n" in out


def test_silent_tracks_and_unknown_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ids = ["same", "woken", "silenced"]
    a = npz(tmp_path / "a.npz", track_ids=ids, effect_cdfs=np.float32([[0, 0], [0, 0], [1, 2]]))
    b = npz(tmp_path / "b.npz", track_ids=ids, effect_cdfs=np.float32([[0, 0], [0, 3], [0, 0]]))
    found = compare(a, b)
    assert found.drift["p50_ratio"].values.tolist() == [[1, np.inf, 0]]
    assert found.drift["ks"].values.tolist() == [[0, 0.5, 1]]
    assert np.isnan(found.drift["excess"]).all()
    assert found.provenance is None
    _, out, _ = run(capsys, a, b)
    assert "unknown" in out
    assert "1 (0–inf)" in out
    assert out.endswith("provenance: not known of both\n")
    _, out, _ = run(capsys, a, b, "--json")
    document = json.loads(out)
    assert document["provenance"] is None
    assert [row["max_ratio"] for row in document["most_drifted"]] == [0, None, 1]
    _, out, _ = run(capsys, a, b, "--tsv")
    assert [row["max_ratio"] for row in csv.DictReader(out.splitlines(), delimiter="\t")] == ["0.0", "inf", "1.0"]


def test_which_tracks_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def file(name: str, *ids: str) -> Path:
        return npz(tmp_path / name, track_ids=ids, summary_cdfs=np.tile(np.float32([1, 2]), (len(ids), 1)))

    a = file("a.npz", "CHIP:K562", "old", "x", "y", "ENCFF1:+", "hg38:ENCFF2")
    b = file("b.npz", "y", "x", "new", "CHIP_K562", "ENCFF1", "ENCFF2")
    found = compare(a, b)
    assert found.drift["track"].values.tolist() == ["x", "y"]
    assert found.reordered
    assert found.removed == ("CHIP:K562", "old", "ENCFF1:+", "hg38:ENCFF2")
    assert found.added == ("new", "CHIP_K562", "ENCFF1", "ENCFF2")
    assert found.respelt == {"CHIP:K562": "CHIP_K562", "ENCFF1:+": "ENCFF1", "hg38:ENCFF2": "ENCFF2"}
    assert compare(b, a).respelt == {new: old for old, new in found.respelt.items()}
    _, out, _ = run(capsys, a, b)
    assert out.splitlines()[2:6] == [
        "tracks: 2 common, in another order, 4 removed, 4 added",
        "  removed: CHIP:K562, old, ENCFF1:+, hg38:ENCFF2",
        "  added: new, CHIP_K562, ENCFF1, ENCFF2",
        "  spelt otherwise: CHIP:K562 → CHIP_K562, ENCFF1:+ → ENCFF1, hg38:ENCFF2 → ENCFF2",
    ]


def test_what_else_differs(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def change(group: zarr.Group) -> None:
        group["window_bp"][[0, 3]] = 101
        group["layer"][2] = "tf_binding"
        attributes = group.attrs.asdict()
        provenance = attributes["provenance"]
        provenance["inputs"]["weights"] = {"name": "other.safetensors", "sha256": "f" * 64}
        provenance["inputs"]["ccres"] = {"name": "ccres.bed", "sha256": None}
        provenance["geometry"]["heads"][0]["n_bins"] = 448
        provenance["sampling"]["effect"]["offered"] = [1, 2]
        group.attrs.update({**attributes, "demo": True})

    other = changed(old, tmp_path / "other.zarr", change)
    found = compare(old, other)
    assert found.labels == [
        Change("layer", "histone_marks", "tf_binding", ("CHIP:00002",)),
        Change("window_bp", 501, 101, ("DNASE:00000", "CAGE:00003")),
    ]
    weights = chorus_store.open(old).attrs["provenance"]["inputs"]["weights"]
    assert found.provenance == [
        Change("demo", False, True),
        Change("geometry.heads.0.n_bins", 896, 448),
        Change("inputs.weights.name", weights["name"], "other.safetensors"),
        Change("inputs.weights.sha256", weights["sha256"], "f" * 64),
        Change("inputs.ccres.name", None, "ccres.bed"),
    ]
    _, out, _ = run(capsys, old, other)
    assert "labels that differ\n  layer: histone_marks → tf_binding (1): CHIP:00002\n" in out
    assert f"  inputs.weights.sha256: {weights['sha256'][:12]}… → ffffffffffff…\n" in out
    assert "  inputs.ccres.name: not stated → ccres.bed\n" in out
    assert json.loads(run(capsys, old, other, "--json")[1])["labels"][1]["tracks"] == ["DNASE:00000", "CAGE:00003"]


def test_two_builds_of_other_variants(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    inputs = tiny.write_inputs(tmp_path / "inputs")
    for seed in ("1", "2"):
        assert builder.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / seed, "--variant-seed", seed)) == 0
    capsys.readouterr()
    a, b = (tmp_path / seed / "tiny.zarr" for seed in ("1", "2"))
    found = compare(a, b)
    assert (found.drift["ks"].sel(cdf="effect") > 0).all()
    assert (found.drift["ks"].sel(cdf=["summary", "perbin"]) == 0).all()
    assert (found.drift["samples_a"].sel(cdf="effect") == 30).all()
    changes = {change.name: (change.a, change.b) for change in found.provenance or []}
    assert changes["plan.seeds.variant_seed"] == (1, 2)
    assert changes.keys() >= {"plan.sha256", "plan.effect_sha256"}
    assert not any(name.startswith(("inputs", "oracle", "geometry", "plan.activity")) for name in changes)
    assert run(capsys, a, b, "--fail-above", "0")[0] == 3
    assert run(capsys, a, b, "--fail-above", "0", "--cdf", "summary", "--cdf", "perbin")[0] == 0


def test_the_command_as_text(old: Path, new: Path, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, old, new, "--top", "2")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"A  {old}: enformer on hg38, 12 tracks, CDFs effect, summary, perbin"
    assert lines[2:4] == ["tracks: 12 common, in the same order, 0 removed, 0 added", "drift from A to B"]
    assert re.split(" {2,}", lines[4].strip()) == [
        "cdf", "tracks", "KS median", "KS max", "beyond noise", "p50 B/A", "p99 B/A", "max B/A",
    ]  # fmt: skip
    assert lines[8] == "most drifted"
    assert re.split(" {2,}", lines[9].strip()) == [
        "cdf", "track", "layer", "description", "KS", "KS/noise", "p50 B/A", "p99 B/A", "max B/A",
    ]  # fmt: skip
    table = compare(old, new).table()
    assert [line.split()[:2] for line in lines[10:12]] == table[["cdf", "track"]].values[:2].tolist()
    assert lines[12:] == ["provenance: the same"]
    assert "most drifted" not in run(capsys, old, old)[1]


def test_the_command_for_programs(old: Path, new: Path, capsys: pytest.CaptureFixture[str]):
    found = compare(old, new)
    document = json.loads(run(capsys, old, new, "--json", "--top", "3")[1])
    assert (document["common"], document["a"]["place"], document["b"]["n_points"]) == (12, str(old), 200)
    effect = document["drift"][0]
    ks, excess = (found.drift[name].sel(cdf="effect").values for name in ("ks", "excess"))
    assert (effect["cdf"], effect["tracks"], effect["ks_max"]) == ("effect", 12, ks.max())
    assert effect["beyond_noise"] == (excess > 1).sum()
    assert effect["ks_median"] == np.sort(ks)[5]
    drifted = [row["ks"] for row in document["most_drifted"]]
    assert drifted == sorted(found.drift["ks"].values.ravel(), reverse=True)[:3]
    rows = list(csv.DictReader(run(capsys, old, new, "--tsv")[1].splitlines(), delimiter="\t"))
    assert len(rows) == 36
    assert list(rows[0])[:4] == ["cdf", "track", "ks", "noise"]
    assert [float(row["p99_ratio"]) for row in rows] == found.table()["p99_ratio"].tolist()
    assert {row["layer"] for row in rows} == set(found.drift["layer"].values)


@pytest.mark.filterwarnings("default")
def test_other_oracles_are_compared_with_a_warning(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def change(group: zarr.Group) -> None:
        group.attrs.update({"oracle": {**group.attrs["oracle"], "name": "borzoi"}, "genome": "mm10"})

    other = changed(old, tmp_path / "other.zarr", change)
    code, _, err = run(capsys, old, other)
    assert code == 0
    assert [line.partition(":")[2].partition(":")[0] for line in err.splitlines()] == [
        " the oracles differ",
        " the genomes differ",
    ]


def test_what_cannot_be_compared(old: Path, tmp_path: Path):
    strangers = npz(tmp_path / "x.npz", track_ids=["a"], effect_cdfs=np.float32([[1, 2]]))
    with pytest.raises(InputError, match=r"no track in common: .* begins with 'DNASE:00000', .* begins with 'a'"):
        compare(old, strangers)
    ids = chorus_store.open(old)["track"].values.astype(str)
    scalar = npz(tmp_path / "y.npz", track_ids=ids, effect_cdfs=np.zeros((12, 2), np.float32))
    with pytest.raises(InputError, match=r"no perbin in common: .* has effect; choose"):
        compare(old, scalar, cdfs=["effect", "perbin"])
    assert compare(old, scalar).drift["cdf"].values.tolist() == ["effect"]
    with pytest.raises(InputError, match="no CDF in common"):
        compare(chorus_store.open(old).drop_vars("effect_cdf"), scalar)
    with pytest.raises(SchemaError, match="do not follow their schema"):
        compare(old, chorus_store.open(old).assign_attrs(oracle="enformer"))
    with pytest.raises(InputError, match="a Dataset with dimensions quantile cannot be compared"):
        compare(old, chorus_store.open(old).isel(track=0))


def test_damaged_rows_are_named(old: Path, tmp_path: Path):
    other = tmp_path / "other.zarr"
    shutil.copytree(old, other)
    (other / "summary_cdf/c/0/0").unlink()
    with pytest.raises(CorruptStoreError, match=r"summary_cdf of .*other\.zarr.* missing"):
        compare(old, other)
    assert (compare(old, other, cdfs=["effect"]).drift["ks"] == 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "-1"], "--top is a number of tracks"),
        (["--fail-above", "2"], "--fail-above is a distance from 0 to 1"),
        (["--fail-above", "nan"], "--fail-above is a distance from 0 to 1"),
        (["--plot", "drift.doc"], "drift.doc does not end in the name of a picture's format; use one of "),
        (["--plot", "no/folder/drift.png"], "cannot write no/folder/drift.png"),
    ],
)
def test_bad_options(old: Path, new: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str):
    code, _, err = run(capsys, old, new, *options)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1


def test_what_is_not_there(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for pair in ((old, tmp_path / "none.zarr"), (tmp_path / "none.npz", old)):
        code, out, err = run(capsys, *pair)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("error: no ")
        with pytest.raises(ChorusStoreError):
            compare(*pair)


def test_a_picture_of_the_drift(old: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    found = compare(old, new)
    above, below = np.reshape(found.plot().axes, (2, 3))
    assert [ax.get_title() for ax in above] == [f"{cdf}: 12 tracks" for cdf in ("effect", "summary", "perbin")]
    drift = found.drift.sel(cdf="effect")
    points = np.concatenate([line.get_xydata() for line in above[0].get_lines() if line.get_marker() == "."])
    expected = np.stack([drift["ks"], drift["p99_ratio"]], axis=1)
    np.testing.assert_array_equal(points[points[:, 0].argsort()], expected[expected[:, 0].argsort()])
    worst = drift["track"].values[drift["ks"].argmax("track")]
    assert below[0].get_title().startswith(f"{worst}: distance 0.")
    for line, store in zip(below[0].get_lines(), (old, new), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), chorus_store.open(store)["effect_cdf"].sel(track=worst))
    for suffix, magic in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("PDF", b"%PDF")):
        picture = tmp_path / f"drift.{suffix}"
        assert run(capsys, old, new, "--plot", picture, "--cdf", "effect")[0] == 0
        assert picture.read_bytes().startswith(magic)


def test_a_picture_of_what_has_no_ratio(tmp_path: Path):
    a, b = make_store(tmp_path / "a.zarr", empty=(0,)), make_store(tmp_path / "b.zarr", empty=(1,))
    ids = chorus_store.open(a)["track"].values.astype(str)
    zeros = npz(tmp_path / "zeros.npz", track_ids=ids, summary_cdfs=np.zeros((7, 9), np.float32))
    nothing = make_store(tmp_path / "nothing.zarr", empty=tuple(range(7)))
    assert compare(a, b).plot().axes[0].get_title() == "effect: 5 tracks"
    assert compare(a, zeros).plot().axes[0].get_title() == "summary: 6 tracks (6 not shown)"
    assert compare(a, nothing).plot().axes[0].get_title() == "effect: 0 tracks"


def test_without_matplotlib_the_extra_is_named_before_anything_is_read(old: Path):
    code = (
        "import sys; sys.modules['matplotlib'] = None; from chorus_store.cli import main; "
        "sys.exit(main(['diff', sys.argv[1], 'none.zarr', '--plot', 'x.png']))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(old)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: plots need matplotlib; install it with: pip install 'chorus-store[plot]'\n"
