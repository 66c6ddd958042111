"""Every file of a store damaged in every way: validation finds it, and nothing that is asked gets a wrong answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders import cli
from chorus_store.npz_import import import_npz
from chorus_store.validation import validate
from tests import tiny
from tests.corruption import Figures, answers, damages

#: Flips per file of the ordinary run, in which every file of a store gets one damage, and of the long one, all.
FLIPS, DENSE_FLIPS = 4, {"store": 24, "imported": 24, "npz": 400}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figures]:
    """A published store with its facts, one that was imported, and an NPZ file, which is checked against its store."""
    folder = tmp_path_factory.mktemp("places")
    inputs = tiny.write_inputs(folder / "inputs")
    assert cli.run(tiny.TinyOracle, tiny.arguments(inputs, folder / "out", "--block", "16")) == 0
    store, npz = folder / "out/tiny.zarr", (folder / "out/tiny_pertrack.npz").rename(folder / "tiny_pertrack.npz")
    imported = import_npz(npz, folder / "imported/tiny.zarr", progress=False)
    return {
        "store": Figures(store, lambda: validate(store, deep=True, progress=False)),
        "imported": Figures(imported, lambda: validate(imported, deep=True, progress=False)),
        "npz": Figures(npz, lambda: validate(store, deep=True, npz=npz, progress=False)),
    }


def files_of(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())


@pytest.mark.parametrize("name", DENSE_FLIPS)
def test_damage_is_found_and_never_answered(subjects: dict[str, Figures], name: str):
    figures, kinds = subjects[name], damages(FLIPS)
    expected, files = answers(figures.place), files_of(figures.place)
    for number, file in enumerate(files):
        for damage in kinds if len(files) == 1 else [kinds[number % len(kinds)]]:
            figures.try_out(file, damage, expected)
    assert figures.cases >= min(len(files), len(kinds))
    assert not figures.wrong
    assert not figures.missed


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSE_FLIPS)
def test_dense_damage_is_found_and_never_answered(subjects: dict[str, Figures], name: str):
    figures = subjects[name]
    expected = answers(figures.place)
    for file in files_of(figures.place):
        for damage in damages(DENSE_FLIPS[name]):
            figures.try_out(file, damage, expected)
    print(f"\n{name}: {figures.summary()}")
    assert not figures.wrong
    assert not figures.missed
