"""ChromBPNet: one model per track, through the real command line and real model files."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from builders import cli, conformance, model_files, model_list
from builders.model_list import TrackModel
from builders.oracle import BinArray, Reduced
from builders.settings import Inputs
from chorus_store import open as open_store
from chorus_store.errors import InputError, ModelError, StoreMismatchError, TrackTableError
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.layout import read_table
from chorus_store.sequence import Codes, decode
from tests import stub, tiny
from tests.bpnet_files import chip_layers, chrombpnet_layers, write_h5

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra chrombpnet)")
pytest.importorskip("h5py", reason="h5py is not installed (extra chrombpnet)")

from builders.chrombpnet import ChromBPNet  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
TRACKS = ("DNASE:K562", "ATAC:HepG2", "CHIP:K562:CTCF")
ARRAYS = ("effect/ref", "effect/alt", "summary/value", "perbin/value")
SIZES = {"n_variants": 8, "n_random": 6, "n_tss": 3, "n_gene_bodies": 0, "bin_slots": 5}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return tiny.write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A list of three models."""
    return write_list(tmp_path / "models", TRACKS)


@pytest.fixture(scope="module")
def whole(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an undisturbed build of these models."""
    folder = tmp_path_factory.mktemp("whole")
    assert build(inputs, folder / "out", "--tracks", write_list(folder, TRACKS)) == 0
    return folder / "out"


def write_list(folder: Path, tracks: Sequence[str]) -> Path:
    lines = ["track\tmodel", *(f"{track}\t{write_model(folder, track).name}" for track in tracks)]
    (folder / "models.tsv").write_text("\n".join(lines) + "\n")
    return folder / "models.tsv"


def write_model(folder: Path, track: str, seed: int = 0) -> Path:
    layers = chip_layers if track.startswith("CHIP") else chrombpnet_layers
    name = track.replace(":", "_").replace(" ", "_")
    return write_h5(folder / f"{name}.h5", layers(seed + len(track), filters=2))


def build(inputs: Inputs, out: Path, *more: str | Path, oracle: type[ChromBPNet] = ChromBPNet) -> int:
    options = ("--ccre", "all=1", "--batch", "4", "--device", "cpu", *map(str, more))
    return cli.run(oracle, tiny.arguments(inputs, out, *options, **SIZES))


def contents(out: Path) -> dict[str, str]:
    """SHA-256 of every file of a result, except the records of runs."""
    return {
        name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in out.rglob("*")
        if file.is_file() and "/runs/" not in (name := file.relative_to(out).as_posix())
    }


def store_of(out: Path) -> FactStore:
    return FactStore(out / "chrombpnet.zarr")


def facts_of(out: Path, track: str) -> list[np.ndarray]:
    store = store_of(out)
    row = store.tracks.track.tolist().index(track)
    return [store.read_columns(name, row, row + 1) for name in ARRAYS]


def test_conforms() -> None:
    oracle = ChromBPNet([TrackModel(track) for track in TRACKS], size="small")
    oracle.load(None)
    assert conformance.check(oracle, {"chromatin_accessibility": 2, "tf_binding": 1}) == []


@pytest.mark.slow
def test_conforms_at_full_size() -> None:
    oracle = ChromBPNet([TrackModel(track) for track in TRACKS])
    oracle.load(None, seed=1)
    assert conformance.check(oracle) == []


def test_random_weights_differ_between_tracks_and_seeds() -> None:
    codes = np.random.default_rng(0).integers(0, 5, (2, 2114), dtype=np.uint8)
    facts = []
    for seed, track in ((0, TRACKS[0]), (0, TRACKS[0]), (1, TRACKS[0]), (0, TRACKS[1])):
        oracle = ChromBPNet([TrackModel(track)], size="small")
        oracle.load(None, seed=seed)
        facts.append(oracle.for_tracks(oracle.tracks.track).reduce(codes).statistics)
    np.testing.assert_array_equal(facts[0], facts[1])
    assert not np.allclose(facts[0], facts[2]) and not np.allclose(facts[0], facts[3])
    assert facts[0][0] != facts[0][1] > 1


def test_what_is_not_loaded_does_not_predict() -> None:
    oracle = ChromBPNet([TrackModel("ATAC:K562")])
    codes = np.zeros((1, 2114), np.uint8)
    with pytest.raises(ModelError, match="a model for each track"):
        oracle.reduce(codes)
    with pytest.raises(ModelError, match="not loaded; call load first"):
        oracle.for_tracks(oracle.tracks.track)


def test_a_whole_build(inputs: Inputs, tmp_path: Path, models: Path) -> None:
    assert build(inputs, tmp_path / "out", "--tracks", models) == 0
    with open_store(tmp_path / "out/chrombpnet.zarr") as store:
        assert store["track"].values.tolist() == list(TRACKS)
        assert store["layer"].values.tolist() == ["chromatin_accessibility"] * 2 + ["tf_binding"]
        assert store["cell_type"].values.tolist() == ["K562", "HepG2", "K562"]
        assert store["resolution_bp"].values.tolist() == [1] * 3 and store["window_bp"].values.tolist() == [501] * 3
        assert store["effect_count"].values.tolist() == [8] * 3
        provenance = store.attrs["provenance"]
    assert provenance["inputs"]["weights"]["name"] == "3 models, one per track"
    assert provenance["geometry"]["heads"] == [
        {"name": "profile", "resolution_bp": 1, "n_bins": 1000, "offset_bp": 557}
    ]
    store = store_of(tmp_path / "out")
    assert len(store.units("variants")) == len(TRACKS)
    for unit in store.units("variants") + store.units("baselines"):
        record = store.record(unit)
        assert record is not None
        file = models.parent / record["model"]["name"]
        assert record["model"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert file == write_model(models.parent, TRACKS[unit.first_track])


def test_any_split_gives_the_same_bytes(inputs: Inputs, tmp_path: Path, models: Path, whole: Path) -> None:
    for k in (2, 1, 3):
        assert build(inputs, tmp_path / "shards", "--tracks", models, "--shard", f"{k}/3") == 0
    assert contents(tmp_path / "shards") == contents(whole)
    assert build(inputs, tmp_path / "blocks", "--tracks", models, "--block", "3") == 0
    assert len(store_of(tmp_path / "blocks").units("variants")) == 9
    npz = "chrombpnet_pertrack.npz"
    assert (tmp_path / "blocks" / npz).read_bytes() == (whole / npz).read_bytes()


def test_processes_at_once(inputs: Inputs, tmp_path: Path, models: Path, whole: Path) -> None:
    options = ("--ccre", "all=1", "--batch", "4", "--device", "cpu", "--tracks", str(models))
    command = [
        sys.executable,
        "-m",
        "builders.chrombpnet",
        *tiny.arguments(inputs, tmp_path / "many", *options, **SIZES),
    ]
    workers = [subprocess.Popen([*command, "--part", part], cwd=ROOT) for part in ("variants", "baselines")]
    assert [worker.wait(120) for worker in workers] == [0, 0]
    assert build(inputs, tmp_path / "many", "--tracks", models, "--part", "merge") == 0
    assert contents(tmp_path / "many") == contents(whole)


class Interrupted(ChromBPNet):
    """Ctrl-C arrives at some forward pass of some model."""

    passes: ClassVar[int] = 0

    def for_tracks(self, tracks: np.ndarray) -> ChromBPNet:
        one = super().for_tracks(tracks)
        reduce = one.reduce

        def counted(codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
            Interrupted.passes -= 1
            if Interrupted.passes < 0:
                raise KeyboardInterrupt
            return reduce(codes, bins)

        one.reduce = counted  # type: ignore[method-assign]
        return one


@pytest.mark.parametrize("passes", [0, 5, 14])
def test_interrupted_and_resumed(inputs: Inputs, tmp_path: Path, models: Path, whole: Path, passes: int) -> None:
    Interrupted.passes = passes
    assert build(inputs, tmp_path / "two", "--tracks", models, oracle=Interrupted) == 130
    before = {name: sha for name, sha in contents(tmp_path / "two").items() if "/progress/" in name}
    assert build(inputs, tmp_path / "two", "--tracks", models) == 0
    after = contents(tmp_path / "two")
    assert after == contents(whole)
    assert before.items() <= after.items(), "a finished unit was redone or lost"


def test_a_model_that_fails_leaves_the_others(
    inputs: Inputs, tmp_path: Path, models: Path, whole: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = models.parent / "DNASE_K562.h5"
    broken.write_bytes(broken.read_bytes()[:2000])
    caplog.clear()
    assert build(inputs, tmp_path / "out", "--tracks", models) == 0
    said = [record.getMessage() for record in caplog.records if "stays without samples" in record.getMessage()]
    assert len(said) == 2 and all("DNASE:K562 stays without samples" in text for text in said), "once for each kind"
    assert all(np.isnan(values).all() for values in facts_of(tmp_path / "out", TRACKS[0]))
    for track in TRACKS[1:]:
        for ours, theirs in zip(facts_of(tmp_path / "out", track), facts_of(whole, track), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    with np.load(tmp_path / "out/chrombpnet_pertrack.npz") as npz:
        for cdf in ("effect", "summary", "perbin"):
            counts = npz[f"{cdf}_counts"]
            assert counts[0] == 0 < counts[1] == counts[2]
            assert not npz[f"{cdf}_cdfs"][0].any()
    with open_store(tmp_path / "out/chrombpnet.zarr") as store:
        assert store.attrs["provenance"]["dropped"] == {"variants": {}, "baselines": {"window": 1}}, "of no track"
    # The file again as it should be: only its track is scored.
    stamps = {file: file.stat().st_mtime_ns for file in (tmp_path / "out/chrombpnet.zarr/samples").rglob("c/*/*")}
    write_model(models.parent, TRACKS[0])
    assert build(inputs, tmp_path / "out", "--tracks", models) == 0
    changed = {file.name for file, stamp in stamps.items() if file.stat().st_mtime_ns != stamp}
    assert changed == {"0"}
    assert contents(tmp_path / "out") == contents(whole)


def test_no_model_at_all_stops_the_build(
    inputs: Inputs, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in models.parent.glob("*.h5"):
        file.unlink()
    assert build(inputs, tmp_path / "out", "--tracks", models) == 2
    error = capsys.readouterr().err
    assert "not one of the first 3 models can be loaded" in error and "Traceback" not in error
    assert not (tmp_path / "out/chrombpnet.zarr").exists()


def test_only_the_first_25_decide(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tracks = [f"ATAC:cell{i:02d}" for i in range(27)]
    models = write_list(tmp_path, tracks)
    for track in tracks[:25]:
        (tmp_path / f"{track.replace(':', '_')}.h5").unlink()
    assert build(inputs, tmp_path / "out", "--tracks", models) == 2
    assert "not one of the first 25 models" in capsys.readouterr().err
    write_model(tmp_path, tracks[24])
    assert build(inputs, tmp_path / "out", "--tracks", models, "--part", "variants") == 0
    assert np.isfinite(store_of(tmp_path / "out").read_columns("effect/ref", 0, 27)).all(axis=1).tolist() == (
        [False] * 24 + [True] * 3
    )


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
    assert (inputs_said["weights"], inputs_said["tracks"]["sha256"]) == (theirs["weights"], theirs["tracks"]["sha256"])
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


def test_the_last_model_is_let_go_before_the_next(inputs: Inputs, tmp_path: Path, models: Path) -> None:
    import gc
    import weakref

    class Watched(ChromBPNet):
        alive: ClassVar[list[weakref.ref[object]]] = []
        most: ClassVar[int] = 0

        def for_tracks(self, tracks: np.ndarray) -> ChromBPNet:
            gc.collect()
            Watched.most = max(Watched.most, sum(ref() is not None for ref in Watched.alive))
            one = super().for_tracks(tracks)
            Watched.alive.append(weakref.ref(one))
            return one

    assert build(inputs, tmp_path / "out", "--tracks", models, "--part", "variants", oracle=Watched) == 0
    assert len(Watched.alive) == 3 and Watched.most == 0


def out_of_memory(largest: int) -> type[ChromBPNet]:
    """An oracle on a device that has memory for so many sequences."""

    class Small(ChromBPNet):
        def for_tracks(self, tracks: np.ndarray) -> ChromBPNet:
            one = super().for_tracks(tracks)
            reduce = one.reduce

            def limited(codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
                if len(codes) > largest:
                    raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
                return reduce(codes, bins)

            one.reduce = limited  # type: ignore[method-assign]
            return one

    return Small


def test_out_of_memory_halves_the_passes_and_not_the_bytes(
    inputs: Inputs, tmp_path: Path, models: Path, whole: Path
) -> None:
    assert build(inputs, tmp_path / "two", "--tracks", models, oracle=out_of_memory(2)) == 0
    assert contents(tmp_path / "two") == contents(whole)
    runs = [
        json.loads(f.read_text())["attributes"] for f in (tmp_path / "two/chrombpnet.zarr/runs").glob("*/zarr.json")
    ]
    assert {run["part"]: run.get("sequences_per_pass") for run in runs} == {
        "variants": 2,
        "baselines": 2,
        "merge": None,
    }


def test_no_memory_for_the_alleles_of_one_variant(
    inputs: Inputs, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(inputs, tmp_path / "out", "--tracks", models, oracle=out_of_memory(1)) == 2
    assert "out of memory with 2 sequence(s) at a time" in capsys.readouterr().err


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


class StubChromBPNet(ChromBPNet):
    """The geometry around the stub model: gamma noise seeded by the central 64 bases."""

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Nothing to load."""

    def for_tracks(self, tracks: np.ndarray) -> ChromBPNet:
        class Runner:
            def facts(self, codes: Codes, window: tuple[int, int], bins: BinArray | None) -> tuple[np.ndarray, ...]:
                values = np.stack([stub.predict(decode(row[1025:1089]), 1000, 1) for row in codes])
                sums = values[:, slice(*window)].sum(axis=1, dtype=np.float64).astype(np.float32)
                return sums, None if bins is None else np.take_along_axis(values, bins[:, :, None], axis=1)

        one = ChromBPNet([self._models[str(tracks[0])]])
        one._runner = Runner()  # type: ignore[assignment]
        return one


def test_the_stub_build_follows_the_reference_mixture(stub_genome: Path, tmp_path: Path) -> None:
    gtf, ccres = stub.stub_gtf(tmp_path / "genes.gtf"), stub.stub_ccres(tmp_path / "ccres.bed")
    command = ["--fasta", str(stub_genome), "--gtf", str(gtf), "--ccres", str(ccres), "--out", str(tmp_path)]
    command += ["--random-weights", "0", "--add", "DNASE:K562=random"]
    assert cli.run(StubChromBPNet, command) == 0
    path = tmp_path / "chrombpnet_demo.zarr"
    store = FactStore(path)
    variants, baselines = read_table(path, "plan/variants"), read_table(path, "plan/baselines")
    strata = dict(zip(*np.unique(baselines["stratum"].values, return_counts=True), strict=True))
    assert strata == {"random": 15_000, "ccre": 11_500, "tss": 3_000}
    valid = baselines["valid"].values
    with np.load(tmp_path / "chrombpnet_demo_pertrack.npz") as npz:
        assert npz["effect_counts"].tolist() == [int(variants["valid"].values.sum())]
        assert npz["summary_counts"].tolist() == [int(valid.sum())]
        assert npz["perbin_counts"].tolist() == [int(valid.sum()) * 32]
    bins = np.random.RandomState(999)
    summary, perbin = store.read_columns("summary/value", 0, 1)[0], store.read_columns("perbin/value", 0, 1)[0]
    rows = np.flatnonzero(valid)[:200]
    with Genome(stub_genome) as genome:
        for row in rows.tolist():
            chrom, pos = str(baselines["chrom"].values[row]), int(baselines["pos"].values[row])
            profile = stub.predict(decode(genome.fetch(chrom, pos - 32, pos + 32)), 1000, 1)[:, 0]
            np.testing.assert_allclose(summary[row], profile[250:751].sum(dtype=np.float64), rtol=1e-6)
            chosen = bins.choice(1000, 32, replace=False)
            np.testing.assert_array_equal(perbin[32 * row : 32 * row + 32], profile[chosen])
