"""Exon bins of a batch, for tests of oracles that measure gene expression."""

from __future__ import annotations

import numpy as np

from builders.oracle import Exons
from chorus_store.exon_bins import ExonBins

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
