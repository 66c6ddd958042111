"""Whatever a file holds, a parser answers or raises the error that it documents; nothing else happens.

300 cases of each parser in the ordinary run, 10,000 in the long one: ``python dev.py test --slow -k fuzz``. A failure
names its case; ``CHORUS_FUZZ_CASE=1234 python dev.py test -k 'fuzz and gtf'`` runs that case alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

import pytest

from tests.fuzz_parsers import PARSERS, Parser
from tests.fuzzing import JSON, mutated
from tests.sandbox import in_time, sandbox

ORDINARY, LONG = 300, 10_000


def case(parser: Parser, files: dict[str, bytes], number: int) -> dict[str, bytes]:
    """The files of a case: all valid but one."""
    rng = Random(f"{parser.name} {number}")
    name = rng.choice([name for name in files if parser.mutates(name)])
    mutations = JSON if name.endswith(".json") else parser.mutations
    return {**files, name: mutated(rng, files[name], mutations)}


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def fuzz(parser: Parser, numbers: Iterable[int], root: Path, patch: pytest.MonkeyPatch) -> dict[str, int]:
    """Run cases, and count what became of them."""
    files = parser.files(root / "made")
    (root / "box").mkdir()
    folder = root / "box" / "case"
    write(folder, files)
    parser.parse(folder)  # what is valid is read, and all that is imported late is there
    counts = {"parsed": 0, "refused": 0}
    with sandbox(root / "box", patch):
        for number in numbers:
            shutil.rmtree(folder)
            write(folder, case(parser, files, number))
            try:
                with in_time():
                    parser.parse(folder)
                counts["parsed"] += 1
            except parser.errors:
                counts["refused"] += 1
            except BaseException as error:
                error.add_note(f"case {number} of {parser.name}")
                raise
    return counts


def numbers(most: int) -> list[int]:
    chosen = os.environ.get("CHORUS_FUZZ_CASE")
    return [int(chosen)] if chosen else list(range(most))


@pytest.fixture
def parser(request: pytest.FixtureRequest) -> Parser:
    for package in request.param.needs:
        pytest.importorskip(package)
    return request.param


every_parser = pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.name, indirect=True)


@every_parser
def test_cases(parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz(parser, numbers(ORDINARY), tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@every_parser
def test_many_cases(
    parser: Parser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    for what, n in fuzz(parser, numbers(LONG), tmp_path, monkeypatch).items():
        record_property(what, n)
