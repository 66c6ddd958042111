"""Checks of what a background says: its metadata, its provenance, its labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from chorus_store import layout, schema
from chorus_store.checks.findings import Finding, Severity, about_tracks, from_error
from chorus_store.checks.subject import Subject
from chorus_store.errors import CorruptStoreError, SchemaError
from chorus_store.layers import LAYERS
from chorus_store.opening import reading

#: What the layer of a track decides.
_BY_LAYER = ("signed", "window_bp", "formula", "pseudocount")
_STRANDS = ("+", "-", ".")
#: Labels that the track table of the build has too.
_TABLE = ("track", "layer", "assay", "cell_type", "description", "strand")
#: Of an input: of a file, or of the track table of an oracle that needs none.
_CHECKSUMS = ("sha256", "table_sha256")
#: Files that a build may do without.
_OPTIONAL_INPUTS = ("genes", "ccres")


def check_metadata(subject: Subject) -> Iterator[Finding]:
    """The background opens, and what its arrays say of themselves is what the root says of them."""
    if subject.problem is not None:
        yield from_error("metadata", subject.problem, subject.again, "zarr.json" if subject.folder else None)
    if subject.folder is None or subject.store is None:
        return
    with reading(f"{subject.folder}/zarr.json"):
        root = json.loads((subject.folder / "zarr.json").read_bytes())
    for name, said in root["consolidated_metadata"]["metadata"].items():
        file = subject.folder / name / "zarr.json"
        try:
            differs = json.loads(file.read_bytes()) != said
        except (OSError, ValueError):
            differs = True
        if differs:
            message = "missing, or other metadata than in the zarr.json of the store"
            yield Finding("metadata", f"{name}/zarr.json", [], 1, message, subject.again)


def check_schema(subject: Subject) -> Iterator[Finding]:
    """Attributes follow their schemas."""
    try:
        if subject.is_built or subject.is_imported:
            schema.validate(dict(subject.attributes), "store")
        elif (subject.attributes.get("build_config") or {}).get("schema_version") is not None:
            schema.validate(subject.attributes["build_config"], "npz")
    except SchemaError as error:
        yield Finding("schema", "zarr.json" if subject.is_built else None, [], 1, str(error), subject.again)


def check_provenance(subject: Subject) -> Iterator[Finding]:
    """Of every file that was used there is a checksum."""
    again = "build it again, with all inputs at hand"
    for name, source in subject.provenance["inputs"].items():
        if source is None and name not in _OPTIONAL_INPUTS:
            yield Finding("provenance", f"inputs.{name}", [], 1, "not recorded", again)
        elif source is not None and not any(source.get(key) for key in _CHECKSUMS):
            yield Finding("provenance", f"inputs.{name}", [], 1, f"{source['name']} has no checksum", again)
    for key, value in subject.provenance["plan"].items():
        if value is None:
            yield Finding("provenance", f"plan.{key}", [], 1, "not recorded", again)


def check_tracks(subject: Subject) -> Iterator[Finding]:
    """Identifiers are there, no two are equal, and they are those of the build."""
    ids = np.array(subject.ids)
    yield from about_tracks("tracks", "track", subject.ids, ids == "", "no identifier", subject.again)
    _, first, times = np.unique(ids, return_index=True, return_counts=True)
    repeated = np.zeros(len(ids), np.bool_)
    repeated[first[times > 1]] = True
    yield from about_tracks("tracks", "track", subject.ids, repeated, "more than one row", subject.again)


def check_labels(subject: Subject) -> Iterator[Finding]:
    """Layers are known and decide what they should; other labels are those of the track table."""
    layers = subject.column("layer")
    if layers is None:
        return
    own = np.arange(subject.n_tracks) < subject.n_own
    known = np.isin(layers.astype(str), list(LAYERS))
    severity: Severity = "error" if subject.is_built else "warning"
    message = f"no layer of {', '.join(LAYERS)}"
    yield from about_tracks("labels", "layer", subject.ids, ~known, message, subject.again, severity)
    if not subject.is_built:
        return
    for name in _BY_LAYER:
        values = subject.background[name].values
        expected = np.array([getattr(LAYERS[layer], name) if layer in LAYERS else None for layer in layers.tolist()])
        bad = own & known & (values != expected)
        if name == "window_bp":  # a single value has none, whatever its layer has elsewhere
            bad &= subject.background["resolution_bp"].values != 0
        yield from about_tracks("labels", name, subject.ids, bad, "not what the layer has", subject.afresh(name))
    yield from _other_labels(subject, own)


def _other_labels(subject: Subject, own: Any) -> Iterator[Finding]:
    heads = {head["resolution_bp"] for head in subject.provenance["geometry"]["heads"]}
    strand, resolution = (subject.background[name].values for name in ("strand", "resolution_bp"))
    for name, bad, message in (
        ("strand", ~np.isin(strand.astype(str), _STRANDS), f"none of {' '.join(_STRANDS)}"),
        ("resolution_bp", ~np.isin(resolution, list(heads)), "no resolution of the model"),
    ):
        yield from about_tracks("labels", name, subject.ids, own & bad, message, subject.afresh(name))
    if subject.build is None:
        return
    table = subject.build.tracks
    for name in _TABLE:
        there = subject.background[name].values[: subject.n_own].astype(str)
        differing = there != getattr(table, name)[: subject.n_own] if len(there) <= len(table) else there != there[:0]
        yield from about_tracks("labels", name, subject.ids, differing, "not as in the plan", subject.afresh(name))


def check_quantiles(subject: Subject) -> Iterator[Finding]:
    """The grid is equally spaced, from 0 to 1."""
    grid = subject.background["quantile"].values
    n_bad = int((grid != np.linspace(0, 1, len(grid))).sum())
    if n_bad:
        message = f"{n_bad:,} of {len(grid):,} are not equally spaced from 0 to 1"
        yield Finding("quantiles", "quantile", [], n_bad, message, subject.afresh("quantile"))


def check_others(subject: Subject) -> Iterator[Finding]:
    """Arrays that are none of the layout's can be read too."""
    for name in sorted(map(str, subject.background.variables.keys() - layout.VARIABLE.keys())):
        try:
            _ = subject.background[name].values
        except CorruptStoreError as error:
            yield from_error("others", error, subject.again, name)
