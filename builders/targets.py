"""Track tables of the Basenji family of models (Enformer, Borzoi): ``targets`` files.

Tab-separated with a header; the columns of the output's index, ``identifier`` and ``description`` are used. A
description is ``ASSAY:biosample``, or ``CHIP:target:biosample``. Identifiers of stranded tracks end in + or -.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builders.track_files import read_records
from chorus_store.errors import TrackTableError
from chorus_store.layers import layer_of
from chorus_store.tracks import TrackTable

#: The only head of these models' human output.
HEAD = "human"
_MOST_TRACKS = 1 << 24


def read_targets(path: Path, remedy: str, *, index: str = "index") -> TrackTable:
    """Read a targets file, plain or gzipped.

    Parameters
    ----------
    path : Path
        The file; any number of tracks, whose indices are 0 … n − 1 in any order.
    remedy : str
        End of every error message: what to give instead.
    index : str
        Column of the indices.

    Returns
    -------
    TrackTable
        In file order; ``channel`` is the file's index.

    Raises
    ------
    TrackTableError
        The file cannot be read, lacks a column, repeats or omits an identifier or an index, or names an
        unknown assay. The message has the line.
    """
    rows = []
    seen: dict[str, int] = {}
    for line, record in read_records(path, (index, "identifier", "description"), remedy):
        identifier, description = record["identifier"], record["description"]
        if not identifier:
            raise TrackTableError(f"{path}, line {line}: no identifier; {remedy}")
        if identifier in seen:
            raise TrackTableError(f"{path}, line {line}: {identifier} is already on line {seen[identifier]}; {remedy}")
        seen[identifier] = line
        try:
            channel = int(record[index])
            if not 0 <= channel < _MOST_TRACKS:
                raise ValueError(f"the index {record[index]} is out of range")
            assay, cell_type = parse_description(description)
            layer = layer_of(assay, description)
        except (ValueError, TrackTableError) as error:
            raise TrackTableError(f"{path}, line {line}: {error}; {remedy}") from None
        strand = identifier[-1] if identifier[-1] in "+-" else "."
        rows.append((identifier, HEAD, channel, assay, layer, cell_type, description, strand))
    if not rows:
        raise TrackTableError(f"{path} has a header and no tracks; {remedy}")
    table = TrackTable.from_rows(rows)
    if not np.array_equal(np.sort(table.channel), np.arange(len(table))):
        raise TrackTableError(f"{path}: the {len(table)} indices are not 0 to {len(table) - 1}, each once; {remedy}")
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
