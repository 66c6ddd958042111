"""Facts → CDFs: for each track, sort and take the grid, in parallel under Dask within a memory budget.

One task owns one output shard; the tracks of a shard are worked through in groups that fit the budget. Exact mode
reads the facts' columns; ``algorithm-r`` first replays the reference's reservoir over the facts, in plan order, and
compacts what survives.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import dask
import numpy as np
import numpy.typing as npt
import zarr
from dask.callbacks import Callback
from dask.delayed import Delayed, delayed

from chorus_store import layout
from chorus_store.budget import Sampler, cdfs_of, working_set
from chorus_store.errors import ClusterError
from chorus_store.facts import FactStore
from chorus_store.grid import FloatArray, compact_rows
from chorus_store.layers import effects
from chorus_store.replay import replay

IntArray = npt.NDArray[np.int64]
_GROUP = "group-"


class _Columns(NamedTuple):
    """Where the values of some tracks are: name of the facts, first column and the one after the last."""

    facts: str
    first: int
    stop: int


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
            survivors = replay(store, cdf, layers, sampler, Path(scratch))
            shards = [
                _shard_task(store, target, cdf, first, stop, width, layers, survivors)
                for first, stop in _spans(0, store.shape.n_tracks, layout.tracks_per_shard(store.shape.n_tracks))
            ]
            results[cdf] = _join(_run(shards, workers, client, on_rows))
    return results


def _spans(start: int, stop: int, step: int) -> list[tuple[int, int]]:
    return [(first, min(first + step, stop)) for first in range(start, stop, step)]


def _groups(store: FactStore, cdf: str, first: int, stop: int, width: int) -> list[tuple[int, int, _Columns]]:
    """Tracks [first, stop) in groups whose facts are in one array; of each, first, stop and columns of the facts."""
    gene_rows = store.gene_rows(cdf)
    by_gene = np.isin(np.arange(first, stop), gene_rows)
    changes = first + 1 + np.flatnonzero(by_gene[1:] != by_gene[:-1])
    edges = sorted({*range(first, stop, width), *changes.tolist(), stop})
    groups = []
    for a, b in pairwise(edges):
        columns = _Columns(cdf, a, b)
        if by_gene[a - first]:
            columns = _Columns(f"gene_{cdf}", *np.searchsorted(gene_rows, (a, b)).tolist())
        groups.append((a, b, columns))
    return groups


def _shard_task(
    store: FactStore,
    target: Path,
    cdf: str,
    first: int,
    stop: int,
    width: int,
    layers: list[str],
    survivors: Path | None,
) -> Delayed:
    groups = [
        delayed(_compact_group)(store.path, columns, a, b, layers[a:b], survivors, dask_key_name=f"{_GROUP}{uuid4()}")
        for a, b, columns in _groups(store, cdf, first, stop, width)
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
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm import CommClosedError

    try:
        futures = client.compute(shards, optimize_graph=False)
        for future in as_completed(futures, loop=client.loop):
            on_rows(len(future.result().offered))
        return [future.result() for future in futures]
    except (CancelledError, CommClosedError, KilledWorker) as error:
        raise ClusterError(
            f"the Dask cluster has lost its workers or its scheduler ({type(error).__name__}); see their logs, give "
            "the workers more memory or leave out --dask, and run the same command again"
        ) from error


def _join(parts: list[Compacted]) -> Compacted:
    return Compacted(
        np.concatenate([part.offered for part in parts]),
        np.concatenate([part.retained for part in parts]),
        np.concatenate([part.landmarks for part in parts]),
    )


def _population(store: FactStore, columns: _Columns, layers: list[str]) -> npt.NDArray[Any]:
    """All values of some tracks, shape (tracks, samples); effects in float64, the rest as stored."""
    facts, first, stop = columns
    if not facts.endswith("effect"):
        return store.read_columns(f"{facts}/value", first, stop)
    ref = store.read_columns(f"{facts}/ref", first, stop)
    alt = store.read_columns(f"{facts}/alt", first, stop)
    return effects(ref, alt, layers)


def _compact_group(
    path: Path, columns: _Columns, first: int, stop: int, layers: list[str], survivors: Path | None
) -> tuple[FloatArray, IntArray, IntArray]:
    """Grids, offered and retained counts of a group of tracks."""
    if survivors is None:
        grids, counts = compact_rows(_population(FactStore(path), columns, layers))
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
