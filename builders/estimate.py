"""What a build would do, take and need, before anything is downloaded or loaded."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

from builders.oracle import Oracle, Workload
from builders.score import UNITS_IN_FLIGHT
from builders.settings import Settings
from chorus_store.budget import cdfs_of, working_set
from chorus_store.facts import FactStore
from chorus_store.layout import CDF_POINTS, Kind
from chorus_store.units import KINDS, Shape, Unit

#: Bytes per CDF value in a store and in an NPZ, measured by benchmarks/store_size.py.
_STORE_BYTES, _NPZ_BYTES = 2.2, 3.7


def describe(
    oracle: type[Oracle], workload: Workload, settings: Settings, kinds: tuple[Kind, ...], merging: bool
) -> dict[str, Any]:
    """Units, bytes, peak memory and time of a build, from its options and from what is there already."""
    path = settings.store_path(oracle.name)
    store = FactStore(path) if path.exists() else None
    shape = _grown(store, workload) if store else _shape(oracle, workload, settings)
    work = {kind: _work(oracle, settings, shape, store, kind) for kind in kinds}
    cdfs = cdfs_of(shape)
    cdf_values = shape.n_tracks * CDF_POINTS * len(cdfs)
    seconds = _seconds_per_sequence(oracle, workload, settings)
    sequences = sum(part["sequences"] for part in work.values())
    folder = next(parent for parent in (settings.folder, *settings.folder.parents) if parent.exists())
    return {
        "oracle": oracle.name,
        "store": str(path),
        "exists": store is not None,
        "tracks": shape.n_tracks,
        "work": work,
        "merge": merging,
        "facts_bytes": shape.total_bytes(),
        "store_bytes": int(cdf_values * _STORE_BYTES) if merging else 0,
        "npz_bytes": int(cdf_values * _NPZ_BYTES) if merging else 0,
        "free_bytes": shutil.disk_usage(folder).free,
        "peak_memory_bytes": {
            "scoring, besides the model": (UNITS_IN_FLIGHT + 2) * max(map(shape.unit_bytes, KINDS)),
            "compaction": _compaction_bytes(settings, shape, cdfs) if merging else 0,
        },
        "seconds_per_sequence": seconds,
        "model_hours": None if seconds is None else round(sequences * seconds / 3600, 2),
    }


def _compaction_bytes(settings: Settings, shape: Shape, cdfs: list[str]) -> int:
    asked = settings.publish
    return max(working_set(shape, cdf, asked.sampler, asked.memory_bytes, asked.workers).nbytes for cdf in cdfs)


def _shape(oracle: type[Oracle], workload: Workload, settings: Settings) -> Shape:
    plan = settings.plan
    positions = plan.n_random + sum(plan.ccre_counts.values()) + plan.n_tss + plan.n_gene_bodies
    return Shape(
        n_variants=plan.n_variants,
        n_baselines=positions,
        n_tracks=workload.n_tracks,
        bin_slots=plan.bin_slots if any(head.resolution_bp for head in oracle.heads) else 0,
        block=settings.block or oracle.default_block,
        tracks_per_unit=oracle.tracks_per_unit or workload.n_tracks,
    )


def _grown(store: FactStore, workload: Workload) -> Shape:
    """What a store will be: tracks can be added where every one has its own model."""
    added = set(workload.added) - set(store.tracks.track.tolist())
    return replace(store.shape, n_tracks=store.shape.n_tracks + len(added))


def _work(
    oracle: type[Oracle], settings: Settings, shape: Shape, store: FactStore | None, kind: Kind
) -> dict[str, int]:
    k, n = settings.shard
    every = shape.units(kind)
    mine: list[Unit] = every[k - 1 :: n]
    todo = [unit for unit in mine if store is None or store.record(unit) is None]
    positions = sum(unit.stop - unit.start for unit in todo)
    return {
        "units": len(todo),
        "units_of_this_shard": len(mine),
        "units_in_all": len(every),
        "positions": sum(stop - start for start, stop in {(unit.start, unit.stop) for unit in todo}),
        "sequences": positions * (2 if kind == "variants" else 1),
    }


def _seconds_per_sequence(oracle: type[Oracle], workload: Workload, settings: Settings) -> float | None:
    kind = "cuda" if settings.device.startswith("cuda") else "cpu"
    per_pass = oracle.seconds_per_sequence.get((kind, settings.precision))
    return None if per_pass is None else per_pass * workload.passes


def render(report: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{report['oracle']}: {report['tracks']:,} tracks → {report['store']}"
             + (" (exists; what is done is not done again)" if report["exists"] else "")]  # fmt: skip
    for kind, work in report["work"].items():
        lines.append(
            f"  {kind:<10} {work['units']:,} of {work['units_in_all']:,} units, {work['positions']:,} positions, "
            f"{work['sequences']:,} sequences"
        )
    if report["merge"]:
        lines.append("  merge      compact, publish, export the NPZ")
    lines.append(
        f"  disk       facts {_gib(report['facts_bytes'])}, store {_gib(report['store_bytes'])}, "
        f"NPZ {_gib(report['npz_bytes'])}; free {_gib(report['free_bytes'])}"
    )
    for what, size in report["peak_memory_bytes"].items():
        lines.append(f"  memory     {_gib(size)} {what}")
    if report["model_hours"] is not None:
        lines.append(
            f"  time       about {report['model_hours']:,.1f} h in the model "
            f"({report['seconds_per_sequence']:.3g} s per sequence, measured)"
        )
    return "\n".join(lines)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
