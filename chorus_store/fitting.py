"""Whether rows of one background may join another one, and what they say of themselves there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from chorus_store.background import WINDOWS
from chorus_store.errors import InputError, StoreMismatchError
from chorus_store.layers import LAYERS, Layer
from chorus_store.layout import VARIABLE
from chorus_store.npz_config import build_config
from chorus_store.row_source import KEY_OF, Column, RowSource

#: What the layer of a track decides.
_BY_LAYER = ("signed", "window_bp", "formula", "pseudocount")
#: What a store says of each track and an NPZ does not; rows may lack it.
_LABELS = {name for name, variable in VARIABLE.items() if variable.dims == ("track",)} - KEY_OF.keys() | {"signed"}


def require_kin(old: RowSource, new: RowSource) -> None:
    """Refuse rows that mean something else than those of a background.

    Raises
    ------
    StoreMismatchError
        Of another oracle, or of one that is not known; of another genome; measured over other windows; or of a
        demonstration, unless the background is one too.
    """
    theirs, ours = _identity(new.attributes), _identity(old.attributes)
    for source, identity in ((new, theirs), (old, ours)):
        if identity["oracle"] is None:
            raise StoreMismatchError(
                f"{source.place} does not say which oracle it is of; name the file {{oracle}}_pertrack.npz"
            )
    for key in ("oracle", "genome", *WINDOWS):
        if theirs[key] != ours[key] and None not in (theirs[key], ours[key]):
            raise StoreMismatchError(
                f"{key} of {new.place} is {theirs[key]}, of {old.place} {ours[key]}: their tracks do not go together"
            )
    if theirs["demo"] and not ours["demo"]:
        raise StoreMismatchError(f"{new.place} is a demonstration, and {old.place} is not: its tracks stay out")


def _identity(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows of a background have in common; None is unknown."""
    config = build_config(attributes, 0) if "provenance" in attributes else attributes.get("build_config", {})
    return {
        "oracle": attributes.get("oracle", {}).get("name"),
        "genome": attributes.get("genome"),
        "demo": attributes.get("demo", config.get("demo", False)),
        **{key: config.get(key, window) for key, window in WINDOWS.items()},
    }


def fit(new: RowSource, old: RowSource, ids: Collection[str], *, whole: bool = False) -> dict[str, Column]:
    """What each new row is in a background, besides its CDFs.

    Parameters
    ----------
    new, old : RowSource
        The rows, and the background that gets them.
    ids : collection of str
        Identifiers that are there already.
    whole : bool
        Refuse rows that know more than the background has a place for. Their CDFs must be the same in any case.

    Returns
    -------
    dict of str to ndarray, shape (new.n_tracks, …)
        For every column of ``old``. Labels that the new rows lack are as their layer has them, or empty, or
        ``resolution_bp`` as in all other tracks.

    Raises
    ------
    InputError
        Identifiers that are there already, CDFs of another width, other CDFs, columns that are missing or of another
        form, a layer that is not known, or signed tracks where the background does not say which are.
    """
    _require_fit(new, old, ids, whole)
    columns = {name: new.columns[name] if name in new.columns else _label(name, old, new) for name in old.columns}
    if "signed" not in old.columns and new.columns.get("signed", np.zeros(1)).any():
        raise InputError(f"{old.place} does not say which tracks are signed, so it takes none that are")
    for name, values in columns.items():
        joined(name, old.columns[name][:0], values)
    return columns


def _require_fit(new: RowSource, old: RowSource, ids: Collection[str], whole: bool) -> None:
    wanted, there = {*old.columns, *old.cdfs}, {*new.columns, *new.cdfs}
    surplus = there - wanted - _LABELS if whole else set(new.cdfs) - wanted
    reason = None
    if missing := _keys(wanted - there - _LABELS):
        reason = f"they lack {missing}"
    elif unknown := _keys(surplus):
        reason = f"it has no {unknown}"
    elif known := [track for track in new.track_ids if track in set(ids)]:
        more = f" and {len(known) - 5:,} more" if len(known) > 5 else ""
        reason = f"it has {', '.join(known[:5])}{more} already"
    elif new.width != old.width:
        reason = f"its CDFs have {old.width:,} points and theirs {new.width:,}"
    if reason:
        raise InputError(f"{_called(new)} do not fit {old.place}: {reason}")


def _keys(names: Collection[str]) -> str:
    return ", ".join(sorted(KEY_OF.get(name, name) for name in names))


def _called(new: RowSource) -> str:
    return "these tracks" if new.is_in_memory else f"the tracks of {new.place}"


def _label(name: str, old: RowSource, new: RowSource) -> Column:
    """What the new rows do not say of themselves."""
    if name in _BY_LAYER:
        return np.array([getattr(layer, name) for layer in _layers(new)])
    known = np.unique(old.columns[name])
    if known.dtype.kind == "U":
        return np.full(new.n_tracks, "")
    if len(known) > 1:
        raise InputError(f"tracks of {old.place} differ in {name}; give the new tracks theirs too")
    return np.repeat(known, new.n_tracks)


def _layers(new: RowSource) -> list[Layer]:
    names: list[str] = new.columns["layer"].tolist() if "layer" in new.columns else []
    if not names or set(names) - LAYERS.keys():
        raise InputError(
            f"{_called(new)} need layers ({', '.join(LAYERS)}) in layers_per_row, or else their {', '.join(_BY_LAYER)}"
        )
    return [LAYERS[name] for name in names]


def joined(name: str, old: Column, new: Column) -> Column:
    """Old rows and new; text gets as wide as it must be.

    Raises
    ------
    InputError
        Entries of another shape, or that the old type does not hold.
    """
    if old.shape[1:] != new.shape[1:] or not np.can_cast(new.dtype, old.dtype, "same_kind"):
        raise InputError(
            f"{KEY_OF.get(name, name)} is {old.dtype} of {old.shape[1:]} per track, and {new.dtype} of "
            f"{new.shape[1:]} in the new tracks"
        )
    return np.concatenate([old, new if old.dtype.kind == "U" else new.astype(old.dtype)])
