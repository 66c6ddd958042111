"""Two backgrounds side by side: which tracks they share, how far each CDF has drifted, what else differs."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from os import fspath
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from tqdm import tqdm

from chorus_store import differences, drift, matching, schema
from chorus_store.differences import LABELS, Change
from chorus_store.drift import Background, Indices
from chorus_store.errors import InputError
from chorus_store.layout import CDFS

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Side:
    """One of two backgrounds.

    Attributes
    ----------
    place : str
        Path or URL.
    oracle, genome : str or None
        None where it does not say.
    n_tracks, n_points : int
        Rows and columns of its CDFs.
    cdfs : tuple of str
        Those that it has.
    """

    place: str
    oracle: str | None
    genome: str | None
    n_tracks: int
    n_points: int
    cdfs: tuple[str, ...]

    @classmethod
    def of(cls, background: Background, store: xr.Dataset) -> Self:
        """What a background says of itself."""
        if not {"track", "quantile"} <= store.sizes.keys():
            raise InputError(
                f"a Dataset with dimensions {', '.join(map(str, store.sizes))} cannot be compared; give one from "
                "chorus_store.open, and select tracks by a list of them"
            )
        with schema.expected(drift.source(store)):
            oracle = store.attrs.get("oracle", {}).get("name")
        return cls(
            drift.source(store) if isinstance(background, xr.Dataset) else fspath(background),
            oracle,
            store.attrs.get("genome"),
            store.sizes["track"],
            store.sizes["quantile"],
            tuple(cdf for cdf in CDFS if f"{cdf}_cdf" in store.variables),
        )


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found; A is the old background, B the new one.

    Attributes
    ----------
    backgrounds : tuple
        What was compared, as it was given.
    a, b : Side
        What they say of themselves.
    removed, added : tuple of str
        Tracks that A or B has alone, in their order.
    respelt : dict of str to str
        Of those, the ones that are in B under another spelling of A's identifier (`chorus_store.matching.find`).
    reordered : bool
        Whether the common tracks come in another order in B.
    drift : Dataset
        Of the common tracks, in the order of A, and the CDFs compared: dimensions ``cdf`` and ``track``, all float64.

        ``ks``
            Kolmogorov–Smirnov distance; NaN where either side has no samples.
        ``noise``, ``excess``
            The distance that independent samples of one distribution exceed in 1 % of cases
            (`chorus_store.distance.sampling_noise`), and ``ks`` in units of it; NaN where sample sizes are unknown.
        ``samples_a``, ``samples_b``
            Values behind the CDFs; NaN where unknown.
        ``p50_a``, ``p50_b``, ``p50_ratio``; ``p99_…``; ``max_…``
            Median, 99th percentile and maximum of the absolute values (`chorus_store.distance.landmarks`), and B / A
            (`chorus_store.distance.ratio`); NaN where there are no samples.

        Labels of the tracks are coordinates, those of B where the two differ.
    labels : list of Change
        Labels of common tracks that differ.
    provenance : list of Change or None
        What the two say differently of their origin; None where either says nothing.
    """

    backgrounds: tuple[Background, Background]
    a: Side
    b: Side
    removed: tuple[str, ...]
    added: tuple[str, ...]
    respelt: dict[str, str]
    reordered: bool
    drift: xr.Dataset
    labels: list[Change]
    provenance: list[Change] | None

    def __repr__(self) -> str:
        return f"<Comparison of {self.a.place} and {self.b.place}: {self.drift.sizes['track']:,} common tracks>"

    def table(self) -> pd.DataFrame:
        """All of `drift`, a row for each CDF and track: the most drifted first, those without a distance last."""
        frame = self.drift.to_dataframe(dim_order=["cdf", "track"]).reset_index()
        return frame.sort_values("ks", ascending=False, kind="stable", ignore_index=True)

    def n_beyond(self, distance: float) -> int:
        """How many CDFs of tracks have drifted further than a distance, or have samples on one side alone."""
        one_sided = self.drift["p50_a"].isnull() != self.drift["p50_b"].isnull()
        return int(((self.drift["ks"] > distance) | one_sided).sum())

    def plot(self) -> Figure:
        """Draw the drift of all tracks, and the CDFs of the most drifted; see `chorus_store.drift_picture.plot`."""
        from chorus_store import drift_picture

        return drift_picture.plot(self)


def compare(a: Background, b: Background, *, cdfs: Sequence[str] | None = None, progress: bool = True) -> Comparison:
    """Compare two backgrounds track by track; tracks are the same where their identifiers are.

    Parameters
    ----------
    a, b : path-like, str or Dataset
        The old and the new background: whatever `chorus_store.open` opens, or what it gives, or a selection of that.
        Their CDFs may have different numbers of points. Of a store at a place, memory holds a block of tracks at a
        time; of an NPZ file, a CDF.
    cdfs : sequence of {"effect", "summary", "perbin"}, optional
        Which; by default those that both have.
    progress : bool
        Show a progress bar when stderr is a terminal.

    Returns
    -------
    Comparison

    Warns
    -----
    UserWarning
        The oracles or the genomes differ.

    Raises
    ------
    InputError
        No track or no CDF in common, or a CDF that either lacks.
    StoreNotFoundError, StoreUnreachableError, SchemaError, MissingPackageError
        As `chorus_store.open`.
    CorruptStoreError
        Metadata, labels or rows that cannot be read.

    Examples
    --------
    >>> found = compare("enformer.zarr", "https://example.org/enformer.zarr")  # doctest: +SKIP
    >>> found.drift["ks"].max("track").to_series().to_dict()  # doctest: +SKIP
    {'effect': 0.031, 'summary': 0.012, 'perbin': 0.009}
    """
    with drift.opened(a) as first, drift.opened(b) as second:
        sides = Side.of(a, first), Side.of(b, second)
        chosen = _chosen(cdfs, *sides)
        _warn_of_others(*sides)
        ids = [np.array(store["track"].values.tolist(), dtype=object) for store in (first, second)]
        rows = _common(ids, sides)
        old, new = (_labels(store, index) for store, index in zip((first, second), rows, strict=True))
        provenance = differences.of_provenance(first, second)
    removed, added = (tuple(np.delete(labels, index)) for labels, index in zip(ids, rows, strict=True))
    with tqdm(total=len(rows[0]) * len(chosen), unit=" CDFs", disable=not progress or None) as bar:
        drifts = xr.concat((drift.measure(a, b, cdf, rows, bar) for cdf in chosen), "cdf")
    return Comparison(
        (a, b),
        *sides,
        removed,
        added,
        _respelt(removed, added),
        bool((np.diff(rows[1]) < 0).any()),
        drifts.assign_coords({**old.assign(new).variables, "cdf": chosen}),
        differences.of_labels(old, new),
        provenance,
    )


def _chosen(cdfs: Sequence[str] | None, a: Side, b: Side) -> list[str]:
    """CDFs to compare."""
    both = [cdf for cdf in a.cdfs if cdf in b.cdfs]
    missing = [cdf for cdf in cdfs or () if cdf not in both]
    if missing or not both:
        raise InputError(
            f"no {' or '.join(missing) or 'CDF'} in common: {a.place} has {', '.join(a.cdfs)}, "
            f"{b.place} has {', '.join(b.cdfs)}; choose among those that both have"
        )
    return [cdf for cdf in both if cdfs is None or cdf in cdfs]


def _warn_of_others(a: Side, b: Side) -> None:
    for what, old, new in (("oracle", a.oracle, b.oracle), ("genome", a.genome, b.genome)):
        if None not in (old, new) and old != new:
            text = f"the {what}s differ: {a.place} is of {old}, {b.place} of {new}; expect everything else to differ"
            warnings.warn(text, stacklevel=3)


def _common(ids: Sequence[npt.NDArray[np.object_]], sides: Sequence[Side]) -> tuple[Indices, Indices]:
    """Rows of the common tracks in A and in B, in the order of A."""
    rows = pd.Index(ids[1]).get_indexer(pd.Index(ids[0]))
    here = np.flatnonzero(rows >= 0)
    if not here.size:
        examples = ", ".join(f"{side.place} begins with {labels[0]!r}" for side, labels in zip(sides, ids, strict=True))
        raise InputError(f"no track in common: {examples}; compare backgrounds whose tracks have the same identifiers")
    return here, rows[here]


def _labels(store: xr.Dataset, rows: Indices) -> xr.Dataset:
    """Identifiers and labels of some tracks, in memory."""
    names = [name for name in ("track", *LABELS) if name in store.variables]
    return store[names].isel(track=rows).load()


def _respelt(removed: Collection[str], added: Collection[str]) -> dict[str, str]:
    """Removed tracks that were added in another spelling."""
    old, new = ({track: row for row, track in enumerate(tracks)} for tracks in (removed, added))
    respelt = {}
    for track in old:
        if (row := matching.find(track, new)) is not None:
            respelt[track] = list(new)[row]
    for track in new:
        if (row := matching.find(track, old)) is not None:
            respelt.setdefault(list(old)[row], track)
    return respelt
