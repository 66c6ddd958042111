"""Reading NPZ files: what sound ones give, and when; of bad ones see `test_bad_npz_files`."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import chorus_store
from chorus_store.errors import (
    CorruptStoreError,
    StoreNotFoundError,
)
from chorus_store.npz_file import open_npz, open_npz_file
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.npz_files import (
    Arrays,
    background,
    save,
    with_current_keys,
    with_seed_keys,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "enformer_pertrack.npz", with_current_keys(background()))


def read_all(path: Path) -> Arrays:
    with open_npz_file(path) as npz:
        return {name: npz.read(name) for name in npz.arrays}


def assert_equal(arrays: Arrays, expected: Arrays) -> None:
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array, strict=True)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("keys", [lambda arrays: arrays, with_seed_keys, with_current_keys])
def test_all_that_is_in_a_file_is_read(tmp_path: Path, keys: Any, compressed: bool):
    arrays = keys(background())
    assert_equal(read_all(save(tmp_path / "x.npz", arrays, compressed=compressed)), arrays)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["toy", "enformer_stub"])
def test_golden_files(shared: Path, name: str):
    path = shared / "golden" / f"{name}_pertrack.npz"
    assert_equal(read_all(path), dict(np.load(path)))


def test_blocks_are_the_array(path: Path):
    whole = np.load(path)["perbin_cdfs"]
    with open_npz_file(path) as npz:
        blocks = list(npz.blocks("perbin_cdfs", 2))
    assert [len(block) for block in blocks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_fortran_order(tmp_path: Path):
    arrays = background()
    arrays["effect_cdfs"] = np.asfortranarray(arrays["effect_cdfs"])
    path = save(tmp_path / "x.npz", arrays)
    assert_equal(read_all(path), arrays)
    with open_npz_file(path) as npz:
        np.testing.assert_array_equal(np.concatenate(list(npz.blocks("effect_cdfs", 3))), arrays["effect_cdfs"])


def test_an_array_is_inflated_once_and_not_before(path: Path):
    class Counted(io.BytesIO):
        asked = 0

        def read(self, size: int | None = -1) -> bytes:
            self.asked += 1
            return super().read(size)

    file = Counted(save(path, with_current_keys(background(300, 2000)), compressed=False).read_bytes())
    with open_npz_file(file) as npz:
        opened = file.asked
        assert npz.read("effect_cdfs") is npz.read("effect_cdfs")
        assert file.asked > opened
        reads = file.asked
        npz.read("effect_cdfs")
        assert file.asked == reads
    assert file.closed


def test_an_open_file_goes_to_another_process(path: Path):
    with open_npz_file(path) as npz, pickle.loads(pickle.dumps(npz)) as copied:
        assert repr(copied) == repr(npz)
        np.testing.assert_array_equal(copied.read("effect_cdfs"), npz.read("effect_cdfs"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_processes_read_the_same_open_file(tmp_path: Path):
    path = save(tmp_path / "x.npz", background(40, 10_000))
    code = (
        "import multiprocessing, sys\n"
        "from chorus_store.npz_file import open_npz_file\n"
        "npz = open_npz_file(sys.argv[1])\n"
        "def total(name): return float(npz.read(name).sum())\n"
        "names = ['effect_cdfs', 'summary_cdfs', 'perbin_cdfs'] * 4\n"
        "with multiprocessing.get_context('fork').Pool(4) as pool:\n"
        "    totals = pool.map(total, names, chunksize=1)\n"
        "assert totals == [total(name) for name in names]\n"
    )
    subprocess.run([sys.executable, "-c", code, path], check=True)


def test_the_file_closes_when_it_is_forgotten(path: Path):
    npz = open_npz_file(path)
    file = npz._file
    del npz
    assert file.closed


def test_the_dataset_has_the_variables_of_a_store(path: Path):
    arrays = np.load(path)
    with open_npz(path) as store:
        assert dict(store.sizes) == {"track": 5, "quantile": 20}
        assert store.attrs["oracle"] == {"name": "enformer"}
        assert (store.attrs["genome"], store.attrs["build_config"]["schema_version"]) == ("hg38", 4)
        assert store["track"].values.tolist() == arrays["track_ids"].tolist()
        assert store["layer"].values.tolist() == arrays["layers_per_row"].tolist()
        assert store["perbin_tail_k"].item() == 10_000
        np.testing.assert_array_equal(store["signed"], arrays["signed_flags"])
        np.testing.assert_array_equal(store["quantile"], np.linspace(0, 1, 20))
        for cdf in ("effect", "summary", "perbin"):
            assert not store[f"{cdf}_cdf"].variable._in_memory
            np.testing.assert_array_equal(store[f"{cdf}_cdf"], arrays[f"{cdf}_cdfs"])
            np.testing.assert_array_equal(store[f"{cdf}_count"], arrays[f"{cdf}_counts"])
            np.testing.assert_array_equal(store[f"{cdf}_retained"], arrays[f"{cdf}_retained"])


def test_every_way_of_indexing(path: Path):
    expected = np.load(path)["effect_cdfs"]
    with open_npz(path) as store:
        cdf = store["effect_cdf"]
        np.testing.assert_array_equal(cdf[3], expected[3])
        np.testing.assert_array_equal(cdf[-1, ::-3], expected[-1, ::-3])
        np.testing.assert_array_equal(cdf.isel(track=[4, 0], quantile=[7, 7, 2]), expected[[4, 0]][:, [7, 7, 2]])
        points = {"track": xr.DataArray([4, 0, 4], dims="p"), "quantile": xr.DataArray([1, 2, 3], dims="p")}
        np.testing.assert_array_equal(cdf.isel(points), expected[[4, 0, 4], [1, 2, 3]])
        np.testing.assert_array_equal(cdf.sel(track="TRACK:02").chunk().compute(scheduler="sync"), expected[2])


def test_a_file_that_says_little(tmp_path: Path):
    arrays = {**background(scalar=True), "my_scores": np.ones((5, 2, 3)), "cutoffs": np.zeros(2), "note": np.array("é")}
    with open_npz(save(tmp_path / "legnet_pertrack.npz", arrays)) as store:
        assert store.attrs == {"oracle": {"name": "legnet"}}
        assert set(store.variables) == {
            "track", "quantile", "signed", "effect_cdf", "summary_cdf", "my_scores", "cutoffs", "note",
        }  # fmt: skip
        assert not store["signed"].any()
        assert store["my_scores"].dims == ("track", "my_scores.1", "my_scores.2")
        assert (store["cutoffs"].dims, store["note"].item()) == (("cutoffs.0",), "é")


def test_a_file_behind_a_url_is_read_in_part(site: Site, tmp_path: Path):
    arrays = with_current_keys(background(50, 5000))
    contents = save(tmp_path / "enformer_pertrack.npz", arrays).read_bytes()
    site.files["/enformer_pertrack.npz"] = contents
    with open_npz(f"{site.url}/enformer_pertrack.npz") as store:
        probe = len(contents)  # this server has no HEAD: the size is learnt from the header of an answer
        assert site.sent - probe < len(contents) / 4
        np.testing.assert_array_equal(store["effect_cdf"], arrays["effect_cdfs"])
        assert site.sent - probe < len(contents) / 1.5
        assert store.attrs["oracle"] == {"name": "enformer"}
    with pytest.raises(StoreNotFoundError, match="check the URL"):
        open_npz(f"{site.url}/none_pertrack.npz")


def test_reading_needs_no_xarray(path: Path):
    code = (
        "import sys; from chorus_store.npz_file import open_npz_file\n"
        f"open_npz_file({str(path)!r}).read('effect_cdfs')\n"
        "print(*{'xarray', 'pandas', 'dask', 'numba', 'jsonschema'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == []


def test_the_engine_says_the_same(path: Path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptStoreError, match="is damaged"):
        chorus_store.open(path)
