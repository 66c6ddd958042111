"""What two backgrounds say differently of their tracks and of where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from chorus_store import schema
from chorus_store.drift import source
from chorus_store.layout import ROOT_VARIABLES
from chorus_store.npz_config import build_config
from chorus_store.opening import is_imported, is_published

#: Variables that say what a track is and how its values are made.
LABELS = tuple(
    v.name
    for v in ROOT_VARIABLES
    if v.dims == ("track",) and v.name != "track" and not v.name.endswith(("_count", "_retained"))
)

#: Parts of the documents that restate the numbers, which are compared themselves.
_RESTATED = frozenset(
    ("facts", "layers", "sampling", "cdf_points", "layers_present", "n_tracks", "statistics_per_layer")
)


@dataclass(frozen=True)
class Change:
    """One thing that differs.

    Attributes
    ----------
    name : str
        A label such as ``window_bp``, or a path in a document such as ``inputs.weights.sha256``.
    a, b : JSON value
        What either background says; None where it says nothing.
    tracks : tuple of str
        Of a label: those for which it changed in this way.
    """

    name: str
    a: Any
    b: Any
    tracks: tuple[str, ...] = ()


def of_labels(a: xr.Dataset, b: xr.Dataset) -> list[Change]:
    """Labels that differ, grouped by what they were and are.

    Parameters
    ----------
    a, b : Dataset
        The same tracks of two backgrounds, in the same order. A label that either lacks is not compared.
    """
    tracks = a["track"].values.tolist()
    groups: dict[tuple[str, Any, Any], list[str]] = {}
    for name in (name for name in LABELS if name in a.variables and name in b.variables):
        old, new = (np.asarray(store[name].values, object) for store in (a, b))
        for i in np.flatnonzero(old != new).tolist():
            groups.setdefault((name, old[i], new[i]), []).append(tracks[i])
    return [Change(*what, tuple(changed)) for what, changed in groups.items()]


def of_provenance(a: xr.Dataset, b: xr.Dataset) -> list[Change] | None:
    """What the documents of two backgrounds say differently, by path; None where either says nothing.

    Of two stores that were built, oracle, genome and provenance are compared; else the ``build_config`` of the NPZ,
    which every kind of background has or can compose.
    """
    built = all(is_published(store.attrs) and not is_imported(store.attrs) for store in (a, b))
    document = _provenance if built else _build_config
    found = []
    for store in (a, b):
        with schema.expected(source(store)):
            found.append(dict(_leaves(document(store))))
    old, new = found
    if not old or not new:
        return None
    return [Change(path, old.get(path), new.get(path)) for path in {**old, **new} if old.get(path) != new.get(path)]


def _provenance(store: xr.Dataset) -> Mapping[str, Any]:
    stated = {name: store.attrs[name] for name in ("oracle", "genome", "demo") if name in store.attrs}
    return {**stated, **store.attrs["provenance"]}


def _build_config(store: xr.Dataset) -> Mapping[str, Any]:
    if is_published(store.attrs):
        return build_config(store.attrs, store.sizes["track"])
    document: Mapping[str, Any] = store.attrs.get("build_config", {})
    return document


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Values in a document with their paths, without what restates the numbers."""
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        value = {str(i): entry for i, entry in enumerate(value)}
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, entry in value.items():
        if key not in _RESTATED:
            yield from _leaves(entry, f"{path}.{key}" if path else key)
