"""The documents say what is: their blocks run in order against the demo's store, their tables are those of the code."""

from __future__ import annotations

import argparse
import builtins
import doctest
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import s3fs
import xarray as xr
from nbclient import NotebookClient

import chorus_store
import chorus_store.errors
from builders import ORACLES, load_oracle, rebuild
from builders.alphagenome import AlphaGenome
from builders.borzoi import Borzoi
from builders.cispliceai import CISpliceAI
from builders.enformer import Enformer
from builders.legnet import LegNet
from builders.options import parser_of
from builders.oracle import Oracle
from builders.resources import RESOURCES
from builders.sei import Sei
from chorus_store.layout import ROOT_VARIABLES
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.s3_site import Bucket
from tests.s3_site import bucket as bucket  # a fixture

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
#: Numbers of a dry run that depend on the machine.
OF_THE_MACHINE = re.compile(r"(?<=free )[\d.]+|[\d.]+(?= GiB compaction)")
#: What a dry run says besides where the disk is small.
TOO_LITTLE_DISK = re.compile(r"^  problem .* free, and this build has yet to write .*\n", re.MULTILINE)
#: Commands that need neither a model nor a network.
CHEAP = re.compile(
    r"-m builders\.\w+ .*(--help|--dry-run|--offline)|-m builders\.(check|rebuild|resources)"
    r"|-m chorus_store (diff|info|tracks|percentile|validate)"
)
DECIMAL = re.compile(r"\d+\.\d+")
DEMO = ("-m", "builders.enformer", "--demo", "--out", "demo")


class Checker(doctest.OutputChecker):
    """Takes decimals for equal that differ by what another processor makes of the demo's model."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        wanted, found = ([float(number) for number in DECIMAL.findall(text)] for text in (want, got))
        if len(wanted) == len(found) and np.allclose(wanted, found, rtol=0, atol=2e-3):
            want, got = (DECIMAL.sub("0.0", text) for text in (want, got))
        return super().check_output(want, got, optionflags)


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python as a user without settings would, in a folder that is not the checkout but is called /home/you."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("CHORUS_", "XDG_"))}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**plain, "HOME": str(cwd), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    done.stdout, done.stderr = (text.replace(str(cwd), "/home/you") for text in (done.stdout, done.stderr))
    return done


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo has been built by the command line; its output is in ``demo.txt``."""
    pytest.importorskip("torch", reason="PyTorch is not installed (extra enformer)")
    folder = tmp_path_factory.mktemp("docs")
    done = python(*DEMO, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "demo.txt").write_text(done.stdout)
    write_older(folder / "demo/enformer_demo_pertrack.npz", folder / "older_pertrack.npz")
    return folder


def write_older(npz: Path, out: Path) -> None:
    """An NPZ as it might have been before: one track less, smaller effects on another, other variants."""
    with np.load(npz) as file:
        arrays = {key: file[key] for key in file}
    arrays["effect_cdfs"][arrays["track_ids"] == "DEMO008"] *= np.float32(0.5)
    config = json.loads(arrays["build_config"].item())
    config["reference_sets"]["seeds"]["variant_seed"] = 41
    kept = {key: array[:-1] if len(array) == 20 else array for key, array in arrays.items()}
    np.savez_compressed(out, **{**kept, "build_config": np.array([json.dumps(config)])})


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines).replace(" --- ", "---") + "\n"


def test_there_is_something_to_check() -> None:
    assert {path.name for path in DOCUMENTS} >= {"README.md", "asking.md", "building.md", "store.md"}
    assert blocks(ROOT / "README.md", "python")
    assert any(CHEAP.search(block) for document in DOCUMENTS for block in blocks(document, "console"))


@pytest.fixture
def example_org(demo: Path, site: Site, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a web server that has the demo's store; an S3 server has it too, for everyone to read."""
    store = demo / "demo/enformer_demo.zarr"
    s3fs.S3FileSystem(**bucket.options).chmod(bucket.add(store), "public-read", recursive=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.options["endpoint_url"])
    return site.add(store).removesuffix(f"/{store.name}")


@pytest.mark.filterwarnings("ignore:Consolidated metadata")  # Zarr, of what xarray asks it for
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(
    document: Path, demo: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(demo)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace: dict[str, Any] = {}
    for number, block in enumerate(blocks(document, "python")):
        if "https://example.org" in block:
            block = block.replace("https://example.org", request.getfixturevalue("example_org"))
        name = f"{document.name}, python block {number}"
        if ">>>" not in block:
            exec(compile(block, name, "exec"), namespace)
            continue
        examples = doctest.DocTestParser().get_doctest(block, namespace, name, str(document), 0)
        report: list[str] = []
        runner = doctest.DocTestRunner(Checker(), optionflags=FLAGS)
        failed = runner.run(examples, out=report.append, clear_globs=False).failed
        namespace = examples.globs
        assert not failed, "".join(report)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_say_what_is_shown(document: Path, demo: Path) -> None:
    for block in blocks(document, "console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if command.startswith("cat "):
                file = demo / command.removeprefix("cat ")
                if not file.exists():
                    file.write_text(shown)
                said = file.read_text()
            elif command == "python dev.py demo":
                said = "setting up .venv (once, some minutes)\n" + (demo / "demo.txt").read_text()
            elif CHEAP.search(command):
                done = python(*shlex.split(command)[1:], cwd=demo)
                assert done.returncode == (2 if shown.startswith("error: ") else 0), done.stderr
                said = done.stdout + done.stderr
            else:
                continue
            said = TOO_LITTLE_DISK.sub("", said)
            expected, found = (OF_THE_MACHINE.sub("0", text) for text in (shown or "…\n", said))
            expected = re.sub(r"^…\n", "...\n", expected, flags=re.MULTILINE)
            assert Checker().check_output(expected, found, doctest.ELLIPSIS), (command, found)


def test_the_notebook_runs(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it as its reader would; ``jupyter execute --inplace docs/asking.ipynb`` makes its outputs anew."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
    notebook = nbformat.read(ROOT / "docs/asking.ipynb", as_version=4)
    shown = [_forms(cell) for cell in notebook.cells]
    folder = demo / "docs"
    folder.mkdir()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}}).execute()
    assert [_forms(cell) for cell in notebook.cells] == shown
    assert sum("image/png" in form for forms in shown for form in forms) >= 4


def _forms(cell: Any) -> list[list[str]]:
    """What kinds of output a cell has; a message on standard error would be one more."""
    return [sorted(output.get("data", {"text/plain": ""})) for output in cell.get("outputs", [])]


def test_the_demo_from_end_to_end(demo: Path) -> None:
    results = {path.name for path in (demo / "demo").iterdir()}
    assert results == {"demo_inputs", "enformer_demo.zarr", "enformer_demo_pertrack.npz"}, "no canonical name"
    with xr.open_zarr(demo / "demo/enformer_demo.zarr") as store:
        assert store.attrs["demo"] is True
        percentile = store.chorus.percentile(0.06, track="DEMO000", cdf="effect")
        assert 0 < percentile < 1
        assert f"\n{percentile:.2}\n" in (demo / "demo.txt").read_text()
        with np.load(demo / "demo/enformer_demo_pertrack.npz", allow_pickle=False) as npz:
            assert npz["track_ids"].tolist() == store["track"].values.tolist()
            for cdf in ("effect", "summary", "perbin"):
                np.testing.assert_array_equal(npz[f"{cdf}_cdfs"], store[f"{cdf}_cdf"])
                np.testing.assert_array_equal(npz[f"{cdf}_counts"], store[f"{cdf}_count"])
            config = json.loads(str(npz["build_config"][0]))
        assert (config["demo"], config["genome"], config["n_tracks"]) == (True, "synthetic", store.sizes["track"])


def test_the_template_is_shown_whole() -> None:
    assert blocks(ROOT / "docs/new-oracle.md", "python")[0] == (ROOT / "builders/template.py").read_text()


def test_the_table_of_variables() -> None:
    rows = [(f"`{v.name}`", ", ".join(v.dims), v.dtype, v.description) for v in ROOT_VARIABLES]
    assert table(("name", "dimensions", "dtype", "what it is"), rows) in (ROOT / "docs/store.md").read_text()


def test_the_table_of_errors() -> None:
    (errors,) = re.findall(r"^\| `kind` \| also a .*\n\|.*\n((?:\|.*\n)+)", (ROOT / "docs/asking.md").read_text(), re.M)
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| .+ \|$", errors, re.MULTILINE)
    assert len(rows) == errors.count("\n") > 5
    classes = {kind.kind: kind for kind in vars(chorus_store.errors).values() if hasattr(kind, "kind")}
    for kind, builtin in rows:
        assert issubclass(classes[kind], getattr(builtins, builtin))


def test_the_table_of_resources() -> None:
    option = {"hg38": "fasta", "gencode": "gtf", "ccres": "ccres"}
    asked: list[tuple[type[Oracle], str]] = [
        (CISpliceAI, ""), (LegNet, ""), (Enformer, ""), (Enformer, "--backend tensorflow"), (Sei, "--profiles"),
        (AlphaGenome, ""), (AlphaGenome, "--backend jax"), *((Borzoi, f"--fold {fold}") for fold in range(4)),
    ]  # fmt: skip
    for oracle, options in asked:
        resources = oracle.resources(parser_of(oracle).parse_args(options.split()))
        option |= {resource: name for name, resource in resources.items()}
    rows = [
        (resource.title, f"<{resource.url}>", resource.size, resource.licence, f"`--{option[name]}`")
        for name, resource in RESOURCES.items()
    ]
    header = ("resource", "address", "size", "licence", "replaced by")
    assert table(header, rows) in (ROOT / "docs/building.md").read_text()


def test_the_table_of_times_is_what_a_dry_run_reckons_with() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text().partition("| oracle | two cores, fp32 |")[2].partition("\n\n")[0]
    rows = [line.split("|") for line in text.splitlines()[2:]]
    table = {row[1].split(",")[0].strip(): row[2:6] for row in rows}
    columns = [("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "tf32"), ("cuda", "bf16")]
    for name in ORACLES:
        oracle = load_oracle(name)
        (cells,) = (cells for title, cells in table.items() if oracle.title.startswith(title))
        shown = [float(cell.replace(",", "")) / 1000 for cell in cells]
        assert shown == pytest.approx([oracle.seconds_per_sequence[column] for column in columns], rel=1e-6)


def test_every_option_is_described_and_every_described_option_exists() -> None:
    text = re.sub(r"^(#SBATCH|.*sbatch).*$", "", (ROOT / "docs/building.md").read_text(), flags=re.MULTILINE)
    described = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
    actions = [*parser_of(Enformer)._actions, *rebuild.parser()._actions]
    assert described == {name for action in actions for name in action.option_strings if name.startswith("--")}


@pytest.mark.parametrize("oracle", [AlphaGenome, Borzoi, LegNet, Sei], ids=["alphagenome", "borzoi", "legnet", "sei"])
def test_the_oracles_own_options_are_described(oracle: type[Oracle]) -> None:
    own = argparse.ArgumentParser(add_help=False)
    oracle.add_options(own.add_argument_group())
    section = re.search(rf"^## {oracle.title}$.*?(?=^## |\Z)", (ROOT / "docs/oracles.md").read_text(), re.M | re.S)
    assert section is not None
    missing = [name for action in own._actions for name in action.option_strings if name not in section[0]]
    assert not missing


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing
