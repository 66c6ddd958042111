"""Drawing the plan: every position, allele and bin of a background, fixed before a model is loaded.

A plan is a pure function of genome, annotations, options and the oracle's geometry, so results cannot depend
on how the work is split.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from chorus_store.annotations import CCres, Genes
from chorus_store.errors import PlanError
from chorus_store.exon_bins import ExonBins, OutputAxis, overlapping_bins
from chorus_store.gene_bins import GeneBins, GeneExons, overlapping_genes
from chorus_store.genome import Genome
from chorus_store.layout import Kind
from chorus_store.plan_options import PlanOptions
from chorus_store.plan_tables import Baselines, BoolArray, Plan, Variants, window_starts
from chorus_store.positions import (
    AUTOSOMES,
    CCRE_CHROMS,
    IntArray,
    Positions,
    StringArray,
    combine,
    draw_bins,
    draw_ccres,
    draw_exon_slots,
    draw_gene_bodies,
    draw_random_positions,
    draw_tss,
    draw_variants,
    random_spans,
    variant_spans,
)

__all__ = ["Baselines", "ExonMask", "Plan", "PlanOptions", "Variants", "build_plan", "window_starts"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ExonMask:
    """What tracks of gene expression are measured over.

    Attributes
    ----------
    exons : mapping of str to ndarray of int64, shape (m, 2)
        Per chromosome, as of `annotations.merged_exons`.
    axis : OutputAxis
        The output of these tracks.
    genes : GeneExons or None
        The same exons gene by gene, where there shall be a value for every gene.
    """

    exons: Mapping[str, IntArray]
    axis: OutputAxis
    genes: GeneExons | None = None


def build_plan(
    genome: Genome,
    genes: Genes | None,
    ccres: CCres | None,
    options: PlanOptions,
    *,
    input_length_bp: int,
    max_unknown_fraction: float,
    bins_by_resolution: Mapping[int, int],
    exon_mask: ExonMask | None = None,
) -> Plan:
    """Draw a plan.

    With all of chr1 to chr22 in the genome it is the reference's, draw for draw; with fewer, the same rules
    apply to those there are.

    Parameters
    ----------
    genome : Genome
    genes : Genes or None
        None where neither transcription start sites nor gene bodies are wanted.
    ccres : CCres or None
        None where none are wanted.
    options : PlanOptions
    input_length_bp : int
        Width of the input window, even.
    max_unknown_fraction : float
        Windows with more unknown bases are not valid.
    bins_by_resolution : mapping of int to int
        Output bins per resolution in bp; every resolution draws from a stream of its own.
    exon_mask : ExonMask or None
        None for oracles without tracks of gene expression; the rest of the plan is the same with and without.

    Raises
    ------
    PlanError
        No autosome in the genome, a chromosome shorter than the margins, annotations wanted but not given,
        nothing to draw, nothing drawn or nothing valid.
    """
    _check_request(genes, ccres, options, input_length_bp, bins_by_resolution)
    lengths = autosomes(genome)

    def valid(positions: Positions) -> BoolArray:
        return _valid(genome, positions, input_length_bp, max_unknown_fraction)

    variants = _draw_variants(genome, lengths, options, valid)
    baselines = _draw_baselines(genome, lengths, genes, ccres, options, valid, bins_by_resolution)
    plan = Plan(options, input_length_bp, max_unknown_fraction, dict(bins_by_resolution), variants, baselines)
    return plan if exon_mask is None else _with_exons(plan, exon_mask)


def _with_exons(plan: Plan, mask: ExonMask) -> Plan:
    kinds: tuple[Kind, Kind] = ("variants", "baselines")
    of_variants, of_baselines = (_exon_bins(plan, kind, mask) for kind in kinds)
    if not len(of_variants.first) + len(of_baselines.first):
        log.warning(
            "no output overlaps an exon, so tracks of gene expression get no samples; check that genome and genes "
            "are of the same assembly and name chromosomes alike"
        )
    slots = draw_exon_slots(of_baselines, plan.options.bin_slots, plan.options.bin_seed)
    return replace(
        plan,
        variants=replace(plan.variants, exons=of_variants, genes=_gene_bins(plan, "variants", mask)),
        baselines=replace(
            plan.baselines, exons=of_baselines, exon_slots=slots, genes=_gene_bins(plan, "baselines", mask)
        ),
        exon_axis=mask.axis,
    )


def _exon_bins(plan: Plan, kind: Kind, mask: ExonMask) -> ExonBins:
    return overlapping_bins(mask.exons, mask.axis, _valid_chrom(plan, kind), plan.windows(kind))


def _gene_bins(plan: Plan, kind: Kind, mask: ExonMask) -> GeneBins | None:
    if mask.genes is None:
        return None
    return overlapping_genes(mask.genes, mask.axis, _valid_chrom(plan, kind), plan.windows(kind))


def _valid_chrom(plan: Plan, kind: Kind) -> StringArray:
    """Chromosome of every position; empty where it is not valid, so that no exon is there."""
    table = plan.part(kind)
    return np.where(table.valid, table.chrom, "")


def _check_request(
    genes: Genes | None,
    ccres: CCres | None,
    options: PlanOptions,
    input_length_bp: int,
    bins_by_resolution: Mapping[int, int],
) -> None:
    wanted = options.wanted()
    if genes is None and wanted["tss"] + wanted["gene_body"]:
        raise PlanError("transcription start sites and gene bodies need genes: give --gtf, or ask for 0 of them")
    if ccres is None and wanted["ccre"]:
        raise PlanError("the cCRE stratum needs cCREs: give --ccres, or ask for 0 of every class")
    if not options.n_variants + sum(wanted.values()):
        raise PlanError("there is nothing to draw: all sizes are 0")
    if input_length_bp % 2:
        raise PlanError(f"the input window must be of even length, not {input_length_bp} bp")
    for resolution, n_bins in bins_by_resolution.items():
        if n_bins < options.bin_slots:
            raise PlanError(
                f"{options.bin_slots} bins per position are wanted, but the output has {n_bins}; use fewer "
                f"--bin-slots (resolution {resolution} bp)"
            )


def autosomes(genome: Genome) -> dict[str, int]:
    """Lengths of the autosomes that the genome has, in order.

    Raises
    ------
    PlanError
        It has none.
    """
    lengths = {chrom: genome.lengths[chrom] for chrom in AUTOSOMES if chrom in genome.lengths}
    if not lengths:
        raise PlanError(
            f"{genome.path} has none of chr1 … chr22 (it has {', '.join(list(genome.lengths)[:5])}, …); "
            "names must be those of UCSC and GENCODE, with the prefix 'chr'"
        )
    return lengths


def _check_spans(spans: Mapping[str, tuple[int, int]], lengths: Mapping[str, int], margin_bp: int, option: str) -> None:
    for chrom, (first, last) in spans.items():
        if last < first:
            raise PlanError(
                f"{chrom} has {lengths[chrom]:,} bp, which leaves nothing between margins of {margin_bp:,} "
                f"bp; use a smaller {option}"
            )


def _draw_variants(
    genome: Genome, lengths: Mapping[str, int], options: PlanOptions, valid: Callable[[Positions], BoolArray]
) -> Variants:
    spans = variant_spans(lengths, options.variant_margin_bp)
    if options.n_variants:
        _check_spans(spans, lengths, options.variant_margin_bp, "--variant-margin-bp")

    def base_at(chrom: str, pos: int) -> int:
        return int(genome.fetch(chrom, pos - 1, pos)[0])

    positions, ref, alt = draw_variants(spans, base_at, options.n_variants, options.variant_seed)
    usable = _checked("variants", options.n_variants, positions, valid)
    return Variants(positions.chrom, positions.pos, ref, alt, np.full(len(positions), "random"), usable)


def _draw_baselines(
    genome: Genome,
    lengths: Mapping[str, int],
    genes: Genes | None,
    ccres: CCres | None,
    options: PlanOptions,
    valid: Callable[[Positions], BoolArray],
    bins_by_resolution: Mapping[int, int],
) -> Baselines:
    spans = random_spans(lengths, options.random_margin_bp)
    if options.n_random:
        _check_spans(spans, lengths, options.random_margin_bp, "--random-margin-bp")
    rng = random.Random(options.random_seed)
    chroms = list(lengths)
    strata = {"random": draw_random_positions(rng, spans, options.n_random)}
    if ccres is not None:
        strata["ccre"] = _draw_ccres(genome, lengths, ccres, options)
    if genes is not None:
        strata["tss"] = draw_tss(genes, chroms, options.n_tss, options.tss_seed)
        strata["gene_body"] = draw_gene_bodies(genes, chroms, options.n_gene_bodies, options.gene_body_seed)
    wanted = options.wanted()
    for name, positions in strata.items():
        if wanted[name] and not len(positions):
            log.warning(
                "no position of stratum %s lies on the chromosomes of the genome (%s)",
                name,
                ", ".join(chroms),
            )
    positions, stratum = combine(rng, strata)
    usable = _checked("baseline positions", sum(wanted.values()), positions, valid)
    bins = {}
    for resolution, n_bins in bins_by_resolution.items():
        bins[resolution] = np.full((len(positions), options.bin_slots), -1, np.int32)
        bins[resolution][usable] = draw_bins(int(usable.sum()), n_bins, options.bin_slots, options.bin_seed)
    return Baselines(positions.chrom, positions.pos, stratum, usable, bins)


def _draw_ccres(genome: Genome, lengths: Mapping[str, int], ccres: CCres, options: PlanOptions) -> Positions:
    # The reference draws from chrX whether or not it scores there.
    chroms = [chrom for chrom in CCRE_CHROMS if len(lengths) == len(AUTOSOMES) or chrom in genome.lengths]
    present = set(ccres.category[np.isin(ccres.chrom, chroms)].tolist())
    absent = [name for name, n in options.ccre_counts.items() if n and name not in present]
    if absent:
        log.warning("no cCRE of class %s on the chromosomes of the genome; left out", ", ".join(absent))
    return draw_ccres(ccres, chroms, options.ccre_counts, options.ccre_seed)


def _checked(what: str, wanted: int, positions: Positions, valid: Callable[[Positions], BoolArray]) -> BoolArray:
    """Which positions are valid; PlanError where some were wanted and none was drawn or is valid."""
    usable = valid(positions)
    if wanted and not len(positions):
        raise PlanError(
            f"{wanted:,} {what} were wanted and none could be drawn; check that genome and annotations "
            "are of the same assembly and name chromosomes alike"
        )
    if wanted and not usable.any():
        raise PlanError(
            f"none of {len(positions):,} {what} has a window that lies in its contig and is known well "
            "enough; check the genome, or use larger margins"
        )
    if len(positions) < wanted:
        log.info("%d of %d %s drawn", len(positions), wanted, what)
    return usable


def _valid(genome: Genome, positions: Positions, input_length_bp: int, max_unknown: float) -> BoolArray:
    """Whether the window lies in a contig of the genome and no more than ``max_unknown`` of it is unknown."""
    valid = np.zeros(len(positions), np.bool_)
    start = window_starts(positions.pos, input_length_bp)
    end = start + input_length_bp
    for chrom in np.unique(positions.chrom).tolist():
        inside = (positions.chrom == chrom) & (start >= 0) & (end <= genome.lengths.get(chrom, 0))
        if inside.any():
            valid[inside] = genome.unknown_fraction(chrom, start[inside], end[inside]) <= max_unknown
    return valid
