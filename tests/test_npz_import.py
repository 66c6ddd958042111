"""NPZ → store → NPZ: nothing is lost, nothing is left half done."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chorus_store
from chorus_store import info, layout, schema
from chorus_store.errors import CorruptStoreError, InputError, SchemaError, StoreMismatchError, StoreWriteError
from chorus_store.npz import export_npz
from chorus_store.npz_import import default_path, import_npz
from tests.memory import peak_growth
from tests.npz_files import (
    Arrays,
    assert_same,
    background,
    save,
    with_current_keys,
    with_seed_keys,
)
from tests.stores import edit_root, make_store


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    return save(tmp_path / "enformer_pertrack.npz", with_current_keys(background()))


def there_and_back(path: Path, **options: Any) -> None:
    """Import and export a file, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        store = import_npz(path, Path(folder, "x.zarr"), progress=False, oracle="x", **options)
        assert_same(path, export_npz(store, Path(folder, "x_pertrack.npz"), progress=False))


@pytest.mark.shared
@pytest.mark.parametrize("name", ["toy", "enformer_stub"])
def test_golden_files_there_and_back(shared: Path, name: str):
    there_and_back(shared / "golden" / f"{name}_pertrack.npz")


def test_our_own_exports_there_and_back(tmp_path: Path):
    for name, perbin in (("enformer", True), ("legnet", False)):
        store = make_store(tmp_path / f"{name}.zarr", 70, perbin=perbin, empty=(3,))
        exported = export_npz(store, tmp_path / f"{name}_pertrack.npz", progress=False)
        there_and_back(exported)
        again = import_npz(exported, tmp_path / f"{name}_again.zarr", progress=False)
        assert export_npz(again, tmp_path / f"{name}_again.npz", progress=False).read_bytes() == exported.read_bytes()


@pytest.mark.parametrize("scalar", [False, True])
@pytest.mark.parametrize("keys", [lambda arrays: arrays, with_seed_keys, with_current_keys])
def test_every_age_there_and_back(tmp_path: Path, keys: Callable[[Arrays], Arrays], scalar: bool):
    arrays = keys(background(7, scalar=scalar))
    there_and_back(save(tmp_path / "x_pertrack.npz", arrays))
    there_and_back(save(tmp_path / "x_pertrack.npz", {name: arrays[name] for name in reversed(arrays)}))


#: What neither Zarr nor NumPy keeps: surrogates, a last code point that NumPy refuses, NUL at the end of a string.
_text = st.text(st.characters(exclude_categories=["Cs"], max_codepoint=0x10FFFE), max_size=6).map(
    lambda s: s.rstrip("\0")
)
_carried_dtypes = st.sampled_from(["?", "i1", "u2", ">i4", "i8", "f2", "f4", ">f8", "c16", "U6"])


@st.composite
def files(draw: st.DrawFn) -> Arrays:
    """Arrays of a file: some of the keys, and arrays that no contract knows."""
    n_tracks, width = draw(st.integers(1, 6)), draw(st.integers(2, 9))
    per_track = {"track_ids": hnp.arrays("U9", n_tracks, elements=_text, unique=True)}
    finite = hnp.from_dtype(np.dtype("f4"), allow_nan=False, allow_infinity=False)
    for cdf in draw(st.sets(st.sampled_from(layout.CDFS), min_size=1)):
        per_track[f"{cdf}_cdfs"] = hnp.arrays("f4", (n_tracks, width), elements=finite).map(
            lambda a: np.sort(a, axis=1)
        )
    counts = hnp.arrays("i8", n_tracks, elements=st.integers(0, 2**60))
    optional = {f"{cdf}_{what}": counts for cdf in layout.CDFS for what in ("counts", "retained")} | {
        "signed_flags": hnp.arrays("?", n_tracks),
        "layers_per_row": hnp.arrays("U30", n_tracks, elements=_text),
        "perbin_tail_k": hnp.arrays("i8", ()),
        "build_config": st.dictionaries(st.sampled_from(["note", "seed"]), st.floats() | _text).map(
            lambda config: np.array([json.dumps(config)])
        ),
    }
    shapes = st.just(()) | st.lists(st.integers(0, 3), max_size=2).flatmap(
        lambda more: st.sampled_from([(n_tracks, *more), tuple(more)])
    )
    carried = st.tuples(_carried_dtypes, shapes).flatmap(
        lambda of: hnp.arrays(*of, elements=_text if of[0] == "U6" else None)
    )
    chosen = draw(st.sets(st.sampled_from(sorted(optional))))
    arrays = {name: draw(values) for name, values in (per_track | {name: optional[name] for name in chosen}).items()}
    names = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True).filter(
        lambda name: name not in {*layout.VARIABLE, "plan", "samples", "progress", "runs"}
    )
    arrays |= draw(st.dictionaries(names, carried, max_size=3))
    return {name: arrays[name] for name in draw(st.permutations(sorted(arrays)))}


@given(files())
@settings(deadline=None, max_examples=30)
def test_any_file_there_and_back(arrays: Arrays):
    with tempfile.TemporaryDirectory() as folder:
        there_and_back(save(Path(folder, "x_pertrack.npz"), arrays))


def test_the_store_opens_like_any_other(npz: Path, tmp_path: Path):
    path = import_npz(npz, tmp_path / "enformer.zarr", progress=False)
    schema.validate(dict(zarr.open_group(path, mode="r").attrs), "store")
    with chorus_store.open(npz) as file, chorus_store.open(path) as store, xr.open_zarr(path) as lazy:
        assert store.attrs["oracle"]["name"] == "enformer"
        assert (store.attrs["genome"], store.attrs["demo"]) == ("hg38", False)
        xr.testing.assert_equal(store.load(), file.load())
        assert set(lazy.variables) == set(store.variables)
        values = np.linspace(-2, 2, 7)
        for cdf in layout.CDFS:
            ours, theirs = (each.chorus.percentile(values, "TRACK:01", cdf) for each in (store, file))
            np.testing.assert_array_equal(ours, theirs)


def test_a_known_column_takes_its_place(tmp_path: Path):
    arrays = {**background(), "assay": np.array(list("abcde")), "window_bp": np.arange(5)}
    path = save(tmp_path / "x_pertrack.npz", arrays)
    store = import_npz(path, tmp_path / "x.zarr", progress=False)
    with chorus_store.open(store) as dataset:
        assert dataset["assay"].attrs["description"] == layout.VARIABLE["assay"].description
        assert dataset["assay"].values.tolist() == list("abcde")
    there_and_back(path)


def test_pcodec(npz: Path):
    there_and_back(npz, codec="pcodec")


def test_what_info_says(npz: Path, tmp_path: Path):
    path = import_npz(npz, tmp_path / "enformer.zarr", progress=False)
    text = info.render(info.describe(path))
    for line in (
        "enformer on hg38: published",
        "tracks (5)",
        "  tf_binding               3",
        "CDFs (20 points)",
        "  effect                   0–4,000 offered, 0–4,000 retained per track",
        "  file                     enformer_pertrack.npz",
    ):
        assert f"{line}\n" in text
    json.dumps(info.describe(path), allow_nan=False)
    bare = save(tmp_path / "bare_pertrack.npz", background())
    text = info.render(info.describe(import_npz(bare, tmp_path / "bare.zarr", progress=False)))
    assert "bare on an assembly not stated: published\n" in text
    assert "  effect                   number of values unknown\n" in text


def test_the_name_of_the_oracle(tmp_path: Path):
    current = save(tmp_path / "Copy of it.npz", with_current_keys(background()))
    assert default_path(current) == tmp_path / "enformer.zarr"
    assert default_path(current, "sei") == tmp_path / "sei.zarr"
    config = json.loads(with_current_keys(background())["build_config"].item())
    told = {"build_config": np.array([json.dumps({**config, "demo": True})])}
    demo = save(tmp_path / "renamed.npz", {**with_current_keys(background()), **told})
    assert default_path(demo) == tmp_path / "enformer_demo.zarr", "a demonstration never takes the canonical name"
    seed = save(tmp_path / "legnet_pertrack.npz", with_seed_keys(background()))
    assert default_path(seed) == tmp_path / "legnet.zarr"
    nameless = Path(shutil.copy(seed, tmp_path / "backup.npz"))
    with pytest.raises(InputError, match=r"backup\.npz: the file does not say which oracle it is of; give one"):
        import_npz(nameless, tmp_path / "x.zarr", progress=False)
    with pytest.raises(InputError, match=r"'\.\./x' is no name of an oracle"):
        import_npz(nameless, tmp_path / "x.zarr", oracle="../x", progress=False)


def test_a_document_that_says_nonsense(tmp_path: Path):
    config = np.array([json.dumps({"genome": 38, "oracle": "x"})])
    path = save(tmp_path / "x_pertrack.npz", {**background(), "build_config": config})
    with pytest.raises(SchemaError, match=r"\$\.genome: 38 is not of type"):
        import_npz(path, tmp_path / "x.zarr", progress=False)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_replaced_without_being_told(npz: Path, tmp_path: Path):
    path = import_npz(npz, tmp_path / "enformer.zarr", progress=False)
    before = (path / "zarr.json").read_bytes()
    other = save(tmp_path / "sei_pertrack.npz", background(6, seed=1))
    with pytest.raises(InputError, match=r"enformer\.zarr is there already"):
        import_npz(other, path, progress=False)
    assert (path / "zarr.json").read_bytes() == before
    import_npz(other, path, progress=False, overwrite=True)
    with chorus_store.open(path) as store:
        assert store.sizes["track"] == 6
    assert sorted(tmp_path.iterdir()) == sorted([npz, other, path])


def test_what_was_built_is_never_replaced(npz: Path, tmp_path: Path):
    built = make_store(tmp_path / "built.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    for place in (built, tmp_path / "folder", tmp_path / "file", npz):
        with pytest.raises(StoreMismatchError, match="was not imported or merged, so it is not replaced"):
            import_npz(npz, place, progress=False, overwrite=True)
    assert chorus_store.open(built).sizes["track"] == 7


def test_a_failure_leaves_what_was_there(npz: Path, tmp_path: Path):
    path = import_npz(npz, tmp_path / "enformer.zarr", progress=False)
    arrays = with_current_keys(background())
    arrays["perbin_cdfs"][4, 3] = 99
    broken = save(tmp_path / "broken_pertrack.npz", arrays)
    with pytest.raises(CorruptStoreError, match=r"perbin_cdfs .* of track TRACK:04"):
        import_npz(broken, path, progress=False, overwrite=True)
    with pytest.raises(CorruptStoreError, match=r"perbin_cdfs .* of track TRACK:04"):
        import_npz(broken, tmp_path / "new.zarr", progress=False)
    there_and_back(npz)
    assert sorted(tmp_path.iterdir()) == sorted([npz, broken, path])
    with pytest.raises(InputError, match="unknown codec 'zip'"):
        import_npz(npz, tmp_path / "new.zarr", codec="zip", progress=False)


@pytest.mark.parametrize("limit", [0, 300, 2000])
def test_a_full_disk_leaves_nothing(npz: Path, tmp_path: Path, limit: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StoreWriteError, match=r"cannot write .*enformer\.zarr.*another path"):
            import_npz(npz, tmp_path / "enformer.zarr", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == [npz]


def test_an_array_that_was_removed_from_the_store(npz: Path, tmp_path: Path):
    path = import_npz(npz, tmp_path / "enformer.zarr", progress=False)
    edit_root(path, lambda root: root["consolidated_metadata"]["metadata"].pop("perbin_tail_k"))
    with pytest.raises(SchemaError, match="the store lacks perbin_tail_k"):
        export_npz(path, tmp_path / "out.npz", progress=False)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    n_tracks = 2048
    rows = np.broadcast_to(np.linspace(0, 9, 10_000, dtype="f4").round(1), (n_tracks, 10_000))
    track_ids = np.array([f"T{i}" for i in range(n_tracks)])
    npz = save(tmp_path / "x_pertrack.npz", {"track_ids": track_ids, **{f"{cdf}_cdfs": rows for cdf in layout.CDFS}})
    code = "from chorus_store.npz_import import import_npz; import_npz(*arguments, progress=False)"
    assert peak_growth(code, npz, tmp_path / "x.zarr") < 150e6 < 3 * rows.nbytes
