"""Pictures of backgrounds, with matplotlib (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt
import xarray as xr

from chorus_store.alignment import Query
from chorus_store.errors import InputError, MissingPackageError
from chorus_store.lookup import FloatArray, to_percentile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Curves of one picture; more cannot be told apart.
MAX_TRACKS = 10

#: What the values of a CDF are.
MEANING = MappingProxyType({"effect": "variant effect", "summary": "window statistic", "perbin": "value of one bin"})


def plot(
    store: xr.Dataset,
    track: str | Sequence[str] | None = None,
    cdf: str = "effect",
    value: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw CDFs: the percentile of every value, one curve per track.

    Parameters
    ----------
    store : Dataset
        A background, or a selection of its tracks.
    track : str or sequence of str, optional
        At most `MAX_TRACKS`; by default all tracks of ``store``.
    cdf : {"effect", "summary", "perbin"}
        Which background.
    value : float, optional
        Marked on every curve, with its percentile in the legend. Unsigned effects are marked at its absolute value.
    ax : Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    Axes
        With linear scales; ``ax.set_xscale("log")`` shows values of several magnitudes.

    Raises
    ------
    InputError
        Too many tracks, or no such CDF.
    TrackNotFoundError
        No such track; names near matches.
    MissingPackageError
        matplotlib is not installed.

    Examples
    --------
    >>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
    >>> plot(store, ["ENCFF833POA", "ENCFF534DCE"], value=0.31)  # doctest: +SKIP
    """
    query = Query(store, 0.0, track)
    labels = np.atleast_1d(query.values["track"].values).tolist()
    if len(labels) > MAX_TRACKS:
        raise InputError(
            f"{len(labels):,} tracks are too many for one picture; choose up to {MAX_TRACKS} with track=, "
            "or with .chorus.tracks(...)"
        )
    signed = np.atleast_1d(query.signed(cdf, None).values)
    names, curves = _names(query, labels), _curves(store, labels, cdf, signed)
    if value is not None:
        percentiles = store.chorus.percentile(value, labels, cdf)
        names = [f"{name}: {percentile:.3g}" for name, percentile in zip(names, percentiles, strict=True)]
    ax = _new_axes() if ax is None else ax
    for i, curve in enumerate(curves):
        ax.step(*curve, where="post", color=f"C{i}", label=names[i])
    if value is not None:
        magnitude = (cdf == "effect") & ~signed
        _mark(ax, np.where(magnitude, abs(value), value), percentiles)
    ax.set_xlabel(f"absolute {MEANING[cdf]}" if cdf == "effect" and not signed.any() else MEANING[cdf])
    ax.set_ylabel("percentile")
    ax.legend()
    return ax


def require_matplotlib() -> None:
    """Refuse to draw where matplotlib is not installed.

    Raises
    ------
    MissingPackageError
        It is not.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingPackageError("plots need matplotlib; install it with: pip install 'chorus-store[plot]'") from error


def _new_axes() -> Axes:
    require_matplotlib()
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    return cast("Axes", axes)


def _names(query: Query, labels: list[str]) -> list[str]:
    """What the legend calls the tracks."""
    try:
        descriptions = np.atleast_1d(query.column("description").values)
    except InputError:  # an NPZ has identifiers alone
        return labels
    return [f"{description} ({label})" for description, label in zip(descriptions, labels, strict=True)]


def _curves(
    store: xr.Dataset, labels: list[str], cdf: str, signed: npt.NDArray[np.bool_]
) -> list[tuple[FloatArray, FloatArray]]:
    """Background values of each track, ascending, and their percentiles."""
    width = store.sizes["quantile"]
    ranks = np.arange(1.0, width + 1)
    rows = store.chorus.quantile(xr.DataArray(ranks / width, dims="rank"), labels, cdf, signed=False)
    return [(row, to_percentile(ranks, width, sign)) for row, sign in zip(rows.values.T, signed, strict=True)]


def _mark(ax: Axes, values: FloatArray, percentiles: FloatArray) -> None:
    for x in np.unique(values):
        ax.axvline(x, color="0.6", linewidth=1, zorder=0)
    for i, point in enumerate(zip(values, percentiles, strict=True)):
        ax.plot(*point, "o", color=f"C{i}")
