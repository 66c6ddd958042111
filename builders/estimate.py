"""What a build would do, take and need, before anything is downloaded or loaded."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from builders.oracle import Oracle, Workload
from builders.score import READ_AHEAD, UNITS_IN_FLIGHT
from builders.settings import Settings
from chorus_store.budget import cdfs_of, survivors_bytes, working_set
from chorus_store.errors import MemoryBudgetError
from chorus_store.facts import FactStore
from chorus_store.layout import CDF_POINTS, Kind
from chorus_store.npz import is_current
from chorus_store.publish import PublishOptions, is_up_to_date
from chorus_store.units import KINDS, Shape, Unit

#: Bytes per CDF value in a store and in an NPZ, measured by benchmarks/store_size.py.
_STORE_BYTES, _NPZ_BYTES = 2.2, 3.7
#: What is counted under this name: units of work, and batches that are read ahead of the model.
SCORING = "scoring, besides the model"
#: Genes of the unit that has most over those of the average unit, measured at units of 128 positions.
_FULLEST = 1.5


def describe(
    oracle: type[Oracle], workload: Workload, settings: Settings, kinds: tuple[Kind, ...], merging: bool
) -> dict[str, Any]:
    """Units, bytes, peak memory and time of a build, from its options and from what is there already."""
    path = settings.store_path(oracle.name)
    store = FactStore(path) if path.exists() else None
    shape = _shape(oracle, workload, settings, store)
    work = {kind: _work(oracle, settings, shape, store, kind) for kind in kinds}
    disk = _disk(shape, store, settings.publish, settings.npz_path(oracle.name), merging)
    seconds = _seconds_per_sequence(oracle, workload, settings)
    sequences = sum(part["sequences"] for part in work.values())
    return {
        "oracle": oracle.name,
        "store": str(path),
        "exists": store is not None,
        "tracks": shape.n_tracks,
        "cdfs": cdfs_of(shape),
        "work": work,
        "merge": merging,
        "facts_bytes": shape.total_bytes(),
        "store_bytes": disk.store,
        "npz_bytes": disk.npz,
        "written_bytes": disk.written,
        "free_bytes": shutil.disk_usage(existing(settings.folder)).free,
        "peak_memory_bytes": {
            SCORING: (UNITS_IN_FLIGHT + 2) * max(map(shape.unit_bytes, KINDS))
            + (READ_AHEAD + 2) * settings.batch * oracle.input_length_bp,  # one being made, one in the model
            "compaction": _compaction_bytes(shape, settings.publish) if merging else 0,
        },
        "seconds_per_sequence": seconds,
        "model_hours": None if seconds is None else round(sequences * seconds / 3600, 2),
    }


def existing(folder: Path) -> Path:
    """The folder, or that one of its parents which is there."""
    return next(parent for parent in (folder, *folder.parents) if os.path.exists(parent))  # noqa: PTH110 - or no access


@dataclass(frozen=True)
class _Disk:
    """Bytes that a build still writes.

    Attributes
    ----------
    facts : int
        Of units that are to be done, by whomever.
    store, npz : int
        Of the new background and its NPZ. They are made beside the old ones, which go only when these are whole.
    scratch : int
        What a reservoir keeps, while a background is made.
    """

    facts: int
    store: int = 0
    npz: int = 0
    scratch: int = 0

    @property
    def written(self) -> int:
        """At most at any time, besides what is there."""
        return self.facts + self.store + max(self.scratch, self.npz)


def _disk(shape: Shape, store: FactStore | None, options: PublishOptions, npz: Path, merging: bool) -> _Disk:
    cdfs, facts = cdfs_of(shape), _facts_left(shape, store)
    values = shape.n_tracks * CDF_POINTS * len(cdfs)
    if not merging:
        return _Disk(facts)
    if store is not None and not facts and is_up_to_date(store, options):
        return _Disk(facts, npz=0 if is_current(store.path, npz) else int(values * _NPZ_BYTES))
    scratch = max(survivors_bytes(shape, cdf, options.sampler) for cdf in cdfs)
    return _Disk(facts, int(values * _STORE_BYTES), int(values * _NPZ_BYTES), scratch)


def _facts_left(shape: Shape, store: FactStore | None) -> int:
    """Bytes of the facts of all units that have no record, of this shard or another."""
    return sum(
        shape.bytes_of(unit)
        for kind in KINDS
        for unit in shape.units(kind)
        if store is None or store.record(unit) is None
    )


def _compaction_bytes(shape: Shape, options: PublishOptions) -> int | None:
    """None where the budget is too small for the work."""
    try:
        return compaction_bytes(shape, options)
    except MemoryBudgetError:
        return None


def compaction_bytes(shape: Shape, options: PublishOptions) -> int:
    """Memory of compacting facts of this shape, at most.

    Raises
    ------
    MemoryBudgetError
        The budget is too small.
    """
    budget = (options.sampler, options.memory_bytes, options.workers)
    return max(working_set(shape, cdf, *budget).nbytes for cdf in cdfs_of(shape))


def shape_of(oracle: type[Oracle], workload: Workload, settings: Settings) -> Shape:
    """Sizes of the facts that a build will have; of a store that is not there yet, at most."""
    path = settings.store_path(oracle.name)
    return _shape(oracle, workload, settings, FactStore(path) if path.exists() else None)


def _shape(oracle: type[Oracle], workload: Workload, settings: Settings, store: FactStore | None) -> Shape:
    if store:
        return _grown(store, workload)
    plan = settings.plan
    positions = plan.n_random + sum(plan.ccre_counts.values()) + plan.n_tss + plan.n_gene_bodies
    block = settings.block or oracle.default_block
    genes = {kind: ceil(_FULLEST * block * mean) for kind, mean in workload.genes_per_position.items()}
    return Shape(
        n_variants=plan.n_variants,
        n_baselines=positions,
        n_tracks=workload.n_tracks,
        bin_slots=plan.bin_slots if any(head.resolution_bp for head in oracle.heads) else 0,
        block=block,
        tracks_per_unit=oracle.tracks_per_unit or workload.n_tracks,
        gene_tracks=workload.gene_tracks,
        variant_genes=genes.get("variants", 0),
        baseline_genes=genes.get("baselines", 0),
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
        f"  disk       facts {gib(report['facts_bytes'])}, store {gib(report['store_bytes'])}, "
        f"NPZ {gib(report['npz_bytes'])}; to be written {gib(report['written_bytes'])}, "
        f"free {gib(report['free_bytes'])}"
    )
    for what, size in report["peak_memory_bytes"].items():
        if size is not None:
            lines.append(f"  memory     {gib(size)} {what}")
    if report["model_hours"] is not None:
        lines.append(
            f"  time       about {report['model_hours']:,.1f} h in the model "
            f"({report['seconds_per_sequence']:.3g} s per sequence, measured)"
        )
    lines += [f"  problem    {problem}" for problem in report["problems"]]
    return "\n".join(lines)


def gib(size: float) -> str:
    """Bytes as people read them."""
    return f"{size / 2**30:.2f} GiB"
