"""Builds of ChromBPNet with real model files, small; for all tests of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from builders import cli
from builders.settings import Inputs
from chorus_store.facts import FactStore
from tests import tiny
from tests.bpnet_files import chip_layers, chrombpnet_layers, write_h5

pytest.importorskip("torch", reason="PyTorch is not installed (extra chrombpnet)")
pytest.importorskip("h5py", reason="h5py is not installed (extra chrombpnet)")

from builders.chrombpnet import ChromBPNet

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
