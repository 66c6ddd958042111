"""An oracle with one model for each track: the first ``--models N`` tracks of the tiny one, to grow a store with."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from builders import cli
from builders.oracle import Workload
from chorus_store.tracks import StringArray
from tests.tiny import TinyOracle


class GrowingOracle(TinyOracle):
    """The tracks of `TinyOracle`, each predicted by itself."""

    name = "growing"
    title = "Growing"
    tracks_per_unit = 1

    def __init__(self, tracks: list[int]) -> None:
        super().__init__()
        self.tracks = self.tracks.select(np.array(tracks))

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        options.add_argument("--models", type=int, default=2)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> GrowingOracle:
        return cls(list(range(args.models)))

    @classmethod
    def workload(cls, args: argparse.Namespace) -> Workload:
        return Workload(args.models)

    def for_tracks(self, tracks: StringArray) -> GrowingOracle:
        return GrowingOracle([int(track.removeprefix("TRK")) for track in tracks.tolist()])


if __name__ == "__main__":
    raise SystemExit(cli.run(GrowingOracle))
