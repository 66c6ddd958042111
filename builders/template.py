"""A complete oracle to start from: a scan for a few motifs, its weights in a NumPy file (docs/new-oracle.md)."""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from builders import cli
from builders.oracle import BinArray, Head, Oracle, Reduced
from builders.reduction import reduce_arrays
from chorus_store.errors import WeightsError
from chorus_store.sequence import Codes, one_hot
from chorus_store.tracks import TrackTable

SHAPE = (8, 4, 3)  # motif position, base, track


class MotifScanner(Oracle):
    """The mean score of every motif in 64 bins of 16 bp, in the middle of 2,048 bp."""

    name = "template"
    title = "Motif scanner"
    licence = "MIT"
    expected_tracks = SHAPE[2]
    input_length_bp = 2048
    heads = (Head("motifs", resolution_bp=16, n_bins=64, offset_bp=512),)
    tracks = TrackTable.from_rows(
        [(f"MOTIF{i}", "motifs", i, "CHIP", "tf_binding", "", f"motif {i}", ".") for i in range(SHAPE[2])]
    )

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> Oracle:
        """No options, no track table."""
        return cls()

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Motifs from an ``.npy`` file, or drawn from the seed."""
        drawn = np.random.default_rng(seed).standard_normal(SHAPE, np.float32)
        try:
            self.motifs = drawn if weights is None else np.array(np.lib.format.open_memmap(weights, "r"), np.float32)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{weights} is no .npy file of numbers (--weights): {error}") from error
        if self.motifs.shape != SHAPE:
            raise WeightsError(f"{weights} has motifs of shape {self.motifs.shape}, not {SHAPE} (--weights)")

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        """Predict whole outputs and let `reduce_arrays` keep what is asked for."""
        (head,) = self.heads
        first, stop = head.offset_bp, head.offset_bp + head.n_bins * head.resolution_bp
        sites = one_hot(codes)[:, first : stop + SHAPE[0] - 1]
        windows = np.lib.stride_tricks.sliding_window_view(sites, SHAPE[0], axis=1)  # (batch, start, base, position)
        scores = np.maximum(np.tensordot(windows, self.motifs, axes=([3, 2], [0, 1])), 0)
        binned = scores.reshape(len(codes), head.n_bins, head.resolution_bp, -1).mean(axis=2)
        return reduce_arrays(self, {head.name: binned}, bins)


if __name__ == "__main__":
    raise SystemExit(cli.run(MotifScanner))
