"""A table with a track and a value in each row goes in, the same table with percentiles comes out.

The file is read twice: first every row is checked and the tracks are collected, so that what is wrong is named by its
line before anything is computed; then batch by batch it is answered and written. Memory holds one batch, and the CDFs
of the tracks that occur.
"""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import BinaryIO, Literal, TextIO

import xarray as xr
from isal import igzip
from tqdm import tqdm

from chorus_store import matching
from chorus_store.errors import InputError
from chorus_store.layout import CDFS
from chorus_store.lookup import Method
from chorus_store.naming import STANDARD
from chorus_store.swap import refusals, written_whole

_BATCH_ROWS = 100_000
_GZIP = b"\x1f\x8b"
_PIECE_BYTES = 2**20
#: Texts of a value that is not there, in lower case: those of pandas and R, and the dot of VCF.
_MISSING = frozenset(("", ".", "na", "n/a", "#n/a", "<na>", "nan", "null", "none"))
#: What separates columns where neither tabs nor commas do.
_OTHERWISE = {";": "semicolons", "|": "bars", " ": "spaces"}
#: What is written aside until all of it is there, as messages call it.
_SPOOL = "a temporary file (its folder is TMPDIR)"
#: Columns, or bad rows, that a message lists.
_SHOWN = 10


def rank_table(
    store: xr.Dataset,
    table: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    cdf: Literal["effect", "summary", "perbin"] = "effect",
    method: Method = "weak",
    signed: bool | None = None,
    track_column: str = "track",
    value_column: str = "value",
    progress: bool = True,
) -> int:
    """Add percentiles and their standard errors to a table of values.

    Parameters
    ----------
    store : Dataset
        From `chorus_store.open`.
    table : path-like
        TSV or CSV with a header, plain or gzipped; which, is seen from the contents. ``"-"`` is standard input. A
        value may be missing: empty, ``.``, ``NA``, ``N/A``, ``#N/A``, ``<NA>``, ``nan``, ``NULL`` or ``None``, in any
        case.
    out : path-like, optional
        The file to write, gzipped if it ends in ``.gz``; appears whole or not at all. By default, and
        as ``"-"``, standard output, which gets nothing before everything is computed.
    cdf, method, signed
        As `chorus_store.accessor.ChorusAccessor.percentile`.
    track_column, value_column : str
        Columns of the table that have the tracks and the values.
    progress : bool
        Show a progress bar when stderr is a terminal.

    Returns
    -------
    int
        Rows that were written: those of the table, in its order and with all its columns, and two more,
        ``{cdf}_percentile`` and ``{cdf}_standard_error``, which are empty where there is no answer.

    Raises
    ------
    InputError
        No such table, or not a table with these columns; rows that are too short or long, whose value is not a number
        or whose track is unknown, each with its line; a CDF that the store lacks. Nothing is written then.
    CorruptStoreError
        Rows of the CDF that cannot be read.
    StoreWriteError
        The result cannot be written.

    Examples
    --------
    >>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
    >>> rank_table(store, "effects.tsv", "ranked.tsv.gz")  # doctest: +SKIP
    53130
    """
    added = [f"{cdf}_percentile", f"{cdf}_standard_error"]
    with _on_disk(table) as (path, name):
        known = {track: row for row, track in enumerate(store["track"].values.tolist())}
        rows = _Rows(path, name, (track_column, value_column), known)
        if clash := [column for column in added if column in rows.header]:
            raise InputError(f"{name} has a column {clash[0]} already; rename it, or leave it out")
        n_rows, found = _check(rows, known)
        others = [f"{name}_cdf" for name in CDFS if name != cdf]
        background = store.drop_vars(others, errors="ignore").isel(track=found).load()
        with _text_to(out) as file, tqdm(total=n_rows, unit=" rows", disable=not progress or None) as bar:
            writer = csv.writer(file, delimiter=rows.delimiter, lineterminator="\n")
            writer.writerow(rows.header + added)
            records = (fields for _, fields in rows)
            while batch := list(islice(records, _BATCH_ROWS)):
                values = xr.DataArray(
                    [_number(fields[rows.value]) for fields in batch],
                    coords={"track": [fields[rows.track] for fields in batch]},
                    dims="track",
                )
                percentiles = background.chorus.percentile(values, cdf=cdf, method=method, signed=signed)
                errors = background.chorus.standard_error(percentiles, cdf=cdf, signed=signed)
                answers = zip(batch, percentiles.values.tolist(), errors.values.tolist(), strict=True)
                writer.writerows([*fields, *_texts(p, error)] for fields, p, error in answers)
                bar.update(len(batch))
    return n_rows


class _Rows:
    """The rows of a delimited text file, as often as they are wanted."""

    def __init__(self, path: Path, name: str, columns: tuple[str, str], known: Mapping[str, int]) -> None:
        self._path, self.name = path, name
        with self._text() as text:
            first = text.readline()
        self.delimiter = "\t" if "\t" in first else ","
        self.header = next(self._records(), (0, []))[1]
        self.track, self.value = (self._column(label, known) for label in columns)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and fields of every row that is not blank, without the header."""
        return islice(self._records(), 1, None)

    def _records(self) -> Iterator[tuple[int, list[str]]]:
        with self._text() as text:
            reader = csv.reader(text, delimiter=self.delimiter, strict=True)
            try:
                for fields in reader:
                    if fields:
                        yield reader.line_num, fields
            except csv.Error as error:
                raise InputError(f"{self.name}, line {reader.line_num}: {error}; correct the quotes there") from error

    def _column(self, label: str, known: Mapping[str, int]) -> int:
        if self.header.count(label) == 1:
            return self.header.index(label)
        found = "two columns" if label in self.header else "no column"
        more = f" and {len(self.header) - _SHOWN:,} more" if len(self.header) > _SHOWN else ""
        there = (", ".join(self.header[:_SHOWN]) or "nothing") + more
        raise InputError(f"{self.name} has {found} {label!r}; its header has {there}. {_advice(self.header, known)}")

    @contextmanager
    def _text(self) -> Iterator[TextIO]:
        try:
            with self._path.open("rb") as file:
                packed = file.peek(len(_GZIP)).startswith(_GZIP)
                binary: BinaryIO = igzip.IGzipFile(fileobj=file, mode="rb") if packed else file
                with io.TextIOWrapper(binary, "utf-8-sig", newline="") as text:
                    yield text
        except UnicodeDecodeError as error:
            raise InputError(f"{self.name} is not text in UTF-8 ({error.reason}); give a TSV or CSV file") from error
        except (OSError, EOFError, igzip.isal_zlib.error) as error:
            raise InputError(f"{self.name} cannot be read ({error}); check the file") from error


def _advice(header: list[str], known: Mapping[str, int]) -> str:
    """What to do about a table whose header lacks a column."""
    if len(header) == 1 and (separator := re.search(r"(?<=\S)[;| ](?=\S)", header[0])):
        return f"Its columns seem to be separated by {_OTHERWISE[separator[0]]}; separate them by tabs or commas"
    if tracks := [label for label in header if matching.find(label, known) is not None]:
        others = [label for label in header if label not in tracks][:_SHOWN]
        return (
            f"It has columns that are tracks, {tracks[0]} the first: give it a row for each variant and track, in "
            f"pandas by table.melt({others}, var_name='track', value_name='value')"
        )
    return "Name the columns of tracks and values with --track-column and --value-column"


def _check(rows: _Rows, known: Mapping[str, int]) -> tuple[int, list[int]]:
    """Count the rows and find their tracks in the store; refuse the table if there is anything wrong with it."""
    found: dict[str, int] = {}
    bad: list[str] = []
    n_rows = 0
    for line, fields in rows:
        n_rows += 1
        if problem := _problem(rows, fields, known, found):
            bad.append(f"line {line}: {problem}")
            if len(bad) == _SHOWN:
                bad.append("and perhaps more")
                break
    if bad:
        listed = "\n  ".join(bad)
        raise InputError(f"{rows.name} has bad rows, nothing was computed; correct or remove them:\n  {listed}")
    return n_rows, sorted(set(found.values()))


def _problem(rows: _Rows, fields: list[str], known: Mapping[str, int], found: dict[str, int]) -> str | None:
    """What is wrong with a row, if anything; the row of its track in the store is added to ``found``."""
    if len(fields) != len(rows.header):
        return f"{len(fields)} fields, but the header has {len(rows.header)}"
    label, value = fields[rows.track], fields[rows.value]
    if label not in found:
        row = matching.find(label, known)
        if row is None:
            return f"no track {label!r} in the store; {matching.near(label, known)}"
        found[label] = row
    try:
        _number(value)
    except ValueError:
        return f"{value!r} is not a number"
    return None


def _number(text: str) -> float:
    if text.strip().lower() in _MISSING:
        return math.nan
    if "_" in text or not text.isascii():  # 1_0 and other digits, which Python would take
        raise ValueError(text)
    return float(text)


def _texts(percentile: float, error: float) -> tuple[object, str]:
    """Fields of an answer: the percentile in all its digits, its error in three."""
    return ("", "") if math.isnan(percentile) else (percentile, f"{error:.3g}")


@contextmanager
def _on_disk(table: str | PathLike[str]) -> Iterator[tuple[Path, str]]:
    """A table as a file that can be read twice, and its name; what comes through a pipe is copied first."""
    path = Path(table)
    if table != STANDARD and path.is_file():
        yield path, str(path)
        return
    name = "standard input" if table == STANDARD else str(path)
    with ExitStack() as stack:
        with refusals(_SPOOL):
            copy = Path(stack.enter_context(tempfile.TemporaryDirectory()), "table")
            with copy.open("wb") as file:
                file.writelines(_pieces(None if table == STANDARD else path, name))
        yield copy, name


def _pieces(path: Path | None, name: str) -> Iterator[bytes]:
    """What comes through a pipe, or through standard input, where there is no path."""
    if path is None and sys.stdin is None:
        raise InputError(f"{name} is closed; send a table through it, or give the name of a file")
    try:
        with path.open("rb") if path else nullcontext(sys.stdin.buffer) as pipe:
            while piece := pipe.read(_PIECE_BYTES):
                yield piece
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}); check the path") from error


@contextmanager
def _text_to(out: str | PathLike[str] | None) -> Iterator[TextIO]:
    """A text file that becomes ``out``, or goes to standard output, once it is whole."""
    if out is None or out == STANDARD:
        with refusals(_SPOOL), tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as spool:
            yield spool
            spool.seek(0)
            with refusals("standard output"):
                shutil.copyfileobj(spool, sys.stdout)
                sys.stdout.flush()
        return
    with written_whole(Path(out)) as file:
        packed = igzip.IGzipFile("", "wb", fileobj=file, mtime=0) if str(out).endswith(".gz") else nullcontext(file)
        with packed as binary:
            text = io.TextIOWrapper(binary, "utf-8", newline="")
            try:
                yield text
            finally:
                text.detach()  # flushed, and closed by those who opened it
