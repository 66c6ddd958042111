"""Pictures of a `chorus_store.comparison.Comparison`, with matplotlib (extra ``plot``)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from chorus_store import drift
from chorus_store.errors import InputError
from chorus_store.picture import MEANING, require_matplotlib
from chorus_store.swap import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from chorus_store.comparison import Comparison


def picture_format(path: Path) -> str:
    """Format of a picture, by the name of its file.

    Raises
    ------
    InputError
        None that matplotlib writes.
    MissingPackageError
        matplotlib is not installed.

    Examples
    --------
    >>> picture_format(Path("drift.png"))
    'png'
    """
    require_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    known: dict[str, str] = FigureCanvasBase.get_supported_filetypes()
    if (name := path.suffix.removeprefix(".").lower()) not in known:
        raise InputError(f"{path} does not end in the name of a picture's format; use one of {', '.join(known)}")
    return name


def draw(comparison: Comparison, path: Path) -> None:
    """Write `plot` to a file, whose name says in which format.

    Raises
    ------
    InputError, MissingPackageError
        As `picture_format`.
    StoreWriteError
        The file cannot be written.
    """
    name = picture_format(path)
    picture = io.BytesIO()  # some formats are not written in one go, as a pipe must be
    plot(comparison).savefig(picture, format=name)
    with written_whole(path) as file:
        file.write(picture.getbuffer())


def plot(comparison: Comparison) -> Figure:
    """Draw the drift of all tracks, and the CDFs of the most drifted one.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    Figure
        A column for each CDF. Above, a dot for each track, coloured by layer: its distance and the ratio of its 99th
        percentiles; the dashed line is the median `chorus_store.distance.sampling_noise`. A ratio of 0 or infinity is
        drawn nowhere, and counted in the title. Below, both CDFs of the track with the largest distance.

    Raises
    ------
    MissingPackageError
        matplotlib is not installed.
    StoreNotFoundError, StoreUnreachableError, SchemaError, CorruptStoreError
        The background is not what it was when it was compared.

    Examples
    --------
    >>> plot(compare("old/enformer.zarr", "enformer.zarr")).savefig("drift.png")  # doctest: +SKIP
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    cdfs = comparison.drift["cdf"].values.tolist()
    figure = Figure(figsize=(5 * len(cdfs), 8), layout="constrained")
    axes = figure.subplots(2, len(cdfs), squeeze=False)
    for cdf, (above, below) in zip(cdfs, axes.T, strict=True):
        of_cdf = comparison.drift.sel(cdf=cdf)
        both = of_cdf.isel(track=np.flatnonzero(of_cdf["ks"].notnull()))
        _scatter(above, both)
        if both.sizes["track"]:
            _worst(below, comparison, both.isel(track=int(both["ks"].values.argmax())))
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2 * len(cdfs))
    return figure


def _scatter(ax: Axes, both: xr.Dataset) -> None:
    """Distance and ratio of tracks that have samples on both sides."""
    ratios = both["p99_ratio"].values
    shown = np.isfinite(ratios) & (ratios > 0)
    layers = both["layer"].values.astype(str) if "layer" in both.coords else np.full(shown.shape, "tracks")
    for i, layer in enumerate(np.unique(layers)):
        here = shown & (layers == layer)
        ax.plot(both["ks"].values[here], ratios[here], ".", color=f"C{i}", label=layer)
    if (noise := both["noise"].dropna("track")).size:
        ax.axvline(float(noise.median()), color="0.6", linestyle="--", zorder=0, label="sampling noise")
    ax.axhline(1, color="0.8", zorder=0)
    ax.set_yscale("log")
    ax.set_xlabel("Kolmogorov–Smirnov distance")
    ax.set_ylabel("ratio of 99th percentiles, B / A")
    hidden = f" ({(~shown).sum():,} not shown)" if not shown.all() else ""
    ax.set_title(f"{both['cdf'].item()}: {len(shown):,} tracks{hidden}")


def _worst(ax: Axes, comparison: Comparison, worst: xr.Dataset) -> None:
    """Both CDFs of one track."""
    cdf, track = str(worst["cdf"].item()), str(worst["track"].item())
    for name, background, color in zip("AB", comparison.backgrounds, ("0.4", "C3"), strict=True):
        row = drift.row(background, cdf, track)
        ax.step(row, np.arange(1, row.size + 1) / row.size, where="post", color=color, label=name)
    ax.set_xlabel(MEANING[cdf])
    ax.set_ylabel("share of the background")
    ax.set_title(f"{track}: distance {worst['ks'].item():.3g}")
    ax.legend()
