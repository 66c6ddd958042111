"""An oracle with one model per track, small enough to build many times: ``--model NAME`` for each of them."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from builders.oracle import BinArray, Reduced
from builders.settings import Inputs
from chorus_store.sequence import Codes
from chorus_store.tracks import StringArray, TrackTable
from tests import tiny


class TinyModels(tiny.TinyOracle):
    """Tracks of accessibility whose predictions are those of the tiny oracle, scaled by a number in the name."""

    name = "tinymodels"
    title = "Tiny models"
    tracks_per_unit = 1
    default_block = 1_000

    def __init__(self, names: Sequence[str]) -> None:
        self.tracks = TrackTable.from_rows(
            [(name, "tiny", 0, "DNASE", "chromatin_accessibility", name, "", ".") for name in names]
        )

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        options.add_argument("--model", action="append", required=True)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> TinyModels:
        return cls(args.model)

    def for_tracks(self, tracks: StringArray) -> TinyModels:
        return TinyModels(tracks.tolist())

    def predict(self, codes: Codes) -> np.ndarray:
        return np.asarray(super().predict(codes)[:, :1] * (1 + ord(str(self.tracks.track[0])[-1]) % 7))

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        assert len(self.tracks) == 1
        return super().reduce(codes, bins)


def arguments(inputs: Inputs, out: Path, names: Sequence[str], *more: str) -> list[str]:
    """A command line for a small plan and some models."""
    models = [text for name in names for text in ("--model", name)]
    return tiny.arguments(inputs, out, "--random-weights", "0", *models, *more)
