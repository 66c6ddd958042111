"""Any command line ends with an answer or one sentence: exit code 0, 2 or 3, and never a traceback."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import matplotlib.font_manager  # noqa: F401  # asks the system for its fonts, once
import pytest

import chorus_store.cli
from builders import cli
from builders.chrombpnet import ChromBPNet
from builders.legnet import LegNet
from builders.options import parser_of
from builders.sei import Sei
from chorus_store import console, options
from tests import fuzz_stores, npz_files, stores, tiny
from tests.fuzzing import VALUES
from tests.sandbox import in_time, sandbox

ORDINARY, LONG = 300, 10_000
CODES = (console.EXIT_OK, console.EXIT_ERROR, console.EXIT_FINDINGS)
ORACLES = (tiny.TinyOracle, LegNet, ChromBPNet, Sei)
#: But what no argument can be, and paths that lead out of the sandbox.
_VALUES = [value for value in VALUES if value.strip(".") and "/" not in value and value.isprintable()]
_FILES = ["enformer.zarr", "enformer.zarr.zip", "enformer_pertrack.npz", "effects.tsv", "models.tsv", "absent"]
_NAMES = [
    "DNASE:00000",
    "K562",
    "ATAC:K562=effects.tsv",
    "track",
    "PLS=3",
    "all=0",
    "1/2",
    "3/2",
    "cpu",
    "4G",
    "0.5",
    "-",
]

Run = Callable[[Sequence[str]], int]


def command_line(rng: Random, parser: argparse.ArgumentParser) -> list[str]:
    """Options of a parser with values that fit or not, and words between them."""
    # Help is no answer, and the address of a scheduler leads out of the sandbox.
    flags = [action for action in parser._actions if action.option_strings and action.dest not in ("help", "dask")]
    words = [*_FILES, *_NAMES]
    line: list[str] = []
    for _ in range(rng.randrange(6)):
        if rng.random() < 0.3:
            line.append(rng.choice(words))
            continue
        action = rng.choice(flags)
        line.append(rng.choice(action.option_strings))
        if action.nargs != 0 and rng.random() < 0.95:
            line.append(str(rng.choice([*(action.choices or words), rng.choice(words), rng.choice(_VALUES)])))
    return line


def store_line(rng: Random) -> tuple[Run, list[str]]:
    """A command of ``chorus_store``."""
    _, commands = options.parsers()
    name = rng.choice(list(commands))
    place = rng.choice([[], *[[file] for file in _FILES[:3]] * 2])
    return chorus_store.cli.main, [name, *place, *command_line(rng, commands[name])]


def builder_line(rng: Random) -> tuple[Run, list[str]]:
    """A dry run of an oracle."""
    oracle = rng.choice(ORACLES)
    return lambda argv: cli.run(oracle, argv), [*command_line(rng, parser_of(oracle)), "--dry-run", "--offline"]


def fuzz(line: Callable[[Random], tuple[Run, list[str]]], n: int, root: Path, patch: pytest.MonkeyPatch) -> None:
    """Run command lines in a folder that has a background of every kind."""
    folder = root / "box"
    for name, data in fuzz_stores.archive(root / "made").items():
        folder.mkdir()
        (folder / name).write_bytes(data)
    stores.make_store(folder / "enformer.zarr", 3, n_quantiles=9)
    npz_files.save(folder / "enformer_pertrack.npz", npz_files.with_current_keys(npz_files.background(3, 4)))
    (folder / "effects.tsv").write_text(fuzz_stores.TABLE)
    (folder / "models.tsv").write_text("track\tmodel\nATAC:K562\tmodels/k.h5\n")
    for number in range(n):
        run, argv = line(Random(f"{line.__name__} {number}"))
        try:
            with sandbox(folder, patch), in_time(), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # what a user is told, and no more than that
                code = run(argv)
        except SystemExit as stop:  # of argparse
            code = stop.code
        except BaseException as error:
            error.add_note(f"{number}: {argv}")
            raise
        assert code in CODES, (number, argv)


LINES = pytest.mark.parametrize("line", [store_line, builder_line], ids=lambda line: line.__name__)


@pytest.fixture(autouse=True)
def no_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input that ends at once."""
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        yield


@LINES
def test_command_lines(
    line: Callable[[Random], tuple[Run, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(line, ORDINARY, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@LINES
def test_many_command_lines(
    line: Callable[[Random], tuple[Run, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz(line, LONG, tmp_path, monkeypatch)
