"""Track tables as published: text files, plain or gzipped."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from chorus_store.errors import TrackTableError

_GZIP_MAGIC = b"\x1f\x8b"


@contextmanager
def track_file(path: Path, remedy: str) -> Iterator[TextIO]:
    """The open file; gzip is recognised by its content.

    Parameters
    ----------
    path : Path
    remedy : str
        End of the error message: what to give instead.

    Raises
    ------
    TrackTableError
        The file cannot be opened, or, inside, is not whole or not text.
    """
    try:
        with path.open("rb") as raw:
            opener = gzip.open if raw.read(2) == _GZIP_MAGIC else open
        with opener(path, "rt", encoding="utf-8", newline="") as text:
            yield text
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TrackTableError(f"cannot read {path} as a track table: {error}; {remedy}") from error


def read_header(path: Path, remedy: str) -> list[str]:
    """Names of the columns of a tab-separated table."""
    with track_file(path, remedy) as text:
        return next(csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE), [])


def read_records(
    path: Path, columns: Collection[str], remedy: str, *, optional: str | None = None
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and columns of every row of a tab-separated table with a header; blank lines are skipped.

    Parameters
    ----------
    path : Path
    columns : collection of str
        Those that it must have.
    remedy : str
        End of every error message: what to give instead.
    optional : str, optional
        A column that a row may lack where it is the last; it is empty there.

    Raises
    ------
    TrackTableError
        The file cannot be read, lacks a column, or has a row of another width.
    """
    with track_file(path, remedy) as text:
        reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = next(reader, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise TrackTableError(f"{path}, line 1: no column {', '.join(missing)}; {remedy}")
        for record in reader:
            if not any(field.strip() for field in record):
                continue
            if header[-1] == optional and len(record) == len(header) - 1:
                record.append("")
            if len(record) != len(header):
                raise TrackTableError(
                    f"{path}, line {reader.line_num}: {len(record)} columns, not {len(header)}; {remedy}"
                )
            yield reader.line_num, dict(zip(header, record, strict=True))
