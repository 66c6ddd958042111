"""Windows, formulas and the classification of tracks."""

from __future__ import annotations

import numpy as np
import pytest

from chorus_store.errors import TrackTableError
from chorus_store.layers import HISTONE_MARKS, LAYERS, layer_of, window_bins


@pytest.mark.parametrize(
    ("window_bp", "resolution_bp", "n_bins", "width"),
    [(501, 128, 896, 3), (2001, 128, 896, 15), (501, 32, 6144, 15), (2001, 32, 6144, 63), (501, 1, 1000, 501),
     (2001, 1, 2**20, 2001), (0, 128, 896, 896)],
)  # fmt: skip
def test_window_widths(window_bp: int, resolution_bp: int, n_bins: int, width: int) -> None:
    first, stop = window_bins(window_bp, resolution_bp, n_bins)
    assert stop - first == width
    assert window_bp == 0 or (first + stop - 1) / 2 == n_bins // 2


def test_a_window_is_cut_at_the_output() -> None:
    assert window_bins(2001, 128, 4) == (0, 4)


def test_formulas_by_hand() -> None:
    assert LAYERS["tf_binding"].effect(3.0, 0.0) == 2.0
    assert LAYERS["gene_expression"].effect(0.0, 0.0) == 0.0
    assert LAYERS["gene_expression"].effect(0.999, 0.0) == pytest.approx(-np.log(1000))
    assert LAYERS["promoter_activity"].effect(0.5, 0.25) == -0.25
    assert np.isnan(LAYERS["splicing"].effect(np.nan, 1.0))


def test_effects_are_float64() -> None:
    ref, alt = np.float32(1e-3), np.float32(1.1e-3)
    expected = abs(np.log2((float(alt) + 1) / (float(ref) + 1)))
    assert float(LAYERS["histone_marks"].effect(ref, alt)) == expected


@pytest.mark.parametrize("mark", HISTONE_MARKS)
def test_histone_marks(mark: str) -> None:
    assert layer_of("chip", f"CHIP:{mark.lower()}:K562") == "histone_marks"


def test_an_unknown_assay_names_the_known_ones() -> None:
    with pytest.raises(TrackTableError, match="ATAC, CAGE, CHIP"):
        layer_of("WGBS", "WGBS:K562")
