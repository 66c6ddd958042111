"""A store says how it was made, and following that makes the same bytes again."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chorus_store
from builders import ORACLES, cli, load_oracle, rebuild
from builders.input_search import InputSearch
from builders.options import arguments_of, parser_of
from builders.rebuild_commands import commands_of
from builders.recipe import Recipe, read, values_of
from builders.settings import Inputs
from chorus_store import seal
from chorus_store.annotations import CCRE_CLASSES
from chorus_store.append import append_tracks
from chorus_store.errors import InputError, StoreMismatchError
from chorus_store.files import sha256_of
from chorus_store.npz_import import import_npz
from tests import stores, tiny
from tests.bpnet_files import chip_layers, chrombpnet_layers, write_h5
from tests.test_legnet import CONFIG, state_of, write_weights

SIZES = {"n_variants": 8, "n_random": 6, "n_tss": 3, "n_gene_bodies": 2, "bin_slots": 5}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory of its own, and a data directory of nobody's."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("CHORUS_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder of small LegNet models."""
    for seed, cell in enumerate(("K562", "WTC11")):
        write_weights(tmp_path / "weights" / cell, state_of(CONFIG, seed))
    return tmp_path / "weights"


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return tiny.write_inputs(tmp_path / "inputs")


def build(oracle: str, *arguments: str | Path) -> None:
    assert cli.run(load_oracle(oracle), ["--device", "cpu", *map(str, arguments)]) == 0


def follow(said: str) -> None:
    """Do what a text of commands says, in this process."""
    for line in said.replace("\\\n", " ").splitlines():
        if not line.startswith("#"):
            python, m, module, *arguments = shlex.split(line)
            assert (python, m) == ("python", "-m")
            build(module.removeprefix("builders."), *arguments)


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert rebuild.run([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def contents(folder: Path, left_out: tuple[str, ...] = ()) -> dict[str, str]:
    """SHA-256 of every file of the results, but the records of runs and what a demonstration makes its inputs of."""
    names = [
        file.relative_to(folder)
        for file in folder.rglob("*")
        if file.is_file() and file.name not in left_out and not {"demo_inputs", "inputs"} & {*file.parts}
    ]
    return {
        name.as_posix(): sha256_of(folder / name) for name in names if len(name.parts) < 2 or name.parts[1] != "runs"
    }


def write_model(folder: Path, track: str, seed: int = 0) -> Path:
    layers = chip_layers if track.startswith("CHIP") else chrombpnet_layers
    folder.mkdir(exist_ok=True)
    return write_h5(folder / f"{track.replace(':', '_')}.h5", layers(seed + len(track), filters=2))


def write_table(folder: Path, *tracks: str) -> Path:
    rows = [f"{track}\t{write_model(folder, track).name}\tof {track}" for track in tracks]
    (folder / "models.tsv").write_text("\n".join(["track\tmodel\tdescription", *rows]) + "\n")
    return folder / "models.tsv"


def test_a_demonstration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ("--n-variants", "4", "--n-random", "3", "--n-tss", "0", "--ccre", "all=0", "--random-weights", "3")
    build("chrombpnet", "--demo", "--out", tmp_path / "out", *sizes)
    store, again = tmp_path / "out/chrombpnet_demo.zarr", tmp_path / "again"
    told = said(capsys, store, "--run", "--out", again, "--", "--device", "cpu")
    assert f"{again / store.name} is {store}, byte for byte" in told
    assert contents(again) == contents(tmp_path / "out")
    metadata = json.loads((store / "zarr.json").read_text())
    metadata["attributes"]["provenance"]["software"]["numpy"] = "1.0"
    (store / "zarr.json").write_text(json.dumps(seal.sealed_background(metadata)))
    assert rebuild.run([str(store), "--run", "--json", "--out", str(again), "--", "--device", "cpu"]) == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["differing"] == ["zarr.json"]
    assert f"note: the store was built with numpy 1.0, and here is {np.__version__}" in captured.err


def test_inputs_are_found_by_their_content(
    inputs: Inputs, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other names, other folders, other defaults; weights are a folder."""
    options = ("--weights", weights, "--cell-type", "WTC11", "--cell-type", "K562", "--block", "7")
    more = ("--sampler", "algorithm-r", "--capacity", "5", "--codec", "pcodec", "--discard-facts", "--bin-seed", "5")
    build("legnet", *tiny.arguments(inputs, tmp_path / "out", *map(str, options), *more, "--batch", "3", **SIZES))
    before = contents(tmp_path / "out")
    moved = tmp_path / "elsewhere"
    shutil.move(tmp_path / "inputs", moved / "inputs")
    shutil.move(weights, moved / "of my models")
    (moved / "inputs/genome.fa").rename(moved / "it's a genome.fasta")
    store = tmp_path / "out/legnet.zarr"
    unknown = said(capsys, store)
    assert unknown.count("# not found: --") == 4 and "--fasta genome.fa" in unknown
    assert rebuild.run([str(store), "--run"]) == 2
    assert "these inputs are not found" in capsys.readouterr().err
    told = said(capsys, store, "--inputs", moved, "--out", tmp_path / "again")
    assert "#" not in told
    follow(told)
    assert contents(tmp_path / "again") == before
    document = json.loads(said(capsys, store, "--inputs", moved, "--json"))
    assert (document["missing"], len(document["commands"])) == ({}, 1)
    assert document["commands"][0][:3] == ["python", "-m", "builders.legnet"]


def test_models_come_back_in_lists_and_lots(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "models", "DNASE:K562", "CHIP:K562:CTCF")
    arguments = tiny.arguments(inputs, tmp_path / "out", "--batch", "4", **SIZES)
    build("chrombpnet", *arguments, "--tracks", table)
    added = write_model(tmp_path / "models", "ATAC:liver")
    build("chrombpnet", *arguments, "--add", f"ATAC:liver={added}", "--discard-facts")
    lots = chorus_store.open(tmp_path / "out/chrombpnet.zarr").attrs["provenance"]["inputs"]["tracks"]["lots"]
    assert lots == [2, 1]
    table.unlink()
    told = said(capsys, tmp_path / "out/chrombpnet.zarr", "--inputs", tmp_path, "--out", tmp_path / "again")
    assert told.count("python -m builders.chrombpnet") == 2 and told.count("--discard-facts") == 1
    follow(told)
    lists = ("models.tsv", "added-2.tsv")
    assert contents(tmp_path / "again", lists) == contents(tmp_path / "out")
    (tmp_path / "again/models.tsv").write_text("something else")
    assert rebuild.run([str(tmp_path / "out/chrombpnet.zarr"), "--out", str(tmp_path / "again")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_models_without_a_list(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_model(tmp_path / "models", "ATAC:liver")
    build("chrombpnet", *tiny.arguments(inputs, tmp_path / "out", "--add", f"ATAC:liver={file}", **SIZES))
    told = said(capsys, tmp_path / "out/chrombpnet.zarr", "--inputs", tmp_path, "--out", tmp_path / "again")
    assert f"--add ATAC:liver={file}" in told
    follow(told)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_build_in_progress(inputs: Inputs, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--weights", str(weights), "--cell-type", "K562", "--block", "4")
    begun = tiny.arguments(inputs, tmp_path / "out", *arguments, **SIZES)
    build("legnet", *begun, "--part", "variants")
    follow(said(capsys, tmp_path / "out/legnet.zarr", "--inputs", tmp_path, "--out", tmp_path / "again"))
    build("legnet", *begun)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_a_registered_file_is_left_out(
    inputs: Inputs, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = inputs.fasta.rename(tmp_path / "inputs/hg38.fa")
    arguments = ("--weights", str(weights), "--cell-type", "K562")
    build("legnet", *tiny.arguments(replace(inputs, fasta=fasta), tmp_path / "out", *arguments, **SIZES))
    store = tmp_path / "out/legnet.zarr"
    (tmp_path / "data").mkdir()
    shutil.copy(fasta, tmp_path / "data/hg38.fa")
    told = said(capsys, store, "--inputs", tmp_path, "--out", tmp_path / "again")
    assert "--fasta" not in told and f"--gtf {inputs.gtf}" in told
    follow(told)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    (tmp_path / "data/hg38.fa").write_text(">chr1\nACGT\n")
    assert f"--fasta {fasta}" in said(capsys, store, "--inputs", tmp_path / "inputs")


def test_stores_that_no_build_makes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stores.make_store(tmp_path / "enformer.zarr")
    npz = chorus_store.npz.export_npz(store, tmp_path / "enformer_pertrack.npz", progress=False)
    imported = import_npz(npz, tmp_path / "imported.zarr", progress=False)
    with np.load(npz) as arrays:
        rows = {name: arrays[name][:1] for name in arrays if name != "build_config"}
    append_tracks(imported, {**rows, "track_ids": ["NEW"]})
    for place, error, expected in [
        (npz, StoreMismatchError, "is an NPZ file"),
        (imported, StoreMismatchError, f"imported from enformer_pertrack.npz .SHA-256 {sha256_of(npz)}."),
        (store, StoreMismatchError, "did not record everything yet .its provenance lacks block, options."),
        (tmp_path / "nothing", InputError, "there is nothing"),
    ]:
        assert rebuild.run([str(place)]) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ") and message.count("\n") == 1
        if place != tmp_path / "nothing":
            with pytest.raises(error, match=expected):
                read(str(place))


@pytest.mark.parametrize("name", ORACLES)
def test_every_oracle_says_which_options_make_it(name: str, tmp_path: Path) -> None:
    """Of the demonstration's oracle, with options of its own that are not the default ones."""
    oracle = load_oracle(name)
    parser = parser_of(oracle)
    own = {action.dest: action for action in parser._actions if action.choices and action.dest not in ("part",)}
    table = tmp_path / "targets.txt"
    table.write_text(oracle.demo_tracks())
    args = parser.parse_args(["--demo"])
    for dest in ("strands", "n_value", "rna_mask", "size"):
        if dest in own:
            setattr(args, dest, list(own[dest].choices or ())[-1])
    made = oracle.from_options(args, table if oracle.demo_tracks() else None)
    again = parser.parse_args(["--demo", *arguments_of(parser, made.options())])
    same = oracle.from_options(again, table if oracle.demo_tracks() else None)
    assert same.settings() == made.settings()
    assert same.tracks.digest() == made.tracks.digest()
    assert all(value in str(made.options()) for value in made.options())


numbers = st.integers(0, 10**6)
plans = st.fixed_dictionaries(
    dict.fromkeys(("n_variants", "n_random", "n_tss", "n_gene_bodies", "variant_seed", "bin_seed"), numbers)
    | {name: st.integers(1, 10**8) for name in ("variant_margin_bp", "random_margin_bp", "bin_slots", "batch", "block")}
    | {"ccre": st.dictionaries(st.sampled_from(CCRE_CLASSES), numbers).map(lambda counts: list(counts.items()))}
    | {"precision": st.sampled_from(["fp32", "tf32", "bf16"]), "codec": st.sampled_from(["blosc", "pcodec"])}
    | {"random_weights": st.integers(0, 2**32 - 1), "demo": st.booleans(), "discard_facts": st.booleans()}
)


@given(st.sampled_from(sorted(ORACLES)), plans, st.sampled_from(["exact", "algorithm-r"]), st.integers(1, 10**5))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_commands_parse_back(tmp_path: Path, name: str, asked: dict[str, Any], sampler: str, capacity: int) -> None:
    """Options → what a build records of them → recipe → command → options."""
    oracle, values = load_oracle(name), {**asked, "sampler": sampler, "capacity": capacity}
    args = parser_of(oracle).parse_args(["--device", "cpu", *arguments_of(parser_of(oracle), values)])
    wanted = cli.settings_of(oracle, args)
    recipe = Recipe(oracle, _recorded(wanted, args.demo), {}, {})
    (arguments,) = commands_of(recipe, tmp_path, InputSearch(), ["--device", "cpu"]).arguments
    found = cli.settings_of(oracle, parser_of(oracle).parse_args(arguments[1:]))
    for field in ("assembly", "demo", "precision", "batch", "seed", "block", "plan"):
        assert getattr(found, field) == getattr(wanted, field), field
    assert found.publish.codec == wanted.publish.codec
    assert found.publish.discard_facts == wanted.publish.discard_facts
    assert found.publish.sampler.name == sampler
    assert found.publish.sampler.capacity == wanted.publish.sampler.capacity or sampler == "exact"


def _recorded(asked: Any, is_demo: bool) -> dict[str, Any]:
    parameters = {
        "plan": asked.plan.to_dict(), "precision": asked.precision, "oracle": {}, "options": {}, "batch": asked.batch,
        "block": asked.block, "seed": asked.seed, "sampler": asked.publish.sampler.name,
        "capacity": asked.publish.sampler.capacity, "cdf_points": 10_000, "codec": asked.publish.codec,
    }  # fmt: skip
    return values_of(json.loads(json.dumps(parameters)), is_demo=is_demo, discarded=asked.publish.discard_facts)


def test_a_file_that_changes_while_it_is_read_is_refused(inputs: Inputs, tmp_path: Path) -> None:
    from builders.checksums import Described

    described = Described()
    assert described.of(inputs.gtf)["sha256"] == hashlib.sha256(inputs.gtf.read_bytes()).hexdigest()
    described.require_unchanged(inputs.gtf, None, tmp_path / "never described")
    inputs.gtf.write_text("something else")
    with pytest.raises(InputError, match="changed while it was read"):
        described.require_unchanged(inputs.gtf)
