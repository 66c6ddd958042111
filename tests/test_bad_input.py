"""Bad input at the real command line: one clear sentence, the documented exit code, nothing lost."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from builders import cli, demo
from builders.enformer import Enformer
from builders.oracle import BinArray, Reduced
from builders.settings import Inputs
from chorus_store.errors import WeightsError
from chorus_store.facts import FactStore
from chorus_store.sequence import Codes
from chorus_store.units import KINDS
from tests import tiny
from tests.disks import remount, tmpfs
from tests.test_splits import contents

SEEDS = (
    "--random-weights",
    *(f"--{name}-seed" for name in ("variant", "random", "ccre", "tss", "gene-body", "bin")),
)


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    return tiny.write_inputs(tmp_path / "inputs")


def refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], *patterns: str,
    oracle: type[tiny.TinyOracle] = tiny.TinyOracle,
) -> None:  # fmt: skip
    """The command line fails with exit code 2 and one sentence that says all of this."""
    capsys.readouterr()
    assert cli.run(oracle, arguments) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    assert message.count("\n") == 1, message
    for pattern in patterns:
        assert re.search(pattern, message), (pattern, message)


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def test_missing_chromosomes(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(inputs.fasta, lambda text: text.replace(">chr", ">scaffold"))
    refused(capsys, tiny.arguments(inputs, tmp_path / "out"), "scaffold19", "chr1")
    assert not (tmp_path / "out").exists()


def test_wrong_assembly(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(inputs.fasta, lambda text: text.replace(">chr19", ">chr1"))
    refused(capsys, tiny.arguments(inputs, tmp_path / "out"), "chr1 ", "hg38", "248,?956,?422")


def test_gtf_without_gene_type(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inputs.gtf
    rewrite(inputs.gtf, lambda text: text.replace('gene_type "protein_coding";', ""))
    refused(capsys, tiny.arguments(inputs, tmp_path / "out"), "genes.gtf", "line 1", "gene_type")


def test_bed_with_fewer_columns(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inputs.ccres
    rewrite(inputs.ccres, lambda text: re.sub(r"\t[^\t]*\t[^\t]*\t[^\t]*$", "", text, flags=re.MULTILINE))
    refused(capsys, tiny.arguments(inputs, tmp_path / "out"), "ccres.bed", "line 1", "column")


def test_an_unsorted_bed_is_used_in_file_order_with_a_warning(
    inputs: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert inputs.ccres
    rewrite(inputs.ccres, lambda text: "\n".join(reversed(text.splitlines())) + "\n")
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "out")) == 0
    assert "sort" in caplog.text


def test_an_absent_class_is_skipped_with_a_warning(
    inputs: Inputs, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert inputs.ccres
    rewrite(inputs.ccres, lambda text: text.replace("\tCA-TF\n", "\tCA\n"))
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "out")) == 0
    assert "CA-TF" in caplog.text
    plan = FactStore(tmp_path / "out/tiny.zarr").build["plan"]
    assert plan["activity_strata"]["ccre"] == 14


def test_empty_strata(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert inputs.gtf
    rewrite(inputs.gtf, lambda text: text.replace("protein_coding", "lncRNA"))
    nothing_else = tiny.arguments(inputs, tmp_path / "out", "--ccre", "all=0", n_random=0)
    refused(capsys, nothing_else, "none could be drawn")
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "out")) == 0
    assert "tss" in caplog.text
    assert FactStore(tmp_path / "out/tiny.zarr").build["plan"]["activity_strata"] == {"ccre": 16, "random": 24}


def test_an_existing_store_of_another_plan(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out)) == 0
    before = contents(out)
    refused(capsys, tiny.arguments(inputs, out, n_variants=31), "n_variants is 30, asked for 31", "--out")
    rewrite(inputs.gtf or Path(), lambda text: text + "\n")
    refused(capsys, tiny.arguments(inputs, out), "genes is", "--out")
    assert contents(out) == before


class FailsAtOnce(tiny.TinyOracle):
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        raise RuntimeError("the device fell off the bus")


def test_a_store_in_which_nothing_is_scored_may_be_removed(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, advice = tmp_path / "out", "nothing has been scored yet"
    refused(capsys, tiny.arguments(inputs, out), "fell off the bus", oracle=FailsAtOnce)
    refused(capsys, tiny.arguments(inputs, out, "--batch", "3"), "batch is 4, asked for 3", advice)
    for more in (["--part", "variants"], [], ["--discard-facts"]):
        assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out, *more)) == 0
        assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out, "--batch", "3")) == 2
        assert "batch is 4, asked for 3" in (said := capsys.readouterr().err) and advice not in said


def test_an_existing_store_of_another_oracle(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out)) == 0

    class Other(tiny.TinyOracle):
        version = "2"

    refused(capsys, tiny.arguments(inputs, out), "oracle is tiny 1, asked for tiny 2", oracle=Other)


@pytest.mark.parametrize("version", [0, 2])
def test_an_existing_store_of_another_schema(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int
) -> None:
    out = tmp_path / "out"
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out)) == 0
    node = out / "tiny.zarr/zarr.json"
    document = json.loads(node.read_text())
    document["attributes"]["schema"]["version"] = version
    node.write_text(json.dumps(document))
    for part in ("all", "merge"):
        refused(capsys, tiny.arguments(inputs, out, "--part", part), f"version {version}", "too (old|new)")


def test_something_else_where_the_store_should_be(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out/tiny.zarr").mkdir(parents=True)
    refused(capsys, tiny.arguments(inputs, tmp_path / "out"), "no store at", "tiny.zarr")


def test_merging_too_early_lists_the_gaps(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    refused(capsys, tiny.arguments(inputs, out, "--part", "merge"), "no store at")
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out, "--part", "variants", "--block", "8")) == 0
    refused(capsys, tiny.arguments(inputs, out, "--part", "merge"), "baselines/000000", "--part baselines")


class Unfinite(tiny.TinyOracle):
    """NaN or infinity for one track at every third position."""

    def predict(self, codes: Codes) -> np.ndarray:
        values = super().predict(codes)
        if int(codes[:1000].sum()) % 3 == 0:
            values[8, 2] = np.inf if codes[0] % 2 else np.nan
        return values


def test_nan_drops_the_position_for_all_tracks_and_is_counted(inputs: Inputs, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cli.run(Unfinite, tiny.arguments(inputs, out)) == 0
    store = FactStore(out / "tiny.zarr")
    lost = 0
    for name, kind in (("effect/ref", "variants"), ("effect/alt", "variants"), ("summary/value", "baselines")):
        values = store.read_columns(name, 0, 7)
        missing = np.isnan(values)
        assert not np.isinf(values).any()
        np.testing.assert_array_equal(missing[0], missing[2], err_msg=name)  # tracks that are never routed away
        recorded = [store.record(unit) for unit in store.units(kind)]
        dropped = sum(sum(record["dropped"].values()) for record in recorded if record)
        assert missing[0].sum() == dropped
        lost += sum(record["dropped"].get("non-finite", 0) for record in recorded if record)
    assert lost > 0
    with np.load(out / "tiny_pertrack.npz") as npz:
        assert npz["effect_counts"].tolist() == [30 - int(np.isnan(store.read_columns("effect/ref", 0, 1)).sum())] * 7


def test_a_model_that_is_never_finite_stops_the_build(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Never(tiny.TinyOracle):
        def predict(self, codes: Codes) -> np.ndarray:
            return np.full((16, 7), np.nan, np.float32)

    refused(capsys, tiny.arguments(inputs, tmp_path / "out"), "no finite prediction", oracle=Never)


class FailsLate(tiny.TinyOracle):
    """Raises in the middle of the baselines."""

    passes: ClassVar[int] = 0

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        if bins:
            raise RuntimeError("the device fell off the bus")
        return super().reduce(codes, bins)


def test_a_model_that_raises_costs_no_finished_unit(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = r"failed on chr\d+:\d+ to chr\d+:\d+, in unit baselines/000000 \(RuntimeError: the device fell off the bus\)"
    refused(capsys, tiny.arguments(inputs, out, "--block", "8"), said, "finished units are kept", oracle=FailsLate)
    store = FactStore(out / "tiny.zarr")
    assert store.missing("variants") == []
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out, "--block", "8")) == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 640 KiB."""
    with tmpfs(tmp_path / "small", "640k") as small:
        yield small


def test_a_full_disk_keeps_finished_units(
    inputs: Inputs, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The facts would fit, by what is known beforehand: files take whole pages.
    sizes = {"n_variants": 40, "n_random": 400, "bin_slots": 5}
    arguments = tiny.arguments(inputs, small_disk / "out", "--block", "8", **sizes)
    scoring = [*arguments, "--part", "baselines"]
    refused(capsys, scoring, "No space left", "free some space", "finished units are kept")
    store = FactStore(small_disk / "out/tiny.zarr")
    assert any(store.record(unit) for kind in KINDS for unit in store.units(kind))
    assert not list(small_disk.rglob("*.partial"))
    remount(small_disk, "size=64m")
    assert cli.run(tiny.TinyOracle, arguments) == 0
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "whole", "--block", "8", **sizes)) == 0
    assert contents(small_disk / "out") == contents(tmp_path / "whole")


def test_too_little_disk_is_said_before_any_work(
    inputs: Inputs, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, tiny.arguments(inputs, small_disk / "out", n_random=8000), "0.6 MiB free", "--out")
    assert not list(small_disk.iterdir())


def test_too_little_memory_names_the_option(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, tiny.arguments(inputs, tmp_path / "out", "--memory", "1K"), "--memory")
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "out")) == 0


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--shard", "3/2"], "K must be"),
        (["--shard", "half"], "K/N"),
        (["--memory", "lots"], "not a size"),
        (["--ccre", "PLS"], "CLASS=N"),
        (["--part", "everything"], "invalid choice"),
        (["--n-variants", "-1"], "negative|expected one argument"),
        (["--batch", "0"], "at least 1"),
        (["--gpu", "-1"], "--gpu: -1 is negative"),
        *[([option, "-1"], f"{option}: -1 is negative") for option in SEEDS],
        *[([option, str(2**32)], f"{option}: {2**32} is too large for a seed.* 4,294,967,295") for option in SEEDS],
    ],
)
def test_bad_options_are_usage_errors(arguments: list[str], pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.run(tiny.TinyOracle, arguments)
    assert stop.value.code == 2
    assert re.search(pattern, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["--gpu", "0", "--device", "cpu"], "exclude"),
        (["--ccre", "PSL=3"], "unknown cCRE class 'PSL'"),
        (["--random-weights", "1", "--weights", "w.pt"], "exclude"),
        *[
            (["--device", name], f"'{name}' names no device; give cpu")
            for name in ("cuda:abc", "cpu:-1", "cuda:", ":1")
        ],
        (["--tracks", "table.txt"], "Tiny takes no track table; leave out --tracks table.txt"),
    ],
)
def test_contradictions_are_errors(arguments: list[str], pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, arguments, pattern)


def test_the_largest_seeds(inputs: Inputs, tmp_path: Path) -> None:
    seeds = [text for option in SEEDS for text in (option, str(2**32 - 1))]
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "out", *seeds)) == 0


def test_weights_of_the_wrong_shape(inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are found out before any model time is spent, and leave nothing that stands in the way."""
    torch = pytest.importorskip("torch")
    files = demo.write_inputs(tmp_path / "inputs", Enformer.demo_tracks())
    weights = tmp_path / "weights.pt"
    torch.save({"stem.0.weight": torch.zeros(6, 4, 15)}, weights)
    small = [
        "--fasta",
        str(files.fasta),
        "--tracks",
        str(files.tracks),
        "--out",
        str(tmp_path / "out"),
        "--size",
        "small",
    ]
    small += ["--ccre", "all=0", "--n-tss", "0", "--n-gene-bodies", "0", "--n-variants", "2", "--n-random", "2"]
    small += ["--variant-margin-bp", str(demo.MARGIN_BP), "--random-margin-bp", str(demo.MARGIN_BP), "--block", "2"]
    refused(capsys, [*small, "--weights", str(weights)], "weights.pt", "stem.0.weight|missing", oracle=Enformer)
    random_weights = ["--random-weights", "3"]
    assert cli.run(Enformer, [*small, *random_weights]) == 0
    refused(capsys, [*small, "--random-weights", "4"], "weights is", "asked for", oracle=Enformer)


def test_weights_that_cannot_be_loaded_leave_no_store(inputs: Inputs, tmp_path: Path) -> None:
    class Unloadable(tiny.TinyOracle):
        def load(self, weights: Path | None, **how: object) -> None:
            raise WeightsError("these weights are of another architecture")

    assert cli.run(Unloadable, tiny.arguments(inputs, tmp_path / "out", n_variants=20)) == 2
    assert not (tmp_path / "out").exists()
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, tmp_path / "out")) == 0


def test_offline_names_all_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHORUS_DATA_DIR", str(tmp_path / "data"))
    assert cli.run(Enformer, ["--offline", "--out", str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: 5 inputs are missing")
    for option in ("fasta", "gtf", "ccres", "tracks", "weights"):
        assert f"--{option} PATH" in message
    assert message.count("https://") == 5
    assert not (tmp_path / "out").exists()


def test_a_plain_gzip_genome_says_what_to_do(
    inputs: Inputs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = inputs.fasta.with_suffix(".fa.gz")
    packed.write_bytes(gzip.compress(inputs.fasta.read_bytes()))
    refused(capsys, ["--fasta", str(packed), *tiny.arguments(inputs, tmp_path / "out")[2:]], "bgzip")


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    shown = subprocess.run([sys.executable, "-m", "builders"], capture_output=True, text=True, check=True).stdout
    assert "python -m builders.enformer --help" in shown
    listed = subprocess.run([sys.executable, "-m", "builders", "--json"], capture_output=True, check=True).stdout
    assert {row["name"]: row["tracks"] for row in json.loads(listed)}["enformer"] == 5313
