"""The exported NPZ: its contract, its bytes, and what happens when the disk or the store fails."""

from __future__ import annotations

import json
import resource
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from chorus_store import cli, schema
from chorus_store.errors import CorruptStoreError, SchemaError, StoreNotFoundError, StoreWriteError
from chorus_store.layout import CDFS
from chorus_store.npz import default_path, export_npz, is_current
from tests.memory import peak_growth
from tests.stores import OFFERED, edit_root, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("npz") / "enformer.zarr", 70, empty=(3,))


def test_the_contract(path: Path, tmp_path: Path):
    out = export_npz(path, tmp_path / "enformer_pertrack.npz", progress=False)
    assert list(tmp_path.iterdir()) == [out]
    assert zipfile.ZipFile(out).testzip() is None
    store = chorus_store.open(path)
    with np.load(out, allow_pickle=False) as npz:
        assert npz["track_ids"].dtype == "<U11"
        assert npz["track_ids"].tolist() == store["track"].values.tolist()
        assert npz["layers_per_row"].tolist() == store["layer"].values.tolist()
        assert npz["signed_flags"].dtype == bool
        np.testing.assert_array_equal(npz["signed_flags"], store["signed"])
        for cdf in CDFS:
            rows, counts = npz[f"{cdf}_cdfs"], npz[f"{cdf}_counts"]
            assert (rows.dtype, rows.shape, rows.flags.c_contiguous) == (np.float32, (70, 200), True)
            np.testing.assert_array_equal(rows, store[f"{cdf}_cdf"])
            assert counts.dtype == npz[f"{cdf}_retained"].dtype == np.int64
            assert (counts[3], counts[4], rows[3].any()) == (0, OFFERED[cdf], False)
            np.testing.assert_array_equal(npz[f"{cdf}_retained"], store[f"{cdf}_retained"])
        assert npz["build_config"].shape == (1,)
        config = json.loads(npz["build_config"][0])
        assert set(npz.files) == {
            "track_ids", "signed_flags", "layers_per_row", "build_config",
            *(f"{cdf}_{what}" for cdf in CDFS for what in ("cdfs", "counts", "retained")),
        }  # fmt: skip
    schema.validate(config, "npz")
    provenance = store.attrs["provenance"]
    assert config["schema_version"] == 4
    assert (config["genome"], config["oracle"], config["demo"]) == ("hg38", "enformer", False)
    assert (config["histone_window_bp"], config["other_window_bp"]) == (2001, 501)
    assert (config["n_tracks"], config["cdf_points"]) == (70, 200)
    assert (config["input_length"], config["resolution"]) == (196_608, 128)
    assert config["sampling"] == provenance["sampling"]
    assert config["reference_sets"]["seeds"] == provenance["plan"]["seeds"]
    assert config["fai_sha256"] == provenance["inputs"]["genome"]["fai_sha256"]


def test_a_scalar_oracle_has_no_perbin(tmp_path: Path):
    path = make_store(tmp_path / "legnet.zarr", 3, perbin=False)
    with np.load(export_npz(path, tmp_path / "legnet_pertrack.npz", progress=False)) as npz:
        assert not [name for name in npz.files if "perbin" in name]


def test_equal_stores_give_equal_bytes(path: Path, tmp_path: Path):
    copied = shutil.copytree(path, tmp_path / "copy.zarr")
    first, second = (export_npz(p, tmp_path / f"{i}.npz", progress=False) for i, p in enumerate([path, copied]))
    assert first.read_bytes() == second.read_bytes()


def test_whether_a_file_is_of_this_background(path: Path, tmp_path: Path):
    out = export_npz(path, tmp_path / "enformer_pertrack.npz", progress=False)
    assert is_current(path, out)
    assert not is_current(make_store(tmp_path / "other.zarr", 3), out)
    assert not is_current(path, tmp_path / "none.npz")
    out.write_bytes(out.read_bytes()[:-9])
    assert not is_current(path, out)


def test_from_inside_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(make_store(tmp_path / "enformer.zarr", 3))
    assert cli.main(["export", "."]) == 0
    assert (tmp_path / "enformer_pertrack.npz").is_file()
    capsys.readouterr()
    assert cli.main(["validate", "."]) == 0
    assert "valid" in capsys.readouterr().out


def test_a_demonstration_goes_elsewhere_by_default(path: Path, tmp_path: Path):
    assert default_path(path) == path.with_name("enformer_pertrack.npz")
    demo = Path(shutil.copytree(path, tmp_path / "demo.zarr"))
    edit_root(demo, lambda root: root["attributes"].update(demo=True))
    assert default_path(demo) == tmp_path / "enformer_demo_pertrack.npz"


def test_an_npz_is_not_exported(path: Path, tmp_path: Path):
    npz = export_npz(path, tmp_path / "enformer_pertrack.npz", progress=False)
    for export in (default_path, lambda place: export_npz(place, tmp_path / "out.npz", progress=False)):
        with pytest.raises(SchemaError, match=r"enformer_pertrack\.npz is an NPZ file already, which needs no export"):
            export(npz)
    assert list(tmp_path.iterdir()) == [npz]


@pytest.mark.parametrize("limit", [0, 10_000, 100_000])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(path: Path, tmp_path: Path, limit: int):
    out = tmp_path / "enformer_pertrack.npz"
    out.write_bytes(b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(StoreWriteError, match=r"cannot write .*enformer_pertrack\.npz.*another path"):
            export_npz(path, out, progress=False, allow_fewer_tracks=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]
    assert out.read_bytes() == b"old"


def test_failures_leave_nothing(path: Path, tmp_path: Path):
    out = tmp_path / "out" / "enformer_pertrack.npz"
    with pytest.raises(StoreWriteError, match="No such file or directory"):
        export_npz(path, out, progress=False)
    out.parent.mkdir()
    with pytest.raises(StoreNotFoundError, match="there is nothing"):
        export_npz(tmp_path / "none.zarr", out, progress=False)
    broken = Path(shutil.copytree(path, tmp_path / "broken.zarr"))
    shard = broken / "summary_cdf" / "c" / "0" / "0"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(CorruptStoreError, match="summary_cdf cannot be read"):
        export_npz(broken, out, progress=False)
    shard.unlink()
    with pytest.raises(CorruptStoreError, match="summary_cdf/c/0/0 is missing"):
        export_npz(broken, out, progress=False)
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak from /proc")
def test_memory_does_not_grow_with_the_store(tmp_path: Path):
    # Coarse values are quickly compressed while the store is made; decoded they are as large as any.
    path = make_store(tmp_path / "enformer.zarr", 1500, n_quantiles=10_000, decimals=1)
    code = "from chorus_store.npz import export_npz; export_npz(*arguments, progress=False)"
    grown = peak_growth(code, path, tmp_path / "enformer_pertrack.npz")
    assert grown < 150e6 < 3 * 1500 * 10_000 * 4
