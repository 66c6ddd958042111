"""Stores behind HTTP and S3: the same answers, few requests, few bytes, and clear errors when a server fails."""

from __future__ import annotations

import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import chorus_store
from chorus_store import npz, places, remote
from chorus_store.errors import (
    CorruptStoreError,
    InputError,
    MissingPackageError,
    StoreNotFoundError,
    StoreUnreachableError,
)
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.s3_site import Bucket
from tests.s3_site import bucket as bucket  # a fixture
from tests.stores import archive, make_store

TRACK = "CHIP:00002"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("remote") / "enformer.zarr")


@pytest.fixture(scope="module")
def real_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose shards are those of one with 5,313 tracks: 896 rows of 10,000 points in chunks of four rows.

    What a lookup moves is the index of a shard and a chunk, so it does not depend on how many shards there are.
    """
    return make_store(tmp_path_factory.mktemp("real") / "enformer.zarr", 896, perbin=False, n_quantiles=10_000)


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "TIMEOUT_S", 0.5)


def assert_same(store: xr.Dataset, path: Path) -> None:
    local = chorus_store.open(path)
    assert store.chorus.percentile(0.7, track=TRACK) == local.chorus.percentile(0.7, track=TRACK)
    xr.testing.assert_identical(store, local)


def test_over_http_a_store_is_what_it_is_on_disk(site: Site, small: Path):
    url = site.add(small)
    assert_same(chorus_store.open(url), small)
    assert_same(chorus_store.open(url + "/"), small)
    assert_same(xr.open_dataset(url, engine="chorus"), small)
    assert_same(pickle.loads(pickle.dumps(chorus_store.open(url))), small)


def test_on_s3_a_store_is_what_it_is_on_disk(bucket: Bucket, small: Path):
    url = bucket.add(small)
    assert_same(chorus_store.open(url, bucket.options), small)
    assert_same(xr.open_dataset(url, engine="chorus", storage_options=bucket.options), small)


def test_a_remote_archive_is_read_in_part(site: Site, bucket: Bucket, real_size: Path, tmp_path: Path):
    file = archive(real_size, tmp_path / "enformer.zarr.zip")
    site.files["/enformer.zarr.zip"] = file.read_bytes()
    local = chorus_store.open(real_size).chorus.percentile(0.7, track=TRACK)
    for url, options in ((f"{site.url}/enformer.zarr.zip", {}), (bucket.add(file), bucket.options)):
        store = chorus_store.open(url, options)
        site.clear_counts()
        bucket.clear_counts()
        assert store.chorus.percentile(0.7, track=TRACK) == local
        assert 0 < site.sent + bucket.sent <= 100_000


def test_an_npz_file_behind_a_url(site: Site, bucket: Bucket, small: Path, tmp_path: Path):
    file = npz.export_npz(small, tmp_path / "enformer_pertrack.npz", progress=False)
    site.files["/enformer_pertrack.npz"] = file.read_bytes()
    local = chorus_store.open(file)
    for url, options in ((f"{site.url}/enformer_pertrack.npz", {}), (bucket.add(file), bucket.options)):
        with chorus_store.open(url, options) as remote_file:
            xr.testing.assert_identical(remote_file, local)
    with pytest.raises(StoreNotFoundError, match=r"no file other_pertrack\.npz on the server"):
        chorus_store.open(f"{site.url}/other_pertrack.npz")


def test_over_http_a_percentile_moves_a_chunk(site: Site, real_size: Path):
    store = chorus_store.open(site.add(real_size))
    assert len(site.gets) <= 4
    assert not any("_cdf" in path for path in site.gets)
    site.clear_counts()
    store.chorus.percentile(0.7, track=TRACK)
    assert 0 < site.sent <= 100_000
    assert len(site.gets) <= 4, "flags, counts, the index of a shard, a chunk"
    site.clear_counts()
    store.chorus.percentile(0.8, track="CHIP:00801")
    assert len(site.gets) <= 2, "flags and counts are known by now"


def test_on_s3_a_percentile_moves_a_chunk(bucket: Bucket, real_size: Path):
    store = chorus_store.open(bucket.add(real_size), bucket.options)
    assert len(bucket.gets) <= 4
    assert not any("_cdf" in path for path in bucket.gets)
    bucket.clear_counts()
    store.chorus.percentile(0.7, track=TRACK)
    assert 0 < bucket.sent <= 100_000
    assert len(bucket.gets) <= 4


def test_a_file_is_read_in_part_and_sought_in(site: Site):
    body = np.random.default_rng(0).bytes(3 * 2**20)
    site.files["/file"] = body
    with places.open_file(f"{site.url}/file") as file:
        site.clear_counts()
        assert file.seek(-10, 2) == len(body) - 10
        assert file.read() == body[-10:]
        file.seek(1000)
        assert file.read(4) == body[1000:1004]
        assert file.tell() == 1004
        assert site.sent < 100_000
        file.seek(0)
        assert file.read() == body
        site.files["/file"] = body[:100]
        file.seek(0)
        with pytest.raises(StoreUnreachableError, match="changed on the server"):
            file.read()


def test_large_objects_take_several_requests(
    site: Site, bucket: Bucket, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(remote, "MOST_BYTES", 500)
    path = Path(shutil.copytree(small, tmp_path / "enformer.zarr"))
    (path / "zarr.json").write_text((path / "zarr.json").read_text().ljust(500 * 80))  # ends where a request ends
    for url, options in ((site.add(path), {}), (bucket.add(path), bucket.options)):
        store = places.open_group(url, options)
        np.testing.assert_array_equal(store["effect_cdf"][...], places.open_group(path)["effect_cdf"][...])
    for name in ("zarr.json", "effect_cdf/c/0/0"):
        requests = (path / name).stat().st_size // 500 + 1
        assert site.gets.count(f"/enformer.zarr/{name}") == requests > 5


def test_what_a_server_lacks(site: Site, bucket: Bucket, small: Path):
    with pytest.raises(StoreNotFoundError, match=r"no store at .*/nowhere\.zarr: the server has nothing there"):
        chorus_store.open(f"{site.url}/nowhere.zarr")
    with pytest.raises(StoreNotFoundError, match=r"no store at .*/nowhere\.zip: the server has nothing there"):
        chorus_store.open(f"{site.url}/nowhere.zip")
    bucket.add(small)
    with pytest.raises(StoreNotFoundError, match="the server has nothing there"):
        chorus_store.open("s3://backgrounds/nowhere.zarr", bucket.options)
    with pytest.raises(StoreNotFoundError, match="the server has nothing there"):
        chorus_store.open("s3://nowhere/enformer.zarr", bucket.options)
    url = site.add(small)
    for path in list(site.files):
        if "effect_cdf" in path:
            del site.files[path]
    with pytest.raises(CorruptStoreError, match="effect_cdf/c/0/0 is missing"):
        chorus_store.open(url).chorus.percentile(0.7, track=TRACK)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_server_that_refuses(site: Site, small: Path, status: int):
    url = site.add(small)
    store = chorus_store.open(url)
    site.status = status
    reason = "the server refuses.*credentials" if status in (401, 403) else f"{status}.*try again later"
    with pytest.raises(StoreUnreachableError, match=reason):
        chorus_store.open(url)
    with pytest.raises(StoreUnreachableError, match=reason):
        store.chorus.percentile(0.7, track=TRACK)
    with pytest.raises(StoreUnreachableError, match=reason):
        chorus_store.open(f"{url}_pertrack.npz")


@pytest.mark.usefixtures("impatient")
def test_a_server_that_says_nothing(site: Site, small: Path):
    url = site.add(small)
    store = chorus_store.open(url)
    site.answers.clear()
    for place in (url, f"{url}.zip", f"{url}_pertrack.npz"):
        with pytest.raises(StoreUnreachableError, match="no answer within"):
            chorus_store.open(place)
    with pytest.raises(StoreUnreachableError, match="no answer within"):
        store.chorus.percentile(0.7, track=TRACK)


@pytest.mark.usefixtures("impatient")
def test_no_server(closed_port: int):
    with pytest.raises(StoreUnreachableError, match=r"Cannot connect to host.*check the URL"):
        chorus_store.open(f"http://127.0.0.1:{closed_port}/enformer.zarr")
    with pytest.raises(StoreUnreachableError, match=r"Cannot connect to host.*check the URL"):
        chorus_store.open("http://host.invalid/enformer.zarr")
    options = {"endpoint_url": f"http://127.0.0.1:{closed_port}", "key": "key", "secret": "secret"}
    with pytest.raises(StoreUnreachableError, match="check the"):
        chorus_store.open("s3://bucket/enformer.zarr", options)


def test_credentials_of_s3(bucket: Bucket, small: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    url = bucket.add(small)
    endpoint = {"endpoint_url": bucket.options["endpoint_url"]}
    with pytest.raises(StoreUnreachableError, match=r'no S3 credentials.*\{"anon": True\}'):
        chorus_store.open(url, endpoint)


def test_a_server_without_byte_ranges(site: Site, small: Path):
    site.ranges = False
    store = chorus_store.open(site.add(small))
    with pytest.raises(StoreUnreachableError, match="the server ignores range requests"):
        store.chorus.percentile(0.7, track=TRACK)


def test_damage_on_the_way(site: Site, small: Path, tmp_path: Path):
    url = site.add(Path(shutil.copytree(small, tmp_path / "enformer.zarr")))
    metadata = site.files["/enformer.zarr/zarr.json"]
    site.files["/enformer.zarr/zarr.json"] = b"<html>Please log in</html>"
    with pytest.raises(CorruptStoreError, match=r"zarr\.json is damaged"):
        chorus_store.open(url)
    site.files["/enformer.zarr/zarr.json"] = metadata
    site.broken.add("/enformer.zarr/zarr.json")
    with pytest.raises(StoreUnreachableError, match="check the URL and the network"):
        chorus_store.open(url)


def test_what_is_not_installed():
    code = (
        "import sys, chorus_store\n"
        "sys.modules['s3fs'] = None\n"
        "try:\n"
        "    chorus_store.open('s3://bucket/enformer.zarr')\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.startswith(MissingPackageError.__name__)
    assert "pip install 'chorus-store[remote]'" in said


def test_urls_of_no_kind_and_options_that_are_not():
    with pytest.raises(InputError, match="Protocol not known: nosuch"):
        chorus_store.open("nosuch://host/enformer.zarr")
