"""Exon bins of a batch, for tests of oracles that measure gene expression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from builders.oracle import Exons
from chorus_store.exon_bins import ExonBins
from chorus_store.gene_bins import GeneBins

SLOTS = 32


def exons_of(masks: list[list[tuple[int, int]]], rng: np.random.Generator) -> Exons:
    """These runs of exon bins of every sequence, and some of their bins in the slots."""
    runs = np.array([run for mask in masks for run in mask], np.int32).reshape(-1, 2)
    mask = ExonBins(np.cumsum([0, *map(len, masks)]), runs[:, 0], runs[:, 1])
    slots = np.full((len(masks), SLOTS), -1, np.int32)
    for i, row in enumerate(slots):
        some = rng.permutation(mask.at(i))[:SLOTS]
        row[: len(some)] = some
    return Exons(mask, slots)


def with_genes(exons: Exons, rng: np.random.Generator) -> Exons:
    """The same, and of every sequence with exon bins three genes that share some of them."""
    rows = []
    for i in range(len(exons.mask)):
        bins = exons.mask.at(i)
        rows.append([np.sort(rng.permutation(bins)[: 1 + len(bins) // 2]) for _ in range(3 if len(bins) else 0)])
    genes = [gene for row in rows for gene in row]
    first = np.concatenate(genes)
    bins_of = ExonBins(np.cumsum([0, *map(len, genes)]), first, first + 1)
    ids = np.array([f"G{i}" for i in range(len(genes))])
    return replace(exons, genes=GeneBins(np.cumsum([0, *map(len, rows)]), ids, bins_of))
