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
        ("track\tmodel\nATAC:K562\n", "line 2: 1 columns, not 2"),
        ("track\tmodel\nCAGE:K562\ta.h5\n", "line 2: unknown assay 'CAGE'"),
    ],
)
def test_bad_lists_are_explained(tmp_path: Path, text: str, finding: str) -> None:
    (tmp_path / "models.tsv").write_text(text)
    with pytest.raises(TrackTableError, match=finding):
        model_list.read_list(tmp_path / "models.tsv")


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
