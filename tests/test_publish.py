"""Compaction and publishing: samplers, codecs, budgets, clusters, and what readers see meanwhile."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

import chorus_store
from builders import cli
from builders.settings import Inputs
from builders.software import software_versions
from chorus_store import layout
from chorus_store.budget import SAMPLERS, Sampler, working_set
from chorus_store.compact import compact
from chorus_store.errors import InputError, MemoryBudgetError
from chorus_store.facts import FactStore
from chorus_store.grid import grid_of_sorted
from chorus_store.layers import LAYERS
from chorus_store.units import Shape
from tests import tiny
from tests.clusters import local_cluster
from tests.memory import peak_growth
from tests.test_reservoir import plain
from tests.test_splits import contents


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return tiny.write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def scored(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with complete facts that are not published yet."""
    out = tmp_path_factory.mktemp("scored")
    for part in ("variants", "baselines"):
        assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out, "--block", "8", "--part", part)) == 0
    return out


@pytest.fixture
def mine(scored: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(scored, tmp_path / "mine"))


def merge(out: Path, *more: str) -> None:
    assert cli.run(tiny.TinyOracle, ["--part", "merge", "--out", str(out), "--workers", "2", *more]) == 0


def values_of(store: FactStore, cdf: str) -> np.ndarray:
    """The population of every track, from the facts, by the definition."""
    if cdf != "effect":
        return store.read_columns(f"{cdf}/value", 0, 7).astype(np.float64)
    ref, alt = store.read_columns("effect/ref", 0, 7), store.read_columns("effect/alt", 0, 7)
    return LAYERS["tf_binding"].effect(ref, alt)  # one formula for all layers of the tiny oracle


@pytest.mark.parametrize("codec", ["blosc", "pcodec"])
def test_cdfs_are_the_grids_of_the_facts(mine: Path, codec: str) -> None:
    merge(mine, "--codec", codec)
    store = FactStore(mine / "tiny.zarr")
    with chorus_store.open(mine / "tiny.zarr") as published, np.load(mine / "tiny_pertrack.npz") as npz:
        for cdf in layout.CDFS:
            for track, values in enumerate(values_of(store, cdf)):
                values = np.sort(values[~np.isnan(values)])
                np.testing.assert_array_equal(published[f"{cdf}_cdf"][track], grid_of_sorted(values))
                assert published[f"{cdf}_count"][track] == published[f"{cdf}_retained"][track] == len(values)
            np.testing.assert_array_equal(published[f"{cdf}_cdf"], npz[f"{cdf}_cdfs"])


def test_cage_takes_no_summary_at_ccres(mine: Path) -> None:
    merge(mine)
    store = FactStore(mine / "tiny.zarr")
    stratum = layout.read_table(store.path, "plan/baselines")["stratum"].values
    summary, perbin = store.read_columns("summary/value", 0, 7), store.read_columns("perbin/value", 0, 7)
    cage = layout.read_table(store.path, "plan/tracks")["layer"].values == "tss_activity"
    assert cage.sum() == 2
    assert np.isnan(summary[np.ix_(cage, stratum == "ccre")]).all()
    assert not np.isnan(summary[np.ix_(~cage, stratum == "ccre")]).all()
    np.testing.assert_array_equal(np.isnan(perbin[cage]), np.isnan(perbin[~cage][:2]))


@pytest.mark.parametrize("capacity", [1, 5, 20, 10_000])
def test_algorithm_r_keeps_what_the_reference_keeps(mine: Path, capacity: int) -> None:
    merge(mine, "--sampler", "algorithm-r", "--capacity", str(capacity))
    store = FactStore(mine / "tiny.zarr")
    with chorus_store.open(mine / "tiny.zarr") as published:
        for cdf, batch in (("effect", 1), ("summary", 1), ("perbin", 5)):
            kept = plain(values_of(store, cdf).T, batch, capacity, 12345)
            for track, values in enumerate(kept):
                np.testing.assert_array_equal(published[f"{cdf}_cdf"][track], grid_of_sorted(np.sort(values)))
                assert published[f"{cdf}_retained"][track] == len(values) <= capacity
        modes = {cdf: said["mode"] for cdf, said in published.attrs["provenance"]["sampling"].items()}
    assert modes["perbin"] == ("exact" if capacity == 10_000 else "algorithm-r")


def test_every_budget_and_worker_count_gives_the_same_bytes(mine: Path, tmp_path: Path) -> None:
    merge(mine)
    expected = contents(mine)
    for memory, workers in (("1M", "1"), ("8M", "3")):
        again = Path(shutil.copytree(mine, tmp_path / memory))
        shutil.rmtree(again / "tiny.zarr/effect_cdf")  # so that it is merged anew
        merge(again, "--memory", memory, "--workers", workers)
        assert contents(again) == expected


def test_a_dask_cluster_gives_the_same_bytes(mine: Path, tmp_path: Path) -> None:
    remote = Path(shutil.copytree(mine, tmp_path / "remote"))
    merge(mine)
    with local_cluster(2, 1) as cluster:
        merge(remote, "--dask", cluster.scheduler_address)
    assert contents(remote) == contents(mine)


def test_no_cluster_at_the_address(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merging = ["--part", "merge", "--out", str(mine), "--dask", "tcp://127.0.0.1:9"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert cli.run(tiny.TinyOracle, merging) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err


def test_discarded_facts_leave_a_complete_background(mine: Path, inputs: Inputs) -> None:
    kept = Path(shutil.copytree(mine, mine.with_name("kept")))
    merge(kept)
    merge(mine, "--discard-facts")
    path = mine / "tiny.zarr"
    assert not (path / "samples").exists()
    with chorus_store.open(path) as ours, chorus_store.open(kept / "tiny.zarr") as theirs:
        xr.testing.assert_identical(ours.drop_attrs(), theirs.drop_attrs())
    before = contents(mine)
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, mine, "--block", "8")) == 0
    assert contents(mine) == before, "a rerun must not score again what was discarded on purpose"


def test_readers_see_the_old_background_or_the_new_one(mine: Path) -> None:
    merge(mine)
    path, stop = mine / "tiny.zarr", threading.Event()
    seen: set[str] = set()
    failures: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                with chorus_store.open(path) as store:
                    seen.add(store.attrs["provenance"]["parameters"]["sampler"])
                    assert np.isfinite(store["effect_cdf"].values).all()
            except BaseException as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for sampler in ("algorithm-r", "exact", "algorithm-r", "exact"):
            merge(mine, "--sampler", sampler)
            seen.clear()
            while sampler not in seen and not failures:
                time.sleep(0.001)
            assert seen <= {"exact", "algorithm-r"}
    finally:
        stop.set()
        reader.join()
    assert not failures


def test_a_failure_leaves_the_old_background(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    merge(mine)
    before = contents(mine)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copytree", full)
    assert cli.run(tiny.TinyOracle, ["--part", "merge", "--out", str(mine), "--sampler", "algorithm-r"]) == 2
    assert contents(mine) == before
    assert sorted(file.name for file in mine.iterdir()) == ["tiny.zarr", "tiny_pertrack.npz"]


@given(
    positions=st.integers(1, 40_000), slots=st.integers(1, 64), tracks=st.integers(1, 6000), block=st.integers(1, 512),
    budget=st.integers(1, 2**33), workers=st.integers(1, 16), capacity=st.integers(1, 60_000),
    name=st.sampled_from(SAMPLERS),
)  # fmt: skip
@settings(deadline=None)
def test_a_working_set_fits_its_budget(
    positions: int, slots: int, tracks: int, block: int, budget: int, workers: int, capacity: int, name: str
) -> None:
    shape, sampler = Shape(positions, positions, tracks, slots, block, tracks), Sampler(name, capacity)
    for cdf in layout.CDFS:
        try:
            found = working_set(shape, cdf, sampler, budget, workers)
        except MemoryBudgetError as error:
            assert "--memory" in str(error)
            with pytest.raises(MemoryBudgetError):
                working_set(shape, cdf, sampler, budget // 2, workers)
            continue
        assert 1 <= found.group <= layout.TRACKS_PER_GROUP
        assert found.nbytes <= budget


def test_compaction_stays_within_its_budget(tmp_path: Path) -> None:
    path = tmp_path / "facts.zarr"
    shape = Shape(0, 4096, 256, 32, 128, 256)  # 128 MiB of perbin facts
    store = FactStore.create(path, shape, {"identity": {}}, layout.root_attributes(), {})
    for unit in store.units("baselines"):
        rows = np.random.default_rng(unit.index).random((128 * 32, 256), np.float32)
        store.array("perbin/value")[unit.start * 32 : unit.stop * 32] = rows
    budget = 48 * 2**20
    code = "from tests.test_publish import compact_perbin, warm_up\nwarm_up(); compact_perbin(*arguments)"
    assert peak_growth(code, path, tmp_path / "out.zarr", budget) < budget + 8 * 2**20


def compact_perbin(path: str, target: str, budget: str) -> None:
    """For a process of its own."""
    zarr.create_group(target, zarr_format=3)
    store = FactStore(Path(path))
    layers = ["tf_binding"] * store.shape.n_tracks
    compact(store, Path(target), layers, memory_bytes=int(budget), workers=2, cdfs=["perbin"])


def warm_up() -> None:
    """Load the compiled kernels, Dask and the codecs, which are no part of a budget."""
    with tempfile.TemporaryDirectory() as folder:
        shape = Shape(0, 4, 8, 4, 2, 8)
        store = FactStore.create(Path(folder, "facts.zarr"), shape, {"identity": {}}, layout.root_attributes(), {})
        store.array("perbin/value")[:] = np.zeros((16, 8), np.float32)
        compact_perbin(f"{folder}/facts.zarr", f"{folder}/out.zarr", str(2**24))


@pytest.mark.parametrize("wrong", [{"name": "systematic"}, {"capacity": 0}])
def test_samplers_that_do_not_exist(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Sampler(**wrong)


def test_unknown_codec() -> None:
    with pytest.raises(InputError, match="unknown codec"):
        layout.cdf_codecs("gzip")


def test_software_names_what_matters() -> None:
    versions = software_versions()
    assert versions["numpy"] == np.__version__
    assert {"git_revision", "torch", "zarr", "python"} <= set(versions)
