"""Values and tracks as they were given → values that name their tracks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from chorus_store import matching
from chorus_store.errors import InputError

#: What pandas calls arrays of Python objects that are numbers, or missing.
_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal", "boolean", "empty"}


def labelled(values: Any, track: str | Sequence[str] | None, all_tracks: xr.Variable) -> xr.DataArray:
    """Values with a ``track`` coordinate: one label for all of them, or one per entry of a dimension.

    Parameters
    ----------
    values : float, array_like, DataArray, Series or DataFrame
        A DataArray with a ``track`` coordinate names its tracks itself, and so does a Series or DataFrame whose index
        or columns hold any.
    track : str or sequence of str, optional
        One track for all values, or one per entry of their ``track`` dimension (a new one, put last, where a
        DataArray or a number has none) or last axis. All tracks by default.
    all_tracks : Variable of str, shape (track,) or ()
        Those of the background.

    Returns
    -------
    DataArray

    Raises
    ------
    InputError
        Values that are no numbers; labels that are no str; as many values as do not fit the tracks; both name tracks.
    """
    array = _numbers(values)
    if _names_tracks(values, array, all_tracks):
        array = array.rename({array.dims[-1]: "track"})
    if "track" in array.coords:
        if track is not None:
            raise InputError("the values name their tracks themselves: leave out track=, or give them without labels")
        return array
    labels = np.asarray(all_tracks.values).tolist() if track is None else _identifiers(track)
    if isinstance(labels, str):
        return array.assign_coords(track=labels)
    if array is not values and array.dims:
        array = array.rename({array.dims[-1]: "track"})
    if "track" not in array.dims:
        return array.expand_dims(track=labels, axis=-1)
    if array.sizes["track"] != len(labels):
        raise InputError(
            f"{array.sizes['track']} values along the track axis do not fit {len(labels)} tracks; "
            'to ask every value of every track, give xr.DataArray(values, dims="value")'
        )
    return array.assign_coords(track=labels)


def not_an_identifier(label: Any) -> InputError:
    """What is wrong with a track that is not a str."""
    row = isinstance(label, int) and not isinstance(label, bool)
    hint = f"for row {label} use store.track[{label}]" if row else "give one, or a list of them"
    return InputError(f"tracks are named by identifiers (str), not by {label!r}; {hint}")


def _identifiers(track: Any) -> str | list[str]:
    try:
        labels = np.asarray(track).tolist()
    except ValueError as error:  # nested lists of several lengths
        raise not_an_identifier(track) from error
    for label in labels if isinstance(labels, list) else [labels]:
        if not isinstance(label, str):
            raise not_an_identifier(label)
    return labels  # type: ignore[no-any-return]


def _numbers(values: Any) -> xr.DataArray:
    try:
        array = values if isinstance(values, xr.DataArray) else xr.DataArray(values)
    except (TypeError, ValueError) as error:
        raise InputError(f"values are numbers, an array or a DataArray of them: {error}") from error
    kind = array.dtype.kind
    if kind == "O" and array.chunks is None:
        found = pd.api.types.infer_dtype(np.asarray(array.values).ravel(), skipna=True)
    else:
        found = "floating" if kind in "biuf" else str(array.dtype)
    if found not in _NUMBERS:
        raise InputError(
            f"values are numbers, an array or a DataArray of them, not {type(values).__name__} of {found}; "
            "convert them with numpy.asarray(values, float)"
        )
    return array


def _names_tracks(values: Any, array: xr.DataArray, all_tracks: xr.Variable) -> bool:
    """Whether the last axis of a pandas object has labels of which any is a track."""
    if not isinstance(values, pd.Series | pd.DataFrame) or "track" in array.coords:
        return False
    names = values.axes[-1]
    if names.inferred_type != "string":
        return False
    known = dict.fromkeys(np.atleast_1d(all_tracks.values).tolist(), 0)
    return any(matching.find(name, known) is not None for name in names)
