"""What `chorus_store.open` accepts and refuses, the schemas, and what importing the package costs."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from jsonschema import Draft202012Validator

import chorus_store
from chorus_store import layout, schema
from chorus_store.errors import CorruptStoreError, SchemaError, StoreNotFoundError
from tests.stores import attributes, make_store


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("opening") / "enformer.zarr")


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(original, tmp_path / "enformer.zarr"))


def edit(path: Path, change: Any) -> None:
    """Change the root attributes."""
    node = json.loads((path / "zarr.json").read_bytes())
    change(node["attributes"])
    (path / "zarr.json").write_text(json.dumps(node))


def test_a_store_opens_lazily_and_without_dask_arrays(path: Path):
    for cdf in layout.CDFS:
        shutil.rmtree(path / f"{cdf}_cdf" / "c")
    store = chorus_store.open(path)
    assert dict(store.sizes) == {"track": 7, "quantile": 200}
    assert {v.name for v in layout.ROOT_VARIABLES} == set(store.variables)
    assert not store.chunks
    xr.testing.assert_equal(
        store.drop_vars([f"{c}_cdf" for c in layout.CDFS]),
        xr.open_zarr(path).drop_vars([f"{c}_cdf" for c in layout.CDFS]),
    )


def test_threads_that_open_together_leave_the_warning_filters_alone(path: Path):
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        for store in threads.map(chorus_store.open, [path] * 32):
            assert store.sizes["track"] == 7
    assert list(warnings.filters) == before


def test_what_is_there_instead(path: Path, tmp_path: Path):
    npz = tmp_path / "enformer_pertrack.npz"
    npz.write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for place, reason in {
        tmp_path / "nowhere.zarr": "there is nothing; check the path",
        npz: "that is an NPZ export",
        Path(__file__): "that is a file; a store is a folder",
        tmp_path: r"that folder holds enformer\.zarr; open one of them",
        tmp_path / "empty": "that folder is not a Zarr group",
    }.items():
        with pytest.raises(StoreNotFoundError, match=reason):
            chorus_store.open(place)
    edit(path, lambda root: root.pop("provenance"))
    with pytest.raises(StoreNotFoundError, match="a build in progress, not published yet; finish it"):
        chorus_store.open(path)


def test_versions(path: Path, tmp_path: Path):
    zarr.create_group(tmp_path / "foreign.zarr", zarr_format=3, attributes={"title": "sea surface"})
    with pytest.raises(SchemaError, match="not a chorus-store store"):
        chorus_store.open(tmp_path / "foreign.zarr")
    for version, reason in {
        0: "too old.*--part merge",
        2: "too new.*upgrade",
        "1": "not a whole number",
    }.items():
        edit(path, lambda root, version=version: root["schema"].update(version=version))
        with pytest.raises(SchemaError, match=reason):
            chorus_store.open(path)


def test_damaged_metadata(path: Path):
    whole = (path / "zarr.json").read_bytes()
    for length in (0, 100, len(whole) // 2, len(whole) - 2):
        (path / "zarr.json").write_bytes(whole[:length])
        with pytest.raises(CorruptStoreError, match=r"zarr\.json is damaged"):
            chorus_store.open(path)
    node = json.loads(whole)
    del node["consolidated_metadata"]["metadata"]["summary_count"]
    (path / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(SchemaError, match="lacks summary_count"):
        chorus_store.open(path)
    del node["consolidated_metadata"]
    (path / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(CorruptStoreError, match="onsolidated metadata"):
        chorus_store.open(path)


@pytest.mark.parametrize("name", ["store", "provenance", "npz", "run"])
def test_schemas_are_valid_and_described(name: str):
    document = json.loads((schema.schema_folder() / f"{name}.schema.json").read_bytes())
    Draft202012Validator.check_schema(document)
    assert document["title"]
    assert document["description"]


def test_the_schema_names_the_place_and_the_reason():
    valid = attributes(np.array(["tf_binding"]), ["effect", "summary"], 200)
    schema.validate(valid, "store")

    def broken(change: Any) -> str:
        document = copy.deepcopy(valid)
        change(document, document["provenance"])
        with pytest.raises(SchemaError) as caught:
            schema.validate(document, "store")
        return str(caught.value)

    assert "$: 'genome' is a required property" in broken(lambda root, p: root.pop("genome"))
    assert "$.demo: 'no' is not of type 'boolean'" in broken(lambda root, p: root.update(demo="no"))
    assert "$.provenance.geometry.heads[0]: 'n_bins' is a required" in broken(
        lambda root, p: p["geometry"]["heads"][0].pop("n_bins")
    )
    assert "$.provenance.inputs.genome.sha256: 'abc' does not match" in broken(
        lambda root, p: p["inputs"]["genome"].update(sha256="abc")
    )
    assert "$.provenance.sampling.effect.mode: 'hybrid' is not one of" in broken(
        lambda root, p: p["sampling"]["effect"].update(mode="hybrid")
    )
    assert "'perbyn' was unexpected" in broken(lambda root, p: p["sampling"].update(perbyn={}))
    assert len(broken(lambda root, p: root.update(oracle=["x"] * 1000))) < 200


def test_importing_is_light():
    code = (
        "import sys, chorus_store, xarray\n"
        "assert hasattr(xarray.Dataset, 'chorus')\n"
        "heavy = {'torch', 'tensorflow', 'dask', 'distributed', 'numba', 'jsonschema', 'builders'}\n"
        "print(*heavy & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert loaded.split() == []
