"""kill −9 at every step and at any moment: nothing is lost, nothing is wrong, and the same command goes on."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from chorus_store.layout import ROOT_VARIABLES
from tests.crashing import Run, Server
from tests.disturbed import Scenario, command, finished, phases

PHASES = {
    "fresh": {"preflight", "plan", "score", "claim", "compact", "publish", "export", "record"},
    "anew": {"claim", "compact", "publish", "export", "record"},
    "growing": {"score", "claim", "compact", "publish", "export", "record"},
}


LABELS = "|".join(variable.name for variable in ROOT_VARIABLES if not variable.name.endswith("_cdf"))


def killed(server: Server, build: Scenario, out: Path, stop: tuple[str, int]) -> tuple[str, str]:
    """Kill a build before a step, see that readers do not notice, and finish it; the phase and name of the step."""
    build.begin(out)
    run = build.run(server, out, stop=stop)
    where = died_at(run, build)
    build.check_reader(out)
    build.finish(server, out)
    shutil.rmtree(out)
    return where


def died_at(run: Run, build: Scenario) -> tuple[str, str]:
    assert run.code == -signal.SIGKILL, run.said
    return phases(run, build.oracle)[-1], run.steps[-1]


def spread(build: Scenario, per_phase: int) -> list[tuple[str, int]]:
    """Some steps of every phase, from its first to its last."""
    of_phase: dict[str, list[str]] = {}
    for step, phase in zip(build.undisturbed.steps, phases(build.undisturbed, build.oracle), strict=True):
        of_phase.setdefault(phase, []).append(step)
    return [
        (steps[i * (len(steps) - 1) // (per_phase - 1)], 1) for steps in of_phase.values() for i in range(per_phase)
    ]


def names(build: Scenario) -> dict[str, str]:
    """The first step of every name, where it makes no difference which unit, label, or file of a copy it is about."""
    first: dict[str, str] = {}
    for step in build.undisturbed.steps:
        name = re.sub(rf"\b{build.oracle}\b", "oracle", re.sub(r"\d+", "N", step))
        name = re.sub(rf"(HOST-PID\.partial)/({LABELS})\b", r"\1/LABEL", name)
        name = re.sub(r"(HOST-PID\.partial/(plan|samples|progress|runs)|zarr/plan)/\S+", r"\1/…", name)
        first.setdefault(name, step)
    return first


@pytest.mark.parametrize("name", ["fresh", "anew", "growing"])
def test_killed_in_every_phase(crash_server: Server, builds: dict[str, Scenario], tmp_path: Path, name: str) -> None:
    build, steps = builds[name], spread(builds[name], 2)
    died = Counter(killed(crash_server, build, tmp_path / "out", stop)[0] for stop in steps)
    assert set(died) >= PHASES[name], died


@pytest.mark.parametrize("name", ["fresh", "anew", "growing"])
def test_killed_again_and_again(crash_server: Server, builds: dict[str, Scenario], tmp_path: Path, name: str) -> None:
    """Every run is killed a little later than the one before; units that are finished never become fewer."""
    out = builds[name].begin(tmp_path / "out")
    assert chain(crash_server, builds[name], out, random.Random(name), most=5) >= 2
    builds[name].finish(crash_server, out)


def chain(server: Server, build: Scenario, out: Path, rng: random.Random, most: int) -> int:
    """Kill the runs of one build one after the other, until one comes to its end; how many."""
    store, whole = out / f"{build.oracle}.zarr", len(build.undisturbed.steps)
    for kills in range(most):
        before = finished(store)
        run = build.run(server, out, stop=rng.randint(1, whole // 2))
        build.check_reader(out)
        after = finished(store)
        assert {name: after[name] for name in before} == before
        if run.code == 0:
            return kills
        assert run.code == -signal.SIGKILL, run.said
    return most


def test_killed_at_any_moment(crash_server: Server, builds: dict[str, Scenario], tmp_path: Path) -> None:
    rng = random.Random(7)
    for number in range(3):
        killed_by_the_clock(crash_server, builds["fresh"], tmp_path / str(number), rng)


def killed_by_the_clock(server: Server, build: Scenario, out: Path, rng: random.Random) -> None:
    """Kill a build after some time; one that came to its end before is begun again, with half of the time at most."""
    most_s, run = 0.8 * build.undisturbed.seconds, None
    while run is None or run.code == 0:
        build.begin(out)
        run = build.run(server, out, after=rng.uniform(0, most_s))
        build.check_reader(out)
        build.finish(server, out)
        shutil.rmtree(out)
        most_s /= 2
    assert run.code == -signal.SIGKILL, run.said


def test_a_program_is_killed(crash_server: Server, builds: dict[str, Scenario], tmp_path: Path) -> None:
    """The same with the program as a user starts it."""
    build, rng, most_s, kills = builds["fresh"], random.Random(3), 0.5, 0
    while kills < 2:
        out = tmp_path / f"{most_s}-{kills}" / "out"
        program = [sys.executable, "-m", "tests.tiny", *command(build.inputs, out)]
        with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
            while running.poll() is None and not out.exists():
                time.sleep(0.01)
            time.sleep(rng.uniform(0, most_s))
            running.kill()
        assert running.returncode in (0, -signal.SIGKILL)
        kills += running.returncode == -signal.SIGKILL
        most_s /= 2
        build.check_reader(out)
        build.finish(crash_server, out)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_two_hundred_kills(crash_server: Server, builds: dict[str, Scenario], tmp_path: Path) -> None:
    """Before every step that has a name, where most is at stake; at random moments; and again and again."""
    rng, where = random.Random(11), dict[str, tuple[str, str]]()
    for build in (builds["growing"], builds["anew"], builds["fresh"]):
        for name, step in names(build).items():
            if name not in where:
                where[name] = killed(crash_server, build, tmp_path / "out", (step, 1))
    moments = [build for build in builds.values() for _ in range(10)]
    for build in moments:
        killed_by_the_clock(crash_server, build, tmp_path / "out", rng)
    chains = 0
    for number in range(9):
        build = list(builds.values())[number % 3]
        out = build.begin(tmp_path / f"chain{number}")
        chains += chain(crash_server, build, out, rng, most=10)
        build.finish(crash_server, out)
    print(f"\n{len(where)} kills before a named step, {len(moments)} at random moments, {chains} one after the other")
    print("\n".join(f"{n:5} {phase}" for phase, n in Counter(phase for phase, _ in where.values()).most_common()))
    assert len(where) + len(moments) + chains >= 200
    assert {phase for phase, _ in where.values()} >= set().union(*PHASES.values())
