"""``python -m chorus_store``: what it prints, where errors go, and its exit codes."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import chorus_store
from chorus_store import console
from chorus_store.cli import main
from chorus_store.errors import InputError
from chorus_store.facts import FactStore, Shape
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.s3_site import Bucket
from tests.s3_site import bucket as bucket  # a fixture
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


def test_info_of_other_things(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    npz, imported = tmp_path / "enformer_pertrack.npz", tmp_path / "enformer.zarr"
    packed = shutil.make_archive(str(path), "zip", path)
    for arguments in (["export", str(path), "--out", str(npz)], ["import", str(npz)]):
        assert main(arguments) == 0
    capsys.readouterr()
    documents = {}
    for place in (str(path), packed, str(npz), str(imported)):
        assert main(["info", place, "--json"]) == 0
        documents[place] = json.loads(capsys.readouterr().out)
        assert main(["info", place]) == 0
        text = capsys.readouterr().out
        assert "nformer" in text.splitlines()[0]
        assert " on hg38: published" in text.splitlines()[0]
        assert "  tf_binding               2" in text
        assert "10,000 offered, 10,000 retained per track" in text
        assert f"path                       {place}" in text
    of_the_folder = {"bytes", "runs"}
    assert documents[packed] == {
        **{key: value for key, value in documents[str(path)].items() if key not in of_the_folder},
        "path": packed,
    }
    assert documents[str(npz)]["build_config"]["schema_version"] == 4
    assert documents[str(imported)]["imported"]["name"] == npz.name
    for key in ("layers", "sampling", "genome", "demo", "n_tracks", "cdf_points"):
        assert documents[str(npz)][key] == documents[str(imported)][key]


def test_info_of_an_npz_that_says_little(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    npz = tmp_path / "some.npz"
    np.savez(npz, track_ids=np.array(["a", "b"]), effect_cdfs=np.zeros((2, 5), np.float32))
    assert main(["info", str(npz)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "unknown oracle on an assembly not stated: published",
        f"path                       {npz}",
        "tracks (2)",
        "CDFs (5 points)",
        "  effect                   number of values unknown",
    ]


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


def test_tracks_as_a_table(path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["tracks", str(path), "ctcf|h3k27"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        "track       layer          assay  cell_type  description",
        "CHIP:00001  tf_binding     CHIP   HepG2      CHIP:CTCF:HepG2",
        "CHIP:00002  histone_marks  CHIP   GM12878    CHIP:H3K27ac:GM12878",
        "CHIP:00006  tf_binding     CHIP   K562       CHIP:CTCF:K562",
    ]
    assert said.err == "3 of 7 tracks\n"
    assert main(["tracks", str(path), "no such track"]) == 0
    assert capsys.readouterr().err == "0 of 7 tracks\n"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ([], 7),
        (["--cell-type", "hepg2"], 2),
        (["--cell-type", "HepG2", "--cell-type", "K562"], 5),
        (["--assay", "CHIP", "--layer", "tf_binding", "hepg2"], 1),
    ],
)
def test_tracks_for_programs(path: Path, capsys: pytest.CaptureFixture[str], options: list[str], found: int):
    assert main(["tracks", str(path), *options, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == found
    assert next(iter(rows[0])) == "track"
    assert {"layer", "signed", "window_bp", "effect_count", "perbin_retained"} <= rows[0].keys()
    assert main(["tracks", str(path), *options, "--tsv"]) == 0
    said = capsys.readouterr()
    assert list(csv.DictReader(said.out.splitlines(), delimiter="\t")) == [
        {name: str(value) for name, value in row.items()} for row in rows
    ]
    assert said.err == ""


def test_percentiles_of_some_values(path: Path, capsys: pytest.CaptureFixture[str]):
    asked = ["--track", "RNA:00004", "--track", "CHIP_00001", "--value", "0.5", "--value", "-0.25"]
    assert main(["percentile", str(path), *asked, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {key: document[key] for key in ("store", "cdf", "method")} == {
        "store": str(path),
        "cdf": "effect",
        "method": "weak",
    }
    with chorus_store.open(path) as store:
        expected = [
            {
                "track": track,
                "value": value,
                "percentile": (p := store.chorus.percentile(value, track)),
                "standard_error": store.chorus.standard_error(p, track),
            }
            for track in ("RNA:00004", "CHIP_00001")
            for value in (0.5, -0.25)
        ]
    assert document["answers"] == expected
    assert main(["percentile", str(path), *asked]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["track", "value", "percentile", "standard_error"]
    for line, answer in zip(lines, expected, strict=True):
        assert line.split()[:3] == [answer["track"], str(answer["value"]), str(round(answer["percentile"], 6))]


@pytest.mark.parametrize(
    ("options", "question"),
    [
        (["--cdf", "summary"], {"cdf": "summary"}),
        (["--method", "strict"], {"method": "strict"}),
        (["--unsigned"], {"signed": False}),
        (["--signed", "--cdf", "perbin"], {"signed": True, "cdf": "perbin"}),
    ],
)
def test_options_of_a_percentile(
    path: Path, capsys: pytest.CaptureFixture[str], options: list[str], question: dict[str, Any]
):
    assert main(["percentile", str(path), "--track", "RNA:00004", "--value=-1e-1", *options, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    with chorus_store.open(path) as store:
        assert answer["percentile"] == store.chorus.percentile(-0.1, "RNA:00004", **question)


@pytest.mark.parametrize("text", ["-1e-3", "-.5", "-2.", "-1E+1", "-3"])
def test_negative_values_need_no_equals_sign(path: Path, capsys: pytest.CaptureFixture[str], text: str):
    assert main(["percentile", str(path), "--track", "RNA:00004", "--value", text, "--json"]) == 0
    (answer,) = json.loads(capsys.readouterr().out)["answers"]
    assert answer["value"] == float(text)


@pytest.mark.parametrize("module", ["chorus_store", "builders"])
def test_version(module: str):
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"chorus-store {chorus_store.__version__}\n", "")


@pytest.mark.filterwarnings("default")
def test_no_answer_is_null_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = make_store(tmp_path / "enformer.zarr", empty=(3,))
    assert main(["percentile", str(path), "--track", "CAGE:00003", "--value", "1", "--json"]) == 0
    said = capsys.readouterr()
    (answer,) = json.loads(said.out)["answers"]
    assert (answer["percentile"], answer["standard_error"]) == (None, None)
    assert said.err == "warning: no effect background, so NaN, for track CAGE:00003\n"


def test_percentiles_of_a_table(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    table, out = tmp_path / "in.tsv", tmp_path / "out.tsv.gz"
    table.write_text("id\tscore\nRNA:00004\t0.5\n")
    columns = ["--track-column", "id", "--value-column", "score", "--cdf", "summary"]
    assert main(["percentile", str(path), str(table), *columns, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert main(["percentile", str(path), str(table), *columns]) == 0
    text = capsys.readouterr().out
    assert text.startswith("id\tscore\tsummary_percentile\tsummary_standard_error\nRNA:00004\t0.5\t0.")
    assert gzip.decompress(out.read_bytes()).decode() == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--track", "RNA:00004"], "give --track and --value, each as often as you like; or a TABLE"),
        (["--track", "RNA:00004", "--value", "1", "--out", "x"], "give --track and --value"),
        (["x.tsv", "--track", "RNA:00004"], "a TABLE brings its tracks and values"),
        (["x.tsv", "--json"], "leave out --track, --value, --json"),
        (["--track", "A", "B", "--value", "1"], "if B is no table, repeat --track and --value for more than one"),
        (["x.tsv"], "x.tsv cannot be read (No such file or directory)"),
        (
            ["--track", "RNA:0004", "--value", "1"],
            "no track 'RNA:0004' among the 7 of this dataset; near matches: RNA:00004",
        ),
    ],
)
def test_questions_that_cannot_be_answered(
    path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
):
    assert main(["percentile", str(path), *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert message in said.err


def test_an_npz_is_imported_asked_and_exported(path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    npz = tmp_path / "enformer_pertrack.npz"
    assert main(["export", str(path), "--out", str(npz)]) == 0
    assert main(["import", str(npz)]) == 0
    assert capsys.readouterr().out == f"{npz}\n{tmp_path / 'enformer.zarr'}\n"
    answers = set()
    for place in (path, npz, tmp_path / "enformer.zarr"):
        assert main(["percentile", str(place), "--track", "RNA:00004", "--value", "0.5"]) == 0
        answers.add(capsys.readouterr().out)
        assert main(["tracks", str(place), "RNA"]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["RNA:00004", "gene_expression"]
    assert len(answers) == 1
    assert main(["export", str(tmp_path / "enformer.zarr"), "--out", str(tmp_path / "again.npz")]) == 0
    with np.load(npz) as old, np.load(tmp_path / "again.npz") as new:
        assert old.files == new.files
        for key in old:
            np.testing.assert_array_equal(old[key], new[key])


def test_a_store_behind_a_url(path: Path, site: Site, bucket: Bucket, capsys: pytest.CaptureFixture[str]):
    asked = ["--track", "RNA:00004", "--value", "0.5"]
    assert main(["percentile", str(path), *asked]) == 0
    expected = capsys.readouterr().out
    assert main(["percentile", site.add(path), *asked]) == 0
    assert capsys.readouterr().out == expected
    command = [sys.executable, "-m", "chorus_store", "percentile", bucket.add(path), *asked]
    options = {"FSSPEC_S3": json.dumps(bucket.options)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **options})
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@pytest.mark.parametrize("command", ["info", "tracks", "percentile", "validate", "export", "import"])
def test_help_has_examples(capsys: pytest.CaptureFixture[str], command: str):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    example = f"python -m chorus_store {command} "
    assert example in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert example in capsys.readouterr().out


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
