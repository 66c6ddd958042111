"""The plain definition of an oracle's facts: full predictions, as NumPy arrays, reduced to what is kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from builders.gather import gene_rows
from builders.oracle import BinArray, Exons, FloatArray, Oracle, Reduced
from chorus_store.errors import ModelError
from chorus_store.exon_bins import ExonBins


def reduce_arrays(
    oracle: Oracle,
    predictions: Mapping[str, FloatArray],
    bins: Mapping[int, BinArray] | None = None,
    exons: Exons | None = None,
) -> Reduced:
    """Reduce full predictions that are already NumPy arrays.

    The plain definition of `Oracle.reduce`: adapters that cannot gather on the device call it, and the others are
    tested against it.

    Parameters
    ----------
    oracle : Oracle
        Declares heads and tracks.
    predictions : mapping of head name to ndarray of float32, shape (batch, bins, channels)
        Full outputs.
    bins : mapping of resolution to ndarray of int32, shape (batch, slot), or None
        As in `Oracle.reduce`.
    exons : Exons or None
        As in `RnaOracle.reduce`.

    Raises
    ------
    ModelError
        A head has no prediction, or one of another shape than it and the tracks declare.
    """
    _check_shapes(oracle, predictions)
    batch = len(next(iter(predictions.values())))
    n_tracks = len(oracle.tracks)
    statistics = np.empty((batch, n_tracks), np.float32)
    for group in oracle.window_groups():
        window = predictions[group.head.name][:, group.first : group.stop].sum(axis=1, dtype=np.float64)
        statistics[:, _compact(group.rows)] = window[:, _compact(group.channels)]
    exons = exons or Exons(ExonBins.none(batch))
    exon_head, exon_rows = oracle.exon_head(), _compact(oracle.exon_rows)
    if exon_head:
        of_exons = predictions[exon_head.name][:, :, _compact(oracle.tracks.channel[oracle.exon_rows])]
        statistics[:, exon_rows] = exon_means(of_exons, exons.mask, np.arange(batch))
    genes = None
    if exon_head and exons.genes is not None:
        genes = exon_means(of_exons, exons.genes.bins, gene_rows(exons.genes)).astype(np.float32)
    if not bins:
        return Reduced(statistics, genes=genes)
    chosen = np.empty((batch, next(iter(bins.values())).shape[1], n_tracks), np.float32)
    for head in oracle.heads:
        mine = np.flatnonzero(oracle.tracks.head == head.name)
        rows, channels = _compact(mine), _compact(oracle.tracks.channel[mine])
        for values, prediction, wanted in zip(chosen, predictions[head.name], bins[head.resolution_bp], strict=True):
            values[:, rows] = prediction[wanted][:, channels]
    if exon_head:
        chosen[:, :, exon_rows] = np.nan if exons.slots is None else _at_slots(of_exons, exons.slots)
    return Reduced(statistics, chosen, genes)


def _check_shapes(oracle: Oracle, predictions: Mapping[str, FloatArray]) -> None:
    # One channel would do for any number of tracks, as NumPy sees it.
    for head in oracle.heads:
        n_channels = int(oracle.tracks.channel[oracle.tracks.head == head.name].max(initial=-1)) + 1
        shape = predictions[head.name].shape if head.name in predictions else None
        if shape is None or len(shape) != 3 or shape[1] != head.n_bins or shape[2] < n_channels:
            found = "no prediction" if shape is None else f"predictions of shape {shape}"
            raise ModelError(
                f"head {head.name} has {found}: its declaration and that of the tracks ask for (batch, {head.n_bins}, "
                f"{n_channels} channels or more)"
            )


def exon_means(values: FloatArray, bins: ExonBins, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Means over bins, of sequences or of the genes in them.

    Parameters
    ----------
    values : ndarray of float32, shape (batch, bin, channel)
    bins : ExonBins
        Of n sequences or genes.
    rows : ndarray of int64, shape (n,)
        Sequence that each of them is in.

    Returns
    -------
    ndarray of float64, shape (n, channel)
        NaN where there is no bin.
    """
    means = np.full((len(bins), values.shape[2]), np.nan)
    for i in np.flatnonzero(bins.counts()).tolist():
        means[i] = values[rows[i], bins.at(i)].mean(axis=0, dtype=np.float64)
    return means


def _at_slots(values: FloatArray, slots: BinArray) -> FloatArray:
    """Values of chosen bins, (batch, slot, channel); NaN where a slot is −1."""
    picked = values[np.arange(len(values))[:, None], slots]
    picked[slots < 0] = np.nan
    return picked


def _compact(index: npt.NDArray[np.integer[Any]]) -> slice | npt.NDArray[np.integer[Any]]:
    """The same selection as a slice where it is a run: NumPy copies those several times faster."""
    if len(index) and (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index
