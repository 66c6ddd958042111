"""Backgrounds in parts for tests of growing and merging, and what they hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import chorus_store
from chorus_store import layout, manifest
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from chorus_store.staging import consolidate
from tests import stores

#: In what a background may be kept.
FORMS = ("built", "imported", "npz")


def part(whole: Path, rows: Sequence[int], folder: Path, form: str = "built", **attributes: Any) -> Path:
    """A background of some rows of a store, with some root attributes of its own."""
    store = _store(whole, list(rows), folder / "enformer.zarr", attributes)
    if form == "built":
        return store
    npz = export_npz(store, folder / "enformer_pertrack.npz", progress=False)
    return npz if form == "npz" else import_npz(npz, folder / "imported" / "enformer.zarr", progress=False)


def _store(whole: Path, rows: list[int], path: Path, attributes: dict[str, Any]) -> Path:
    with chorus_store.open(whole) as dataset, layout.without_zarr_warnings():
        chosen = dataset.isel(track=rows)
        group = zarr.create_group(path, zarr_format=3)
        for name in map(str, chosen.variables):
            if name.endswith("_cdf"):
                array = layout.create_cdf_array(group, name, *chosen[name].shape)
                step = layout.tracks_per_shard(len(rows))
                for start in range(0, len(rows), step):
                    array[start : start + step] = chosen[name][start : start + step].values
            else:
                layout.write_root_array(group, name, chosen[name].values)
        cdfs = [cdf for cdf in layout.CDFS if f"{cdf}_cdf" in chosen]
        root = stores.attributes(chosen["layer"].values.astype(str), cdfs, chosen.sizes["quantile"])
        for cdf, counts in root["provenance"]["sampling"].items():
            for key, name in (("offered", f"{cdf}_count"), ("retained", f"{cdf}_retained")):
                counts[key] = [int(chosen[name].min()), int(chosen[name].max())]
        group.attrs.put({**root, **attributes})
    consolidate(path)
    manifest.write(path)
    return path


def contents(place: Path) -> dict[str, np.ndarray]:
    """Every array of a background as in its NPZ; labels too, of a store."""
    with chorus_store.open(place) as dataset:
        arrays = {str(name): variable.values for name, variable in dataset.variables.items()}
    return {name: values.astype(str) if values.dtype.kind == "O" else values for name, values in arrays.items()}


def assert_equal(place: Path, whole: Path, rows: Sequence[int] | None = None) -> None:
    """A background has the rows of another one, in this order, as far as it has the same arrays."""
    found, wanted = contents(place), contents(whole)
    assert found.keys() <= wanted.keys()
    for name, values in found.items():
        expected = wanted[name] if rows is None or name == "quantile" else wanted[name][list(rows)]
        np.testing.assert_array_equal(values, expected, err_msg=name)


def blocks(place: Path) -> list[dict[str, Any]]:
    """Blocks of rows that came from elsewhere."""
    with chorus_store.open(place) as dataset:
        document = dataset.attrs.get("provenance") or dataset.attrs.get("build_config") or {}
    found: list[dict[str, Any]] = json.loads(json.dumps(document.get("rows", [])))
    return found


def spans(place: Path) -> list[tuple[int, int, str]]:
    """Rows of each block, and the name of its source."""
    return [(block["first"], block["stop"], block["source"]["name"]) for block in blocks(place)]


def files(folder: Path) -> dict[Path, bytes]:
    """Every file below a folder."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
