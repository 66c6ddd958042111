"""What a build is made from and what is asked of it, checked and typed: the command line ends here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chorus_store import naming
from chorus_store.layout import Kind
from chorus_store.plan import PlanOptions
from chorus_store.publish import PublishOptions

KINDS_OF_PART: Mapping[str, tuple[Kind, ...]] = {
    "variants": ("variants",),
    "baselines": ("baselines",),
    "merge": (),
    "both": ("variants", "baselines"),
    "all": ("variants", "baselines"),
}
MERGING_PARTS = ("merge", "both", "all")


#: Options of the files of a build, and what its provenance calls them.
INPUTS: Mapping[str, str] = {
    "fasta": "genome", "gtf": "genes", "ccres": "ccres", "tracks": "tracks", "weights": "weights",
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """Files of a build; None where a stratum that needs one is not wanted."""

    fasta: Path
    gtf: Path | None = None
    ccres: Path | None = None
    tracks: Path | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class Settings:
    """What is asked of a build, besides its inputs.

    Attributes
    ----------
    folder : Path
        Where the store and the NPZ go.
    assembly : str
        Of the genome; ``synthetic`` for the embedded demo's.
    demo : bool
        Synthetic genome or random weights: marked as such, and named so.
    device, precision : str
        Of the forward pass.
    batch : int
        Sequences per forward pass.
    seed : int
        Of random weights.
    block : int or None
        Positions per unit of work; None takes the existing store's, else the oracle's default.
    shard : (int, int)
        K and N: do every N-th unit, starting with the K-th.
    plan : PlanOptions
    publish : PublishOptions
    dask : str or None
        Address of a Dask scheduler that compacts.
    command : list of str
        For the run record.
    """

    folder: Path
    assembly: str = "hg38"
    demo: bool = False
    device: str = "cpu"
    precision: str = "fp32"
    batch: int = 4
    seed: int = 0
    block: int | None = None
    shard: tuple[int, int] = (1, 1)
    plan: PlanOptions = field(default_factory=PlanOptions)
    publish: PublishOptions = field(default_factory=PublishOptions)
    dask: str | None = None
    command: list[str] = field(default_factory=lambda: list(sys.argv))

    def store_path(self, oracle: str) -> Path:
        """Where the store of an oracle is."""
        return self.folder / naming.store_name(oracle, self.demo)

    def npz_path(self, oracle: str) -> Path:
        """Where the NPZ of an oracle is; a demo never takes the canonical name."""
        return self.folder / naming.npz_name(oracle, self.demo)
