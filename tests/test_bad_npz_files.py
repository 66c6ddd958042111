"""NPZ files that are no background, damaged, or made to do harm: each is refused with one sentence."""

from __future__ import annotations

import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chorus_store.errors import (
    ChorusStoreError,
    CorruptStoreError,
    SchemaError,
    StoreNotFoundError,
)
from chorus_store.npz_contract import CDF_KEYS
from chorus_store.npz_file import open_npz_file
from tests.npz_files import (
    Entry,
    background,
    npy,
    save,
    with_current_keys,
    with_seed_keys,
    write_zip,
    zeros,
)
from tests.test_npz_file import assert_equal, read_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save(tmp_path / "enformer_pertrack.npz", with_current_keys(background()))


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
        ({"build_config": np.array(['{"schema_version": 5}'])}, "too new: its build_config is version 5, .* upgrade"),
        ({"build_config": np.array(['{"schema_version": "4"}'])}, "version of its build_config is '4', not a whole"),
        ({"build_config": np.array(['{"schema_version": true}'])}, "is damaged: the version .* is True, not a whole"),
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
