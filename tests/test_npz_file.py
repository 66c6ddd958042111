"""Reading NPZ files: what sound ones give, and what is said of every kind of bad one."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import chorus_store
from chorus_store.errors import (
    ChorusStoreError,
    CorruptStoreError,
    SchemaError,
    StoreNotFoundError,
)
from chorus_store.npz_contract import CDF_KEYS
from chorus_store.npz_file import open_npz, open_npz_file
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.npz_files import (
    Arrays,
    Entry,
    background,
    npy,
    save,
    with_current_keys,
    with_seed_keys,
    write_zip,
    zeros,
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


# ---------------------------------------------------------------------------------------------------------------------
# Bad input


def refused(path: Path, error: type[ChorusStoreError], match: str) -> None:
    """Opening or reading fails so, and the file is closed."""
    with pytest.raises(error, match=match) as caught:
        read_all(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("contents", "match"),
    [
        (b"", "not an NPZ file"),
        (b"\x93NUMPY\x01\x00 a single array", "not an NPZ file"),
        (b"track\tvalue\n" * 100, "not an NPZ file"),
        (b"PK\x05\x06" + bytes(18), "needs track_ids and one of effect_cdfs"),
    ],
)
def test_no_npz_file_at_all(tmp_path: Path, contents: bytes, match: str):
    path = tmp_path / "x.npz"
    path.write_bytes(contents)
    refused(path, SchemaError, match)


def test_no_file_at_all(tmp_path: Path):
    for path in (tmp_path / "none_pertrack.npz", tmp_path):
        with pytest.raises(StoreNotFoundError, match="no NPZ file at"):
            open_npz_file(path)


def test_a_zip_of_something_else(tmp_path: Path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.txt", "hello")
    refused(path, SchemaError, r"holds 'README\.txt', which is no array")
    save(path, {"x": np.arange(5)})
    refused(path, SchemaError, r"is no background: it needs track_ids .* and holds \['x'\]")


@pytest.mark.parametrize("compressed", [True, False])
def test_truncated_at_any_length(path: Path, compressed: bool):
    whole = save(path, with_current_keys(background()), compressed=compressed).read_bytes()
    for length in {*range(1, 60), *range(60, len(whole), 97), *range(len(whole) - 60, len(whole))}:
        path.write_bytes(whole[:length])
        with pytest.raises((CorruptStoreError, SchemaError) if length < 2 else CorruptStoreError):
            read_all(path)


@pytest.mark.filterwarnings("ignore::SyntaxWarning")  # NumPy evaluates a damaged header
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
@pytest.mark.parametrize("compressed", [True, False])
def test_a_flipped_byte_is_found_or_does_no_harm(path: Path, compressed: bool):
    arrays = {**with_seed_keys(background(2, 4, scalar=True)), "extra": np.arange(6.0).reshape(2, 3)}
    whole = save(path, arrays, compressed=compressed).read_bytes()
    changes = np.random.default_rng(0).integers(1, 256, len(whole)).tolist()
    found = 0
    places = range(0, len(whole), 1 if compressed else 4)
    for place, change in zip(places, changes, strict=False):
        damaged = bytearray(whole)
        damaged[place] ^= change
        path.write_bytes(damaged)
        try:
            read = read_all(path)
        except (CorruptStoreError, SchemaError):
            found += 1
        else:
            assert_equal(read, arrays)
    assert found > len(places) / 2


@pytest.mark.parametrize("compressed", [True, False])
def test_a_flipped_byte_in_the_middle_of_a_large_array_is_found(path: Path, compressed: bool):
    whole = save(path, background(4, 20_000), compressed=compressed).read_bytes()
    for place in np.random.default_rng(0).integers(10_000, len(whole) - 10_000, 20).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CorruptStoreError):
            read_all(path)
    path.write_bytes(whole)
    assert_equal(read_all(path), background(4, 20_000))


def test_a_directory_that_hides_a_member(tmp_path: Path):
    entries = [Entry.of(f"{name}.npy", npy(array)) for name, array in with_seed_keys(background()).items()]
    path = write_zip(tmp_path / "x.npz", entries)
    assert set(read_all(path)) == set(with_seed_keys(background()))
    data = path.read_bytes()
    hidden = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    length = 46 + len(entries[1].name)
    # As a comment of the entry before it, the second entry is passed over.
    comment = hidden - len(entries[0].name) - 46 + 32
    path.write_bytes(data[:comment] + bytes([length]) + data[comment + 1 :])
    assert len(zipfile.ZipFile(path).namelist()) == len(entries) - 1
    refused(path, CorruptStoreError, "members are missing")


def test_pickled_arrays_are_not_read(tmp_path: Path):
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    path = save(tmp_path / "x.npz", {**background(), "layers_per_row": np.array([Evil()], dtype=object)})
    refused(path, SchemaError, "layers_per_row.npy .* holds pickled objects")
    path = save(tmp_path / "x.npz", {**background(), "extra": np.zeros(5, [("a", "f4"), ("b", "O")])})
    refused(path, SchemaError, "holds pickled objects")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"track_ids": None}, "needs track_ids"),
        (dict.fromkeys(CDF_KEYS), "needs track_ids and one of effect_cdfs"),
        ({"track_ids": np.arange(5)}, "track_ids of .* is int64 of shape .* not str"),
        ({"track_ids": np.array([["a"]] * 5)}, "track_ids of .* is <U1 of shape"),
        ({"track_ids": np.array(["a", "b", "c", "d"])}, "effect_cdfs of .* has 5 entries along track, other arrays 4"),
        ({"track_ids": np.array(["a", "b", "c", "b", "d"])}, "track_ids of .* has 'b' 2 times"),
        ({"effect_cdfs": np.zeros((5, 20))}, "effect_cdfs of .* is float64"),
        ({"effect_cdfs": np.zeros((5, 20), ">f4")}, "effect_cdfs of .* is >f4"),
        ({"effect_cdfs": np.zeros(5, "f4")}, r"effect_cdfs of .* is float32 of shape \(5,\)"),
        (
            {"summary_cdfs": np.zeros((5, 19), "f4")},
            "summary_cdfs of .* has 19 entries along quantile, other arrays 20",
        ),
        ({"effect_counts": np.zeros(5, "i4")}, "effect_counts of .* is int32"),
        ({"effect_counts": np.zeros(4, "i8")}, "effect_counts of .* has 4 entries along track"),
        ({"perbin_retained": np.array([0, 1, -1, 0, 0])}, "perbin_retained of .* is negative for track TRACK:02"),
        ({"signed_flags": np.zeros(5, "i8")}, "signed_flags of .* is int64"),
        ({"layers_per_row": np.array([b"x"] * 5)}, r"layers_per_row of .* is \|S1"),
        ({"perbin_tail_k": np.array([5])}, "perbin_tail_k of"),
        ({"extra": np.array(["2020-01-01"], "M8[D]")}, "extra of .* is datetime64.*, which a store cannot hold"),
        ({"extra": np.zeros(5, np.longdouble)}, "which a store cannot hold"),
        ({"extra": np.zeros(5, [("a", "f4")])}, "which a store cannot hold"),
        ({"quantile": np.zeros(5)}, "'quantile', a name that a store cannot give it"),
        ({"samples": np.zeros(5)}, "'samples', a name that a store cannot give it"),
        ({"../escape": np.zeros(5)}, r"'\.\./escape', a name"),
        ({"assay": np.zeros(5)}, "assay of .* in a store that is a string"),
        ({"build_config": np.array(["{}", "{}"])}, "build_config of .* has 2 entries"),
        ({"build_config": np.array(["no JSON"])}, "build_config of .* is not a JSON document"),
        ({"build_config": np.array(["[1]"])}, "build_config of .* is not a JSON object"),
        ({"build_config": np.array(["[" * 100_000])}, "build_config of .* is not a JSON document"),
        ({"build_config": np.array(['{"a":' * 100_000 + "1" + "}" * 100_000])}, "build_config of .* is not a JSON"),
    ],
)
def test_what_does_not_follow_the_contract(tmp_path: Path, changes: dict[str, Any], match: str):
    arrays = {**with_current_keys(background()), **changes}
    refused(save(tmp_path / "x.npz", {k: v for k, v in arrays.items() if v is not None}), SchemaError, match)


def test_nothing_to_rank_in(tmp_path: Path):
    refused(save(tmp_path / "x.npz", background(0)), SchemaError, "0 tracks × 20 points")
    refused(save(tmp_path / "x.npz", background(3, 1)), SchemaError, "3 tracks × 1 points")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -99.0])
@pytest.mark.parametrize("column", [0, 7, 19])
def test_rows_that_are_no_cdfs(tmp_path: Path, value: float, column: int):
    arrays = background(200)
    arrays["summary_cdfs"][150, column] = value
    sound = np.isfinite(value) and column == 0
    path = save(tmp_path / "x.npz", arrays)
    if sound:
        assert_equal(read_all(path), arrays)
    else:
        refused(path, CorruptStoreError, "summary_cdfs of .* does not ascend or is not finite, of track TRACK:150")


@pytest.mark.parametrize("code_point", [0xD800, 0xDFFF, 0x10FFFF, 0x110000, 0xFFFFFFFF])
def test_text_that_is_none(tmp_path: Path, code_point: int):
    arrays = background()
    arrays["track_ids"].view("u4")[0] = code_point
    refused(save(tmp_path / "x.npz", arrays), SchemaError, "track_ids of .* is not Unicode text")


def one_entry(**fields: Any) -> list[Entry]:
    """Sound members, apart from one."""
    first, *rest = background().items()
    return [Entry.of(f"{first[0]}.npy", npy(first[1]), **fields), *(Entry.of(f"{k}.npy", npy(v)) for k, v in rest)]


def test_members_that_are_not_plain(tmp_path: Path):
    path = tmp_path / "x.npz"
    refused(write_zip(path, one_entry(flags=1)), SchemaError, "is encrypted")
    refused(write_zip(path, one_entry(method=12)), SchemaError, "compressed by method 12")
    refused(write_zip(path, one_entry(crc=5)), CorruptStoreError, "is damaged")
    refused(write_zip(path, one_entry(data=b"\x07 no deflate stream" * 9)), CorruptStoreError, "is damaged")
    header = npy(np.arange(3)).replace(b"NUMPY\x01", b"NUMPY\x02")
    refused(write_zip(path, [Entry.of("track_ids.npy", header)]), SchemaError, "structured entries")


@pytest.mark.parametrize("shape", [(5, 21), (2**62, 2**62), (-5, -20), (5, 20, 0), ("x",), 7])
def test_headers_that_lie(tmp_path: Path, shape: Any):
    entries = [
        Entry.of("track_ids.npy", npy(background()["track_ids"])),
        Entry.of("effect_cdfs.npy", npy(background()["effect_cdfs"], shape=shape)),
    ]
    refused(write_zip(tmp_path / "x.npz", entries), CorruptStoreError, "copy or export the file again")


@pytest.mark.parametrize("text", [b"-" * 1900 + b"1", b"(" * 1900, b"[" * 1900, b"9" * 60_000, b"{'descr': '<f4'}"])
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_headers_that_are_none(tmp_path: Path, text: bytes):
    header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text
    refused(write_zip(tmp_path / "x.npz", [Entry.of("track_ids.npy", header)]), CorruptStoreError, "is damaged")


def test_zip_bombs_are_not_lit(tmp_path: Path):
    path, n_bytes = tmp_path / "x.npz", 3 * 2**30
    header = npy(np.zeros((0, 20), "f4"), shape=(n_bytes // 80, 20))
    stream = zeros(n_bytes)
    bomb = Entry("effect_cdfs.npy", stream, n_bytes, 0)
    tracemalloc.start()
    try:
        refused(write_zip(path, [bomb]), SchemaError, "would inflate from .* it looks like a ZIP bomb")
        # One that declares less than is in it is read no further than it declares.
        sly = Entry.of("track_ids.npy", npy(np.zeros(5, "U3")))
        sly.data = zeros(n_bytes)
        refused(write_zip(path, [sly]), CorruptStoreError, "is damaged")
        # One that declares more than can be in it is not believed.
        vast = Entry.of("effect_cdfs.npy", header, size=n_bytes)
        refused(write_zip(path, [vast]), CorruptStoreError, r"declares 3,221,225,472 bytes, more than its \d+ can hold")
        # Many that share their bytes are one.
        shared = [Entry("effect_cdfs.npy", zeros(2**29), 2**29, 0) for _ in range(20)]
        refused(write_zip(path, shared, {"effect_cdfs.npy": 0}), CorruptStoreError, "members overlap")
        assert tracemalloc.get_traced_memory()[1] < 64e6
    finally:
        tracemalloc.stop()


def test_two_arrays_of_one_name(tmp_path: Path):
    entries = [Entry.of("track_ids.npy", npy(background()["track_ids"]))] * 2
    refused(write_zip(tmp_path / "x.npz", entries), CorruptStoreError, "two arrays of one name")


def test_the_engine_says_the_same(path: Path):
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptStoreError, match="is damaged"):
        chorus_store.open(path)
