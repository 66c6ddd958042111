"""Does an oracle do what it declares? Checks that any loaded adapter must pass.

Every check takes a loaded `Oracle`, asks it through `Oracle.reduce` alone, and returns its findings as
sentences; an empty list means that it conforms. `check` runs them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from builders.oracle import BinArray, Exons, FloatArray, Head, Oracle, Reduced, RnaOracle
from chorus_store.exon_bins import ExonBins
from chorus_store.gene_bins import GeneBins
from chorus_store.layers import LAYERS
from chorus_store.sequence import Codes

#: Bins on either side of a probe in which its effect is looked for.
_NEIGHBOURHOOD = 16
#: How far the centre of an effect may be from where it is declared: the larger of the two.
_TOLERANCE_BINS, _TOLERANCE_BP = 1.5, 4.0
#: Relative difference of float32 products of thousands of terms that are added up in another order, as they are where
#: other bins are asked for.
_ROUNDING = 1e-5


def check(
    oracle: Oracle,
    layers: Mapping[str, int] | None = None,
    seed: int = 0,
    *,
    repeats: int = 2,
    trained: bool = False,
) -> list[str]:
    """Run every check.

    Parameters
    ----------
    oracle : Oracle
        Loaded.
    layers : mapping of layer to int, or None
        Expected number of tracks per layer; None leaves this check out.
    seed : int
        Of the random sequences.
    repeats : int
        Of the search for the centre of an effect; more for models that spread effects over many bins.
    trained : bool
        Whether the weights are trained ones: their effects lie where they have learnt to look, so centres are not
        searched for.

    Returns
    -------
    list of str
        What does not conform.
    """
    findings = check_declaration(oracle)
    if layers is not None:
        findings += check_layers(oracle, layers)
    if findings:  # the other checks lean on the declaration
        return findings
    return [finding for model in models(oracle) for finding in _check_model(model, seed, repeats, trained)]


def models(oracle: Oracle) -> Iterator[Oracle]:
    """The oracle; where every track has a model of its own, those of the first track of every layer."""
    if oracle.tracks_per_unit is None:
        yield oracle
        return
    for row in np.unique(oracle.tracks.layer, return_index=True)[1].tolist():
        yield oracle.for_tracks(oracle.tracks.track[row : row + 1])


def _check_model(oracle: Oracle, seed: int, repeats: int, trained: bool) -> list[str]:
    return (
        check_reduce(oracle, seed)
        + check_bins(oracle, seed)
        + check_exons(oracle, seed)
        + check_genes(oracle, seed)
        + check_batch(oracle, seed)
        + ([] if trained else check_geometry(oracle, seed, repeats))
        + check_response(oracle, seed)
    )


def check_declaration(oracle: Oracle) -> list[str]:
    """Outputs lie inside the input, the variant base inside the outputs; every track belongs to a head."""
    findings = []
    variant = oracle.input_length_bp // 2 - 1
    for head in _binned(oracle):
        end = head.offset_bp + head.n_bins * head.resolution_bp
        if not 0 <= head.offset_bp <= variant < end <= oracle.input_length_bp:
            findings.append(
                f"head {head.name} covers bases {head.offset_bp} to {end}: it must lie inside the input of "
                f"{oracle.input_length_bp} bp and hold the variant base {variant}"
            )
    unknown = sorted(set(oracle.tracks.head.tolist()) - {head.name for head in oracle.heads})
    if unknown:
        findings.append(f"tracks name heads that are not declared: {', '.join(unknown)}")
    of_exons = sorted(set(oracle.tracks.head[oracle.exon_rows].tolist()))
    if len(of_exons) > 1:
        findings.append(f"tracks of gene expression must be of one head, not of {', '.join(of_exons)}")
    if of_exons and not isinstance(oracle, RnaOracle):
        findings.append("there are tracks of gene expression: it must be an RnaOracle, whose reduce takes exons")
    return findings


def check_layers(oracle: Oracle, expected: Mapping[str, int]) -> list[str]:
    """The track table has the expected number of tracks per layer."""
    counts = oracle.tracks.layer_counts()
    return [
        f"layer {layer} has {counts.get(layer, 0)} tracks instead of {expected.get(layer, 0)}"
        for layer in sorted(counts.keys() | expected.keys())
        if counts.get(layer, 0) != expected.get(layer, 0)
    ]


def check_reduce(oracle: Oracle, seed: int = 0, rtol: float = _ROUNDING) -> list[str]:
    """Statistics of binned heads equal float64 sums over the bins of their window, asked for one by one."""
    codes = _random_codes(oracle, 1, seed)
    findings = []
    for group in oracle.window_groups():
        head = group.head
        if head.resolution_bp == 0 or any(
            LAYERS[name].aggregation != "sum" for name in oracle.tracks.layer[group.rows]
        ):
            continue
        window = np.arange(group.first, group.stop)
        found = reduced(oracle, codes, _bins_everywhere(oracle, head, window, 1))
        if found.bins is None:
            findings.append(f"head {head.name}: bins were asked for and none came")
            continue
        sums = found.bins[:, :, group.rows].sum(axis=1, dtype=np.float64)
        difference = _relative(found.statistics[:, group.rows], sums)
        if not difference <= rtol:
            findings.append(
                f"head {head.name}, bins [{group.first}, {group.stop}): statistics differ from the sums of "
                f"these bins by {difference:.1e} (relative), more than {rtol:.0e}"
            )
    return findings


def check_bins(oracle: Oracle, seed: int = 0, size: int = 8, rtol: float = 1e-4) -> list[str]:
    """Bins that lie apart, asked for in any order, come in that order, as they come one by one."""
    codes, findings = _random_codes(oracle, 1, seed), []
    for head in _binned(oracle):
        wanted = np.random.default_rng(seed).permutation(head.n_bins)[:size]
        rows = np.flatnonzero(oracle.tracks.head == head.name)
        asked = _bins_everywhere(oracle, head, wanted, 1)
        together = reduced(oracle, codes, asked).bins
        # One bin of every copy of the sequence.
        apart = reduced(oracle, np.repeat(codes, len(wanted), axis=0), {r: table.T for r, table in asked.items()}).bins
        if together is None or apart is None:
            findings.append(f"head {head.name}: bins were asked for and none came")
        elif not (difference := _relative(together[0][:, rows], apart[:, 0][:, rows])) <= rtol:
            findings.append(
                f"head {head.name}: bins {', '.join(map(str, wanted.tolist()))}, asked for together, differ from the "
                f"same bins asked for one by one by {difference:.1e} (relative), more than {rtol:.0e}"
            )
    return findings


def check_exons(oracle: Oracle, seed: int = 0, rtol: float = _ROUNDING) -> list[str]:
    """Tracks of gene expression are means over the exon bins, NaN where there is none, and leave the others alone."""
    head, rows = oracle.exon_head(), oracle.exon_rows
    if not isinstance(oracle, RnaOracle) or head is None:
        return []
    codes = _random_codes(oracle, 2, seed)
    edge, middle = np.arange(3), head.n_bins // 2 + np.arange(2)
    asked = _bins_everywhere(oracle, head, np.concatenate([edge, middle, middle]), 2)
    slots = np.full_like(asked[head.resolution_bp], -1)
    slots[0, :5] = asked[head.resolution_bp][0, :5]
    exons = Exons(_mask_of(slots), slots)
    found, alone = oracle.reduce(codes, asked, exons), oracle.reduce(codes, asked)
    findings = []
    if found.bins is None or alone.bins is None:
        return [f"head {head.name}: bins were asked for and none came"]
    means = found.bins[:1, :5, rows].mean(axis=1, dtype=np.float64)
    difference = _relative(found.statistics[:1, rows], means)
    if not difference <= rtol:
        findings.append(
            f"head {head.name}: statistics of gene expression differ from the means of the exon bins by "
            f"{difference:.1e} (relative), more than {rtol:.0e}"
        )
    unmeasured = (
        found.statistics[1, rows],
        found.bins[slots < 0][:, rows],
        alone.statistics[:, rows],
        alone.bins[:, :, rows],
    )
    if not all(np.isnan(values).all() for values in unmeasured):
        findings.append(f"head {head.name}: gene expression has values where there is no exon bin; NaN is expected")
    others = np.setdiff1d(np.arange(len(oracle.tracks)), rows)
    for with_exons, without in (
        (found.statistics[:, others], alone.statistics[:, others]),
        (found.bins[:, :, others], alone.bins[:, :, others]),
    ):
        if not _relative(with_exons, without) <= rtol:
            findings.append("tracks that are not of gene expression depend on exons")
    return findings


def check_genes(oracle: Oracle, seed: int = 0, rtol: float = _ROUNDING) -> list[str]:
    """Genes that are asked for one by one have the mean over their own bins each, and leave everything else alone."""
    head, rows = oracle.exon_head(), oracle.exon_rows
    if not isinstance(oracle, RnaOracle) or head is None:
        return []
    codes, wanted = _random_codes(oracle, 2, seed), np.concatenate([np.arange(3), head.n_bins // 2 + np.arange(2)])
    asked = _bins_everywhere(oracle, head, wanted, 2)
    slots = asked[head.resolution_bp]
    # Two genes that overlap at the first sequence, one at the second; by their places in the slots.
    places = [(0, [0, 1, 2]), (0, [2, 3, 4]), (1, [1, 3])]
    bins = _mask_of([wanted[place].astype(np.int32) for _, place in places])
    genes = GeneBins(np.array([0, 2, 3]), np.array(["A", "B", "C"]), bins)
    found = oracle.reduce(codes, asked, Exons(_mask_of(slots), slots, genes))
    without = oracle.reduce(codes, asked, Exons(_mask_of(slots), slots))
    if found.genes is None or found.bins is None or without.bins is None:
        return [f"head {head.name}: genes were asked for one by one and none came"]
    means = [found.bins[sequence, place][:, rows].mean(axis=0, dtype=np.float64) for sequence, place in places]
    difference = _relative(found.genes, np.stack(means))
    findings = []
    if not difference <= rtol:
        findings.append(
            f"head {head.name}: values of single genes differ from the means of their exon bins by "
            f"{difference:.1e} (relative), more than {rtol:.0e}"
        )
    if not max(_relative(found.statistics, without.statistics), _relative(found.bins, without.bins)) <= rtol:
        findings.append("other facts depend on whether genes are asked for one by one")
    return findings


def check_batch(oracle: Oracle, seed: int = 0, size: int = 3, rtol: float = 1e-4) -> list[str]:
    """A batch gives what its sequences give one by one; a device may add up in another order for another size."""
    codes = _random_codes(oracle, size, seed)
    rng = np.random.default_rng(seed)
    bins = {
        resolution: rng.integers(0, n_bins, (size, 8), dtype=np.int32)
        for resolution, n_bins in oracle.bins_by_resolution().items()
    }
    batch = reduced(oracle, codes, bins)
    singles = [reduced(oracle, codes[i : i + 1], {r: b[i : i + 1] for r, b in bins.items()}) for i in range(size)]
    findings = []
    differences = {"statistics": _relative(batch.statistics, np.concatenate([one.statistics for one in singles]))}
    if batch.bins is not None:
        parts = [one.bins for one in singles if one.bins is not None]
        differences["bins"] = _relative(batch.bins, np.concatenate(parts))
    for what, difference in differences.items():
        if not difference <= rtol:
            findings.append(
                f"{what} of a batch of {size} differ from those of its sequences by "
                f"{difference:.1e} (relative), more than {rtol:.0e}"
            )
    return findings


def check_geometry(oracle: Oracle, seed: int = 0, repeats: int = 2) -> list[str]:
    """The effect of a changed base is centred where the declaration puts the base.

    Probed at the variant base and a quarter of the output to either side, so that a shifted, stretched or
    reversed output shows. The centre is that of the squared changes, over tracks and nearby bins; single bins
    are not compared, because the variant base is the last of its bin and random weights are not symmetric.
    """
    findings = []
    for head in _binned(oracle):
        tolerance = max(_TOLERANCE_BINS, _TOLERANCE_BP / head.resolution_bp)
        quarter = head.n_bins * head.resolution_bp // 4
        for shift in (0, -quarter, quarter):
            position = oracle.input_length_bp // 2 - 1 + shift
            # In bins, measured between their middles.
            declared = (position + 0.5 - head.offset_bp) / head.resolution_bp - 0.5
            found = _centre_of_change(oracle, head, position, round(declared), seed, repeats)
            if np.isnan(found):
                findings.append(
                    f"head {head.name}: a change of base {position} changes no bin within {_NEIGHBOURHOOD} of "
                    f"bin {declared:.1f}, where the declaration puts it"
                )
            elif abs(found - declared) > tolerance:
                findings.append(
                    f"head {head.name}: changes of base {position} are centred on bin {found:.1f}, "
                    f"the declaration says {declared:.1f}"
                )
    return findings


def check_response(oracle: Oracle, seed: int = 0) -> list[str]:
    """A change of the variant base changes what heads without bins predict; where it lies, they do not say."""
    variant = oracle.input_length_bp // 2 - 1
    reference = _random_codes(oracle, 1, seed)
    alternate = reference.copy()
    alternate[:, variant] = (alternate[:, variant] + 1) % 4
    changed = oracle.reduce(alternate).statistics != oracle.reduce(reference).statistics
    return [
        f"head {head.name}: a change of the variant base {variant} changes no track"
        for head in oracle.heads
        if head.resolution_bp == 0 and not changed[:, oracle.tracks.head == head.name].any()
    ]


def _centre_of_change(oracle: Oracle, head: Head, position: int, declared: int, seed: int, repeats: int) -> float:
    first = max(0, declared - _NEIGHBOURHOOD)
    nearby = np.arange(first, min(head.n_bins, declared + _NEIGHBOURHOOD + 1))
    reference = _random_codes(oracle, repeats, seed)
    alternate = reference.copy()
    alternate[:, position] = (alternate[:, position] + 1) % 4
    rows = np.flatnonzero(oracle.tracks.head == head.name)
    wanted = _bins_everywhere(oracle, head, nearby, repeats)
    ref, alt = (reduced(oracle, codes, wanted).bins for codes in (reference, alternate))
    if ref is None or alt is None:
        return np.nan
    change = np.square(alt - ref, dtype=np.float64)[:, :, rows].sum(axis=(0, 2))
    return float(np.average(nearby, weights=change)) if change.any() else np.nan


def reduced(oracle: Oracle, codes: Codes, bins: Mapping[int, BinArray]) -> Reduced:
    """Facts of a batch, as if exons lay on the bins that are asked for."""
    head = oracle.exon_head()
    if not isinstance(oracle, RnaOracle) or head is None:
        return oracle.reduce(codes, bins or None)
    slots = bins[head.resolution_bp]
    return oracle.reduce(codes, bins, Exons(_mask_of(slots), slots))


def _mask_of(slots: Iterable[BinArray]) -> ExonBins:
    """The bins of every row, without −1, as a mask."""
    rows = [np.unique(row[row >= 0]) for row in slots]
    first = np.concatenate(rows)
    return ExonBins(np.cumsum([0, *map(len, rows)]), first, first + 1)


def _binned(oracle: Oracle) -> list[Head]:
    return [head for head in oracle.heads if head.resolution_bp > 0]


def _random_codes(oracle: Oracle, n: int, seed: int) -> Codes:
    return np.random.default_rng(seed).integers(0, 4, (n, oracle.input_length_bp), dtype=np.uint8)


def _bins_everywhere(oracle: Oracle, head: Head, wanted: npt.NDArray[np.intp], batch: int) -> dict[int, BinArray]:
    """A request for these bins of one head; the other resolutions must be asked for as many."""
    request = {r: np.zeros((batch, len(wanted)), np.int32) for r in oracle.bins_by_resolution()}
    request[head.resolution_bp][:] = wanted
    return request


def _relative(found: FloatArray, expected: npt.NDArray[np.floating]) -> float:
    """Largest difference, relative to the expected value or, for small ones, to the typical value."""
    scale = np.maximum(np.abs(expected), np.abs(expected).mean())
    return float((np.abs(found - expected) / np.where(scale > 0, scale, 1)).max())
