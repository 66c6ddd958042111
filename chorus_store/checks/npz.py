"""Checks of the NPZ file beside a store against the store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chorus_store.checks.findings import Finding, about_tracks, from_error
from chorus_store.checks.subject import BLOCK_TRACKS, Subject
from chorus_store.errors import ChorusStoreError, StoreNotFoundError
from chorus_store.files import sha256_of
from chorus_store.npz import arrays_of, values_of, write_npz
from chorus_store.npz_contract import CDF_KEYS, TRACK_IDS, variable_of
from chorus_store.npz_file import NpzFile, open_npz_file


def check_npz(subject: Subject) -> Iterator[Finding]:
    """The NPZ file says what the store says."""
    assert subject.npz is not None
    again = f"python -m chorus_store export {subject.place} --out {subject.npz}"
    try:
        with open_npz_file(subject.npz) as npz:
            findings = list(_differences(subject, npz, again))
    except StoreNotFoundError:
        raise
    except ChorusStoreError as error:
        findings = [from_error("npz", error, again, subject.npz.name)]
    yield from findings
    if subject.deep and not findings and not _is_exported(subject, subject.npz):
        message = "the arrays of the store, but not the bytes of an export; another release may have written it"
        yield Finding("npz", subject.npz.name, [], 1, message, again, "warning")


def _differences(subject: Subject, npz: NpzFile, again: str) -> Iterator[Finding]:
    store, expected = subject.background, arrays_of(subject.background)
    if list(npz.arrays) != list(expected):
        message = f"arrays {', '.join(npz.arrays)}, not {', '.join(expected)}"
        yield Finding("npz", subject.npz.name, [], 1, message, again)  # type: ignore[union-attr]
        return
    if npz.track_ids != subject.ids:
        yield Finding("npz", TRACK_IDS, [], 1, "other tracks than the store, or in another order: it is stale", again)
        return
    for name, dtype in expected.items():
        if name in CDF_KEYS:
            yield from _differing_rows(subject, npz, name, again)
            continue
        theirs, ours = npz.read(name), values_of(store, name, dtype)
        if theirs.dtype != ours.dtype or not np.array_equal(theirs, ours, equal_nan=theirs.dtype.kind in "fc"):
            yield Finding("npz", name, [], 1, "not what the store has: the file is stale", again)


def _differing_rows(subject: Subject, npz: NpzFile, name: str, again: str) -> Iterator[Finding]:
    cdf, bad = subject.background[variable_of(name)], np.zeros(subject.n_tracks, np.bool_)
    if npz.arrays[name].shape != cdf.shape:
        yield Finding("npz", name, [], 1, f"shape {npz.arrays[name].shape}, not {cdf.shape}: the file is stale", again)
        return
    with subject.bar(subject.n_tracks, name, " rows") as bar:
        first = 0
        for rows in npz.blocks(name, BLOCK_TRACKS):
            span = slice(first, first + len(rows))
            bad[span] = (rows != cdf[span].values).any(axis=1)
            first = span.stop
            bar.update(len(rows))
    yield from about_tracks("npz", name, subject.ids, bad, "not the rows of the store: the file is stale", again)


def _is_exported(subject: Subject, npz: Path) -> bool:
    """Whether an export makes the very bytes of the file."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder, "fresh.npz")
        with fresh.open("wb") as file, subject.bar(subject.background.nbytes, "export", "B") as bar:
            write_npz(subject, file, bar)
        return sha256_of(fresh) == sha256_of(npz)
