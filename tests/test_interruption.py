"""Ctrl-C and SIGTERM end a build, whatever it hangs in."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builders import cli
from builders.interruption import interruptible
from tests import tiny

#: Says that it is at work; where it is interrupted, it waits for a lock that nobody gives back.
HANGING = """
import sys, threading
from builders import cli, interruption
from tests import tiny

class Hanging(tiny.TinyOracle):
    def reduce(self, codes, bins=None):
        try:
            print("at work", flush=True)
            threading.Event().wait()
        finally:
            print("waiting", flush=True)
            lock = threading.Lock()
            lock.acquire()
            lock.acquire()

interruption.GRACE_S = int(sys.argv[1])
sys.exit(cli.run(Hanging, sys.argv[2:]))
"""


def hanging(tmp_path: Path, grace_s: int) -> subprocess.Popen[str]:
    arguments = tiny.arguments(tiny.write_inputs(tmp_path / "inputs"), tmp_path / "out")
    command = [sys.executable, "-c", HANGING, str(grace_s), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("patient", [True, False])
def test_a_build_that_cannot_end_in_good_order_ends(tmp_path: Path, sign: signal.Signals, patient: bool) -> None:
    with hanging(tmp_path, 1 if patient else 500) as build:
        assert build.stdout and build.stderr
        assert build.stdout.readline() == "at work\n"
        build.send_signal(sign)
        assert build.stdout.readline() == "waiting\n"
        if not patient:
            build.send_signal(sign)
        assert build.wait(60) == 130
        assert "interrupted; ended at once" in build.stderr.read()
    assert cli.run(tiny.TinyOracle, tiny.arguments(tiny.write_inputs(tmp_path / "inputs"), tmp_path / "out")) == 0


def test_signals_are_as_they_were() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    with pytest.raises(KeyboardInterrupt), interruptible():
        assert signal.getsignal(signal.SIGINT) is not before[0]
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN


def test_other_threads_set_no_signals() -> None:
    found = []

    def work() -> None:
        with interruptible():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGINT)]
