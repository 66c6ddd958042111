"""Facts → the reference's reservoir, offered in plan order: position after position and, of each, track after track."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chorus_store.budget import RESERVOIR_DTYPE, RESERVOIR_POSITIONS, Sampler, most_samples
from chorus_store.facts import FactStore
from chorus_store.layers import effects
from chorus_store.reservoir import Reservoir

Values = npt.NDArray[Any]


def replay(store: FactStore, cdf: str, layers: list[str], sampler: Sampler, scratch: Path) -> Path | None:
    """Fill the reference's reservoir from the facts.

    Where tracks have one value per gene, a track takes all genes of a position, in the order of the plan, before it is
    the next track's turn; as it does with the bins of a position.

    Parameters
    ----------
    store : FactStore
        Complete facts.
    cdf : str
        Which.
    layers : list of str, length n_tracks
        Layer of every track.
    sampler : Sampler
    scratch : Path
        Existing folder for what survives: ``kept.npy`` (track, capacity) and ``seen.npy`` (track,).

    Returns
    -------
    Path or None
        The folder; None where nothing would be thinned, and so nothing was done.
    """
    shape = store.shape
    if not sampler.thins(most_samples(shape, cdf)):
        return None
    reservoir = Reservoir(shape.n_tracks, sampler.capacity, dtype=RESERVOIR_DTYPE[cdf])
    gene_rows = store.gene_rows(cdf)
    offers = _with_genes(store, cdf, layers, gene_rows) if len(gene_rows) else _offers(store, cdf, layers)
    for values, batch in offers:
        reservoir.offer(values, batch=batch)
    np.save(scratch / "kept.npy", reservoir.kept)
    np.save(scratch / "seen.npy", reservoir.seen)
    return scratch


def _offers(store: FactStore, cdf: str, layers: list[str]) -> Iterator[tuple[Values, int]]:
    """Blocks of samples, shape (samples, tracks), and how many samples a position has."""
    shape, array = store.shape, store.shape.arrays_of(cdf)[0]
    positions, slots = shape.positions(array.kind), shape.slots(array)
    step = min(shape.block, RESERVOIR_POSITIONS)
    for start in range(0, positions, step):
        yield _values(store, cdf, slice(start * slots, min(start + step, positions) * slots), layers), slots


def _with_genes(
    store: FactStore, cdf: str, layers: list[str], gene_rows: npt.NDArray[np.intp]
) -> Iterator[tuple[Values, int]]:
    """The samples of one position after the other: as many as it has genes, of which other tracks take the first."""
    kind, position = store.shape.arrays_of(cdf)[0].kind, 0
    offset = store.gene_offset(kind)
    first, count = store.shape.first_genes(kind, offset), np.diff(offset)
    of_genes = [layers[row] for row in gene_rows]
    for block, _ in _offers(store, cdf, layers):
        here = slice(position, position + len(block))
        start, stop = int(first[here][0]), int((first + count)[here][-1])
        genes = _values(store, f"gene_{cdf}", slice(start, stop), of_genes)
        block[:, gene_rows] = np.nan
        for sample, at, n in zip(block, (first[here] - start).tolist(), count[here].tolist(), strict=True):
            values = np.full((max(n, 1), len(sample)), np.nan, block.dtype)
            values[0] = sample
            values[:n, gene_rows] = genes[at : at + n]
            yield values, len(values)
        position = here.stop


def _values(store: FactStore, facts: str, rows: slice, layers: list[str]) -> Values:
    """Some samples of all tracks of some facts, shape (samples, tracks); effects in float64."""
    if not facts.endswith("effect"):
        return store.read_rows(f"{facts}/value", rows)
    ref, alt = (store.read_rows(f"{facts}/{allele}", rows) for allele in ("ref", "alt"))
    return effects(ref.T, alt.T, layers).T
