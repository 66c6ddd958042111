"""What AlphaGenome's backends share: its heads, one after the other, and the means that give predictions a scale."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from builders.gather import CentralGather
from builders.oracle import BinArray, Exons, Head, Reduced
from chorus_store.errors import WeightsError
from chorus_store.tracks import StringArray

#: Bins of the coarse heads, and of the transformer.
COARSE_BP = 128


@dataclass(frozen=True, eq=False)
class HeadTracks:
    """A head, the rows and identifiers of its tracks, and what to keep of it."""

    head: Head
    rows: npt.NDArray[np.intp]
    tracks: StringArray
    gather: CentralGather


#: Facts of the tracks of one head, for chosen bins and exons of its own.
HeadFacts = Callable[[HeadTracks, BinArray | None, Exons | None], Reduced]


def facts_of_heads(
    heads: Sequence[HeadTracks],
    batch: int,
    bins: Mapping[int, BinArray] | None,
    exons: Exons | None,
    facts: HeadFacts,
) -> Reduced:
    """Facts of all tracks, from those of one head after the other.

    Parameters
    ----------
    heads : sequence of HeadTracks
    batch : int
        Sequences.
    bins, exons
        As in `RnaOracle.reduce`.
    facts : callable
        Called once for every head.
    """
    n_tracks = sum(len(part.rows) for part in heads)
    statistics = np.empty((batch, n_tracks), np.float32)
    chosen = genes = None
    if bins:
        chosen = np.empty((batch, next(iter(bins.values())).shape[1], n_tracks), np.float32)
    for part in heads:
        found = facts(
            part, bins[part.head.resolution_bp] if bins else None, exons if len(part.gather.exon_rows) else None
        )
        statistics[:, part.rows] = found.statistics
        if chosen is not None:
            chosen[:, :, part.rows] = found.bins
        if found.genes is not None:
            genes = found.genes
    return Reduced(statistics, chosen, genes)


def require_means(means: npt.NDArray[np.float64], where: str, remedy: str) -> None:
    """Refuse what stands in the place of track means and is none: predictions would be off by a factor of each track's.

    Parameters
    ----------
    means : ndarray of float64, shape (track,)
        Of the tracks of one head.
    where, remedy : str
        Beginning and end of the message: where the means are from, and what to give instead.

    Raises
    ------
    WeightsError
        They are all the same, or not all above 0.
    """
    placeholder = len(means) > 1 and bool((means == means[0]).all())
    if placeholder or not bool((np.isfinite(means) & (means > 0)).all()):
        raise WeightsError(
            f"{where} holds no track means ({'all the same' if placeholder else 'not all above 0'}), "
            f"without which predictions have no scale; {remedy}"
        )
