"""Track identifiers as people write them: other spellings of the same track, and near matches of an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping


def find(label: str, rows: Mapping[str, int]) -> int | None:
    """Row of a track, spelt as the store does or as the reference's normalizer would accept it.

    Parameters
    ----------
    label : str
        As asked for. Tried in this order: as it is; ``:`` as ``_``; ``_`` as ``:``; without a final strand
        (``:+`` or ``:-``); its part after the last ``:``.
    rows : mapping of str to int
        Row of every identifier.

    Returns
    -------
    int or None
        None where no spelling is an identifier.

    Examples
    --------
    >>> rows = {"CHIP:HepG2:CEBPA": 0, "ENCFF000AAA": 1}
    >>> [find(label, rows) for label in ("CHIP_HepG2_CEBPA", "CHIP:HepG2:CEBPA:+", "hg38:ENCFF000AAA", "CEBPA")]
    [0, 0, 1, None]
    """
    spellings = (
        label,
        label.replace(":", "_"),
        label.replace("_", ":"),
        label.removesuffix(":+").removesuffix(":-"),
        label.rpartition(":")[2],
    )
    return next((rows[spelling] for spelling in spellings if spelling in rows), None)


def near(label: str, known: Collection[str]) -> str:
    """Hint for an error message: up to three of ``known`` that look like ``label``, else that there is none.

    Examples
    --------
    >>> near("K526", ["K562", "HepG2"])
    'near matches: K562'
    """
    folded = {name.casefold(): name for name in known}
    matches = [folded[name] for name in difflib.get_close_matches(label.casefold(), folded, n=3)]
    return f"near matches: {', '.join(matches)}" if matches else "nothing looks like it"
