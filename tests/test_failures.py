"""A build in which nearly everything fails stops, with numbers; one in which something fails goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from builders import cli
from builders.settings import Inputs
from chorus_store.facts import FactStore
from chorus_store.opening import open as open_store
from chorus_store.sequence import Codes
from tests import tiny
from tests.model_folder import ModelFolder, write_models
from tests.test_splits import contents


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return tiny.write_inputs(tmp_path_factory.mktemp("inputs"))


class Overflowing(tiny.TinyOracle):
    """Predicts infinity at all windows but two in turn of so many."""

    every: ClassVar[int] = 2
    calls: ClassVar[int] = 0

    def predict(self, codes: Codes) -> np.ndarray:
        values = super().predict(codes)
        if self.calls % self.every >= 2:  # two, so that both alleles of a variant are finite
            values[8, 3] = np.inf
        type(self).calls += 1
        return values


def overflowing(inputs: Inputs, out: Path, every: int, *more: str) -> int:
    Overflowing.every, Overflowing.calls = every, 0
    return cli.run(Overflowing, tiny.arguments(inputs, out, "--block", "32", *more, n_variants=20, n_random=500))


def test_nearly_all_positions_without_a_finite_prediction(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert overflowing(inputs, tmp_path, 26) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "positions scored so far have no finite prediction" in message
    assert "--weights" in message and "Finished units are kept" in message
    store = FactStore(tmp_path / "tiny.zarr")
    done = [record for unit in store.units("baselines") if (record := store.record(unit))]
    assert 256 // 32 < len(done) <= 256 // 32 + 4, "it stops soon after it can tell"
    lost = sum(record["dropped"]["non-finite"] for record in done)
    assert lost > 0.9 * sum(record["scored"] + record["dropped"]["non-finite"] for record in done)
    assert not (tmp_path / "tiny_pertrack.npz").exists()
    before = {name: digest for name, digest in contents(tmp_path).items() if "/progress/" in name}
    assert overflowing(inputs, tmp_path, 2) == 0
    assert before.items() <= contents(tmp_path).items(), "a finished unit was redone or lost"


def test_many_positions_without_a_finite_prediction_are_counted(inputs: Inputs, tmp_path: Path) -> None:
    assert overflowing(inputs, tmp_path, 10) == 0
    with open_store(tmp_path / "tiny.zarr") as store:
        dropped = store.attrs["provenance"]["dropped"]["baselines"]
        assert 0.7 < dropped["non-finite"] / 526 < 0.9
        assert int(store["perbin_count"][0]) == 5 * (526 - sum(dropped.values()))


def test_positions_that_the_plan_leaves_out_are_no_failures(inputs: Inputs, tmp_path: Path) -> None:
    """Most windows have an unknown base, and this model takes none."""

    class Demanding(tiny.TinyOracle):
        max_unknown_fraction = 0.0
        input_length_bp = 16_384

    fasta = tmp_path / "genome.fa"
    lines = inputs.fasta.read_text().split("\n")
    known = [line if line.startswith(">") else line.replace("N", "A") for line in lines]
    pieces = [line if line.startswith(">") else line[:20_000] + "N" + line[20_001:] for line in known]
    fasta.write_text("\n".join(pieces))
    arguments = tiny.arguments(Inputs(fasta, inputs.gtf, inputs.ccres), tmp_path / "out", "--block", "64", n_random=600)
    assert cli.run(Demanding, arguments) == 0
    with open_store(tmp_path / "out/tiny.zarr") as store:
        dropped = store.attrs["provenance"]["dropped"]["baselines"]
    assert list(dropped) == ["window"] and dropped["window"] > 256


def build(inputs: Inputs, models: Path, out: Path) -> int:
    return cli.run(ModelFolder, tiny.arguments(inputs, out, "--weights", str(models), n_variants=4, n_random=12))


@pytest.mark.parametrize("missing", [False, True])
def test_nearly_all_models_fail(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: bool
) -> None:
    models, out = write_models(tmp_path / "models", 40, broken=0 if missing else 38), tmp_path / "out"
    for name in [f"MODEL{i:02d}" for i in range(38)] if missing else []:
        (models / name).unlink()
    assert build(inputs, models, out) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    why = "there is no file .*MODEL" if missing else "it gives no finite prediction"
    assert "models tried so far cannot be used" in message and "Check --tracks and --weights" in message
    assert re.search(why, message)
    assert not (out / "tiny_pertrack.npz").exists()


def test_some_models_fail(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models, out = write_models(tmp_path / "models", 27, broken=20), tmp_path / "out"
    (models / "MODEL26").unlink()
    assert build(inputs, models, out) == 0
    with np.load(out / "tiny_pertrack.npz") as npz:
        assert (npz["effect_counts"] > 0).tolist() == [False] * 20 + [True] * 6 + [False]
    store = FactStore(out / "tiny.zarr")
    assert store.record(store.units("variants")[3])["dropped"] == {"non-finite": 4}
    assert set(store.record(store.units("baselines")[3])["dropped"]) <= {"window", "model"}
    # A model that works now is scored, and no other.
    stamps = {file: file.stat().st_mtime_ns for file in (out / "tiny.zarr/samples").rglob("c/*/*")}
    (models / "MODEL03").write_text("works")
    assert build(inputs, models, out) == 0
    assert {file.name for file, stamp in stamps.items() if file.stat().st_mtime_ns != stamp} == {"3"}
    with np.load(out / "tiny_pertrack.npz") as npz:
        assert npz["effect_counts"][3] == npz["effect_counts"][20] > 0
