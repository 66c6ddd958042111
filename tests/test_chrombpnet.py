"""ChromBPNet: one model per track, through the real command line and real model files."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from builders import cli, conformance
from builders.chrombpnet import ChromBPNet
from builders.model_list import Family, TrackModel
from builders.oracle import BinArray, Reduced
from builders.settings import Inputs
from chorus_store import open as open_store
from chorus_store.errors import ModelError
from chorus_store.facts import FactStore
from chorus_store.genome import Genome
from chorus_store.layout import read_table
from chorus_store.sequence import Codes, decode
from tests import stub, tiny
from tests.chrombpnet_builds import SIZES, TRACKS, build, contents, facts_of, store_of, write_list, write_model
from tests.chrombpnet_builds import inputs as inputs  # a fixture
from tests.chrombpnet_builds import models as models  # a fixture
from tests.chrombpnet_builds import whole as whole  # a fixture

torch = pytest.importorskip("torch")  # which the builds have asked for already
ROOT = Path(__file__).resolve().parents[1]


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

    def start(part: str) -> subprocess.Popen[bytes]:
        arguments = tiny.arguments(inputs, tmp_path / "out", *options, "--part", part, **SIZES)
        return subprocess.Popen([sys.executable, "-m", "builders.chrombpnet", *arguments], cwd=ROOT)

    workers = [start(part) for part in ("variants", "baselines")]
    assert [worker.wait(240) for worker in workers] == [0, 0]
    assert start("merge").wait(120) == 0
    assert contents(tmp_path / "out") == contents(whole)


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
    for track in tracks[22:25]:
        write_model(tmp_path, track)
    assert build(inputs, tmp_path / "out", "--tracks", models, "--part", "variants") == 0
    assert np.isfinite(store_of(tmp_path / "out").read_columns("effect/ref", 0, 27)).all(axis=1).tolist() == (
        [False] * 22 + [True] * 5
    )


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


def test_no_memory_for_a_single_sequence(
    inputs: Inputs, tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(inputs, tmp_path / "one", "--tracks", models, oracle=out_of_memory(1)) == 0
    capsys.readouterr()
    assert build(inputs, tmp_path / "none", "--tracks", models, oracle=out_of_memory(0)) == 2
    assert "out of memory with 1 sequence(s) at a time" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["accessibility", "chip"])
def test_the_heads_run_in_float32_whatever_the_trunk_does(family: Family) -> None:
    """A log count in bf16 has one of a handful of values, and effects drown in its steps."""
    from builders.bpnet_torch import TorchRuntime, load_random

    runner = load_random(family, 16, 3, "seed", TorchRuntime("cpu", "bf16"))
    codes = np.random.default_rng(0).integers(0, 4, (16, 2114), dtype=np.uint8)
    outputs = dict(zip(("logits", "log counts"), runner.predict(codes), strict=True))
    for name, values in outputs.items():
        assert values.dtype == torch.float32, name
        assert (values != values.bfloat16().float()).float().mean() > 0.9, f"{name} are rounded to bf16"


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
    command += ["--random-weights", "0", "--add", "DNASE:K562=-"]
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
