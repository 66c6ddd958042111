"""A background never replaces one that covers many more tracks, or that is no demonstration, unless asked to."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import cli as builder
from builders.settings import Inputs
from chorus_store import cli
from chorus_store.coverage import LEAST_SHARE, Coverage, covered, require_no_loss
from chorus_store.errors import CoverageError
from chorus_store.facts import FactStore
from chorus_store.npz_import import import_npz
from tests import tiny
from tests.model_folder import ModelFolder, write_models
from tests.npz_files import background, save, with_seed_keys
from tests.stores import make_store
from tests.test_splits import contents


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Inputs, Path]:
    """Inputs, and a folder with the store and the NPZ that were built from them."""
    folder = tmp_path_factory.mktemp("built")
    inputs = tiny.write_inputs(folder / "inputs")
    assert builder.run(tiny.TinyOracle, tiny.arguments(inputs, folder / "out")) == 0
    return inputs, folder / "out"


@pytest.fixture
def out(built: tuple[Inputs, Path], tmp_path: Path) -> Path:
    """A copy of that folder, to be changed."""
    return Path(shutil.copytree(built[1], tmp_path / "out"))


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A file as the reference publishes it, of 5,313 tracks, all with samples."""
    arrays = background(5313, 50)
    counts = {name.replace("cdfs", "counts"): np.full(5313, 9609) for name in arrays if name.endswith("cdfs")}
    return save(tmp_path / "enformer_pertrack.npz", {**arrays, **counts}, compressed=False)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *patterns: str) -> None:
    """``python -m chorus_store`` ends with exit code 2 and one sentence that says all of this, and what to do."""
    capsys.readouterr()
    assert cli.main(arguments) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "Traceback" not in message
    for pattern in (*patterns, "move it away", "--out", "--allow-fewer-tracks"):
        assert re.search(pattern, message), (pattern, message)


def test_a_track_is_covered_where_it_has_samples(tmp_path: Path) -> None:
    npz = save(tmp_path / "legnet_pertrack.npz", with_seed_keys(background(7, scalar=True)))
    store = import_npz(npz, tmp_path / "legnet.zarr", progress=False)
    assert covered(store) == covered(npz)
    assert {cdf: len(tracks) for cdf, tracks in covered(npz).tracks.items()} == {"effect": 6, "summary": 6}
    assert "TRACK:00" not in covered(npz).tracks["effect"], "whose count is 0"


def test_without_counts_every_row_counts(tmp_path: Path) -> None:
    arrays = background(4)
    assert {len(tracks) for tracks in covered(save(tmp_path / "old.npz", arrays)).tracks.values()} == {4}
    assert {len(tracks) for tracks in covered(save(tmp_path / "new.npz", with_seed_keys(arrays))).tracks.values()} == {
        3
    }


@given(old=st.sets(st.integers(0, 40)), new=st.sets(st.integers(0, 40)))
@settings(deadline=None)
def test_nine_tracks_of_ten_must_stay(old: set[int], new: set[int]) -> None:
    ours, theirs = (Coverage.of_all(map(str, tracks), ["effect"]) for tracks in (old, new))
    try:
        require_no_loss(ours, theirs, "here")
        assert len(old & new) >= LEAST_SHARE * len(old)
    except CoverageError as error:
        assert len(old & new) < LEAST_SHARE * len(old)
        assert f"of {len(old)} tracks" in str(error) and f"of {len(old & new)} of them" in str(error)
        assert min(map(str, old - new)) in str(error)


def test_a_cdf_that_is_gone_is_a_loss() -> None:
    scalar, binned = (Coverage.of_all("AB", cdfs) for cdfs in (["effect"], ["effect", "perbin"]))
    require_no_loss(scalar, binned, "here")
    with pytest.raises(CoverageError, match=r"perbin samples of 2 tracks, .* of 0 of them"):
        require_no_loss(binned, scalar, "here")


def test_an_export_does_not_replace_the_references_file(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, before = make_store(tmp_path / "enformer.zarr", n_tracks=7), reference.read_bytes()
    refused(
        capsys, ["export", str(store)],
        "enformer_pertrack.npz has effect samples of 5,313 tracks", "of 0 of them", "TRACK:00, .* and 5,310 more",
    )  # fmt: skip
    assert reference.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["enformer.zarr", "enformer_pertrack.npz"]
    assert cli.main(["export", str(store), "--out", str(tmp_path / "mine.npz")]) == 0
    assert cli.main(["export", str(store), "--allow-fewer-tracks"]) == 0
    assert covered(reference) == covered(store)
    assert cli.main(["export", str(store)]) == 0, "an equal one is replaced without a word"


@pytest.mark.parametrize("damage", [b"", b"notes of mine", None])
def test_a_file_that_cannot_be_read_is_somebodys(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: bytes | None
) -> None:
    reference.write_bytes(reference.read_bytes()[:-100] if damage is None else damage)
    before = reference.read_bytes()
    store = make_store(tmp_path / "enformer.zarr")
    refused(capsys, ["export", str(store)], "cannot be told what that is", "enformer_pertrack.npz")
    assert reference.read_bytes() == before
    assert cli.main(["export", str(store), "--allow-fewer-tracks"]) == 0


def test_an_import_does_not_replace_a_larger_one(
    reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["import", str(reference)]) == 0
    small = save(tmp_path / "small.npz", background(4700, 50), compressed=False)
    store = tmp_path / "enformer.zarr"
    again = ["import", str(small), "--oracle", "enformer", "--out", str(store), "--force"]
    refused(capsys, again, "enformer.zarr has effect samples of 5,313 tracks", "of 4,700 of them")
    assert len(covered(store).tracks["effect"]) == 5313
    assert cli.main([*again, "--allow-fewer-tracks"]) == 0
    assert len(covered(store).tracks["effect"]) == 4700


def test_a_build_says_at_its_start_what_its_export_could_not_replace(
    built: tuple[Inputs, Path], reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    there = reference.rename(out / "tiny_pertrack.npz")
    arguments = tiny.arguments(built[0], out)
    assert builder.run(tiny.TinyOracle, arguments) == 2
    assert "tiny_pertrack.npz has effect samples of 5,313 tracks" in capsys.readouterr().err
    assert list(out.iterdir()) == [there], "before anything was scored"
    for part in ("variants", "baselines"):
        assert builder.run(tiny.TinyOracle, [*arguments, "--part", part]) == 0
    merging = ["--part", "merge", "--out", str(out)]
    assert builder.run(tiny.TinyOracle, merging) == 2
    assert len(covered(there).tracks["effect"]) == 5313
    assert builder.run(tiny.TinyOracle, [*merging, "--allow-fewer-tracks"]) == 0
    assert len(covered(there).tracks["effect"]) == 7


def test_publishing_again_does_not_lose_tracks(
    built: tuple[Inputs, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Facts that are scored again, as damaged ones are, when the models of their tracks are gone."""
    models, out = write_models(tmp_path / "models", 4), tmp_path / "out"
    arguments = tiny.arguments(built[0], out, "--weights", str(models))
    assert builder.run(ModelFolder, arguments) == 0
    store = FactStore(out / "tiny.zarr")
    (models / "MODEL01").unlink()
    store.forget(store.units("variants")[1])
    capsys.readouterr()
    assert builder.run(ModelFolder, arguments) == 2
    message = capsys.readouterr().err
    assert "tiny.zarr has effect samples of 4 tracks" in message and "lost would be MODEL01: move it away" in message
    assert all(len(tracks) == 4 for place in out.iterdir() for tracks in covered(place).tracks.values())
    assert builder.run(ModelFolder, [*arguments, "--allow-fewer-tracks"]) == 0
    assert all(len(covered(place).tracks["effect"]) == 3 for place in out.iterdir())


def test_a_demonstration_never_takes_the_place_of_a_background(
    built: tuple[Inputs, Path], out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(out)
    assert builder.run(tiny.TinyOracle, tiny.arguments(built[0], out, "--random-weights", "1")) == 0
    demo = out / "tiny_demo.zarr"
    assert covered(demo).demo and covered(demo).tracks == covered(out / "tiny.zarr").tracks
    assert cli.main(["export", str(demo)]) == 0
    assert before.items() <= contents(out).items(), "it goes to names of its own"
    refused(capsys, ["export", str(demo), "--out", str(out / "tiny_pertrack.npz")], "not a demonstration")
    imported = out / "imported.zarr"
    assert cli.main(["import", str(out / "tiny_pertrack.npz"), "--out", str(imported)]) == 0
    again = ["import", str(out / "tiny_demo_pertrack.npz"), "--out", str(imported), "--force"]
    refused(capsys, again, "imported.zarr is not a demonstration")
    assert before.items() <= contents(out).items()
