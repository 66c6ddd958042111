"""Track identifiers as people write them: other spellings of the same track, and near matches of an unknown one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType


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


def near(label: str, known: Iterable[str], described: Mapping[str, str] = MappingProxyType({})) -> str:
    """Hint for an error message: up to three of ``known`` that look like ``label``, else that there is none.

    Parameters
    ----------
    label : str
        As asked for.
    known : iterable of str
        What it may have been meant to be.
    described : mapping of str to str, optional
        Description to the one of ``known`` that has it; what looks like a description is named too.

    Examples
    --------
    >>> near("K526", ["K562", "HepG2"])
    'near matches: K562'
    >>> near("ctcf:K562", ["ENCFF1", "ENCFF2"], {"CTCF:K562": "ENCFF1"})
    'near matches: ENCFF1 (CTCF:K562)'
    """
    shown = {text.casefold(): f"{name} ({text})" for text, name in described.items()}
    shown |= {name.casefold(): name for name in known}
    matches = [shown[text] for text in difflib.get_close_matches(label.casefold(), shown, n=3)]
    return f"near matches: {', '.join(matches)}" if matches else "nothing looks like it"
