"""What `chorus_store.open` reads, accepts and refuses, the xarray backend, and the schemas."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import dask
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import chorus_store
from chorus_store import layout, npz, opening, places, schema
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


class CountingStore(zarr.storage.LocalStore):
    """A local store that remembers what was read."""

    reads: ClassVar[list[str]] = []

    async def get(self, key: str, *args: Any, **options: Any) -> Any:
        self.reads.append(key)
        return await super().get(key, *args, **options)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys that are read from stores opened in the test."""
    monkeypatch.setattr(places, "LocalStore", CountingStore)
    CountingStore.reads.clear()
    return CountingStore.reads


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


def test_reads_are_few(path: Path, reads: list[str]):
    store = chorus_store.open(path)
    assert sorted(reads) == ["quantile/c/0", "track/c/0", "zarr.json"]
    reads.clear()
    store.chorus.percentile(0.7, track="CHIP:00001")
    # Of the CDF first the index of a shard, then one chunk.
    assert sorted(reads) == ["effect_cdf/c/0/0", "effect_cdf/c/0/0", "effect_count/c/0", "signed/c/0"]
    reads.clear()
    store.chorus.percentile([0.1, 0.2, 0.7], track="CHIP:00001")
    assert sorted(reads) == ["effect_cdf/c/0/0"] * 2
    reads.clear()
    repr(store), store.sizes, store.isel(track=slice(3)).chorus
    assert reads == []


INDEXERS = st.one_of(
    st.integers(-7, 6),
    st.builds(slice, st.integers(-7, 7), st.integers(-7, 7), st.integers(1, 7)),
    st.lists(st.integers(-7, 6), max_size=9).map(lambda rows: np.array(rows, int)),
    st.lists(st.booleans(), min_size=7, max_size=7).map(np.array),
)


@settings(deadline=None, max_examples=50)
@given(track=INDEXERS, quantile=INDEXERS)
def test_what_is_selected_is_what_is_read(original: Path, track: Any, quantile: Any):
    store = chorus_store.open(original).isel(quantile=slice(7))
    whole = xr.open_zarr(original).isel(quantile=slice(7)).load()
    for name in ("effect_cdf", "layer", "signed"):
        indexers = {"track": track, "quantile": quantile} if name == "effect_cdf" else {"track": track}
        selected = store[name].isel(indexers)
        np.testing.assert_array_equal(selected.values, whole[name].isel(indexers).values)


def test_what_pandas_and_xarray_do_with_a_store(original: Path):
    store = chorus_store.open(original)
    assert type(store["layer"].values[0]) is str
    assert store["assay"].values.astype(str).tolist()[:2] == ["DNASE", "CHIP"]
    chosen = store.where(store["layer"] == "tss_activity", drop=True)
    assert chosen["track"].values.tolist() == ["CAGE:00003"]
    frame = store[["layer", "signed", "effect_count"]].to_dataframe()
    assert frame.loc["RNA:00004"].tolist() == ["gene_expression", True, 10_000]
    assert store["effect_cdf"].sel(track="RNA:00004", quantile=1.0).item() == store["effect_cdf"].values[4, -1]
    xr.testing.assert_identical(pickle.loads(pickle.dumps(chorus_store.open(original))), store)


def test_the_engine_gives_dask_arrays_of_whole_shards(original: Path, reads: list[str]):
    store = xr.open_dataset(original, engine="chorus", chunks={})
    assert store["effect_cdf"].chunks == ((7,), (200,))
    assert store["effect_cdf"].variable.encoding["preferred_chunks"] == {"track": 8, "quantile": 200}
    assert not any("_cdf" in key for key in reads)
    with dask.config.set(scheduler="synchronous"):
        xr.testing.assert_identical(store.compute(), chorus_store.open(original).load())
    fewer = xr.open_dataset(original, engine="chorus", drop_variables=["effect_cdf", "nothing"])
    assert "effect_cdf" not in fewer
    assert "summary_cdf" in fewer


def test_xarray_guesses_npz_files_and_nothing_else(original: Path, tmp_path: Path):
    file = npz.export_npz(original, tmp_path / "enformer_pertrack.npz", progress=False)
    with xr.open_dataset(file) as guessed, chorus_store.open(original) as store:
        np.testing.assert_array_equal(guessed["effect_cdf"], store["effect_cdf"])
        assert guessed.chorus.percentile(0.7, "CHIP:00001") == store.chorus.percentile(0.7, "CHIP:00001")
    engine = xr.backends.list_engines()["chorus"]
    assert [engine.guess_can_open(name) for name in (str(original), "other.npz", b"PK", None)] == [False] * 4


def test_threads_that_open_together_leave_the_warning_filters_alone(path: Path):
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as threads:
        for store in threads.map(chorus_store.open, [path] * 32):
            assert store.sizes["track"] == 7
    assert list(warnings.filters) == before


def test_what_is_there_instead(path: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    for place, reason in {
        tmp_path / "nowhere.zarr": "there is nothing; check the path",
        Path(__file__): "that is a file; a store is a folder",
        tmp_path: r"that folder holds enformer\.zarr; open one of them",
        tmp_path / "empty": "that folder is not a Zarr group",
    }.items():
        with pytest.raises(StoreNotFoundError, match=reason):
            chorus_store.open(place)
    (tmp_path / "enformer_pertrack.npz").write_bytes(b"")
    with pytest.raises(StoreNotFoundError, match="that is an NPZ file, not a store"):
        opening.root_attributes(tmp_path / "enformer_pertrack.npz")
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


def test_arrays_that_are_not_those_of_the_layout(path: Path):
    metadata = json.loads((path / "zarr.json").read_bytes())
    for name, change, reason in (
        ("effect_cdf", {"data_type": "float64"}, r"effect_cdf of .* is float64 over \(track, quantile\), not float32"),
        ("signed", {"dimension_names": ["row"]}, r"signed of .* is bool over \(row\), not bool over \(track\)"),
        ("summary_cdf", {"shape": [6, 200]}, r"summary_cdf of .* has 6 entries along track, not 7"),
    ):
        changed = copy.deepcopy(metadata)
        changed["consolidated_metadata"]["metadata"][name].update(change)
        (path / "zarr.json").write_text(json.dumps(changed))
        with pytest.raises(SchemaError, match=reason):
            chorus_store.open(path)


def test_damaged_columns_and_rows(path: Path):
    for name in ("layer", "signed"):
        file = path / name / "c/0"
        file.write_bytes(file.read_bytes()[:-3])
        with pytest.raises(CorruptStoreError, match=f"{name} cannot be read"):
            chorus_store.open(path)[name].load()
    rows = np.arange(20, dtype=np.float32).reshape(2, 10)
    opening.require_rows(rows, "effect_cdf")
    for value, reason in ((np.nan, "are missing"), (np.inf, "are not finite"), (-1, "are not finite and ascending")):
        for column in (0, 9) if value == np.inf else (9,):
            wrong = rows.copy()
            wrong[1, column] = value
            with pytest.raises(CorruptStoreError, match=f"rows of effect_cdf {reason}"):
                opening.require_rows(wrong, "effect_cdf")


@pytest.mark.parametrize("name", ["store", "provenance", "npz", "run"])
def test_schemas_are_valid_and_described(name: str):
    document = json.loads((schema.schema_folder() / f"{name}.schema.json").read_bytes())
    Draft202012Validator.check_schema(document)
    assert document["title"]
    assert document["description"]
    assert not list(without_description(document, "$"))


def without_description(node: Any, path: str) -> Iterator[str]:
    """Properties of which a schema does not say what they are."""
    if isinstance(node, list):
        for i, part in enumerate(node):
            yield from without_description(part, f"{path}[{i}]")
    elif isinstance(node, dict):
        properties = node.get("properties", {})
        yield from (f"{path}.{name}" for name, schema in properties.items() if "description" not in schema)
        for name, part in node.items():
            yield from without_description(part, f"{path}.{name}")


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
