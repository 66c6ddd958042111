"""ChromBPNet: lists of models, choices from them, and where their files are."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from builders import cli, model_files, model_list
from builders.chrombpnet import ChromBPNet
from builders.model_list import TrackModel
from builders.settings import Inputs
from chorus_store.errors import InputError, TrackTableError
from tests import tiny
from tests.chrombpnet_builds import build, store_of
from tests.chrombpnet_builds import inputs as inputs  # a fixture
from tests.chrombpnet_builds import models as models  # a fixture

JASPAR_HEADER = "\t".join(model_list.JASPAR_COLUMNS)


@pytest.mark.parametrize(
    ("options", "finding"),
    [
        ((), "ChromBPNet needs models"),
        (("--add", "ATAC:K562"), "is not of the form ASSAY:CELL=FILE"),
        (
            ("--add", "ATTAC:K562=x.h5"),
            "unknown assay 'ATTAC' in 'ATTAC:K562'; known are DNASE, ATAC, CHIP (near matches: ATAC",
        ),
        (("--add", "CHIP:K562=x.h5"), "'CHIP:K562' names no factor"),
        (("--add", "K562=x.h5"), "'K562' is not of the form ASSAY:cell"),
        (("--add", "ATAC:liver=x.h5", "--add", "ATAC:liver=y.h5"), "ATAC:liver is there twice"),
        (("--tracks", "LIST", "--add", "DNASE:K562=x.h5"), "DNASE:K562 is there twice"),
        (("--tracks", "LIST", "--only", "K652"), "no model for 'K652' (near matches: K562"),
        (("--tracks", "LIST", "--only", "ATACC:HepG2"), "no model for 'ATACC:HepG2' (near matches: ATAC:HepG2"),
        (
            ("--add", "ATAC:liver=x.h5", "--only", "K562"),
            "--only chooses from a list of models; give one (--tracks FILE)",
        ),
        (
            ("--random-weights", "0", "--add", "ATAC:liver=x.h5"),
            "--add ATAC:liver=x.h5 names a file, and --random-weights takes none",
        ),
        (("--tracks", "absent.tsv"), "--tracks absent.tsv: there is no such file"),
        (("--tracks", "LIST", "--weights", "absent"), "--weights absent: there is no such file"),
    ],
)
def test_bad_options_are_explained(
    inputs: Inputs,
    tmp_path: Path,
    models: Path,
    options: tuple[str, ...],
    finding: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [str(models) if option == "LIST" else option for option in options]
    assert build(inputs, tmp_path / "out", *given) == 2
    error = capsys.readouterr().err
    assert finding in error and "Traceback" not in error
    assert not (tmp_path / "out/chrombpnet.zarr").exists()


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("track\tmodel\n", "has a header and no models"),
        ("name\tfile\na\tb\n", "line 1: no column track, model"),
        ("track\tmodel\nATAC:K562\ta.h5\nATAC:K562\tb.h5\n", "line 3: ATAC:K562 is already on line 2"),
        ("track\tmodel\nATAC:K562\t\n", "line 2: no model"),
        ("track\tmodel\nATAC:K562\t \n", "line 2: no model"),
        (f"{JASPAR_HEADER}\nBP1\t1\tCTCF\tK562\t\n", "line 2: no model"),
        ("track\tmodel\nATAC:K562\n", "line 2: 1 columns, not 2"),
        ("track\tmodel\tnote\nATAC:K562\ta.h5\n", "line 2: 2 columns, not 3"),
        ("track\tmodel\n\nATAC:K562 \ta.h5\n", "line 3: 'K562 ' in 'ATAC:K562 ' has blanks around it"),
        ("track\tmodel\nCHIP: K562:CTCF\ta.h5\n", "line 2: ' K562' in"),
        ("track\tmodel\nATAC:K\u200b562\ta.h5\n", "line 2: .* characters that cannot be printed"),
        ("track\tmodel\nCAGE:K562\ta.h5\n", "line 2: unknown assay 'CAGE'"),
    ],
)
def test_bad_lists_are_explained(tmp_path: Path, text: str, finding: str) -> None:
    (tmp_path / "models.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(TrackTableError, match=finding):
        model_list.read_list(tmp_path / "models.tsv")


def test_lists_by_hand_may_have_blank_lines_and_lack_descriptions(tmp_path: Path) -> None:
    rows = ("track\tmodel\tdescription", "", "ATAC:left lung\ta.h5", "  \t", "CHIP:K562:β-catenin\t b.h5 \tfold 0", "")
    (tmp_path / "models.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert model_list.read_list(tmp_path / "models.tsv") == [
        TrackModel("ATAC:left lung", str(tmp_path / "a.h5")),
        TrackModel("CHIP:K562:β-catenin", str(tmp_path / "b.h5"), "fold 0"),
    ]


def test_files_of_jaspars_table_lie_beside_it(tmp_path: Path) -> None:
    (tmp_path / "models.tsv").write_text(f"{JASPAR_HEADER}\nBP1\t1\tCTCF\tK562\tBP1.h5\n")
    (model,) = model_list.read_list(tmp_path / "models.tsv")
    assert model == TrackModel("CHIP:K562:CTCF", str(tmp_path / "BP1.h5"), "JASPAR BP1.1")


@pytest.mark.parametrize(
    ("archive", "folder"),
    [
        ("ENCFF1.tar.gz", "ENCFF1"),
        ("ENCFF1.tar", "ENCFF1"),
        ("ENCFF1.tgz", "ENCFF1"),
        ("hepatic.target1.tar.gz", "hepatic.target1"),
        ("A.TAR.GZ", "A"),
        ("model.target.h5", "model.target.h5"),
    ],
)
def test_an_archive_is_unpacked_into_a_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archive: str, folder: str
) -> None:
    monkeypatch.setenv("CHORUS_DATA_DIR", str(tmp_path))
    listed = [TrackModel("ATAC:K562", f"https://models.invalid/2026/{archive}")]
    assert model_files.located(listed, None, offline=True) == {"ATAC:K562": tmp_path / "chrombpnet" / folder}


def test_a_choice_from_the_list(inputs: Inputs, tmp_path: Path, models: Path) -> None:
    out = tmp_path / "out"
    assert build(inputs, out, "--tracks", models, "--only", "CHIP:K562", "--only", "HepG2") == 0
    assert store_of(out).tracks.track.tolist() == ["ATAC:HepG2", "CHIP:K562:CTCF"]
    assert build(inputs, out, "--tracks", models) == 0
    assert store_of(out).tracks.track.tolist() == ["ATAC:HepG2", "CHIP:K562:CTCF", "DNASE:K562"]


def test_files_are_found_beside_the_list_in_a_folder_and_in_archives(tmp_path: Path) -> None:
    archive = tmp_path / "unpacked"
    for fold in range(2):
        for kind in ("chrombpnet", "chrombpnet_nobias", "bias_scaled"):
            path = archive / f"fold_{fold}" / f"model.{kind}.fold_{fold}.h5"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/BP1_model.h5").touch()
    text = "track\tmodel\nATAC:A\tunpacked\nATAC:B\tb.h5\nCHIP:C:X\thttps://models.invalid/2026/BP1_model.h5\n"
    with gzip.open(tmp_path / "models.tsv.gz", "wt") as file:
        file.write(text)
    listed = model_list.read_list(tmp_path / "models.tsv.gz")
    assert model_files.located(listed, tmp_path / "mine", offline=True) == {
        "ATAC:A": archive / "fold_0/model.chrombpnet_nobias.fold_0.h5",
        "ATAC:B": tmp_path / "b.h5",
        "CHIP:C:X": tmp_path / "mine/BP1_model.h5",
    }


@pytest.mark.shared
def test_the_published_chip_models(shared: Path) -> None:
    listed = model_list.read_list(shared / "data/tracks/bpnet_JASPAR2026_models.tsv.gz")
    oracle = ChromBPNet(listed)
    assert oracle.tracks.layer_counts() == {"tf_binding": 744}
    assert listed[0] == TrackModel(
        "CHIP:K562:REST",
        "https://mencius.uio.no/JASPAR/JASPAR_DeepLearning/2026/models/BP000001.1/BP000001.1_model.h5",
        "JASPAR BP000001.1",
    )
    assert [m.track for m in model_list.chosen(listed, ["CHIP:HepG2:CEBPA"])] == ["CHIP:HepG2:CEBPA"]
    with pytest.raises(InputError, match="near matches: HepG2"):
        model_list.chosen(listed, ["HepG-2"])


def test_the_dry_run_counts_models(
    inputs: Inputs, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--out", str(tmp_path / "out"), "--dry-run", "--json", "--device", "cpu"]
    assert cli.run(ChromBPNet, command) == 0
    published = json.loads(capsys.readouterr().out)
    assert published["problems"][0].startswith("ChromBPNet needs models")
    assert published["tracks"] == 753
    assert published["work"]["variants"] == {
        "units": 753, "units_of_this_shard": 753, "units_in_all": 753, "positions": 10_000, "sequences": 753 * 20_000,
    }  # fmt: skip
    assert published["work"]["baselines"]["positions"] == 15_000 + 11_500 + 3_000, "no gene bodies"
    assert build(inputs, tmp_path / "out", "--tracks", models) == 0
    capsys.readouterr()
    more = ["--add", "ATAC:liver=liver.h5", "--add", f"DNASE:K562={models.parent / 'DNASE_K562.h5'}"]
    assert cli.run(ChromBPNet, tiny.arguments(inputs, tmp_path / "out", "--dry-run", "--json", *more)) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["tracks"], report["work"]["variants"]["units"], report["work"]["variants"]["sequences"]) == (
        4,
        1,
        16,
    )


@pytest.mark.parametrize(
    ("options", "tracks", "said"),
    [
        (("--only", "K562"), 753, ["--only chooses from a list of models"]),
        (("--random-weights", "0"), 753, ["ChromBPNet needs models"]),
        (("--part", "merge"), 753, []),
        (("--demo",), 4, []),
        (("--demo", "--only", "K562", "--add", "ATAC:liver=-"), 3, []),
        (("--demo", "--add", "ATAC:liver=x.h5"), 753, ["--add ATAC:liver=x.h5 names a file, and --demo takes none"]),
    ],
)
def test_the_dry_run_says_what_the_build_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], tracks: int, said: list[str]
) -> None:
    small = ["--n-variants", "8", "--n-random", "6", "--n-tss", "0", "--ccre", "all=0", "--dry-run", "--json"]
    assert cli.run(ChromBPNet, ["--out", str(tmp_path), "--device", "cpu", *small, *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tracks"] == tracks
    assert [problem[: len(text)] for problem, text in zip(report["problems"], said, strict=True)] == said


def test_the_demo_takes_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(ChromBPNet, ["--demo", "--out", str(tmp_path), "--add", "ATAC:liver=x.h5"]) == 2
    assert "leave out one of them, or add ATAC:liver=- for a track with random weights" in capsys.readouterr().err
    assert not (tmp_path / "chrombpnet_demo.zarr").exists()
