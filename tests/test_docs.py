"""The documents say what is: their blocks run in order against the demo's store, their tables are those of the code."""

from __future__ import annotations

import argparse
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

import numpy as np
import pytest
import xarray as xr

import chorus_store  # noqa: F401 - registers the accessor
from builders.enformer import Enformer
from builders.options import parser_of
from builders.resources import RESOURCES
from chorus_store.layout import ROOT_VARIABLES

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
#: Numbers of a dry run that depend on the machine.
OF_THE_MACHINE = re.compile(r"(?<=free )[\d.]+|[\d.]+(?= GiB compaction)")
#: Commands that need neither a model nor a network.
CHEAP = re.compile(r"-m builders\.\w+ .*(--help|--dry-run|--offline)|-m chorus_store info")
DEMO = ("-m", "builders.enformer", "--demo", "--out", "demo")


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
    return folder


def blocks(document: Path, language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines).replace(" --- ", "---") + "\n"


def test_there_is_something_to_check() -> None:
    assert {path.name for path in DOCUMENTS} >= {"README.md", "building.md", "store.md"}
    assert blocks(ROOT / "README.md", "python")
    assert any(CHEAP.search(block) for document in DOCUMENTS for block in blocks(document, "console"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_python_blocks_run(document: Path, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo)
    namespace: dict[str, Any] = {}
    for number, block in enumerate(blocks(document, "python")):
        name = f"{document.name}, python block {number}"
        if ">>>" not in block:
            exec(compile(block, name, "exec"), namespace)
            continue
        examples = doctest.DocTestParser().get_doctest(block, namespace, name, str(document), 0)
        report: list[str] = []
        failed = doctest.DocTestRunner(optionflags=FLAGS).run(examples, out=report.append, clear_globs=False).failed
        namespace = examples.globs
        assert not failed, "".join(report)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_say_what_is_shown(document: Path, demo: Path) -> None:
    for block in blocks(document, "console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            if command == "python dev.py demo":
                said = "setting up .venv (once, some minutes)\n" + (demo / "demo.txt").read_text()
            elif CHEAP.search(command):
                done = python(*shlex.split(command)[1:], cwd=demo)
                assert done.returncode == (2 if shown.startswith("error: ") else 0), done.stderr
                said = done.stdout + done.stderr
            else:
                continue
            expected, found = (OF_THE_MACHINE.sub("0", text) for text in (shown or "…\n", said))
            expected = re.sub(r"^…\n", "...\n", expected, flags=re.MULTILINE)
            assert doctest.OutputChecker().check_output(expected, found, doctest.ELLIPSIS), (command, found)


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


def test_the_table_of_variables() -> None:
    rows = [(f"`{v.name}`", ", ".join(v.dims), v.dtype, v.description) for v in ROOT_VARIABLES]
    assert table(("name", "dimensions", "dtype", "what it is"), rows) in (ROOT / "docs/store.md").read_text()


def test_the_table_of_resources() -> None:
    option = {"hg38": "fasta", "gencode": "gtf", "ccres": "ccres"}
    for backend in ("torch", "tensorflow"):
        args = argparse.Namespace(backend=backend, size="full", weights=None, random_weights=None)
        option |= {resource: name for name, resource in Enformer.resources(args).items()}
    rows = [
        (resource.title, f"<{resource.url}>", resource.size, resource.licence, f"`--{option[name]}`")
        for name, resource in RESOURCES.items()
    ]
    header = ("resource", "address", "size", "licence", "replaced by")
    assert table(header, rows) in (ROOT / "docs/building.md").read_text()


def test_every_option_is_described_and_every_described_option_exists() -> None:
    text = re.sub(r"^(#SBATCH|.*sbatch).*$", "", (ROOT / "docs/building.md").read_text(), flags=re.MULTILINE)
    described = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))
    actions = parser_of(Enformer)._actions
    assert described == {name for action in actions for name in action.option_strings if name.startswith("--")}


@pytest.mark.parametrize("document", [*DOCUMENTS, ROOT / "CHANGELOG.md"], ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text())
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing
