"""ChromBPNet: models that come to a background later, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from builders import model_list
from builders.model_list import TrackModel
from builders.settings import Inputs
from chorus_store import open as open_store
from chorus_store.errors import StoreMismatchError
from chorus_store.facts import FactStore
from tests import tiny
from tests.chrombpnet_builds import SIZES, TRACKS, build, contents, facts_of, store_of, write_list, write_model
from tests.chrombpnet_builds import inputs as inputs  # a fixture
from tests.chrombpnet_builds import models as models  # a fixture
from tests.chrombpnet_builds import whole as whole  # a fixture

ROOT = Path(__file__).resolve().parents[1]


def test_a_model_added_later_is_a_row_more(inputs: Inputs, tmp_path: Path, models: Path) -> None:
    out = tmp_path / "out"
    assert build(inputs, out, "--tracks", models) == 0
    stamps = {file: file.stat().st_mtime_ns for file in (out / "chrombpnet.zarr/samples").rglob("c/*/*")}
    added = write_model(tmp_path, "ATAC:liver")
    assert build(inputs, out, "--add", f"ATAC:liver={added}", "--part", "variants") == 0
    with open_store(out / "chrombpnet.zarr") as store:
        assert store.sizes["track"] == 3, "the old background until the new one is whole"
    assert build(inputs, out, "--add", f"ATAC:liver={added}") == 0
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps, "another track was scored again"
    with open_store(out / "chrombpnet.zarr") as store:
        assert store["track"].values.tolist() == [*TRACKS, "ATAC:liver"]
        assert store["effect_count"].values.tolist() == [8] * 4
        inputs_said = store.attrs["provenance"]["inputs"]
    longer = write_list(tmp_path / "longer", [*TRACKS, "ATAC:liver"])
    assert build(inputs, tmp_path / "at_once", "--tracks", longer) == 0
    with open_store(tmp_path / "at_once/chrombpnet.zarr") as store:
        theirs = store.attrs["provenance"]["inputs"]
    assert (inputs_said["weights"], inputs_said["tracks"]["table_sha256"]) == (
        theirs["weights"], theirs["tracks"]["table_sha256"],
    )  # fmt: skip
    for track in [*TRACKS, "ATAC:liver"]:
        for ours, same in zip(facts_of(out, track), facts_of(tmp_path / "at_once", track), strict=True):
            np.testing.assert_array_equal(ours, same)
    npz = "chrombpnet_pertrack.npz"
    assert (out / npz).read_bytes() == (tmp_path / "at_once" / npz).read_bytes()
    assert build(inputs, out, "--tracks", longer) == 0, "a longer list asks for the same"


def test_tracks_added_at_the_same_time(inputs: Inputs, tmp_path: Path, models: Path) -> None:
    out = tmp_path / "out"
    assert build(inputs, out, "--tracks", models) == 0
    options = ("--ccre", "all=1", "--batch", "4", "--device", "cpu", "--part", "both")
    command = [sys.executable, "-m", "builders.chrombpnet", *tiny.arguments(inputs, out, *options, **SIZES)]
    names = ["ATAC:liver", "DNASE:spleen", "CHIP:A549:MAX"]
    additions = [(name, write_model(tmp_path, name)) for name in names]
    workers = [
        subprocess.Popen([*command, "--part", "variants", "--add", f"{name}={file}"], cwd=ROOT)
        for name, file in additions
    ]
    assert [worker.wait(120) for worker in workers] == [0] * 3
    every = [f"--add={name}={file}" for name, file in additions]
    assert build(inputs, out, *every) == 0
    rows = store_of(out).tracks.track.tolist()
    assert rows[:3] == list(TRACKS) and sorted(rows[3:]) == sorted(names)
    for name, file in additions:
        alone = tmp_path / f"alone_{file.stem}"
        assert build(inputs, alone, "--add", f"{name}={file}") == 0
        for ours, theirs in zip(facts_of(out, name), facts_of(alone, name), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_store_that_lost_rows_is_not_written_to(inputs: Inputs, tmp_path: Path, models: Path) -> None:
    """A merge that overtook an addition must not let its units pass for those of another row."""
    out = tmp_path / "out"
    assert build(inputs, out, "--tracks", models) == 0
    store = store_of(out)
    store.add_tracks(model_list.track_table([TrackModel("ATAC:liver")]))
    unit = store.units("variants")[-1]
    (out / "chrombpnet.zarr/progress/tracks/000003/zarr.json").unlink()
    with pytest.raises(StoreMismatchError, match="removed or replaced"):
        store.write(unit, {}, {})


def test_an_addition_that_was_interrupted_is_finished(
    inputs: Inputs, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert build(inputs, out, "--tracks", models, "--part", "variants") == 0
    liver = TrackModel("ATAC:liver", str(write_model(tmp_path, "ATAC:liver")))
    with monkeypatch.context() as patch:  # killed between the two
        patch.setattr(FactStore, "widen", lambda store: None)
        store_of(out).add_tracks(model_list.track_table([liver]))
    assert store_of(out).array("effect/ref").shape[1] == 3
    assert build(inputs, out, "--tracks", models, "--add", f"{liver.track}={liver.source}") == 0
    with open_store(out / "chrombpnet.zarr") as store:
        assert store["track"].values.tolist() == [*TRACKS, "ATAC:liver"]
        assert store["effect_count"].values.tolist() == [8] * 4


def test_another_model_of_the_same_track_is_refused(
    inputs: Inputs, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert build(inputs, out, "--tracks", models) == 0
    before = contents(out)
    write_model(models.parent, "ATAC:HepG2", seed=5)
    assert build(inputs, out, "--tracks", models) == 2
    assert "was scored with other models of ATAC:HepG2" in capsys.readouterr().err
    assert contents(out) == before


def test_discarded_facts_take_no_more_tracks(
    inputs: Inputs, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert build(inputs, out, "--tracks", models, "--discard-facts") == 0
    assert build(inputs, out, "--add", f"ATAC:liver={write_model(tmp_path, 'ATAC:liver')}") == 2
    assert "takes no more tracks: its facts were discarded" in capsys.readouterr().err
