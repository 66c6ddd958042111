"""Exons gene by gene on an output: the genes of every position's window, and the bins that overlap each one's exons.

Where tracks of gene expression have one value per gene, these are part of the plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from chorus_store.exon_bins import ExonBins, IntArray, OutputAxis, StringArray, overlapping_bins
from chorus_store.intervals import merge_intervals, ranges

#: More than a chromosome has base pairs.
_APART_BP = 2**32


@dataclass(frozen=True, eq=False)
class GeneExons:
    """Exons of genes, those of each gene merged; ordered by chromosome, start of the first exon and identifier.

    Attributes
    ----------
    chrom, gene_id : ndarray of str, shape (gene,)
    offset : ndarray of int64, shape (gene + 1,)
        Gene i has the exons ``offset[i]`` to ``offset[i + 1]``.
    exons : ndarray of int64, shape (exon, 2)
        0-based half-open intervals, within a gene ascending and disjoint.
    """

    chrom: StringArray
    gene_id: StringArray
    offset: IntArray
    exons: IntArray

    @classmethod
    def of(cls, found: Mapping[tuple[str, str], list[tuple[int, int]]]) -> GeneExons:
        """From intervals, in any order, by chromosome and identifier; one gene or more.

        Examples
        --------
        >>> genes = GeneExons.of({("chr1", "B"): [(40, 60), (50, 70)], ("chr1", "A"): [(80, 90), (10, 20)]})
        >>> genes.gene_id.tolist(), genes.offset.tolist(), genes.exons.tolist()
        (['A', 'B'], [0, 2, 3], [[10, 20], [80, 90], [40, 70]])
        """
        merged = {gene: merge_intervals(np.array(exons, np.int64)) for gene, exons in found.items()}
        order = sorted(merged, key=lambda gene: (gene[0], merged[gene][0, 0], gene[1]))
        chrom, gene_id = (np.array(names, np.str_) for names in zip(*order, strict=True))
        offset = np.cumsum([0, *(len(merged[gene]) for gene in order)])
        return cls(chrom, gene_id, offset, np.concatenate([merged[gene] for gene in order]))

    def merged(self) -> dict[str, IntArray]:
        """Exons of all genes together, merged, per chromosome; as `annotations.merged_exons` has them."""
        chrom = np.repeat(self.chrom, np.diff(self.offset))
        return {name: merge_intervals(self.exons[chrom == name]) for name in np.unique(chrom).tolist()}


@dataclass(frozen=True, eq=False)
class GeneBins:
    """Genes of n positions and the bins of each, position after position.

    Within a position genes are in the order of `GeneExons`; every one has a bin or more.

    Attributes
    ----------
    offset : ndarray of int64, shape (n + 1,)
        Position i has the genes ``offset[i]`` to ``offset[i + 1]``.
    gene_id : ndarray of str, shape (gene,)
        A gene is there once for every position that has it.
    bins : ExonBins
        Of every gene.
    """

    offset: IntArray
    gene_id: StringArray
    bins: ExonBins

    def __len__(self) -> int:
        return len(self.offset) - 1

    def take(self, positions: npt.NDArray[np.integer]) -> GeneBins:
        """Those of some positions, in the order of their indices."""
        first, stop = self.offset[positions], self.offset[positions + 1]
        genes = ranges(first, stop)
        return GeneBins(np.concatenate([[0], np.cumsum(stop - first)]), self.gene_id[genes], self.bins.take(genes))

    def most_of(self, block: int) -> int:
        """Genes of the block of so many positions that has most, counted from the first position on.

        Examples
        --------
        >>> GeneBins(np.array([0, 2, 2, 5]), np.array(list("ABABC")), ExonBins.none(5)).most_of(2)
        3
        """
        edges = self.offset[np.minimum(np.arange(0, len(self) + block, block), len(self))]
        return int(np.diff(edges).max(initial=0))


def overlapping_genes(genes: GeneExons, axis: OutputAxis, chrom: StringArray, window_start: IntArray) -> GeneBins:
    """Genes whose exons share a base or more with the output, and the bins that do.

    Parameters
    ----------
    genes : GeneExons
    axis, chrom, window_start
        As of `exon_bins.overlapping_bins`.

    Examples
    --------
    Of two genes that overlap, one has its second exon in the output, from base 105 on, and the other two exons.

    >>> genes = GeneExons.of({("chr1", "A"): [(10, 20), (118, 126)], ("chr1", "B"): [(100, 106), (120, 130)]})
    >>> axis = OutputAxis(resolution_bp=10, n_bins=4, offset_bp=5)
    >>> found = overlapping_genes(genes, axis, np.array(["chr1"]), np.array([100]))
    >>> [(str(name), found.bins.at(i).tolist()) for i, name in enumerate(found.gene_id)]
    [('A', [1, 2]), ('B', [0, 1, 2])]
    """
    position, gene = _candidates(genes, axis, chrom, window_start)
    # Every gene on a stretch of its own, so that their exons, which overlap, are one list of disjoint intervals.
    apart = _APART_BP * np.repeat(np.arange(len(genes.gene_id)), np.diff(genes.offset))
    bins = overlapping_bins(
        {"": genes.exons + apart[:, None]}, axis, np.full(len(gene), ""), window_start[position] + _APART_BP * gene
    )
    measured = np.flatnonzero(bins.counts())
    offset = np.searchsorted(position[measured], np.arange(len(chrom) + 1))
    return GeneBins(offset, genes.gene_id[gene[measured]], bins.take(measured))


def _candidates(
    genes: GeneExons, axis: OutputAxis, chrom: StringArray, window_start: IntArray
) -> tuple[IntArray, IntArray]:
    """Pairs of a position and a gene that may reach its output, ascending."""
    start, end = genes.exons[genes.offset[:-1], 0], genes.exons[genes.offset[1:] - 1, 1]
    output_start, span = window_start + axis.offset_bp, axis.resolution_bp * axis.n_bins
    positions, found = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for name in np.unique(chrom).tolist():
        here, there = np.flatnonzero(chrom == name), np.flatnonzero(genes.chrom == name)
        first = np.searchsorted(np.maximum.accumulate(end[there]), output_start[here], side="right")
        stop = np.searchsorted(start[there], output_start[here] + span, side="left")
        positions.append(np.repeat(here, stop - first))
        found.append(there[ranges(first, stop)])
    position = np.concatenate(positions)
    order = np.argsort(position, kind="stable")
    return position[order], np.concatenate(found)[order]
