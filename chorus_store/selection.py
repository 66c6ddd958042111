"""Choosing tracks by what they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from chorus_store import matching
from chorus_store.errors import InputError

#: Variables in which a pattern is looked for.
SEARCHED = ("track", "description", "cell_type", "assay")


def matching_rows(
    dataset: xr.Dataset, pattern: str | None = None, **wanted: str | Sequence[str] | None
) -> npt.NDArray[np.bool_]:
    """Which tracks have the labels that are wanted.

    Parameters
    ----------
    dataset : Dataset
        A background.
    pattern : str, optional
        Regular expression, found anywhere in identifier, description, cell type or assay, in any case.
    **wanted : str or sequence of str, optional
        Label variable (``layer``, ``assay``, ``cell_type``) to the value or values it may have, in any case.

    Returns
    -------
    ndarray of bool, shape (track,)

    Raises
    ------
    InputError
        No track has such a value (names near matches), a value is no str, the dataset lacks the variable, or the
        pattern is not a regular expression.
    """
    rows = np.ones(dataset.sizes["track"], dtype=bool)
    for name, values in wanted.items():
        if values is not None:
            several = isinstance(values, Iterable) and not isinstance(values, str)
            rows &= _having(dataset, name, values if several else [values])
    if pattern is not None:
        rows &= _containing(dataset, pattern)
    return rows


def _having(dataset: xr.Dataset, name: str, values: Iterable[Any]) -> npt.NDArray[np.bool_]:
    if name not in dataset.variables:
        raise InputError(f"this dataset has no {name}: select by another label, or by pattern")
    texts = _texts(dataset, name)
    column = np.array([text.casefold() for text in texts])
    rows = np.zeros(column.shape, dtype=bool)
    for value in values:
        if not isinstance(value, str):
            raise InputError(f"{name} is a str or a list of them, not {value!r}")
        found = column == value.casefold()
        if not found.any():
            known = sorted({*texts} - {""})
            listed = f"it is one of {', '.join(known)}" if len(known) <= 12 else matching.near(value, known)
            raise InputError(f"no track has {name} {value!r}; {listed}")
        rows |= found
    return rows


def _containing(dataset: xr.Dataset, pattern: str) -> npt.NDArray[np.bool_]:
    try:
        expression = re.compile(pattern, re.IGNORECASE)
    except (re.error, TypeError) as error:
        raise InputError(f"{pattern!r} is not a regular expression: {error}") from error
    columns = [_texts(dataset, name) for name in SEARCHED if name in dataset.variables]
    texts = zip(*columns, strict=True)
    return np.array([any(expression.search(text) for text in texts_of) for texts_of in texts], dtype=bool)


def _texts(dataset: xr.Dataset, name: str) -> list[str]:
    """Labels of the tracks, empty where xarray has put a NaN, as where and merge do."""
    return [label if isinstance(label, str) else "" for label in dataset[name].values.tolist()]
