"""``python -m chorus_store diff``: a `Comparison` as text, JSON, a table or a picture."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from chorus_store import console
from chorus_store.comparison import Comparison, Side, compare
from chorus_store.differences import Change
from chorus_store.distance import ALPHA
from chorus_store.drift import LANDMARKS
from chorus_store.drift_picture import draw, picture_format
from chorus_store.errors import InputError

_LISTED = 5
_SHOWN = ("cdf", "track", "layer", "description", "ks", "excess", *(f"{name}_ratio" for name in LANDMARKS))


def command(arguments: argparse.Namespace) -> int:
    """Run the command; returns the exit code, `console.EXIT_FINDINGS` where ``--fail-above`` was exceeded."""
    limit = arguments.fail_above
    if arguments.top < 0 or not (limit is None or 0 <= limit <= 1):
        raise InputError("--top is a number of tracks, 0 or more; --fail-above is a distance from 0 to 1")
    if arguments.plot:
        picture_format(arguments.plot)  # before anything is read
    comparison = compare(arguments.a, arguments.b, cdfs=arguments.cdf)
    if arguments.tsv:
        comparison.table().to_csv(sys.stdout, sep="\t", index=False, lineterminator="\n")
    elif arguments.json:
        console.print_json(document(comparison, arguments.top))
    else:
        print("\n".join(lines(comparison, arguments.top)))
    if arguments.plot:
        draw(comparison, arguments.plot)
    if limit is None or not (n := comparison.n_beyond(limit)):
        return console.EXIT_OK
    print(f"further than {limit:g}: {n:,} of {comparison.drift['ks'].size:,} CDFs", file=sys.stderr)
    return console.EXIT_FINDINGS


def summary(comparison: Comparison) -> list[dict[str, Any]]:
    """Drift of every CDF over all common tracks.

    Returns
    -------
    list of dict
        ``cdf``; ``tracks`` with samples on both sides, ``emptied`` and ``filled`` with samples in A or B alone;
        median and largest ``ks``; ``beyond_noise``, the number of tracks with more drift than `ALPHA` of unchanged
        ones would have, None where sample sizes are unknown; of every ratio ``median``, ``low`` and ``high``.
    """
    return [_summary(str(cdf), comparison.drift.sel(cdf=cdf)) for cdf in comparison.drift["cdf"].values]


def _summary(cdf: str, drift: xr.Dataset) -> dict[str, Any]:
    old, new = (drift[f"p50_{side}"].notnull() for side in "ab")
    both = drift.isel(track=np.flatnonzero(old & new))
    known = both["excess"].notnull()
    return {
        "cdf": cdf,
        "tracks": both.sizes["track"],
        "emptied": int((old & ~new).sum()),
        "filled": int((new & ~old).sum()),
        "ks_median": _quantile(both["ks"], 0.5),
        "ks_max": _quantile(both["ks"], 1),
        "beyond_noise": int((both["excess"] > 1).sum()) if known.any() else None,
        **{f"{name}_ratio": _spread(both[f"{name}_ratio"]) for name in LANDMARKS},
    }


def _spread(values: xr.DataArray) -> dict[str, float]:
    return {name: _quantile(values, q) for name, q in (("median", 0.5), ("low", 0), ("high", 1))}


def _quantile(values: xr.DataArray, q: float) -> float:
    """Of no values NaN; never between two values, one of which may be infinite."""
    return float(np.quantile(values, q, method="inverted_cdf")) if values.size else np.nan


def document(comparison: Comparison, top: int) -> dict[str, Any]:
    """A comparison as JSON values, with the ``top`` most drifted rows of its table."""
    rows = comparison.table().head(top)
    return {
        "a": vars(comparison.a),
        "b": vars(comparison.b),
        "common": comparison.drift.sizes["track"],
        "removed": comparison.removed,
        "added": comparison.added,
        "respelt": comparison.respelt,
        "reordered": comparison.reordered,
        "drift": summary(comparison),
        "most_drifted": rows.to_dict("records"),
        "labels": [vars(change) for change in comparison.labels],
        "provenance": comparison.provenance and [
            {name: getattr(change, name) for name in ("name", "a", "b")} for change in comparison.provenance
        ],
    }  # fmt: skip


def lines(comparison: Comparison, top: int) -> Iterator[str]:
    """A comparison as lines of text, with the ``top`` most drifted tracks."""
    yield _side("A", comparison.a)
    yield _side("B", comparison.b)
    yield from _track_lines(comparison)
    yield from _label_lines(comparison.labels)
    yield "drift from A to B"
    yield _indented(_drift_table(summary(comparison)))
    table = comparison.table().query("ks > 0").head(top)
    if len(table):
        yield "most drifted"
        yield _indented(_top_table(table))
    yield from _provenance_lines(comparison.provenance)


def _side(name: str, side: Side) -> str:
    about = f"{side.oracle or 'unknown oracle'} on {side.genome or 'an assembly not stated'}"
    return f"{name}  {side.place}: {about}, {side.n_tracks:,} tracks, CDFs {', '.join(side.cdfs)}"


def _track_lines(comparison: Comparison) -> Iterator[str]:
    order = "in another order" if comparison.reordered else "in the same order"
    counts = f"{len(comparison.removed):,} removed, {len(comparison.added):,} added"
    yield f"tracks: {comparison.drift.sizes['track']:,} common, {order}, {counts}"
    for what in ("removed", "added"):
        if tracks := getattr(comparison, what):
            yield f"  {what}: {_some(tracks)}"
    if comparison.respelt:
        yield f"  spelt otherwise: {_some([f'{old} → {new}' for old, new in comparison.respelt.items()])}"


def _label_lines(changes: Sequence[Change]) -> Iterator[str]:
    if changes:
        yield "labels that differ"
    for change in changes:
        yield f"  {change.name}: {change.a} → {change.b} ({len(change.tracks):,}): {_some(change.tracks)}"


def _drift_table(rows: list[dict[str, Any]]) -> str:
    header = ["cdf", "tracks", "KS median", "KS max", "beyond noise", *(f"{name} B/A" for name in LANDMARKS)]
    cells = [
        [row["cdf"], row["tracks"], _number(row["ks_median"]), _number(row["ks_max"]), _of_noise(row)]
        + [_span(row[f"{name}_ratio"]) for name in LANDMARKS]
        for row in rows
    ]
    notes = [
        f"{row['cdf']}: samples in {side} alone: {row[key]:,}"
        for row in rows
        for key, side in (("emptied", "A"), ("filled", "B"))
        if row[key]
    ]
    return "\n".join([console.table(header, cells), *notes])


def _of_noise(row: dict[str, Any]) -> str:
    """Tracks beyond the noise, and how many of unchanged ones would be."""
    if row["beyond_noise"] is None:
        return "unknown"
    return f"{row['beyond_noise']:,} ({ALPHA * row['tracks']:,.0f} by chance)"


def _span(values: dict[str, float]) -> str:
    median, low, high = map(_number, values.values())
    return median if low == high else f"{median} ({low}–{high})"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _top_table(table: pd.DataFrame) -> str:
    shown = [name for name in _SHOWN if name in table]
    header = [{"ks": "KS", "excess": "KS/noise"}.get(name, name.replace("_ratio", " B/A")) for name in shown]
    rows = [[float(_number(cell)) if isinstance(cell, float) else cell for cell in row] for row in table[shown].values]
    return console.table(header, rows)


def _provenance_lines(changes: Sequence[Change] | None) -> Iterator[str]:
    if changes is None:
        yield "provenance: not known of both"
        return
    yield "provenance that differs" if changes else "provenance: the same"
    for change in changes:
        yield f"  {change.name}: {_short(change.a)} → {_short(change.b)}"


def _short(value: Any) -> str:
    """A value as text, a hash by its beginning."""
    text = "not stated" if value is None else str(value)
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,}", r"\1…", text)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
