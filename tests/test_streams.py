"""Where results go: links stay links, pipes are written to as they are, and what is full says so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chorus_store.cli import main
from tests.stores import make_store

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")

#: Only ever the standard output of a process.
FULL = Path("/dev/full")
ROWS = "track,value\nRNA:00004,0.5\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_store(tmp_path_factory.mktemp("streams") / "enformer.zarr"))


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "in.csv"
    path.write_text(ROWS)
    return str(path)


@contextmanager
def reader(pipe: Path) -> Iterator[list[bytes]]:
    """Reads a new named pipe to its end, in a thread."""
    os.mkfifo(pipe)
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    thread.start()
    try:
        yield read
    finally:
        if not read and not pipe.is_fifo():
            pipe.unlink()  # the test fails, and the thread with it
        thread.join(10)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run(*arguments: str, shell: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chorus_store", *arguments]
    if shell:  # what is set there instead of between fork and exec, which JAX warns of
        command = ["sh", "-c", shell, "sh", *command]
    return subprocess.run(command, check=False, text=True, **{"capture_output": "stdout" not in options, **options})


@pytest.mark.parametrize("name", ["plain", "packed.gz"])
def test_a_named_pipe_is_written_to(
    store: str, table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    expected = tmp_path / f"file-{name}"
    assert main(["percentile", store, table, "--out", str(expected)]) == 0
    assert capsys.readouterr().out == f"{expected}\n"
    with reader(tmp_path / name) as read:
        assert main(["percentile", store, table, "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name).is_fifo()
    assert read == [expected.read_bytes()]
    assert capsys.readouterr().out == "", "which may be the pipe"


@pytest.mark.filterwarnings("default")
def test_a_picture_into_a_named_pipe(store: str, tmp_path: Path):
    pytest.importorskip("matplotlib").use("agg")
    with reader(tmp_path / "drift.pdf") as read:
        assert main(["diff", store, store, "--plot", str(tmp_path / "drift.pdf")]) == 0
    assert read[0].startswith(b"%PDF")


def test_an_npz_goes_to_no_pipe(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.npz")
    for out in ("pipe.npz", "-"):
        for more in ((), ("--allow-fewer-tracks",)):
            assert main(["export", store, "--out", out, *more]) == 2
            assert f"cannot write an NPZ file to {out}: it is no ordinary file" in capsys.readouterr().err
    assert names(tmp_path) == ["pipe.npz"] and Path("pipe.npz").is_fifo()


def test_a_link_stays_and_its_file_is_replaced(store: str, table: str, tmp_path: Path):
    real, link = tmp_path / "folder" / "real.csv", tmp_path / "link.csv"
    real.parent.mkdir()
    link.symlink_to("folder/real.csv")
    for _ in ("made", "replaced"):
        assert main(["percentile", store, table, "--out", str(link)]) == 0
        assert link.is_symlink() and real.read_text().startswith("track,value,effect_percentile")
        real.write_text("old")
    assert names(tmp_path) == ["folder", "in.csv", "link.csv"] and names(real.parent) == ["real.csv"]


def test_a_dash_is_never_a_file(store: str, table: str, tmp_path: Path):
    (tmp_path / "-").write_text("not this one")
    done = run("percentile", store, "-", "--out", "-", input=ROWS, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("track,value,effect_percentile")
    assert (tmp_path / "-").read_text() == "not this one"
    (tmp_path / "-").write_text(ROWS)
    assert run("percentile", store, "./-", cwd=tmp_path).stdout == done.stdout
    assert run("percentile", store, table, "--out", "./-", cwd=tmp_path).stdout == "./-\n"
    assert (tmp_path / "-").read_text() == done.stdout


def test_no_standard_input(store: str):
    done = run("percentile", store, "-", shell='exec "$@" <&-')
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: standard input is closed; send a table through it")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is full")
@pytest.mark.parametrize("command", ["percentile", "tracks", "info"])
def test_a_full_standard_output(store: str, table: str, command: str):
    with FULL.open("w") as full:
        done = run(command, store, *([table] if command == "percentile" else []), stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write ")
    assert "No space left on device; free some space" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("piped", [False, True])
def test_no_space_for_what_is_written_aside(store: str, tmp_path: Path, piped: bool):
    table = tmp_path / "long.csv"
    table.write_text("track,value\n" + "RNA:00004,0.5\n" * 20_000)
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    options = {"env": environment, "shell": 'ulimit -f 100; exec "$@"'}  # 50 or 100 kB, by the shell
    if piped:
        done = run("percentile", store, "-", input=table.read_text(), **options)
    else:
        done = run("percentile", store, str(table), **options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: cannot write a temporary file (its folder is TMPDIR): File too large; free ")
    assert names(tmp_path) == ["long.csv"]
