"""Random draws of positions, alleles and bins.

Each function consumes its random stream exactly as the reference does, so that the same inputs and seeds give
the same draws. `random.Random(seed)` is the stream that `random.seed(seed)` starts. Positions are 1-based.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chorus_store.annotations import CCRE_CLASSES, CCres, Genes
from chorus_store.bars import patient
from chorus_store.exon_bins import ExonBins
from chorus_store.sequence import BASES, UNKNOWN

IntArray = npt.NDArray[np.int64]
BinArray = npt.NDArray[np.int32]
StringArray = npt.NDArray[np.str_]

AUTOSOMES = tuple(f"chr{i}" for i in range(1, 23))
#: Chromosomes whose cCREs are drawn.
CCRE_CHROMS = (*AUTOSOMES, "chrX")
#: No variant and no random position lies beyond this base.
_LAST_BASE = 200_000_000
#: Gene bodies are midpoints of genes longer than this.
_SHORTEST_BODY = 10_000


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions in the order drawn.

    Attributes
    ----------
    chrom : ndarray of str, shape (n,)
    pos : ndarray of int64, shape (n,)
        1-based.
    """

    chrom: StringArray
    pos: IntArray

    def __len__(self) -> int:
        return len(self.pos)

    def take(self, rows: npt.ArrayLike) -> Positions:
        """The same positions with only these rows, in this order."""
        index = np.asarray(rows, np.intp)
        return Positions(self.chrom[index], self.pos[index])


def draw_variants(
    spans: Mapping[str, tuple[int, int]], base_at: Callable[[str, int], int], n: int, seed: int
) -> tuple[Positions, StringArray, StringArray]:
    """Single-nucleotide variants, as many on every chromosome.

    A draw that hits an unknown base is lost, so that there may be fewer than ``n``.

    Parameters
    ----------
    spans : mapping of str to (int, int)
        First and last position to draw from, per chromosome in drawing order; see `variant_spans`.
    base_at : callable
        Base code at a chromosome and 1-based position.
    n : int
        Variants wanted.
    seed : int
        Of Python's generator.

    Returns
    -------
    positions : Positions
    ref, alt : ndarray of str, shape (len(positions),)
    """
    rng = random.Random(seed)
    rows: list[tuple[str, int, str, str]] = []
    for chrom, (first, last) in spans.items():
        for _ in range(n // len(spans) + 1):
            if len(rows) >= n:
                break
            pos = rng.randint(first, last)
            code = base_at(chrom, pos)
            if code != UNKNOWN:
                ref = BASES[code]
                rows.append((chrom, pos, ref, rng.choice(BASES.replace(ref, ""))))
    rng.shuffle(rows)
    chrom_, pos_, ref_, alt_ = zip(*rows, strict=True) if rows else ((), (), (), ())
    return _positions(chrom_, pos_), np.array(ref_, "<U1"), np.array(alt_, "<U1")


def variant_spans(lengths: Mapping[str, int], margin_bp: int) -> dict[str, tuple[int, int]]:
    """Where variants are drawn: ``margin_bp`` from both ends of every chromosome, and below 200 Mb.

    Examples
    --------
    >>> variant_spans({"chr20": 64_444_167}, 5_000_000)
    {'chr20': (5000000, 59444167)}
    """
    return {chrom: (margin_bp, min(length - margin_bp, _LAST_BASE)) for chrom, length in lengths.items()}


def random_spans(lengths: Mapping[str, int], margin_bp: int) -> dict[str, tuple[int, int]]:
    """Where random positions are drawn: as `variant_spans`, but with a tenth of the margin at the end of a
    chromosome of which the whole margin would leave nothing.

    Examples
    --------
    >>> random_spans({"chr20": 64_444_167, "small": 15_000_000}, 10_000_000)
    {'chr20': (10000000, 54444167), 'small': (10000000, 14000000)}
    """
    spans = variant_spans(lengths, margin_bp)
    for chrom, (first, last) in spans.items():
        if last <= first:
            spans[chrom] = (first, lengths[chrom] - margin_bp // 10)
    return spans


def draw_random_positions(rng: random.Random, spans: Mapping[str, tuple[int, int]], n: int) -> Positions:
    """Uniform positions, as many on every chromosome.

    Parameters
    ----------
    rng : random.Random
        Left where the reference shuffles the baselines with it; pass it on to `combine`.
    spans : mapping of str to (int, int)
        First and last position per chromosome, in drawing order; see `random_spans`.
    n : int
        Positions wanted.
    """
    rows: list[tuple[str, int]] = []
    for chrom, (first, last) in spans.items():
        count = min(n // len(spans) + 1, n - len(rows))
        rows.extend([(chrom, rng.randint(first, last)) for _ in range(count)])
    return _positions(*zip(*rows, strict=True)) if rows else _positions((), ())


def draw_ccres(ccres: CCres, chroms: Sequence[str], counts: Mapping[str, int], seed: int) -> Positions:
    """Centres of cCREs, a number of each class.

    Parameters
    ----------
    ccres : CCres
        In file order.
    chroms : sequence of str
        Chromosomes to draw from.
    counts : mapping of str to int
        Wanted per class of `CCRE_CLASSES`; all there are where there are fewer.
    seed : int
        Of Python's generator.
    """
    rng = random.Random(seed)
    usable = np.isin(ccres.chrom, chroms)
    rows: list[int] = []
    for name in CCRE_CLASSES:
        members = np.flatnonzero(usable & (ccres.category == name))
        drawn = rng.sample(range(len(members)), min(counts.get(name, 0), len(members)))
        rows.extend(members[drawn].tolist())
    rng.shuffle(rows)
    return Positions(ccres.chrom, (ccres.start + ccres.end) // 2).take(rows)


def draw_tss(genes: Genes, chroms: Sequence[str], n: int, seed: int) -> Positions:
    """Transcription start sites of protein-coding genes, one per gene name.

    Parameters
    ----------
    genes : Genes
        In file order.
    chroms : sequence of str
        Chromosomes to draw from.
    n : int
        Wanted; all there are, ordered by gene name, where there are no more.
    seed : int
        Of Python's generator.
    """
    start_site = np.where(genes.strand == "+", genes.start, genes.end)
    rows = _first_per_name(genes, _coding(genes, chroms))
    return Positions(genes.chrom, start_site).take(_sample(rows, n, seed))


def draw_gene_bodies(genes: Genes, chroms: Sequence[str], n: int, seed: int) -> Positions:
    """Midpoints of protein-coding genes longer than 10 kb, one per gene name; parameters as of `draw_tss`."""
    long_enough = genes.end - genes.start > _SHORTEST_BODY
    rows = _first_per_name(genes, _coding(genes, chroms) & long_enough)
    return Positions(genes.chrom, (genes.start + genes.end) // 2).take(_sample(rows, n, seed))


def combine(rng: random.Random, strata: Mapping[str, Positions]) -> tuple[Positions, StringArray]:
    """Join the strata in this order, then shuffle.

    Parameters
    ----------
    rng : random.Random
        The stream that drew the random positions.
    strata : mapping of str to Positions

    Returns
    -------
    positions : Positions
    stratum : ndarray of str, shape (len(positions),)
    """
    joined = Positions(
        np.concatenate([positions.chrom for positions in strata.values()]),
        np.concatenate([positions.pos for positions in strata.values()]),
    )
    labels = np.repeat(np.array(list(strata), np.str_), [len(positions) for positions in strata.values()])
    order = list(range(len(joined)))
    rng.shuffle(order)
    return joined.take(order), labels[np.array(order, np.intp)]


def draw_bins(n_positions: int, n_bins: int, slots: int, seed: int) -> BinArray:
    """Distinct output bins for every position, in the order drawn.

    Parameters
    ----------
    n_positions : int
        Valid positions; the others draw nothing.
    n_bins : int
        Bins of the output.
    slots : int
        Bins per position, at most ``n_bins``.
    seed : int
        Of NumPy's legacy generator.

    Returns
    -------
    ndarray of int32, shape (n_positions, slots)

    Examples
    --------
    >>> draw_bins(2, 5, 3, seed=999).shape
    (2, 3)
    """
    rng = np.random.RandomState(seed)
    bins = np.empty((n_positions, slots), np.int32)
    # All bins are shuffled for a few of them, as in the reference: with a million of them it takes minutes.
    for row in patient(bins, of=f"draws from {n_bins:,} bins", unit="positions"):
        row[:] = rng.choice(n_bins, slots, replace=False)
    return bins


def draw_exon_slots(exons: ExonBins, slots: int, seed: int) -> BinArray:
    """Exon bins whose values are kept: all of a position, or as many as there are slots.

    Parameters
    ----------
    exons : ExonBins
        A position that has no more bins than slots draws nothing.
    slots : int
        Bins per position.
    seed : int
        Of NumPy's legacy generator; a stream of its own, so that `draw_bins` gives the same with and without exons.

    Returns
    -------
    ndarray of int32, shape (len(exons), slots)
        −1 where a position has fewer.
    """
    rng = np.random.RandomState(seed)
    chosen = np.full((len(exons), slots), -1, np.int32)
    for row, n_bins in enumerate(exons.counts().tolist()):
        bins = exons.at(row)
        chosen[row, : min(n_bins, slots)] = bins if n_bins <= slots else rng.choice(bins, slots, replace=False)
    return chosen


def _positions(chrom: Sequence[str], pos: Sequence[int]) -> Positions:
    return Positions(np.array(chrom, np.str_), np.array(pos, np.int64))


def _coding(genes: Genes, chroms: Sequence[str]) -> npt.NDArray[np.bool_]:
    usable: npt.NDArray[np.bool_] = (genes.gene_type == "protein_coding") & np.isin(genes.chrom, chroms)
    return usable


def _first_per_name(genes: Genes, usable: npt.NDArray[np.bool_]) -> IntArray:
    """Rows of the first usable record of every gene name, ordered by name (code points)."""
    rows = np.flatnonzero(usable)
    _, first = np.unique(genes.gene_name[rows], return_index=True)
    return rows[first]


def _sample(rows: IntArray, n: int, seed: int) -> IntArray:
    if len(rows) <= n:
        return rows
    return rows[random.Random(seed).sample(range(len(rows)), n)]
