"""``build_config`` of ``{oracle}_pertrack.npz``: the document that says what the background was made from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chorus_store import origins, schema
from chorus_store.layers import LAYERS
from chorus_store.layout import BUILD_CONFIG_VERSION


@schema.expected("the background")
def build_config(attributes: Mapping[str, Any], n_tracks: int) -> dict[str, Any]:
    """The document of a store.

    Parameters
    ----------
    attributes : mapping
        Of the root group of a published store.
    n_tracks : int
        Tracks of the store.

    Returns
    -------
    dict
        Composed from the provenance as in ``schemas/npz.schema.json``; of a store that was imported, as
        `imported_text`.

    Raises
    ------
    SchemaError
        The attributes are not those of a store.
    """
    provenance = attributes["provenance"]
    if "imported" in provenance:
        return json.loads(imported_text(attributes, n_tracks))  # type: ignore[no-any-return]
    plan, genome, geometry = provenance["plan"], provenance["inputs"]["genome"], provenance["geometry"]
    resolutions = sorted({head["resolution_bp"] for head in geometry["heads"]} - {0})
    config = {
        "schema_version": BUILD_CONFIG_VERSION,
        "genome": attributes["genome"],
        "demo": attributes["demo"],
        "oracle": attributes["oracle"]["name"],
        "n_tracks": n_tracks,
        "cdf_points": provenance["parameters"]["cdf_points"],
        "input_length": geometry["input_length_bp"],
        "resolution": resolutions if len(resolutions) > 1 else next(iter(resolutions), None),
        "histone_window_bp": LAYERS["histone_marks"].window_bp,
        "other_window_bp": LAYERS["tf_binding"].window_bp,
        "layers_present": [layer for layer in LAYERS if layer in provenance["layers"]],
        "statistics_per_layer": provenance["layers"],
        "sampling": provenance["sampling"],
        "reference_sets": {
            key: plan[key] for key in ("effect_sha256", "effect_strata", "activity_sha256", "activity_strata", "seeds")
        },
        "fasta_sha256_prefix64mb": genome["fasta_sha256_prefix64mb"],
        "fai_sha256": genome["fai_sha256"],
    }
    return origins.grown(config, origins.of(attributes, n_tracks))


def imported_text(attributes: Mapping[str, Any], n_tracks: int) -> str:
    """Text of the document of a store that was imported: what the NPZ file had, unless rows have come since.

    ``{}`` where it had none.
    """
    text: str = attributes["provenance"]["imported"].get("build_config", "{}")
    config, blocks = json.loads(text), origins.of(attributes, n_tracks)
    if blocks == origins.of({"build_config": config}, n_tracks):
        return text
    return json.dumps({**origins.grown(config, blocks), "n_tracks": n_tracks}, sort_keys=True)
