"""Stores in ``.zip`` archives: however they were made the same answers, however they are damaged a clear error."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import chorus_store
from chorus_store.errors import CorruptStoreError, SchemaError, StoreNotFoundError
from chorus_store.layout import CDFS
from chorus_store.zipped import _TAIL_BYTES
from tests.stores import archive, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("zipped") / "enformer.zarr")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("top", ["", "enformer.zarr/", "data/enformer.zarr/"])
def test_archives_of_a_store_and_of_its_folder(path: Path, tmp_path: Path, top: str, method: int):
    file = archive(path, tmp_path / "enformer.zarr.zip", top, method)
    store = chorus_store.open(file)
    xr.testing.assert_identical(store, chorus_store.open(path))
    xr.testing.assert_identical(xr.open_dataset(file, engine="chorus"), store)


def test_headers_that_differ_from_the_directory(path: Path, tmp_path: Path):
    """As of members written as a stream: their sizes stand in an extra field of their own headers alone."""
    file = tmp_path / "enformer.zarr.zip"
    with zipfile.ZipFile(file, "w") as zipped:
        for member in sorted(path.rglob("*")):
            if member.is_file():
                with zipped.open(str(member.relative_to(path)), "w", force_zip64=True) as stream:
                    stream.write(member.read_bytes())
    xr.testing.assert_identical(chorus_store.open(file), chorus_store.open(path))


def test_a_directory_longer_than_a_tail(path: Path, tmp_path: Path):
    file = archive(path, tmp_path / "enformer.zarr.zip")
    with zipfile.ZipFile(file, "a") as zipped:
        for i in range(1000):
            zipped.writestr(f"progress/variants/{i:040}", b"")
        zipped.comment = b"a comment at the end"
    assert file.stat().st_size > 2 * _TAIL_BYTES
    xr.testing.assert_identical(chorus_store.open(file), chorus_store.open(path))


def test_archives_of_something_else(path: Path, tmp_path: Path):
    with pytest.raises(StoreNotFoundError, match="there is nothing; check the path"):
        chorus_store.open(tmp_path / "nowhere.zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as zipped:
        zipped.writestr("README", "no store")
    with pytest.raises(StoreNotFoundError, match="that archive holds no store"):
        chorus_store.open(tmp_path / "other.zip")
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as zipped:
        zipped.writestr("zarr.json", '{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(SchemaError, match="not a chorus-store store"):
        chorus_store.open(tmp_path / "foreign.zip")
    (tmp_path / "text.zip").write_text("not a zip file")
    with pytest.raises(CorruptStoreError, match="not a whole zip file"):
        chorus_store.open(tmp_path / "text.zip")
    lzma = archive(path, tmp_path / "lzma.zip", method=zipfile.ZIP_LZMA)
    with pytest.raises(CorruptStoreError, match=r"method 14.*zip -0 -r"):
        chorus_store.open(lzma)


def test_zip_bombs(path: Path, tmp_path: Path):
    bomb = Path(shutil.copytree(path, tmp_path / "bomb.zarr"))
    (bomb / "zarr.json").write_bytes(b" " * 100_000_000)
    with pytest.raises(CorruptStoreError, match=r"zarr\.json of bomb\.zip declares 100,000,000 bytes in"):
        chorus_store.open(archive(bomb, tmp_path / "bomb.zip", method=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_truncated_and_flipped(path: Path, tmp_path: Path, method: int):
    file = archive(path, tmp_path / "enformer.zip", method=method)
    whole = file.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 20, dtype=int):
        file.write_bytes(whole[:length])
        with pytest.raises(CorruptStoreError, match="not a whole zip file"):
            chorus_store.open(file)
    with zipfile.ZipFile(archive(path, file, method=method)) as zipped:
        data = {f"{cdf}_cdf/c/0/0": zipped.getinfo(f"{cdf}_cdf/c/0/0") for cdf in CDFS}
    for name, info in data.items():
        damaged = bytearray(whole)
        damaged[info.header_offset + 30 + len(name) + 5] ^= 1  # in the data of the first chunk
        file.write_bytes(damaged)
        with pytest.raises(CorruptStoreError, match=name.partition("/")[0]):
            chorus_store.open(file)[name.partition("/")[0]].load()
        damaged = bytearray(whole)
        damaged[info.header_offset] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(CorruptStoreError, match="damaged at byte"):
            chorus_store.open(file)[name.partition("/")[0]].load()
