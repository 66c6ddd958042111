"""Any order of building, killing, growing, appending, damaging and repairing comes to the bytes of a plain build."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import chorus_store
from builders.settings import Inputs
from chorus_store.append import append_tracks
from chorus_store.facts import FactStore
from chorus_store.npz import export_npz
from tests import tiny
from tests.crashing import Server
from tests.disturbed import THINNED, command, contents, finished, seen

SAMPLERS = {"exact": (), "thinned": THINNED}
MOST_MODELS = 3
#: Files that tracks from elsewhere do not change.
BUILT = re.compile(r"growing.zarr/(plan|samples|progress)/")
#: How far a run comes, as the number of a step; more than there are is to its end.
STEPS = st.one_of(st.none(), st.integers(1, 1500))


@dataclass
class Plain:
    """Undisturbed builds, by the models of every lot of tracks and the sampler; each made when it is asked for."""

    server: Server
    inputs: Inputs
    folder: Path

    def __post_init__(self) -> None:
        self._made: dict[tuple[tuple[int, ...], str], Path] = {}

    def build(self, lots: tuple[int, ...], sampler: str) -> Path:
        if (lots, sampler) not in self._made:
            out = self.folder / f"{'-'.join(map(str, lots))}-{sampler}"
            out.mkdir()
            for models in np.cumsum(lots).tolist():
                options = command(self.inputs, out, "--models", str(models), *SAMPLERS[sampler])
                assert self.server.run(out, "growing", options).code == 0
            self._made[lots, sampler] = out
        return self._made[lots, sampler]


@pytest.fixture(scope="module")
def plain(crash_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Plain:
    folder = tmp_path_factory.mktemp("plain")
    return Plain(crash_server, tiny.write_inputs(folder / "inputs"), folder)


class Builds(RuleBasedStateMachine):
    """One store and everything that may happen to it."""

    plain: ClassVar[Plain]

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=self.plain.folder))
        self.out = self.folder / "out"
        self.out.mkdir()
        self.store = self.out / "growing.zarr"
        self.models = 1
        self.appended: list[str] = []
        self.done: dict[str, list[tuple[int, int]]] = {}
        self.allowed = {"store-not-found"}

    def run(self, *options: str, stop: int | None = None) -> int:
        """Run the command line; a background of any lots and sampler that there may be by then is one to be seen."""
        run = self.plain.server.run(
            self.out, "growing", command(self.plain.inputs, self.out, "--models", str(self.models), *options), stop=stop
        )
        assert run.code in (0, 2, -signal.SIGKILL), run.said
        assert "Traceback" not in run.said, run.said
        if self.lots:
            self.allowed |= {seen(self.plain.build(self.lots, sampler) / "growing.zarr") for sampler in SAMPLERS}
        return run.code

    @property
    def lots(self) -> tuple[int, ...]:
        return tuple(FactStore(self.store).lots()) if self.store.exists() else ()

    @property
    def is_published(self) -> bool:
        return self.store.exists() and seen(self.store) != "store-not-found"

    @rule(part=st.sampled_from(["variants", "baselines"]), shard=st.sampled_from(["1/1", "1/2", "2/2"]), stop=STEPS)
    def score(self, part: str, shard: str, stop: int | None) -> None:
        self.run("--part", part, "--shard", shard, stop=stop)

    @rule(sampler=st.sampled_from(sorted(SAMPLERS)), stop=STEPS)
    def merge(self, sampler: str, stop: int | None) -> None:
        self.run("--part", "merge", *SAMPLERS[sampler], stop=stop)

    @rule(sampler=st.sampled_from(sorted(SAMPLERS)), stop=STEPS)
    def everything(self, sampler: str, stop: int | None) -> None:
        self.run(*SAMPLERS[sampler], stop=stop)

    @precondition(lambda self: self.models < MOST_MODELS)
    @rule()
    def add_a_model(self) -> None:
        self.models += 1

    @precondition(lambda self: self.is_published and self.out.joinpath("growing_pertrack.npz").exists())
    @rule()
    def append_a_track(self) -> None:
        """From another place; it stays, whatever is published anew."""
        with np.load(self.out / "growing_pertrack.npz") as npz:
            row = {name: npz[name][:1].tolist() for name in npz.files if name not in ("build_config",)}
        self.appended.append(f"APPENDED{len(self.appended)}")
        append_tracks(self.store, {**row, "track_ids": self.appended[-1:]})

    @precondition(lambda self: self.is_published)
    @rule()
    def export(self) -> None:
        export_npz(self.store, self.out / "growing_pertrack.npz", progress=False)

    @precondition(lambda self: len(self.done) > 0)
    @rule(data=st.data())
    def lose_facts(self, data: st.DataObject) -> None:
        """A damaged shard of facts is deleted, as the message says; its unit alone is done again."""
        unit = data.draw(st.sampled_from(sorted(self.done)))
        facts = FactStore(self.store)
        (found,) = [each for each in facts.units(unit.split("/")[0]) if each.name == unit]  # type: ignore[arg-type]
        facts._shard(facts.shape.arrays(found.kind)[0].name, found).unlink()
        del self.done[unit]

    @precondition(lambda self: self.is_published and not self.appended)
    @rule(name=st.sampled_from(["effect_cdf/c/0/0", "track/c/0", "summary_count/zarr.json", "zarr.json"]))
    def damage_the_background(self, name: str) -> None:
        """A file of the background is lost; publishing again repairs what comes from the facts."""
        (self.store / name).unlink()
        for sampler in SAMPLERS.values():  # one of them is another than before, and published in any case
            assert self.run(*sampler) == 0

    @invariant()
    def a_reader_sees_one_background_or_none(self) -> None:
        if hasattr(self, "store"):
            found = seen(self.store, self.appended)
            assert found in self.allowed, found
            if found != "store-not-found":
                self.allowed.discard("store-not-found")
                with chorus_store.open(self.store) as background:
                    assert set(self.appended) <= set(background["track"].values.tolist())

    @invariant()
    def no_finished_unit_is_lost_or_done_again(self) -> None:
        if hasattr(self, "store"):
            now = finished(self.store)
            assert {name: now.get(name) for name in self.done} == self.done
            self.done = now

    def teardown(self) -> None:
        if hasattr(self, "store"):
            for sampler in ("thinned", "exact"):
                assert self.run(*SAMPLERS[sampler]) == 0
            plain = self.plain.build(self.lots, "exact")
            assert seen(self.store, self.appended) == seen(plain / "growing.zarr")
            found, expected = contents(self.out), contents(plain)
            differing = {name for name in found | expected if found.get(name) != expected.get(name)}
            assert not {name for name in differing if not self.appended or BUILT.match(name)}
            assert sorted(path.name for path in self.out.iterdir()) == ["growing.zarr", "growing_pertrack.npz"]
            shutil.rmtree(self.folder)


def explore(plain: Plain, examples: int, steps: int) -> None:
    Builds.plain = plain
    run_state_machine_as_test(
        Builds,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=examples < 20,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_history(plain: Plain) -> None:
    explore(plain, 4, 5)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_any_long_history(plain: Plain) -> None:
    explore(plain, 60, 12)
