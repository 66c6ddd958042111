"""Ctrl-C, and the SIGTERM of a scheduler: a build ends in good order, or else at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chorus_store.console import EXIT_INTERRUPTED

#: Time for units of work that are on their way to the disk.
GRACE_S = 60
_INTERRUPTING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `KeyboardInterrupt` in the main thread on either signal; end the process on the next, or after the grace.

    Python may raise it while the main thread holds a lock that a queue or a future would have to give back, and other
    threads then wait for that for ever. No finished unit depends on a good end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    timed = hasattr(signal, "alarm")  # not on Windows
    before = {number: signal.getsignal(number) for number in (*_INTERRUPTING, *([signal.SIGALRM] if timed else []))}
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        for again in before:
            signal.signal(again, _end)
        if timed:
            signal.alarm(GRACE_S)
        raise KeyboardInterrupt

    for number in _INTERRUPTING:
        if before[number] is not signal.SIG_IGN:  # as a shell has it for what it runs in the background
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        if interrupted and timed:
            signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"interrupted; ended at once\n")
    os._exit(EXIT_INTERRUPTED)
