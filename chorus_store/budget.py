"""What compaction takes: the sampler that was asked for, and memory known before the work begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chorus_store import layout
from chorus_store.errors import InputError, MemoryBudgetError
from chorus_store.reservoir import DEFAULT_CAPACITY
from chorus_store.units import Shape

SAMPLERS = ("exact", "algorithm-r")

#: Largest working set per sample and track: float32 alleles, then float64 effects with two temporaries.
_BYTES_PER_SAMPLE = {"effect": 2 * 4 + 3 * 8, "summary": 4, "perbin": 4}
#: What a reservoir holds: effects are computed in float64, the rest is what was stored.
RESERVOIR_DTYPE = {"effect": np.float64, "summary": np.float32, "perbin": np.float32}
#: Positions read at a time while a reservoir is filled, at most.
RESERVOIR_POSITIONS = 128
#: Output shards in memory: the one whose groups are coming in, and the one that is being encoded.
_SHARDS_IN_MEMORY = 2


@dataclass(frozen=True)
class Sampler:
    """How a population becomes the sample that is compacted.

    Attributes
    ----------
    name : str
        ``exact``: all values; ``algorithm-r``: the reference's reservoir.
    capacity : int
        Of the reservoir, per track.
    """

    name: str = "exact"
    capacity: int = DEFAULT_CAPACITY

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise InputError(f"unknown sampler {self.name!r}; use one of {', '.join(SAMPLERS)}")
        if self.capacity < 1:
            raise InputError(f"the reservoir's capacity must be at least 1, not {self.capacity}")

    def thins(self, n_samples: int) -> bool:
        """Whether so many samples would be thinned; if not, all samplers are exact."""
        return self.name == "algorithm-r" and n_samples > self.capacity


def cdfs_of(shape: Shape) -> list[str]:
    """The CDFs that facts of this shape make: perbin is absent for scalar oracles."""
    return [cdf for cdf in layout.CDFS if cdf != "perbin" or shape.bin_slots]


@dataclass(frozen=True)
class WorkingSet:
    """Memory that compaction of one CDF takes.

    Attributes
    ----------
    group : int
        Tracks that one worker sorts together.
    nbytes : int
        Of all workers' groups, of the shards that are being put together, or of the reservoir, if that is more.
    """

    group: int
    nbytes: int


def working_set(shape: Shape, cdf: str, sampler: Sampler, memory_bytes: int, workers: int) -> WorkingSet:
    """The largest groups of tracks that fit the budget; no larger than one chunk of the facts.

    Parameters
    ----------
    shape : Shape
        Of the facts.
    cdf : str
        Which.
    sampler : Sampler
        A reservoir that thins must fit the budget as a whole.
    memory_bytes, workers : int
        The budget, and how many share it.

    Raises
    ------
    MemoryBudgetError
        Not even one track per worker fits, or the reservoir does not.
    """
    samples = most_samples(shape, cdf)
    per_track = samples * _BYTES_PER_SAMPLE[cdf] + layout.CDF_POINTS * 4
    sorting = samples * 2 * 4
    shard = min(layout.tracks_per_shard(shape.n_tracks), shape.n_tracks) * layout.CDF_POINTS * 4
    assembling = _SHARDS_IN_MEMORY * shard
    fitting = ((memory_bytes - assembling) // workers - sorting) // per_track
    reservoir = reservoir_bytes(shape, cdf, sampler)
    needed = max(assembling + workers * (sorting + per_track), reservoir)
    if needed > memory_bytes:
        remedy = "raise --memory or lower " + ("--capacity" if needed == reservoir else "--workers")
        raise MemoryBudgetError(
            f"compacting {cdf} takes at least {needed / 2**20:,.1f} MiB, the budget is {memory_bytes / 2**20:,.1f}; "
            + remedy
        )
    chunk = layout.TRACKS_PER_GROUP
    if shape.tracks_per_unit > 1:
        unit_samples = max(map(shape.unit_samples, shape.arrays_of(cdf)))
        chunk = layout.fact_chunk_tracks(max(1, unit_samples), shape.tracks_per_unit)
    group = min(chunk, 2 ** (int(fitting).bit_length() - 1))
    return WorkingSet(group, max(assembling + workers * (sorting + group * per_track), reservoir))


def reservoir_bytes(shape: Shape, cdf: str, sampler: Sampler) -> int:
    """Memory of the reservoir of one CDF and of the block that is offered to it; 0 where nothing would be thinned."""
    if not sampler.thins(most_samples(shape, cdf)):
        return 0
    samples = max(
        shape.unit_samples(array) if array.genes else min(shape.block, RESERVOIR_POSITIONS) * shape.slots(array)
        for array in shape.arrays_of(cdf)
    )
    block = 2 * samples * _BYTES_PER_SAMPLE[cdf]
    return shape.n_tracks * block + survivors_bytes(shape, cdf, sampler)


def survivors_bytes(shape: Shape, cdf: str, sampler: Sampler) -> int:
    """What the reservoir of one CDF keeps, in memory and then on disk; 0 where nothing would be thinned."""
    if not sampler.thins(most_samples(shape, cdf)):
        return 0
    return shape.n_tracks * sampler.capacity * np.dtype(RESERVOIR_DTYPE[cdf]).itemsize


def most_samples(shape: Shape, cdf: str) -> int:
    """Samples of the track of a CDF that has most."""
    return max(map(shape.samples, shape.arrays_of(cdf)))
