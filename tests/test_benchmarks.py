"""The benchmarks run and state their figures; sizes, unlike times, are asserted here too."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from benchmarks import __main__ as runner
from benchmarks import measure, store_size
from chorus_store.grid import FloatArray
from chorus_store.layout import CDF_POINTS, CDFS
from chorus_store.npz import export_npz
from tests.stores import make_store

ROOT = Path(__file__).resolve().parents[1]
N_TRACKS = 24

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")


@pytest.mark.parametrize(
    ("name", "arguments", "figures"),
    [
        (
            "scoring",
            "--tracks 64 --units 1",
            ["encode and one-hot", "in memory", "to disk", "time besides the forward passes"],
        ),
        (
            "compaction",
            "--tracks 4 --positions 256 --memory 64M",
            ["ratio to the stand-in, one core", "peak memory over an idle process"],
        ),
        (
            "npz_export",
            "--tracks 5 --repeats 1",
            [
                "faster than np.savez_compressed",
                "size beside np.savez_compressed",
                "peak memory over an idle process",
            ],
        ),
        (
            "lookups",
            "--tracks 10 --variants 20 --threads 2",
            [
                "one variant over all tracks, numba not loaded",
                "(track, variant) on one core",
                "(variant, track) on one core",
                "faster than np.searchsorted",
                "speed of 2 threads",
            ],
        ),
        ("store_size", "--tracks 2", ["blosc, of the exported NPZ", "pcodec, of the exported NPZ"]),
        (
            "asking",
            "--tracks 8 --repeats 1",
            [
                *(
                    figure
                    for name in ("PerTrackNormalizer", "accessor", "accessor on xr.open_zarr")
                    for figure in (
                        f"first percentile of a process, {name}, faster",
                        f"its memory, {name}, of the stand-in's",
                    )
                ),
                "open and first percentile, PerTrackNormalizer, faster",
                "open and first percentile, accessor, faster",
                "a scalar call",
                "scalar calls, faster",
                "one variant over all tracks, loaded",
                "one variant from a closed store, faster",
            ],
        ),
    ],
)
def test_figures(
    name: str, arguments: str, figures: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(ROOT)
    verdicts = runner.run(name, arguments)
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    assert [line[5:].partition(":")[0] for line in verdicts] == figures
    assert all(line in out.splitlines() for line in verdicts)


def test_table_of_the_backends(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("torch", reason="PyTorch is not installed (extra enformer)")
    monkeypatch.chdir(ROOT)
    assert runner.run("enformer_backends", "--size small --precision fp32") == []
    rows = [line.split() for line in capfd.readouterr().out.splitlines()[-2:]]
    assert [row[:3] for row in rows] == [["fp32", "896", "bins"], ["fp32", "needed", "bins"]]
    assert all(float(number) > 0 for row in rows for number in row[3:])


def test_the_exit_code_remembers_a_miss(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "_missed", [])
    measure.verdict("rate", 3, 2, "M values/s")
    measure.verdict("size", 2, 2, "%", at_least=False)
    assert measure.exit_code() == 0
    measure.verdict("size", 3, 2, "%", at_least=False)
    measure.verdict("rate", 2, 2, "M values/s")
    assert measure.exit_code() == 1
    assert [line[:4] for line in capsys.readouterr().out.splitlines()] == ["ok  ", "ok  ", "MISS", "ok  "]


@pytest.mark.parametrize(
    ("arguments", "summary", "code"),
    [
        (
            "--tracks 8",
            ["ok   store_size: blosc, of the exported NPZ", "ok   store_size: pcodec, of the exported NPZ"],
            0,
        ),
        ("--tracks none", ["FAIL store_size: exit code 2"], 1),
    ],
)
def test_the_summary(
    arguments: str,
    summary: list[str],
    code: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runner, "QUICK", {"store_size": arguments})
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick"])
    assert runner.main() == code
    lines = capfd.readouterr().out.split("\nsummary\n")[1].splitlines()
    assert [line.rpartition(": ")[0] if code == 0 else line for line in lines] == summary


def test_the_list_is_complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--list"])
    assert runner.main() == 0
    programs = {}
    for path in (ROOT / "benchmarks").glob("[!_]*.py"):
        module = ast.parse(path.read_text())
        if not path.stem.startswith(("gpu_", "oracle_", "splice_")) and any(
            getattr(node, "name", "") == "main" for node in module.body
        ):
            programs[path.stem] = str(ast.get_docstring(module)).splitlines()[0]
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed == programs


@pytest.fixture(scope="module")
def cdfs() -> dict[str, FloatArray]:
    """Grids of populations as a build has them."""
    return store_size.cdfs(N_TRACKS)


@pytest.fixture(scope="module")
def npz(cdfs: dict[str, FloatArray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a store that holds them."""
    store = make_store(tmp_path_factory.mktemp("sizes") / "enformer.zarr", N_TRACKS, n_quantiles=CDF_POINTS)
    for cdf in CDFS:
        zarr.open_array(store / f"{cdf}_cdf", mode="r+")[...] = cdfs[cdf]
    return export_npz(store, store.with_name("enformer_pertrack.npz"), progress=False)


def test_size_of_the_npz(npz: Path, tmp_path: Path):
    np.savez_compressed(tmp_path / "numpy.npz", **np.load(npz))
    assert npz.stat().st_size <= 1.06 * (tmp_path / "numpy.npz").stat().st_size


@pytest.mark.parametrize(("codec", "share"), [("blosc", 0.61), ("pcodec", 0.55)])
def test_size_of_a_store(codec: str, share: float, npz: Path, cdfs: dict[str, FloatArray], tmp_path: Path):
    assert store_size.store_bytes(tmp_path / "store.zarr", cdfs, codec) <= share * npz.stat().st_size
