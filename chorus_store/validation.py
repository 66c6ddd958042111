"""A background checked from end to end, with the build and the NPZ file that belong to it.

Opening one checks its metadata alone, and a lookup the rows that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chorus_store import schema
from chorus_store.checks import background, build, counts, files, npz, rows
from chorus_store.checks.findings import Finding, Outcome, Report, from_error
from chorus_store.checks.subject import Subject, open_subject
from chorus_store.errors import ChorusStoreError, StoreNotFoundError
from chorus_store.places import Place


@dataclass(frozen=True)
class Check:
    """One check: its name and what it says when it passes, what it needs, and what finds what is wrong."""

    name: str
    title: str
    applies: Callable[[Subject], bool]
    run: Callable[[Subject], Iterator[Finding]]


def _always(subject: Subject) -> bool:
    return True


def _has_background(subject: Subject) -> bool:
    return subject.store is not None


def _was_built(subject: Subject) -> bool:
    return subject.store is not None and subject.is_built


def _has_build(subject: Subject) -> bool:
    return subject.build is not None


def _has_facts(subject: Subject) -> bool:
    return subject.build is not None and not subject.build.discarded


def _is_published_store(subject: Subject) -> bool:
    return not subject.is_npz and (subject.store is not None or subject.problem is not None)


#: In the order in which they are made.
CHECKS = (
    Check(
        "metadata", "the background opens, and its arrays are what the root says", _always, background.check_metadata
    ),
    Check("schema", "attributes follow their schemas", _has_background, background.check_schema),
    Check("provenance", "every input has a checksum", _was_built, background.check_provenance),
    Check("tracks", "track identifiers are there and differ", _has_background, background.check_tracks),
    Check("labels", "labels are those of the layers and of the plan", _has_background, background.check_labels),
    Check("quantiles", "the grid is equally spaced", _has_background, background.check_quantiles),
    Check("others", "other arrays can be read", _has_background, background.check_others),
    Check("counts", "as many values are kept as the sampler keeps", _has_background, counts.check_counts),
    Check("sampling", "no more values than the positions allow", _was_built, counts.check_sampling),
    Check("yield", "most tracks have samples", _has_background, counts.check_yield),
    Check("rows", "rows are finite, ascend, and are such as compaction makes", _has_background, rows.check_rows),
    Check("plan", "the plan is the one that was recorded", _has_build, build.check_plan),
    Check("records", "units of work are recorded, and records add up", _has_build, build.check_records),
    Check("arrays", "the facts have the sizes of the build", _has_facts, build.check_fact_arrays),
    Check("facts", "the facts are those that the background was made from", _has_build, build.check_facts),
    Check("runs", "records of runs are whole", lambda subject: subject.folder is not None, build.check_runs),
    Check("files", "every file is as the manifest lists it", _is_published_store, files.check_files),
    Check("npz", "the NPZ file says what the store says", lambda subject: subject.npz is not None, npz.check_npz),
)


def validate(place: Place, deep: bool = False, npz: Place | None = None, progress: bool = True) -> Report:
    """Check a store at any stage of its build, or an NPZ file, and say all that is wrong with it.

    Parameters
    ----------
    place : path-like or str
        Whatever `chorus_store.open` opens, or a build that is not published yet. Of an archive or a URL the
        background alone is checked.
    deep : bool
        Compare every file with its checksum too; else the background is read, and of the rest what is small.
    npz : path-like, optional
        The NPZ file to compare with the store; by default ``{oracle}_pertrack.npz`` beside it, if there is one.
    progress : bool
        Show progress bars when stderr is a terminal.

    Returns
    -------
    Report
        Every check with its outcome, and every finding with its repair. A check that something keeps from being made
        has that as its finding, and the others are made all the same.

    Raises
    ------
    StoreNotFoundError, StoreUnreachableError, SchemaError, MissingPackageError
        There is nothing that could be checked: not a store, one of another version, a server that does not answer;
        or no file at ``npz``.

    Examples
    --------
    >>> report = validate("enformer.zarr")  # doctest: +SKIP
    >>> report.ok  # doctest: +SKIP
    True
    """
    if npz is not None and not Path(npz).is_file():
        raise StoreNotFoundError(f"no file {npz} to compare with {place}; check its path")
    subject = open_subject(place, deep=deep, npz=npz, progress=progress)
    report = Report(subject.place, deep)
    for check in CHECKS:
        _make(check, subject, report)
    if subject.store is not None:
        subject.store.close()
    return report


def _make(check: Check, subject: Subject, report: Report) -> None:
    """Make one check, and add its outcome and its findings to the report."""
    try:
        with schema.expected(subject.place):
            applies = check.applies(subject)
            found = list(check.run(subject)) if applies else []
    except ChorusStoreError as error:
        applies, found = True, [from_error(check.name, error, subject.again)]
    failed = any(finding.severity == "error" for finding in found)
    report.checks.append(Outcome(check.name, check.title, ("failed" if failed else "passed") if applies else "skipped"))
    report.findings.extend(found)
