"""The provenance says what happened: every field of a real build is compared with what it was really made of."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from builders import cli, preflight, software
from builders.settings import Inputs
from builders.track_models import TrackModels
from chorus_store import genome, layout, schema
from chorus_store.annotations import Genes, read_genes
from chorus_store.errors import InputError
from chorus_store.facts import FactStore
from chorus_store.files import sha256_of
from chorus_store.opening import read_attributes
from tests import tiny


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return tiny.write_inputs(tmp_path / "inputs")


class TinyOracle(tiny.TinyOracle):
    """One that takes a track table."""

    @classmethod
    def demo_tracks(cls) -> str:
        return "tracks"


@pytest.fixture
def options(inputs: Inputs, tmp_path: Path) -> list[str]:
    weights, table = tmp_path / "weights.bin", tmp_path / "targets.txt"
    weights.write_bytes(b"weights")
    table.write_text("tracks")
    more = ("--weights", str(weights), "--tracks", str(table), "--block", "8", "--batch", "3", "--bin-seed", "5")
    return tiny.arguments(inputs, tmp_path / "out", "--device", "cpu", *more)


def provenance_of(store: Path) -> dict[str, Any]:
    with chorus_store.open(store) as opened:
        return dict(opened.attrs["provenance"])


def test_every_field_is_what_happened(inputs: Inputs, options: list[str], tmp_path: Path) -> None:
    assert cli.run(TinyOracle, [*options, "--sampler", "algorithm-r", "--capacity", "20"]) == 0
    path = tmp_path / "out/tiny.zarr"
    made, store = provenance_of(path), FactStore(path)
    schema.validate(made, "provenance")
    for name, file in (("genes", inputs.gtf), ("ccres", inputs.ccres), ("weights", tmp_path / "weights.bin")):
        assert file is not None
        described = {"name": file.name, "sha256": sha256_of(file), "bytes": file.stat().st_size}
        assert made["inputs"][name] == described
    assert made["inputs"]["tracks"] == {
        "name": "targets.txt", "sha256": sha256_of(tmp_path / "targets.txt"), "bytes": 6,
        "table_sha256": tiny.TinyOracle().tracks.digest(),
    }  # fmt: skip
    fasta = made["inputs"]["genome"]
    assert (fasta["sha256"], fasta["bytes"]) == (sha256_of(inputs.fasta), inputs.fasta.stat().st_size)
    assert fasta["fai_sha256"] == sha256_of(inputs.fasta.with_name("genome.fa.fai"))
    parameters = dict(made["parameters"])
    plan = parameters.pop("plan")
    assert parameters == {
        "precision": "fp32", "oracle": {}, "options": {}, "batch": 3, "block": 8, "seed": None, "codec": "blosc",
        "sampler": "algorithm-r", "capacity": 20, "cdf_points": 10_000,
    }  # fmt: skip
    assert (plan["bin_seed"], plan["bin_slots"], plan["ccre_counts"]["PLS"]) == (5, 5, 2)
    positions = {"variants": store.shape.n_variants, "baselines": store.shape.n_baselines}
    for kind, n in positions.items():
        valid = int(layout.read_table(path, f"plan/{kind}")["valid"].values.sum())
        assert made["dropped"][kind] == ({"window": n - valid} if valid < n else {})
        assert made["scored"][kind] == valid
    assert sum(made["plan"]["effect_strata"].values()) == positions["variants"]
    assert made["software"] == software.software_versions()
    with chorus_store.open(path) as opened:
        assert opened["effect_retained"].values.max() == 20


def test_what_differs_between_runs_is_in_their_records(options: list[str], tmp_path: Path) -> None:
    assert cli.run(TinyOracle, options) == 0
    records = [read_attributes(folder) for folder in sorted((tmp_path / "out/tiny.zarr/runs").glob("*/"))]
    assert [record["part"] for record in records] == ["variants", "baselines", "merge"]
    for record in records:
        schema.validate({key: value for key, value in record.items() if key != "seal"}, "run")
        assert record["command"] == ["tests.test_provenance", *options]
        assert record["device"] == "cpu" and record["hardware"]
    assert [record.get("sequences_per_pass") for record in records] == [3, 3, None]
    text = json.dumps(provenance_of(tmp_path / "out/tiny.zarr"))
    assert str(tmp_path) not in text and not {"device", "started", "hardware"} & set(text.split('"'))


def test_the_whole_genome_counts(
    inputs: Inputs, options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The identity has the beginning of the file and its index; a base that changes further on is noticed too."""
    monkeypatch.setattr(genome, "_PREFIX_BYTES", 100)
    assert cli.run(TinyOracle, [*options, "--part", "variants"]) == 0
    bases = bytearray(inputs.fasta.read_bytes())
    bases[200] = ord("A") if bases[200] != ord("A") else ord("C")
    inputs.fasta.write_bytes(bases)
    assert cli.run(TinyOracle, [*options, "--part", "variants"]) == 0, "nothing is left to score"
    assert cli.run(TinyOracle, options) == 2
    assert "was built from something else: genome sha256 is" in capsys.readouterr().err


def test_annotations_that_are_replaced_while_they_are_read_are_refused(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def replaced(path: Path) -> Genes:
        genes = read_genes(path)
        path.write_text(path.read_text() + "# another release\n")
        return genes

    monkeypatch.setattr(preflight, "read_genes", replaced)
    assert inputs.gtf is not None
    gtf = Path(shutil.copy(inputs.gtf, tmp_path))
    assert cli.run(tiny.TinyOracle, tiny.arguments(replace(inputs, gtf=gtf), tmp_path / "out")) == 2
    assert f"{gtf} changed while it was read" in capsys.readouterr().err
    assert not (tmp_path / "out/tiny.zarr").exists()


def test_a_model_that_is_replaced_while_it_is_used_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.h5"
    file.write_bytes(b"one")

    class Models(tiny.TinyOracle):
        tracks_per_unit = 1

        def weights_of(self, track: str) -> Path | None:
            return file if track == "TRK0" else None

    described = TrackModels(Models(), lambda track: {"name": "random", "sha256": None, "bytes": None}).described
    assert described["TRK0"] == {"name": "model.h5", "sha256": sha256_of(file), "bytes": 3}
    assert described["TRK1"]["name"] == "random" and len(described) == 7
    file.write_bytes(b"another")
    with pytest.raises(InputError, match=r"model\.h5 changed while it was read"):
        described["TRK0"]


def test_the_git_revision_is_that_of_this_project(tmp_path: Path) -> None:
    """A package that is installed below somebody's checkout, in an environment there, is none of it."""
    (tmp_path / ".venv/builders").mkdir(parents=True)
    copy = Path(shutil.copy(software.__file__, tmp_path / ".venv/builders/software.py"))
    for command in ("init -q", "-c user.name=n -c user.email=e commit -q --allow-empty -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    spec = importlib.util.spec_from_file_location("software_elsewhere", copy)
    assert spec is not None and spec.loader is not None
    elsewhere = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(elsewhere)
    assert elsewhere.git_revision() is None
    subprocess.run(["git", "add", "--force", str(copy)], cwd=tmp_path, check=True)
    assert elsewhere.git_revision().endswith("-dirty") and len(elsewhere.git_revision()) == 46


def test_the_schema_of_the_provenance_is_strict(options: list[str], tmp_path: Path) -> None:
    assert cli.run(TinyOracle, options) == 0
    valid = provenance_of(tmp_path / "out/tiny.zarr")
    known = json.loads((schema.schema_folder() / "provenance.schema.json").read_text())["properties"]
    assert known.keys() - valid.keys() == {"imported", "rows"}, "a build says everything that there is to say"
    assert known["parameters"]["properties"].keys() == valid["parameters"].keys()
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("precision", {"parameters": {"precision": "fp8"}}),
        ("git_revision", {"software": {"git_revision": "main"}}),
        ("sha256", {"facts": {"sha256": None}}),
        ("bytes", {"inputs": {"genes": {**valid["inputs"]["genes"], "bytes": -1}}}),
        ("unevaluated|'path' was unexpected", {"inputs": {"weights": {**valid["inputs"]["weights"], "path": "/x"}}}),
        ("notes", {"notes": {"a": 1}}),
    ]
    for expected, changes in wrong:
        broken = {**valid, **{key: {**valid.get(key, {}), **change} for key, change in changes.items()}}
        with pytest.raises(schema.SchemaError, match=expected):
            schema.validate(broken, "provenance")
    assert np.isfinite(valid["layers"]["tf_binding"]["effect"]["max"])
