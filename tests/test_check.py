"""``python -m builders.check``: the template conforms, and what is wrong with a broken one is said in plain words."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import check, demo, template
from builders.template import MotifScanner
from chorus_store import npz_file
from chorus_store.errors import WeightsError
from tests import tiny

TEMPLATE = Path(template.__file__).read_text()
HEADS = 'heads = (Head("motifs", resolution_bp=16, n_bins=64, offset_bp=512),)'
REDUCED = "return reduce_arrays(self, {head.name: binned}, bins)"

#: What is changed in the template, and what is then found.
BROKEN = {
    "syntax": (HEADS, "heads = (", r"line \d+: '\(' was never closed"),
    "package": ("import numpy as np", "import no_such_package", "there is no module no_such_package; is its package"),
    "import": ("SHAPE = (8, 4, 3)", "SHAPE = 1 / 0", r"broken\.py, line \d+: ZeroDivisionError"),
    "script": ('if __name__ == "__main__":', "if True:", "SystemExit"),
    "no oracle": ("(Oracle)", "(object)", r"no class of broken derives from builders\.oracle\.Oracle"),
    "abstract": ("    def reduce(", "    def predict(", "not implemented: reduce"),
    "no name": ('name = "template"', "", "attribute name is missing: lower-case identifier"),
    "bad name": ('name = "template"', 'name = "My Oracle"', "name is 'My Oracle': it names files and commands"),
    "no heads": (HEADS, "", "attribute heads is missing: outputs of the model"),
    "one head": (HEADS, HEADS.replace("(Head", "Head").replace("),)", ")"), "attribute heads is a Head: it must be"),
    "odd input": ("input_length_bp = 2048", "input_length_bp = 2047", "input_length_bp is 2047: .* must be even"),
    "few bins": (HEADS, HEADS.replace("16, n_bins=64", "64, n_bins=16"), "16 bins, fewer than the 32"),
    "outside": (HEADS, HEADS.replace("=512", "=1536"), "head motifs covers bases 1536 to 2560: it must lie inside"),
    "other head": ('(f"MOTIF{i}", "motifs"', '(f"MOTIF{i}", "profile"', "heads that are not declared: profile"),
    "from_options": ("        return cls()", "        return cls(args.size)", "from_options fails .*: AttributeError"),
    "load": ("        if self.motifs.shape", "        raise KeyError('motifs')\n        if self.motifs.shape",
             r"load fails in .*broken\.py, line \d+: KeyError: 'motifs'"),
    "seed": ("default_rng(seed)", "default_rng()", "predictions differ from load to load"),
    "one seed": ("default_rng(seed)", "default_rng(3)", "makes the same weights of every seed"),
    "own input": ("        sites = ", "        codes[:, 0] = 0\n        sites = ", "changes the sequences that it is"),
    "negative": ("np.maximum(", "-np.maximum(", r"statistics of tf_binding go down to -.*, so they must be above -1"),
    "channels": (REDUCED, REDUCED.replace("binned", "binned[..., :1]"), r"has predictions of shape \(2, 64, 1\)"),
    "more bins": (REDUCED, REDUCED.replace("binned", "np.repeat(binned, 2, 1)"), r"of shape \(2, 128, 3\): .* 64,"),
    "no such head": (REDUCED, REDUCED.replace("head.name", "'motif'"), "head motifs has no prediction"),
    "order": (REDUCED, "return reduce_arrays(self, {head.name: binned}, "
              "bins and {r: np.sort(b, 1) for r, b in bins.items()})", "from the same bins asked for one by one"),
    "reduce": ("(head,) = self.heads", "(head, other) = self.heads", r"reduce fails in .*, line \d+: ValueError"),
    "shape": (REDUCED, "return Reduced(binned.sum(axis=1)[:, :2])", r"statistics .* float32 array of shape \(2, 3\)"),
    "no bins": (REDUCED, "return reduce_arrays(self, {head.name: binned})", r"bins of reduce .* not NoneType"),
    "dtype": (REDUCED, "return Reduced(binned.sum(axis=1, dtype=np.float64))", r"not float64 \(2, 3\)"),
    "not reduced": (REDUCED, "return binned", "reduce returns a ndarray"),
    "unknown bases": ("one_hot(codes)", "one_hot(codes, unknown=np.nan)", "not finite for sequences with unknown"),
    "noise": ("np.maximum(", "np.random.random() + np.maximum(", "differ when the same sequences come again"),
    "shifted output": ("first : stop", "first + 96 : stop + 96", "changes of base 1023 are centred on bin"),
    "batch": (".mean(axis=2)", ".mean(axis=2) + codes.sum()", "of a batch of 3 differ from those of its sequences"),
    "window": (REDUCED, "r = " + REDUCED[7:] + "; return Reduced(r.statistics + 1, r.bins)",
               "statistics differ from the sums of these bins"),
}  # fmt: skip


def test_the_template_conforms(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(["builders.template"]) == 0
    assert capsys.readouterr().out == "MotifScanner: conforms\n"
    assert len(TEMPLATE.splitlines()) < 60


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_said(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong, finding = BROKEN[case]
    assert right in TEMPLATE
    file = tmp_path / "broken.py"
    file.write_text(TEMPLATE.replace(right, wrong))
    assert check.run([str(file), "--json"]) == 2
    reports = json.loads(capsys.readouterr().out)["oracles"]
    assert reports.keys() <= {"MotifScanner", str(file)}
    (findings,) = reports.values()
    assert any(re.search(finding, found) for found in findings), findings


def test_a_demo_keeps_the_oracles_number_of_bins() -> None:
    few: type[MotifScanner] = type("Few", (MotifScanner,), {"plan_defaults": {"bin_slots": 8, "n_tss": 0}})
    assert (demo.plan_of(few).bin_slots, demo.plan_of(few).n_tss) == (8, 0)
    assert demo.plan_of(MotifScanner).bin_slots == 32


def test_the_document_shows_what_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong, _ = BROKEN["shifted output"]
    (tmp_path / "mine.py").write_text(TEMPLATE.replace(right, wrong))
    assert check.run([str(tmp_path / "mine.py")]) == 2
    shown = Path(__file__).parents[1] / "docs" / "new-oracle.md"
    assert f"```text\n{capsys.readouterr().out}```" in shown.read_text()


@pytest.mark.parametrize("place", ["no_such_file.py", "no_such_module"])
def test_what_is_not_there(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run([place]) == 2
    assert re.match(rf"{place}: does not conform\n  - .*there is no (file|module) {place}", capsys.readouterr().out)


def test_options_go_to_the_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        check.run(["builders.template", "--size", "small"])
    assert "unrecognized arguments: --size small" in capsys.readouterr().err


def test_device_precision_weights_and_tracks_are_those_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = 'assert (device, precision, weights.name, seed) == ("cuda:5", "bf16", "motifs.npy", 0)'
    text = TEMPLATE.replace("drawn =", f"{asked}\n        drawn =")
    text = text.replace("return cls()", 'assert tracks.name == "table.txt"\n        return cls()')
    (tmp_path / "mine.py").write_text(text)
    np.save(tmp_path / "motifs.npy", np.random.default_rng(7).standard_normal(template.SHAPE, np.float32))
    options = ["--gpu", "5", "--precision", "bf16", "--weights", str(tmp_path / "motifs.npy")]
    assert check.run([str(tmp_path / "mine.py"), *options, "--tracks", "table.txt"]) == 0
    assert check.run([str(tmp_path / "mine.py"), "--tracks", "table.txt"]) == 2
    assert re.search(r"load fails in .*AttributeError", capsys.readouterr().out)
    assert check.run(["builders.template", "--gpu", "5", "--device", "cpu"]) == 2
    assert "--gpu and --device exclude each other" in capsys.readouterr().err


def test_weights_that_do_not_fit_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "motifs.npy", np.ones((2, 4, 3), np.float32))
    assert check.run(["builders.template", "--weights", str(tmp_path / "motifs.npy")]) == 2
    assert "load fails" in (said := capsys.readouterr().out) and "of shape (2, 4, 3), not (8, 4, 3)" in said


def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TEMPLATE.replace("MotifScanner", "Mine"))
    for place in ("mine.py", "mine"):
        done = subprocess.run(
            [sys.executable, "-m", "builders.check", place],
            cwd=tmp_path, capture_output=True, text=True, check=False,
            env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"},
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "Mine: conforms\n", "")


def saved(save: Callable[..., None], motifs: np.ndarray) -> bytes:
    file = io.BytesIO()
    save(file, motifs)
    return file.getvalue()


MOTIFS = np.zeros(template.SHAPE, np.float32)
NO_MOTIFS = {
    "text": b"motifs",
    "empty": b"",
    "cut short": saved(np.save, MOTIFS)[:-1],
    "objects": saved(np.save, MOTIFS.astype(object)),
    "letters": saved(np.save, np.full(template.SHAPE, "A")),
    "npz": saved(np.savez, MOTIFS),
}


@pytest.mark.parametrize("kind", [*NO_MOTIFS, "folder", "absent"])
def test_weights_that_are_no_array_of_numbers(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "motifs.npy"
    if kind == "folder":
        file.mkdir()
    elif kind != "absent":
        file.write_bytes(NO_MOTIFS[kind])
    with pytest.raises(WeightsError, match=r"motifs\.npy is no \.npy file of numbers \(--weights\): "):
        MotifScanner().load(file)


def test_an_oracle_of_ones_own_goes_by_its_own_name(tmp_path: Path) -> None:
    file = tmp_path / "my_oracle.py"
    file.write_text(TEMPLATE)
    path = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[1]}"}
    for command, shown in (([str(file)], "python my_oracle.py"), (["-m", "my_oracle"], "python -m my_oracle")):
        done = subprocess.run(
            [sys.executable, *command, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True, env=path
        )
        assert done.stdout.startswith(f"usage: {shown} [-h]") and f"  {shown} --demo --out demo  " in done.stdout
        assert "builders.template" not in done.stdout
        out = tmp_path / command[-1].replace("/", "_")
        arguments = ["--demo", "--device", "cpu", "--part", "variants", "--out", str(out)]
        subprocess.run([sys.executable, *command, *arguments], cwd=tmp_path, check=True, env=path)
        (run,) = (out / "template_demo.zarr/runs").glob("*/zarr.json")
        recorded = json.loads(run.read_text())["attributes"]["command"]
        assert recorded == [shown.removeprefix("python ").removeprefix("-m "), *arguments]


def test_the_template_builds_a_background_from_its_weights(tmp_path: Path) -> None:
    inputs = tiny.write_inputs(tmp_path / "inputs")
    motifs = np.zeros(template.SHAPE, np.float32)
    motifs[0, 0] = (1, 2, 3)
    np.save(tmp_path / "motifs.npy", motifs)
    from builders import cli

    arguments = tiny.arguments(inputs, tmp_path, "--weights", str(tmp_path / "motifs.npy"))
    assert cli.run(MotifScanner, arguments) == 0
    with npz_file.open_npz_file(tmp_path / "template_pertrack.npz") as npz:
        assert npz.track_ids == ["MOTIF0", "MOTIF1", "MOTIF2"]
        activity = npz.read("summary_cdfs")
    # The motifs are the base A, weighed once, twice and three times: about a quarter of the bases of every window.
    np.testing.assert_allclose(activity[1:], activity[:1] * np.array([[2], [3]]), rtol=1e-5)
    assert 0.2 < activity[0, -1] / 31 < 0.5
