"""Layers: what a track measures, and so how its values are summed, compared and signed.

The table is the one definition of windows, formulas and pseudocounts; `window_bins` is the one definition of the
window rule. Everything else in the project asks here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from chorus_store.errors import TrackTableError

FloatArray = npt.NDArray[np.float64]
Aggregation = Literal["sum", "exon_mean", "mean"]


def log2_fold_change(ref: FloatArray, alt: FloatArray, pseudocount: float) -> FloatArray:
    """log2((alt + pc) / (ref + pc))."""
    return np.log2((alt + pseudocount) / (ref + pseudocount))


def ln_fold_change(ref: FloatArray, alt: FloatArray, pseudocount: float) -> FloatArray:
    """ln((alt + pc) / (ref + pc))."""
    return np.log((alt + pseudocount) / (ref + pseudocount))


def difference(ref: FloatArray, alt: FloatArray, pseudocount: float) -> FloatArray:
    """Alt − ref; takes a pseudocount only so that all formulas are called alike."""
    return alt - ref


FORMULAS: MappingProxyType[str, Callable[[FloatArray, FloatArray, float], FloatArray]] = MappingProxyType(
    {
        "log2_fold_change": log2_fold_change,
        "ln_fold_change": ln_fold_change,
        "difference": difference,
    }
)


@dataclass(frozen=True)
class Layer:
    """One row of the layer table.

    Attributes
    ----------
    name : str
        Canonical name, as in ``layers_per_row`` of the NPZ.
    window_bp : int
        Width of the central window; 0 where the whole output or an exon mask is used.
    aggregation : str
        ``sum`` over the window, ``exon_mean`` over exon bins, or ``mean`` over the whole output.
    formula : str
        Key of `FORMULAS`.
    pseudocount : float
        Added to both alleles by the fold changes.
    signed : bool
        Whether the sign of an effect is kept; unsigned layers keep its absolute value.
    """

    name: str
    window_bp: int
    aggregation: Aggregation
    formula: str
    pseudocount: float
    signed: bool

    def effect(self, ref: npt.ArrayLike, alt: npt.ArrayLike) -> FloatArray:
        """Variant effect of allele statistics, in float64, absolute unless the layer is signed.

        Parameters
        ----------
        ref, alt : array_like of float
            Statistics of the reference and the alternate allele, any shape.

        Returns
        -------
        ndarray of float64
            NaN where either allele is NaN.

        Examples
        --------
        >>> float(LAYERS["tf_binding"].effect(1.0, 3.0))
        1.0
        """
        ref64, alt64 = np.asarray(ref, np.float64), np.asarray(alt, np.float64)
        value = FORMULAS[self.formula](ref64, alt64, self.pseudocount)
        return value if self.signed else np.abs(value)


def effects(ref: npt.NDArray[np.floating], alt: npt.NDArray[np.floating], layers: Sequence[str]) -> FloatArray:
    """Effects of track-major alleles, each track by the formula of its layer.

    Parameters
    ----------
    ref, alt : ndarray of float, shape (track, sample)
    layers : sequence of str, length track
        Keys of `LAYERS`.
    """
    found, names = np.empty(ref.shape, np.float64), np.asarray(layers)
    for name in dict.fromkeys(layers):
        rows = names == name
        found[rows] = LAYERS[name].effect(ref[rows], alt[rows])
    return found


def _table(*layers: Layer) -> MappingProxyType[str, Layer]:
    return MappingProxyType({layer.name: layer for layer in layers})


#: The layer table of the reference, by canonical name.
LAYERS = _table(
    Layer("chromatin_accessibility", 501, "sum", "log2_fold_change", 1.0, False),
    Layer("tf_binding", 501, "sum", "log2_fold_change", 1.0, False),
    Layer("histone_marks", 2001, "sum", "log2_fold_change", 1.0, False),
    Layer("tss_activity", 501, "sum", "log2_fold_change", 1.0, False),
    Layer("splicing", 501, "sum", "log2_fold_change", 1.0, False),
    Layer("gene_expression", 0, "exon_mean", "ln_fold_change", 0.001, True),
    Layer("promoter_activity", 0, "mean", "difference", 0.0, True),
    Layer("regulatory_classification", 0, "mean", "difference", 0.0, True),
)

#: Histone marks, looked for anywhere in the upper-cased description of a ChIP track.
HISTONE_MARKS = (
    "H2AFZ", "H2AZ", "H3K4ME1", "H3K4ME2", "H3K4ME3", "H3K9AC", "H3K9ME1", "H3K9ME2", "H3K9ME3", "H3K14AC",
    "H3K27AC", "H3K27ME3", "H3K36ME3", "H3K79ME2", "H4K20ME1",
)  # fmt: skip

_LAYER_OF_ASSAY = MappingProxyType(
    {
        "DNASE": "chromatin_accessibility",
        "ATAC": "chromatin_accessibility",
        "CAGE": "tss_activity",
        "PRO_CAP": "tss_activity",
        "SPLICE_SITES": "splicing",
        "SPLICE_SITE_USAGE": "splicing",
        "RNA": "gene_expression",
    }
)


def window_bins(window_bp: int, resolution_bp: int, n_bins: int) -> tuple[int, int]:
    """Bins of the central window, half-open.

    With c = n // 2 and h = window // (2·resolution): [max(0, c − h), min(n, c + h + 1)).

    Parameters
    ----------
    window_bp : int
        Width of the window in base pairs; 0 or less means the whole output.
    resolution_bp : int
        Base pairs per bin.
    n_bins : int
        Bins of the output.

    Returns
    -------
    (int, int)
        First bin and the bin after the last.

    Examples
    --------
    >>> window_bins(501, 128, 896), window_bins(2001, 128, 896)
    ((447, 450), (441, 456))
    """
    if window_bp <= 0:
        return 0, n_bins
    centre, half = n_bins // 2, window_bp // (2 * resolution_bp)
    return max(0, centre - half), min(n_bins, centre + half + 1)


def layer_of(assay: str, description: str) -> str:
    """Canonical layer of a track from its assay and description.

    Parameters
    ----------
    assay : str
        DNASE, ATAC, CHIP, CAGE, PRO_CAP, SPLICE_SITES, SPLICE_SITE_USAGE or RNA, in any case.
    description : str
        Free text; for CHIP it decides between histone marks and transcription factors.

    Returns
    -------
    str
        A key of `LAYERS`.

    Raises
    ------
    TrackTableError
        The assay is none of those.

    Examples
    --------
    >>> layer_of("CHIP", "CHIP:H3K27ac:K562"), layer_of("CHIP", "CHIP:CTCF:K562")
    ('histone_marks', 'tf_binding')
    """
    name = assay.upper()
    if name == "CHIP":
        text = description.upper()
        return "histone_marks" if any(mark in text for mark in HISTONE_MARKS) else "tf_binding"
    try:
        return _LAYER_OF_ASSAY[name]
    except KeyError:
        known = ", ".join(sorted([*_LAYER_OF_ASSAY, "CHIP"]))
        raise TrackTableError(f"unknown assay {assay!r} in track {description!r}; known assays: {known}") from None
