"""Exon bins of a batch, and a gene on a chromosome, for tests of oracles that measure gene expression."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

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


def write_one_gene(folder: Path) -> None:
    """60,000 bases of chr20 as ``g.fa``, and as ``g.gtf`` a coding gene of one exon in their middle."""
    bases = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(5).integers(0, 4, 60_000)]
    (folder / "g.fa").write_text(f">chr20\n{bases.tobytes().decode()}\n")
    notes = 'gene_id "G"; gene_type "protein_coding"; gene_name "G";'
    lines = [f"chr20\tt\t{feature}\t28001\t32000\t.\t+\t.\t{notes}\n" for feature in ("gene", "exon")]
    (folder / "g.gtf").write_text("".join(lines))
