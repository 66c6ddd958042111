"""The tiny oracle with a model for each of its tracks: a file that says whether it works."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from builders.oracle import BinArray, Reduced
from builders.reduction import reduce_arrays
from chorus_store.errors import WeightsError
from chorus_store.sequence import Codes
from chorus_store.tracks import StringArray, TrackTable
from tests import tiny


class ModelFolder(tiny.TinyOracle):
    """As many tracks as the folder of ``--weights`` lists in ``models.txt``, each with a file of its name."""

    tracks_per_unit = 1
    default_block = 1_000_000

    def __init__(self, folder: Path, tracks: StringArray | None = None) -> None:
        names = (folder / "models.txt").read_text().split()
        self.folder, self._n = folder, len(names)
        table = [(name, "tiny", i, "CHIP", "tf_binding", "cell", "", ".") for i, name in enumerate(names)]
        self.tracks = TrackTable.from_rows([row for row in table if tracks is None or row[0] in tracks])

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> ModelFolder:
        return cls(args.weights)

    def weights_of(self, track: str) -> Path:
        return self.folder / track

    def for_tracks(self, tracks: StringArray) -> ModelFolder:
        if not self.weights_of(tracks[0]).exists():
            raise WeightsError(f"there is no file {self.weights_of(tracks[0])}")
        return type(self)(self.folder, tracks)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        values = np.stack([np.resize(self.predict(row), (16, self._n)) for row in codes])
        if self.weights_of(str(self.tracks.track[0])).read_text() == "broken":
            values[:] = np.nan
        return reduce_arrays(self, {"tiny": values}, bins)


def write_models(folder: Path, n: int, broken: int = 0) -> Path:
    """Write ``n`` models; the first ``broken`` of them predict nothing finite."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"MODEL{i:02d}" for i in range(n)]
    (folder / "models.txt").write_text("\n".join(names))
    for i, name in enumerate(names):
        (folder / name).write_text("broken" if i < broken else "works")
    return folder
