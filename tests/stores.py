"""Small but complete stores for tests, with values that any test can compute again."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from chorus_store import layout, seal
from chorus_store.layers import LAYERS, layer_of
from chorus_store.staging import consolidate

#: Values offered to every track that is not empty.
OFFERED = {"effect": 10_000, "summary": 31_500, "perbin": 1_008_000}
ASSAYS = ("DNASE", "CHIP", "CHIP", "CAGE", "RNA")
MARKS = ("", "CTCF", "H3K27ac", "", "")
CELLS = ("K562", "HepG2", "GM12878")


def make_store(
    path: Path,
    n_tracks: int = 7,
    seed: int = 0,
    *,
    perbin: bool = True,
    n_quantiles: int = 200,
    empty: tuple[int, ...] = (),
    decimals: int | None = None,
) -> Path:
    """Write a published store whose attributes are valid.

    Tracks are ``DNASE:00000``, ``CHIP:00001``, …, cycling through accessibility, transcription factor,
    histone, CAGE and (signed) RNA. CDF rows are sorted gamma draws, rounded to ``decimals`` if given (which
    makes ties); those in ``empty`` are zeros with a count of 0.
    """
    group = zarr.create_group(path, zarr_format=3)
    labels = _labels(n_tracks)
    rng = np.random.default_rng(seed)
    for name, values in labels.items():
        layout.write_root_array(group, name, values)
    layout.write_root_array(group, "quantile", np.linspace(0, 1, n_quantiles))
    cdfs = [cdf for cdf in layout.CDFS if perbin or cdf != "perbin"]
    for cdf in cdfs:
        array = layout.create_cdf_array(group, f"{cdf}_cdf", n_tracks, n_quantiles)
        counts = np.where(np.isin(np.arange(n_tracks), empty), 0, OFFERED[cdf])
        step = layout.tracks_per_shard(n_tracks)
        for start in range(0, n_tracks, step):
            block = slice(start, start + step)
            centred = labels["signed"][block] & (cdf == "effect")
            rows = _rows(rng, n_quantiles, counts[block], centred)
            array[block] = rows if decimals is None else rows.round(decimals)
        layout.write_root_array(group, f"{cdf}_count", counts)
        layout.write_root_array(group, f"{cdf}_retained", counts)
    group.attrs.put(attributes(labels["layer"], cdfs, n_quantiles, some_empty=bool(empty)))
    consolidate(path)
    return path


def edit_root(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change ``zarr.json`` of a store as its makers might have, so that its seal fits."""
    node = json.loads((path / "zarr.json").read_bytes())
    change(node)
    (path / "zarr.json").write_text(json.dumps(seal.sealed_background(node), indent=2))


def archive(path: Path, out: Path, top: str = "", method: int = zipfile.ZIP_STORED) -> Path:
    """Write the ``.zip`` of a store, its members below ``top``."""
    with zipfile.ZipFile(out, "w", method) as zipped:
        for file in sorted(path.rglob("*")):
            if file.is_file():
                zipped.write(file, f"{top}{file.relative_to(path)}")
    return out


def _rows(
    rng: np.random.Generator, width: int, counts: npt.NDArray[Any], centred: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Sorted gamma draws, about half of them negative where ``centred``, zeros where the count is 0."""
    draws = rng.standard_gamma(2.0, (len(counts), width), dtype=np.float32)
    draws[centred] -= np.float32(1.7)
    draws[counts == 0] = 0
    draws.sort(axis=1)
    return draws


def _labels(n_tracks: int) -> dict[str, npt.NDArray[Any]]:
    number = np.arange(n_tracks)
    assay = np.array(ASSAYS)[number % len(ASSAYS)]
    mark = np.array(MARKS)[number % len(MARKS)]
    cell_type = np.array(CELLS)[number % len(CELLS)]
    description = np.array([":".join(filter(None, parts)) for parts in zip(assay, mark, cell_type, strict=True)])
    layer = np.array([layer_of(*pair) for pair in zip(assay.tolist(), description.tolist(), strict=True)])
    return {
        "track": np.array([f"{name}:{i:05d}" for i, name in enumerate(assay)]),
        "layer": layer,
        "assay": assay,
        "cell_type": cell_type,
        "description": description,
        "strand": np.full(n_tracks, "."),
        "resolution_bp": np.full(n_tracks, 128),
        **{
            name: np.array([getattr(LAYERS[key], name) for key in layer.tolist()])
            for name in ("signed", "window_bp", "formula", "pseudocount")
        },
    }


def attributes(
    layer: npt.NDArray[np.str_], cdfs: list[str], n_quantiles: int, *, some_empty: bool = False
) -> dict[str, Any]:
    """Root attributes that are valid."""

    def input_file(name: str) -> dict[str, Any]:
        return {"name": name, "sha256": digest(name)}

    genome = {"fasta_sha256_prefix64mb": digest("prefix"), "fai_sha256": digest("fai"), "bytes": 1_000_000}
    return {
        "schema": {"name": layout.SCHEMA_NAME, "version": layout.SCHEMA_VERSION},
        "oracle": {"name": "enformer", "title": "Enformer", "version": "1", "licence": "Apache-2.0"},
        "genome": "hg38",
        "demo": False,
        "provenance": {
            "software": {"chorus-store": "0.1.0", "torch": None, "git_revision": None},
            "parameters": {
                "plan": {"n_variants": 10_000},
                "precision": "fp32",
                "oracle": {"backend": "torch", "size": "full"},
                "batch": 4,
                "seed": None,
                "sampler": "exact",
                "capacity": None,
                "cdf_points": n_quantiles,
                "codec": "blosc",
            },
            "geometry": {
                "input_length_bp": 196_608,
                "heads": [{"name": "human", "resolution_bp": 128, "n_bins": 896, "offset_bp": 40_960}],
            },
            "inputs": {
                "genome": {**input_file("hg38.fa"), **genome},
                "genes": input_file("gencode.gtf.gz"),
                "ccres": None,
                "tracks": input_file("targets.txt"),
                "weights": input_file("model.safetensors"),
            },
            "plan": {
                "sha256": digest("plan"),
                "effect_sha256": digest("effect"),
                "activity_sha256": digest("activity"),
                "effect_strata": {"snp": OFFERED["effect"]},
                "activity_strata": {"random": 15_000, "ccre": 11_500, "tss": 3_000, "gene_body": 2_000},
                "seeds": {"variants": 42, "random": 789},
            },
            "facts": {"sha256": digest("facts"), "kept": False},
            "sampling": {
                cdf: {"offered": span, "retained": span, "mode": "exact"}
                for cdf in cdfs
                for span in [[0 if some_empty else OFFERED[cdf], OFFERED[cdf]]]
            },
            "dropped": {"variants": {}, "baselines": {"nan": 2}},
            "layers": {name: _layer(name, int((layer == name).sum())) for name in np.unique(layer).tolist()},
        },
    }


def digest(text: str) -> str:
    """A SHA-256 that stands for a file's."""
    return hashlib.sha256(text.encode()).hexdigest()


def _layer(name: str, n_tracks: int) -> dict[str, Any]:
    keys = ("window_bp", "aggregation", "formula", "pseudocount", "signed")
    return {
        "n_tracks": n_tracks,
        **{key: getattr(LAYERS[name], key) for key in keys},
        "effect": {"median": 0.1, "p99": 1.5, "max": 9.0},
    }
