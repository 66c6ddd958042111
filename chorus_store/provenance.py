"""What a background says of the facts that it was made from."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from functools import reduce
from operator import and_
from typing import Any

import numpy as np

from chorus_store.budget import Sampler
from chorus_store.compact import Compacted
from chorus_store.facts import FactStore
from chorus_store.layers import LAYERS
from chorus_store.layout import Kind
from chorus_store.tracks import TrackTable
from chorus_store.units import KINDS


def inputs(store: FactStore) -> dict[str, Any]:
    """Inputs of the build; of an oracle with one model per track, with the rows and models that it has now."""
    inputs = dict(store.build["inputs"])
    known = models(store)
    if not known:
        return inputs
    listing = "".join(f"{track} {model['sha256']}\n" for track, model in known.items())
    inputs["tracks"] = {**inputs["tracks"], "table_sha256": store.tracks.digest(), "lots": store.lots()}
    inputs["weights"] = {
        "name": f"{len(known)} models, one per track",
        "sha256": hashlib.sha256(listing.encode()).hexdigest(),
        "bytes": None,
        "models": [{"track": track, **model} for track, model in known.items()],
    }
    return inputs


def models(store: FactStore) -> dict[str, dict[str, Any]]:
    """Name, SHA-256 and bytes of the model of every track that has been scored with one of its own, in row order."""
    records = [(unit, store.record(unit) or {}) for kind in KINDS for unit in store.units(kind)]
    of_row = {unit.first_track: record["model"] for unit, record in records if "model" in record}
    return {str(store.tracks.track[row]): of_row[row] for row in sorted(of_row)}


def dropped(store: FactStore, kind: Kind) -> dict[str, int]:
    """Positions that count for no track, by reason: where models differ in what they lose, the fewest of any."""
    of_model: dict[int, Counter[str]] = {}
    for unit in store.units(kind):
        of_model.setdefault(unit.first_track, Counter()).update((store.record(unit) or {}).get("dropped", {}))
    return dict(reduce(and_, of_model.values())) if of_model else {}


def scored(store: FactStore, kind: Kind) -> int:
    """Positions that count for a track."""
    return store.shape.positions(kind) - sum(dropped(store, kind).values())


def sampling(result: Compacted, sampler: Sampler) -> dict[str, Any]:
    """Smallest and largest number of values per track, offered and kept, and how they were kept."""
    thinned = bool((result.retained < result.offered).any())
    return {
        "offered": [int(result.offered.min()), int(result.offered.max())],
        "retained": [int(result.retained.min()), int(result.retained.max())],
        "mode": sampler.name if thinned else "exact",
    }


def windows(tracks: TrackTable, geometry: Mapping[str, Any]) -> list[int]:
    """Width of every track's window in bp; 0 where its head has no bins, whatever the layer has elsewhere."""
    scalar = [head["name"] for head in geometry["heads"] if not head["resolution_bp"]]
    of_layers = np.array([layer.window_bp for layer in tracks.layers()])
    found: list[int] = np.where(np.isin(tracks.head, scalar), 0, of_layers).tolist()
    return found


def layer(store: FactStore, name: str, compacted: dict[str, Compacted]) -> dict[str, Any]:
    """A layer's tracks, its statistic, and landmarks of its CDFs."""
    layer, rows = LAYERS[name], store.tracks.layer == name
    described: dict[str, Any] = {"n_tracks": int(rows.sum())}
    for key in ("window_bp", "aggregation", "formula", "pseudocount", "signed"):
        described[key] = getattr(layer, key)
    described["window_bp"] = windows(store.tracks.select(np.flatnonzero(rows)[:1]), store.build["geometry"])[0]
    if store.shape.gene_tracks and layer.aggregation == "exon_mean":
        described["aggregation"] = "gene_exon_mean"
    for cdf, result in compacted.items():
        landmarks = result.landmarks[rows & (result.retained > 0)]
        if len(landmarks):
            median, p99, _ = np.median(landmarks, axis=0).tolist()
            described[cdf] = {"median": median, "p99": p99, "max": float(landmarks[:, 2].max())}
    return described
