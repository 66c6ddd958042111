"""Which tracks a background has samples of, and a refusal to replace it by one that covers far fewer unasked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from chorus_store.background import open_background
from chorus_store.errors import ChorusStoreError, CoverageError
from chorus_store.layout import CDFS
from chorus_store.places import Place

#: Of the tracks with samples that a background has, the part that another one must have in order to replace it.
LEAST_SHARE = 0.9
#: How to do it all the same.
_REMEDY = "move it away, give another --out, or replace it all the same with --allow-fewer-tracks"


@dataclass(frozen=True)
class Coverage:
    """What a background covers.

    Attributes
    ----------
    tracks : mapping of str to frozenset of str
        By CDF (``effect``, …): identifiers of the tracks that have samples.
    demo : bool
        Whether it is a demonstration.

    Examples
    --------
    >>> Coverage.of_all(["DNASE:K562", "CHIP:K562"], ["effect"]).missing(Coverage.of_all(["CHIP:K562"], ["effect"]))
    {'effect': ['DNASE:K562']}
    """

    tracks: Mapping[str, frozenset[str]]
    demo: bool = False

    @classmethod
    def of_all(cls, tracks: Iterable[str], cdfs: Iterable[str], *, demo: bool = False) -> Coverage:
        """That of a background in which every track has samples of every CDF."""
        every = frozenset(tracks)
        return cls(dict.fromkeys(cdfs, every), demo)

    def missing(self, other: Coverage) -> dict[str, list[str]]:
        """By CDF, the tracks of which ``other`` has no samples, in alphabetical order."""
        return {cdf: sorted(mine - other.tracks.get(cdf, frozenset())) for cdf, mine in self.tracks.items()}


def covered(place: Place) -> Coverage:
    """What the background at a place covers.

    Parameters
    ----------
    place : path-like
        A published store, or an NPZ file. Where it has no counts, every row of a CDF is taken to have samples.

    Returns
    -------
    Coverage

    Raises
    ------
    StoreNotFoundError, SchemaError, CorruptStoreError
        As `chorus_store.open`.

    Examples
    --------
    >>> len(covered("enformer.zarr").tracks["effect"])  # doctest: +SKIP
    5313
    """
    background = open_background(place)
    ids = np.array(list(background.rows), dtype=object)
    found = {}
    for cdf in CDFS:
        if f"{cdf}_cdf" in background.names:
            counts = background.column(f"{cdf}_count")
            found[cdf] = frozenset(ids if counts is None else ids[counts > 0])
    return Coverage(found, bool(background.build_config.get("demo")))


def require_no_loss(old: Coverage, new: Coverage, where: Place) -> None:
    """Refuse to replace a background by one that covers less than `LEAST_SHARE` of its tracks.

    Parameters
    ----------
    old, new : Coverage
        Of what is there, and of what would replace it.
    where : path-like
        Of what is there, for the message.

    Raises
    ------
    CoverageError
        For some CDF, too many tracks with samples would be lost; or a demonstration would replace the background of
        a trained model. Names some of the tracks, and how to do it all the same.
    """
    if new.demo and not old.demo:
        raise CoverageError(f"{where} is not a demonstration, and what would replace it is one: {_REMEDY}")
    for cdf, lost in old.missing(new).items():
        n = len(old.tracks[cdf])
        if n - len(lost) < LEAST_SHARE * n:
            shown = ", ".join(lost[:3]) + (f" and {len(lost) - 3:,} more" if len(lost) > 3 else "")
            raise CoverageError(
                f"{where} has {cdf} samples of {n:,} tracks, what would replace it of {n - len(lost):,} of them; lost "
                f"would be {shown}: {_REMEDY}"
            )


def require_replaceable(place: Place, new: Coverage) -> None:
    """The same for whatever is at a place; what cannot be read is somebody's, and is not replaced either.

    Raises
    ------
    CoverageError
        As `require_no_loss`; or what is there cannot be read, so that nobody knows what would be lost.
    """
    try:
        old = covered(place)
    except ChorusStoreError as error:
        raise CoverageError(
            f"what is at {place} would be replaced, and it cannot be told what that is ({error}): {_REMEDY}"
        ) from error
    require_no_loss(old, new, place)
