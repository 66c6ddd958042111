"""Claims: who is at work on what, so that two processes do not do the same work twice.

A claim is a small file in the folder ``{oracle}.zarr.claims`` beside the store. It saves work and nothing else: every
unit may be done, and every background published, by anyone, at any time, and again. So whatever goes wrong with a
claim is no reason to stop, and the folder may be removed at any time.

The claim of a dead process is taken over, see `chorus_store.lock`.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from chorus_store import lock
from chorus_store.errors import StoreBusyError
from chorus_store.lock import Holder
from chorus_store.swap import beside

log = logging.getLogger("chorus.claims")

#: What publishes or replaces a background claims this; units are claimed by their names.
MERGE = "merge"
#: What to do about it.
ADVICE = "wait for it, or end it, and run the same command again: what is finished is kept"


class Claims:
    """What this process claims of one store; given up at the end of a ``with`` block.

    Parameters
    ----------
    store : Path
        ``{oracle}.zarr``; need not be there.
    command : str
        What others are told that this process is doing.

    Attributes
    ----------
    others : dict of str to Holder
        What was asked for last and is held by somebody else.

    Examples
    --------
    >>> with Claims(Path("enformer.zarr"), "builders.enformer") as claims:  # doctest: +SKIP
    ...     claims.take("variants/000012")
    True
    """

    def __init__(self, store: Path, command: str) -> None:
        self.others: dict[str, Holder] = {}
        self._folder, self._command = folder_of(store), command
        self._mine: dict[str, bytes] = {}

    def take(self, name: str) -> bool:
        """Claim something; False if somebody else holds it.

        True also where no claim can be made, such as in a folder that cannot be written: then there is none.
        """
        claim, file = lock.content(self._command), self._file(name)
        self.others.pop(name, None)
        try:
            holder = lock.create(file, claim)
        except OSError as error:
            log.info("%s is not claimed: %s", name, error)
            return True
        if holder is None:
            self._mine[name] = claim
        else:
            self.others[name] = holder
        return holder is None

    def release(self, name: str) -> None:
        """Give up one claim, if it was made."""
        claim = self._mine.pop(name, None)
        if claim is not None:
            lock.remove(self._file(name), claim)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Give up all of them, and remove what the dead have left."""
        for name in list(self._mine):
            self.release(name)
        with suppress(OSError):
            lock.tidy(self._folder)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name.replace('/', '-')}.json"


@contextmanager
def exclusively(store: Path, command: str) -> Iterator[None]:
    """Claim the right to publish a background, or to replace it.

    Raises
    ------
    StoreBusyError
        Another process is doing that; the message says who and since when.
    """
    with Claims(store, command) as claims:
        if not claims.take(MERGE):
            raise StoreBusyError(f"{store} is being published by {claims.others[MERGE]}; {ADVICE}")
        yield


def require_free(store: Path, names: Collection[str]) -> None:
    """Refuse to go on where others hold some of these units, which are still missing.

    Raises
    ------
    StoreBusyError
        Says who holds what, and since when.
    """
    if others := holders(store, names):
        raise StoreBusyError(f"{store} cannot be merged yet: {described(others)}; {ADVICE}")


def described(claims: Mapping[str, Holder]) -> str:
    """Who holds how many units, as part of a sentence.

    Examples
    --------
    >>> described({"variants/000003": Holder("gpu7", 4242, 0.0, "2026-03-01T12:00:00+00:00", "builders.enformer")})
    'variants/000003 is held by process 4242 on gpu7, since 2026-03-01T12:00:00+00:00 (builders.enformer)'
    """
    of_process: dict[tuple[str, int], list[str]] = {}
    for name, holder in claims.items():
        of_process.setdefault((holder.host, holder.pid), []).append(name)
    parts = []
    for names in of_process.values():
        first = min((claims[name] for name in names), key=lambda holder: holder.since)
        shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
        what = f"{shown} is" if len(names) == 1 else f"{len(names)} units ({shown}) are"
        parts.append(f"{what} held by {first}")
    return "; ".join(parts)


def folder_of(store: Path) -> Path:
    """Where the claims of a store are."""
    return beside(store, ".claims")


def holders(store: Path, names: Collection[str] | None = None) -> dict[str, Holder]:
    """What live processes hold of a store, or of some things alone, by name."""
    folder, found = folder_of(store), {}
    for file in sorted(folder.glob("*.json")):
        name = file.stem.replace("-", "/", 1)
        if names is None or name in names:
            with suppress(OSError):
                if holder := lock.live(file, lock.now_on(folder)):
                    found[name] = holder
    return found
