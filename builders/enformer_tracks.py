"""Enformer's track table: the targets file of the Basenji 2 / Enformer training data.

Tab-separated with a header; the columns ``index``, ``identifier`` and ``description`` are used. A description
is ``ASSAY:biosample``, or ``CHIP:target:biosample``.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from chorus_store.errors import TrackTableError
from chorus_store.layers import layer_of
from chorus_store.tracks import TrackTable

HEAD = "human"
COLUMNS = ("index", "identifier", "description")
_GZIP_MAGIC = b"\x1f\x8b"
_REMEDY = "take targets_human.txt of Basenji's cross2020 (it is downloaded when --tracks is left out)"


def read_targets(path: Path) -> TrackTable:
    """Read a targets file, plain or gzipped.

    Parameters
    ----------
    path : Path
        The file; any number of tracks, whose indices are 0 … n − 1 in any order.

    Returns
    -------
    TrackTable
        In file order; ``channel`` is the file's ``index``.

    Raises
    ------
    TrackTableError
        The file cannot be read, lacks a column, repeats or omits an identifier or an index, or names an
        unknown assay. The message has the line.
    """
    rows = []
    seen: dict[str, int] = {}
    for line, record in _records(path):
        identifier, description = record["identifier"], record["description"]
        if not identifier:
            raise TrackTableError(f"{path}, line {line}: no identifier; {_REMEDY}")
        if identifier in seen:
            raise TrackTableError(f"{path}, line {line}: {identifier} is already on line {seen[identifier]}; {_REMEDY}")
        seen[identifier] = line
        try:
            channel = int(record["index"])
            assay, cell_type = parse_description(description)
            layer = layer_of(assay, description)
        except (ValueError, TrackTableError) as error:
            raise TrackTableError(f"{path}, line {line}: {error}; {_REMEDY}") from None
        rows.append((identifier, HEAD, channel, assay, layer, cell_type, description, "."))
    if not rows:
        raise TrackTableError(f"{path} has a header and no tracks; {_REMEDY}")
    table = TrackTable.from_rows(rows)
    if not np.array_equal(np.sort(table.channel), np.arange(len(table))):
        raise TrackTableError(f"{path}: the {len(table)} indices are not 0 to {len(table) - 1}, each once; {_REMEDY}")
    return table


def parse_description(description: str) -> tuple[str, str]:
    """Assay in upper case and biosample of a description.

    Examples
    --------
    >>> parse_description("CHIP:H3K27ac:K562"), parse_description("CAGE:cell line:NCI-H441")
    (('CHIP', 'K562'), ('CAGE', 'cell line:NCI-H441'))
    """
    assay, _, rest = description.partition(":")
    assay = assay.strip().upper()
    return assay, (rest.partition(":")[2] if assay == "CHIP" else rest).strip()


def _records(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and the used columns of every row."""
    try:
        with path.open("rb") as raw:
            opener = gzip.open if raw.read(2) == _GZIP_MAGIC else open
        with opener(path, "rt", encoding="utf-8", newline="") as text:
            reader = csv.reader(text, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(reader, [])
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise TrackTableError(f"{path}, line 1: no column {', '.join(missing)}; {_REMEDY}")
            positions = {name: header.index(name) for name in COLUMNS}
            for record in reader:
                if len(record) != len(header):
                    raise TrackTableError(
                        f"{path}, line {reader.line_num}: {len(record)} columns, not {len(header)}; {_REMEDY}"
                    )
                yield reader.line_num, {name: record[i] for name, i in positions.items()}
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TrackTableError(f"cannot read {path} as a track table: {error}; {_REMEDY}") from error
