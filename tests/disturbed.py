"""Builds to be disturbed: what they start from, what they must come to, and what a reader may see on the way."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import chorus_store
from builders.settings import Inputs
from chorus_store.errors import ChorusStoreError
from chorus_store.facts import FactStore
from chorus_store.units import KINDS
from tests import tiny
from tests.crashing import Run, Server, Stop

SIZES = {"n_variants": 6, "n_random": 4, "n_tss": 2, "n_gene_bodies": 0, "bin_slots": 3}
THINNED = ("--sampler", "algorithm-r", "--capacity", "4")

#: Inode and time of the last change of every file of a unit, by the unit's name.
Units = dict[str, list[tuple[int, int]]]


@dataclass(frozen=True)
class Scenario:
    """A command over a folder.

    Attributes
    ----------
    oracle : {"tiny", "growing"}
    options : tuple of str
        Besides inputs, plan and output.
    start : Path or None
        What the folder holds before; None is nothing.
    undisturbed : Run
        Of the command from beginning to end.
    expected : dict of str to str
        Checksum of every file afterwards, but for the records of runs.
    seen : set of str
        What a reader may see: the background before, if there was one, and that afterwards.
    """

    inputs: Inputs
    oracle: str
    options: tuple[str, ...]
    start: Path | None
    undisturbed: Run
    expected: dict[str, str]
    seen: frozenset[str]

    def begin(self, out: Path) -> Path:
        """A folder of its own to work in."""
        if self.start is None:
            out.mkdir()
            return out
        return Path(shutil.copytree(self.start, out))

    def run(self, server: Server, out: Path, *, stop: Stop = None, after: float | None = None) -> Run:
        return server.run(out, self.oracle, command(self.inputs, out, *self.options), stop=stop, after=after)

    def check_reader(self, out: Path) -> None:
        """A reader sees the old background or the new one; a documented error only where there was none before."""
        found = seen(out / f"{self.oracle}.zarr")
        assert found in self.seen or (self.start is None and found in ("store-not-found",)), found
        npz = out / f"{self.oracle}_pertrack.npz"
        if npz.exists() or self.start is not None:
            before = contents(self.start) if self.start else {}
            assert checksum(npz) in (self.expected[npz.name], before.get(npz.name))

    def finish(self, server: Server, out: Path) -> None:
        """Run it again, to its end: equal bytes, no finished unit done again, nothing left behind."""
        before = finished(out / f"{self.oracle}.zarr")
        run = self.run(server, out)
        assert run.code == 0, run.said
        found = contents(out)
        assert {name for name in found | self.expected if found.get(name) != self.expected.get(name)} == set()
        after = finished(out / f"{self.oracle}.zarr")
        assert {name: after[name] for name in before} == before, "a finished unit was done again"
        assert sorted(path.name for path in out.iterdir()) == [f"{self.oracle}.zarr", f"{self.oracle}_pertrack.npz"]


@pytest.fixture(scope="session")
def crash_server() -> Iterator[Server]:
    """A process that forks command lines."""
    with Server() as running:
        yield running


@pytest.fixture(scope="session")
def builds(crash_server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scenario]:
    """`scenarios`, made once."""
    return scenarios(crash_server, tmp_path_factory.mktemp("builds"))


def command(inputs: Inputs, out: Path, *options: str) -> list[str]:
    return tiny.arguments(inputs, out, "--ccre", "all=0", "--block", "3", *options, **SIZES)


def scenarios(server: Server, folder: Path) -> dict[str, Scenario]:
    """A whole build; another background over one that is there; more models, and so another background again."""
    inputs = tiny.write_inputs(folder / "inputs")
    fresh = _undisturbed(server, folder / "fresh", inputs, "tiny", (), None)
    grown = folder / "two"
    grown.mkdir()
    assert server.run(grown, "growing", command(inputs, grown, "--models", "2")).code == 0
    return {
        "fresh": fresh,
        "anew": _undisturbed(server, folder / "anew", inputs, "tiny", THINNED, folder / "fresh"),
        "growing": _undisturbed(server, folder / "three", inputs, "growing", ("--models", "3"), grown),
    }


def _undisturbed(
    server: Server, out: Path, inputs: Inputs, oracle: str, options: tuple[str, ...], start: Path | None
) -> Scenario:
    scenario = Scenario(inputs, oracle, options, start, Run(0), {}, frozenset())
    scenario.begin(out)
    run = scenario.run(server, out)
    assert run.code == 0, run.said
    backgrounds = {seen(folder / f"{oracle}.zarr") for folder in (out, start) if folder}
    return Scenario(inputs, oracle, options, start, run, contents(out), frozenset(backgrounds))


def checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def contents(out: Path) -> dict[str, str]:
    """SHA-256 of every file, except the records of runs."""
    files = ((file.relative_to(out).as_posix(), file) for file in out.rglob("*") if file.is_file())
    return {name: checksum(file) for name, file in files if ".zarr/runs/" not in name}


def seen(store: Path, without: Sequence[str] = ()) -> str:
    """What a reader gets: a checksum of all values, but for some tracks, or the kind of a documented error."""
    try:
        with chorus_store.open(store) as whole:
            background = whole.isel(track=~np.isin(whole["track"].values, without))
            assert background.chorus.percentile(0.5, "TRK0") >= 0
            values = [background[name].values for name in sorted(map(str, background.variables))]
            text = [str(array.tolist()).encode() if array.dtype.kind in "TOU" else array.tobytes() for array in values]
            return hashlib.sha256(b"|".join(text)).hexdigest()
    except ChorusStoreError as error:
        return error.kind


def finished(store: Path) -> Units:
    """Finished units of a store, whose files must not be written again."""
    if not (store / "zarr.json").is_file():
        return {}
    facts = FactStore(store)
    units = [unit for kind in KINDS for unit in facts.units(kind) if facts.record(unit)]
    return {unit.name: [_identity(file) for file in _files(facts, unit)] for unit in units}


def _files(facts: FactStore, unit: object) -> Sequence[Path]:
    arrays = [facts._shard(array.name, unit) for array in facts.shape.arrays(unit.kind)]  # type: ignore[attr-defined, arg-type]
    return [facts.path / "progress" / unit.name / "zarr.json", *arrays]  # type: ignore[attr-defined]


def _identity(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_ino, status.st_mtime_ns


def phases(run: Run, oracle: str) -> list[str]:
    """Which phase of the build every step belongs to."""
    partial, created, found = f"{oracle}.zarr.HOST-PID.partial", False, []
    for step in run.steps:
        found.append(_phase(step, partial, created, oracle))
        created = created or step == f"rename {partial} {oracle}.zarr" or f"{oracle}.zarr.claims" in step
    return found


def _phase(step: str, partial: str, created: bool, oracle: str) -> str:
    if "preflight." in step:
        return "preflight"
    if f"{oracle}.zarr.claims" in step:
        return "claim"
    if "_pertrack.npz" in step:
        return "export"
    if partial in step:
        return "plan" if not created else "compact" if "_cdf/" in step or "-SCRATCH" in step else "publish"
    return "record" if f"{oracle}.zarr/runs" in step else "score" if f"{oracle}.zarr/" in step else "publish"
