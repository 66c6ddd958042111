"""Facts → CDFs: for each track, sort and take the grid, in parallel under Dask within a memory budget.

One task owns one output shard; the tracks of a shard are worked through in groups that fit the budget. Exact mode
reads the facts' columns; ``algorithm-r`` first replays the reference's reservoir over the facts, in plan order, and
compacts what survives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import dask
import numpy as np
import numpy.typing as npt
import zarr
from dask.callbacks import Callback
from dask.delayed import Delayed, delayed

from chorus_store import layout
from chorus_store.budget import RESERVOIR_DTYPE, RESERVOIR_POSITIONS, Sampler, cdfs_of, fact_array, working_set
from chorus_store.facts import FactStore
from chorus_store.grid import FloatArray, compact_rows
from chorus_store.layers import LAYERS
from chorus_store.reservoir import Reservoir

IntArray = npt.NDArray[np.int64]
_GROUP = "group-"


@dataclass(frozen=True)
class Compacted:
    """What compaction says of one CDF, besides the CDF itself.

    Attributes
    ----------
    offered, retained : ndarray of int64, shape (track,)
        Values offered to each track, and kept for its CDF.
    landmarks : ndarray of float32, shape (track, 3)
        Median, 99th percentile and maximum of the grid.
    """

    offered: IntArray
    retained: IntArray
    landmarks: FloatArray


def compact(
    store: FactStore,
    target: Path,
    layers: list[str],
    *,
    sampler: Sampler | None = None,
    codec: str = "blosc",
    memory_bytes: int = 2 * 2**30,
    workers: int = 2,
    client: Any = None,
    cdfs: Sequence[str] | None = None,
    on_rows: Callable[[int], object] = lambda rows: None,
) -> dict[str, Compacted]:
    """Write every CDF of ``store`` into the group at ``target``.

    Parameters
    ----------
    store : FactStore
        Complete facts.
    target : Path
        An existing, writable Zarr group.
    layers : list of str, length n_tracks
        Layer of every track.
    sampler : Sampler, optional
        Exact by default.
    codec : str
        Of `layout.cdf_codecs`.
    memory_bytes : int
        Budget of all workers together.
    workers : int
        Threads that share the budget. On a cluster as many of its workers as there are, each with this share.
    client : distributed.Client, optional
        An existing Dask cluster that sees the same file system.
    cdfs : sequence of str, optional
        Only these; all that the facts make by default.
    on_rows : callable
        Told how many tracks have just been finished, for progress.

    Returns
    -------
    dict of CDF name to Compacted

    Raises
    ------
    MemoryBudgetError
        The budget is smaller than the least that the work needs.
    """
    sampler = sampler or Sampler()
    group = zarr.open_group(target, mode="r+", zarr_format=3)
    wanted = cdfs_of(store.shape) if cdfs is None else cdfs
    groups = {cdf: working_set(store.shape, cdf, sampler, memory_bytes, workers).group for cdf in wanted}
    results = {}
    for cdf, width in groups.items():
        with layout.without_zarr_warnings(), tempfile.TemporaryDirectory(prefix=f"{cdf}-", dir=target) as scratch:
            layout.create_cdf_array(group, f"{cdf}_cdf", store.shape.n_tracks, codec=codec)
            survivors = _replay(store, cdf, layers, sampler, Path(scratch))
            shards = [
                _shard_task(store.path, target, cdf, first, stop, width, layers, survivors)
                for first, stop in _spans(0, store.shape.n_tracks, layout.tracks_per_shard(store.shape.n_tracks))
            ]
            results[cdf] = _join(_run(shards, workers, client, on_rows))
    return results


def _spans(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]


def _shard_task(
    path: Path, target: Path, cdf: str, first: int, stop: int, width: int, layers: list[str], survivors: Path | None
) -> Delayed:
    groups = [
        delayed(_compact_group)(path, cdf, a, b, layers[a:b], survivors, dask_key_name=f"{_GROUP}{uuid4()}")
        for a, b in _spans(first, stop, width)
    ]
    # Unique keys: a cluster takes tasks of equal keys for the same task, whoever submitted them.
    return delayed(_write_shard)(target, cdf, first, groups, dask_key_name=f"shard-{uuid4()}")


class _RowCounter(Callback):
    """Dask callback that reports finished groups of tracks."""

    def __init__(self, on_rows: Callable[[int], object]) -> None:
        super().__init__()
        self._on_rows = on_rows

    def _posttask(self, key: Any, result: Any, dsk: Any, state: Any, worker_id: Any) -> None:
        if str(key).startswith(_GROUP):
            self._on_rows(len(result[0]))


def _run(shards: list[Delayed], workers: int, client: Any, on_rows: Callable[[int], object]) -> list[Compacted]:
    if client is None:
        with _RowCounter(on_rows):
            return list(dask.compute(*shards, scheduler="threads", num_workers=workers, optimize_graph=False))
    from distributed import as_completed

    futures = client.compute(shards, optimize_graph=False)
    for future in as_completed(futures, loop=client.loop):
        on_rows(len(future.result().offered))
    return [future.result() for future in futures]


def _join(parts: list[Compacted]) -> Compacted:
    return Compacted(
        np.concatenate([part.offered for part in parts]),
        np.concatenate([part.retained for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
    )


def _population(store: FactStore, cdf: str, first: int, stop: int, layers: list[str]) -> npt.NDArray[Any]:
    """All values of some tracks, shape (tracks, samples); effects in float64, the rest as stored."""
    if cdf != "effect":
        return store.read_columns(f"{cdf}/value", first, stop)
    ref = store.read_columns("effect/ref", first, stop)
    alt = store.read_columns("effect/alt", first, stop)
    return _effects(ref, alt, layers)


def _effects(ref: FloatArray, alt: FloatArray, layers: list[str]) -> npt.NDArray[np.float64]:
    """Effects of track-major alleles, each track by its layer's formula."""
    effects = np.empty(ref.shape, np.float64)
    names = np.asarray(layers)
    for name in dict.fromkeys(layers):
        rows = names == name
        effects[rows] = LAYERS[name].effect(ref[rows], alt[rows])
    return effects


def _compact_group(
    path: Path, cdf: str, first: int, stop: int, layers: list[str], survivors: Path | None
) -> tuple[FloatArray, IntArray, IntArray]:
    """Grids, offered and retained counts of a group of tracks."""
    if survivors is None:
        grids, counts = compact_rows(_population(FactStore(path), cdf, first, stop, layers))
        return grids, counts, counts
    kept = np.array(np.load(survivors / "kept.npy", mmap_mode="r")[first:stop])
    grids, retained = compact_rows(kept)
    return grids, np.load(survivors / "seen.npy")[first:stop], retained


def _write_shard(target: Path, cdf: str, first: int, groups: list[tuple[FloatArray, IntArray, IntArray]]) -> Compacted:
    """Write one whole shard of a CDF array."""
    grids = np.concatenate([group[0] for group in groups])
    array = zarr.open_array(target / f"{cdf}_cdf", mode="r+", zarr_format=3)
    array.with_config({"write_empty_chunks": True})[first : first + len(grids)] = grids
    return Compacted(
        np.concatenate([group[1] for group in groups]),
        np.concatenate([group[2] for group in groups]),
        landmarks(grids),
    )


def landmarks(grids: FloatArray) -> FloatArray:
    """Median, 99th percentile and maximum of every grid, shape (track, 3)."""
    points = grids.shape[1]
    return grids[:, [points // 2, int(0.99 * points), points - 1]]


def _replay(store: FactStore, cdf: str, layers: list[str], sampler: Sampler, scratch: Path) -> Path | None:
    """Fill the reference's reservoir from the facts; None where nothing would be thinned."""
    shape, array = store.shape, fact_array(store.shape, cdf)
    positions, slots = shape.positions(array.kind), shape.slots(array)
    if not sampler.thins(positions * slots):
        return None
    reservoir = Reservoir(shape.n_tracks, sampler.capacity, dtype=RESERVOIR_DTYPE[cdf])
    for start, stop in _spans(0, positions, min(shape.block, RESERVOIR_POSITIONS)):
        rows = slice(start * slots, stop * slots)
        if cdf == "effect":
            ref, alt = store.read_rows("effect/ref", rows), store.read_rows("effect/alt", rows)
            reservoir.offer(_effects(ref.T, alt.T, layers).T)
        else:
            reservoir.offer(store.read_rows(f"{cdf}/value", rows), batch=slots)
    np.save(scratch / "kept.npy", reservoir.kept)
    np.save(scratch / "seen.npy", reservoir.seen)
    return scratch
