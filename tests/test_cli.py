"""``python -m chorus_store``: what it prints, where errors go, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from chorus_store import console
from chorus_store.cli import main
from chorus_store.errors import InputError
from chorus_store.facts import FactStore, Shape
from tests.stores import attributes, make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = make_store(tmp_path_factory.mktemp("cli") / "enformer.zarr")
    runs = zarr.open_group(path, mode="r+", use_consolidated=False).create_group("runs")
    record = {
        "part": "merge",
        "started": "2026-01-02T03:04:05",
        "wall_s": 12.3,
        "command": ["--part", "merge"],
    }
    runs.create_group("b", attributes=record)
    runs.create_group("a", attributes={**record, "part": "variants", "started": "2026-01-01", "device": "cuda:0"})
    return path


def test_info_says_what_a_store_holds(path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Enformer 1 on hg38: published\n")
    for expected in (
        "tracks (7)",
        "chromatin_accessibility  2; 501 bp, sum, log2_fold_change, unsigned",
        "CDFs (200 points)",
        "10,000 offered, 10,000 retained per track, exact",
        "random 15,000, ccre 11,500",
        "hg38.fa  sha256 8b6f9b8d",
        "ccres                    not used",
        "chorus-store             0.1.0",
        "2026-01-01               variants, cuda:0, 12 s, --part merge",
    ):
        assert expected in text
    assert text.index("2026-01-01") < text.index("2026-01-02")


def test_info_as_json(path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["published"], document["n_tracks"], document["cdf_points"]) == (True, 7, 200)
    assert [run["id"] for run in document["runs"]] == ["a", "b"]
    assert document["sampling"]["effect"]["offered"] == [10_000, 10_000]
    files = [file for file in path.rglob("*") if file.is_file()]
    assert document["bytes"] == {"background": sum(file.stat().st_size for file in files), "facts": 0}
    assert "progress" not in document


def test_info_of_a_build_in_progress(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = attributes(np.array(["tf_binding"]), [], 200)
    del root["provenance"]
    shape = Shape(n_variants=5, n_baselines=4, n_tracks=3, bin_slots=2, block=2, tracks_per_unit=3)
    facts = FactStore.create(tmp_path / "enformer.zarr", shape, {"identity": {}}, root, {})
    unit = facts.units("variants")[1]
    facts.write(unit, {name: np.zeros((2, 3), np.float32) for name in ("effect/ref", "effect/alt")}, {})
    assert main(["info", str(facts.path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Enformer 1 on hg38: build in progress\n")
    assert "variants                   1 of 3 units done, 2 missing" in text
    assert "baselines                  0 of 2 units done, 2 missing" in text
    assert main(["info", str(facts.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"]["facts"] > 0


def test_export_prints_the_file(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "x.npz"
    assert main(["export", str(path), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert main(["export", str(path)]) == 0
    assert path.with_name("enformer_pertrack.npz").read_bytes() == out.read_bytes()


def test_an_error_is_one_sentence_and_exit_code_2(tmp_path: Path):
    command = [sys.executable, "-m", "chorus_store", "info", str(tmp_path / "none.zarr")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: no store at {tmp_path / 'none.zarr'}: there is nothing; ")
    assert done.stderr.count("\n") == 1


def test_help_has_examples(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert "python -m chorus_store info enformer.zarr --json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (InputError("no such option"), 2, "error: no such option\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ZeroDivisionError("oh"), 1, "ZeroDivisionError: oh\n"),
    ],
)
def test_exit_codes(error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]):
    def body(argv: object) -> None:
        raise error

    assert console.run(body, []) == code
    assert capsys.readouterr().err.endswith(message)


def test_a_closed_pipe_is_no_error(path: Path):
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    command = [sys.executable, "-m", "chorus_store", "info", str(path)]
    done = subprocess.run(command, stdout=reader.stdin, stderr=subprocess.PIPE, text=True, check=False)
    assert reader.stdin is not None
    reader.stdin.close()
    assert (done.returncode, done.stderr) == (0, "")
