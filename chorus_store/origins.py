"""Where rows of a background come from that were not made together with it: the list ``rows`` of its documents.

A block is ``{"first", "stop", "source": {"name", "sha256"}, "provenance"}``: rows [first, stop), the background that
they were taken from, and what that said of itself. Rows in no block are those that the document as a whole is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Block = dict[str, Any]

#: The key of the list, in the provenance of a store and in ``build_config`` of an NPZ.
ROWS = "rows"
#: What older releases counted instead: the last rows, of which nothing is known.
_APPENDED = "appended"
#: Source of rows that came as arrays, or of which nobody took notes.
UNKNOWN = {"name": "arrays", "sha256": None}


def of(attributes: Mapping[str, Any], n_tracks: int) -> list[Block]:
    """Blocks of a background, in order.

    Parameters
    ----------
    attributes : mapping
        Of the Dataset of a store or an NPZ file.
    n_tracks : int
        Rows of the background.

    Examples
    --------
    >>> of({"build_config": {"appended": 2}}, 9)
    [{'first': 7, 'stop': 9, 'source': {'name': 'arrays', 'sha256': None}, 'provenance': None}]
    """
    document = document_of(attributes) or {}
    blocks = document.get(ROWS)
    if isinstance(blocks, list) and _are_sound(blocks, n_tracks):
        return blocks
    counted = attributes.get(_APPENDED, document.get(_APPENDED))
    n_new = counted if isinstance(counted, int) and 0 < counted <= n_tracks else 0
    return [_block(n_tracks - n_new, n_tracks, UNKNOWN, None)] if n_new else []


def document_of(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a background says of its making: the provenance of a store, ``build_config`` of an NPZ; None if nothing."""
    document: Mapping[str, Any] | None = attributes.get("provenance", attributes.get("build_config"))
    return document


def without(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document without its blocks: what it says of the rows that were made together."""
    return {key: value for key, value in document.items() if key not in (ROWS, _APPENDED)}


def grown(document: Mapping[str, Any], blocks: Sequence[Block]) -> dict[str, Any]:
    """A document with other blocks."""
    return {**without(document), **({ROWS: list(blocks)} if blocks else {})}


def with_blocks(attributes: Mapping[str, Any], blocks: Sequence[Block]) -> dict[str, Any]:
    """Root attributes of a store with other blocks."""
    plain = {key: value for key, value in attributes.items() if key != _APPENDED}
    return {**plain, "provenance": grown(attributes["provenance"], blocks)}


def shifted(blocks: Sequence[Block], by: int) -> list[Block]:
    """The same blocks so many rows further down."""
    return [{**block, "first": block["first"] + by, "stop": block["stop"] + by} for block in blocks]


def taken(
    blocks: Sequence[Block],
    rows: npt.NDArray[np.integer[Any]],
    source: Mapping[str, Any],
    document: Mapping[str, Any] | None,
) -> list[Block]:
    """Blocks for some rows of a background in another one, where they follow one another from row 0 on.

    Parameters
    ----------
    blocks : sequence of Block
        Of the background that they are taken from; their rows keep the source that they had there.
    rows : ndarray of int
        Which of its rows.
    source, document : mapping
        The source and the provenance of all others.

    Examples
    --------
    >>> blocks = [{"first": 2, "stop": 4, "source": {"name": "b"}, "provenance": {}}]
    >>> [(b["first"], b["stop"], b["source"]["name"]) for b in taken(blocks, np.array([0, 1, 3]), {"name": "a"}, None)]
    [(0, 2, 'a'), (2, 3, 'b')]
    """
    owners = np.full(len(rows), -1)
    for number, block in enumerate(blocks):
        owners[(rows >= block["first"]) & (rows < block["stop"])] = number
    ends = [*(np.flatnonzero(np.diff(owners)) + 1).tolist(), len(rows)]
    found, first = [], 0
    for stop in ends:
        owner = int(owners[first])
        of_block = (source, document) if owner < 0 else (blocks[owner]["source"], blocks[owner]["provenance"])
        found.append(_block(first, stop, *of_block))
        first = stop
    return found


def _block(first: int, stop: int, source: Mapping[str, Any], document: Mapping[str, Any] | None) -> Block:
    provenance = None if document is None else without(document)
    return {"first": first, "stop": stop, "source": dict(source), "provenance": provenance}


def _are_sound(blocks: list[Any], n_tracks: int) -> bool:
    """Whether a list, perhaps of a file of other people's making, is one of blocks."""
    if not all(map(_is_block, blocks)):
        return False
    ends = [row for block in blocks for row in (block["first"], block["stop"])]
    ascending = all(a < b if i % 2 == 0 else a <= b for i, (a, b) in enumerate(pairwise(ends)))
    return ascending and (not ends or (ends[0] >= 0 and ends[-1] <= n_tracks))


def _is_block(block: Any) -> bool:
    match block:
        case {
            "first": int(),
            "stop": int(),
            "source": {"name": str(), "sha256": str() | None, **more_of_source},
            "provenance": dict() | None,
            **more,
        }:
            return not more and not more_of_source
    return False
