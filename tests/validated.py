"""A published store to be damaged, and what validation finds then."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import zarr

from builders import cli
from builders.settings import Inputs
from chorus_store import manifest
from chorus_store.checks.findings import Finding
from chorus_store.validation import validate
from tests import tiny


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return tiny.write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def built(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a published store, its facts and its NPZ."""
    out = tmp_path_factory.mktemp("built")
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, out, "--block", "16")) == 0
    return out


@pytest.fixture
def store(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(built, tmp_path / "mine")) / "tiny.zarr"


def change(path: Path, name: str, index: Any, value: Any) -> None:
    """Change entries of an array of a published store, as a faulty program would: with checksums and manifest."""
    zarr.open_group(path, mode="r+", use_consolidated=False)[name][index] = value
    if (path / "manifest").is_dir():
        manifest.write(path)


def errors(path: Path, *, deep: bool = False, npz: Path | None = None) -> list[Finding]:
    return [f for f in validate(path, deep=deep, npz=npz, progress=False).findings if f.severity == "error"]


def the_only(path: Path, check: str, *, deep: bool = False) -> Finding:
    """The finding of a check; others find nothing, but that the NPZ is not of the changed store."""
    found = [finding for finding in errors(path, deep=deep) if finding.check != "npz"]
    assert [finding.check for finding in found] == [check], found
    return found[0]
