"""Borzoi (Linder et al. 2025): 524,288 bp of sequence to 7,611 human tracks in 6,144 bins of 32 bp.

Run as ``python -m builders.borzoi`` to build its background.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from builders import rna_masks, sizes
from builders.borzoi_tracks import demo_targets, read_targets
from builders.gather import CentralGather
from builders.oracle import BinArray, Exons, Head, Reduced, RnaOracle
from builders.rna_masks import RnaMask
from builders.sizes import Size
from builders.targets import HEAD
from chorus_store.errors import ModelError, TrackTableError
from chorus_store.layout import Kind
from chorus_store.sequence import Codes
from chorus_store.tracks import TrackTable

if TYPE_CHECKING:
    from builders.borzoi_torch import TorchBorzoi

RESOLUTION_BP = 32
#: Models that were trained on the same data and differ in what they were tested on.
FOLDS = 4


class Borzoi(RnaOracle):
    """Borzoi on PyTorch.

    Parameters
    ----------
    tracks : Path or TrackTable
        The targets file, or its table.
    size : {"full", "small"}
        ``small`` has the published geometry with a few channels, for tests and demonstrations; it takes any
        number of tracks.
    rna_mask : {"exons", "gene"}
        What the background of RNA tracks is of; see `RnaOracle`.

    Raises
    ------
    TrackTableError
        The table is malformed, or not of 7,611 tracks at full size.

    Examples
    --------
    >>> row = ("ENCFF833POA", "human", 0, "DNASE", "chromatin_accessibility", "cerebellum", "", ".")
    >>> Borzoi(TrackTable.from_rows([row]), size="small").bins_by_resolution()
    {32: 6144}
    """

    name = "borzoi"
    title = "Borzoi"
    licence = "CC BY 4.0"
    expected_tracks = 7611
    expected_exon_tracks = 1543
    # GENCODE v44; baseline positions without cCREs.
    genes_per_position: ClassVar[Mapping[Kind, float]] = {"variants": 1.7, "baselines": 2.4}
    default_batch = 2
    # Batches of 2 (benchmarks.oracle_speed). cuda: one H100 80 GB. cpu: two cores with AVX-512.
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {
        ("cuda", "fp32"): 0.162,
        ("cuda", "tf32"): 0.042,
        ("cuda", "bf16"): 0.040,
        ("cpu", "fp32"): 49.1,
    }
    input_length_bp = 524_288
    heads = (Head(HEAD, RESOLUTION_BP, 6144, 163_840),)

    def __init__(self, tracks: Path | TrackTable, *, size: Size = "full", rna_mask: RnaMask = "exons") -> None:
        remedy = "the targets.txt of borzoi-pytorch"
        self.tracks = sizes.table_of(self.title, self.expected_tracks, tracks, size, read_targets, remedy)
        self.size = size
        self.rna_mask = rna_mask
        self._backend: TorchBorzoi | None = None

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """``--fold``, ``--size`` and ``--rna-mask``."""
        options.add_argument(
            "--fold", type=int, choices=range(FOLDS), default=0,
            help="which of the published replicates is downloaded (default 0)",
        )  # fmt: skip
        sizes.add_option(options)
        rna_masks.add_option(options)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> Borzoi:
        """Make the oracle of the command line; see `Oracle.from_options`."""
        if tracks is None:
            raise TrackTableError("Borzoi needs its track table (--tracks)")
        return cls(tracks, size=sizes.asked(args), rna_mask=args.rna_mask)

    @classmethod
    def demo_tracks(cls) -> str:
        """A targets file with every layer."""
        return demo_targets()

    @classmethod
    def resources(cls, args: argparse.Namespace) -> dict[str, str]:
        """Track table, and the weights of the fold; see `Oracle.resources`.

        Raises
        ------
        InputError
            Published weights are asked for the small model, which has none.
        """
        sizes.require_weights(args)
        return {"tracks": "borzoi-tracks", "weights": f"borzoi-{args.fold}"}

    def settings(self) -> dict[str, str]:
        """Size, and which exons the tracks of gene expression are measured over."""
        return {"size": self.size, **super().settings()}

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make the model ready; see `Oracle.load`.

        ``weights`` is a ``.safetensors``, ``.bin`` or ``.pt`` file or a directory that holds one.
        """
        # Imported late: the command line lists oracles and their options without a framework.
        from builders.borzoi_torch import TorchBorzoi

        backend = TorchBorzoi(CentralGather.of(self, int(self.tracks.channel.max()) + 1), self.size)
        backend.load(weights, device=device, precision=precision, seed=seed)
        self._backend = backend

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        """Predict a batch and keep only its facts; see `RnaOracle.reduce`.

        Raises
        ------
        ModelError
            Nothing is loaded, the sequences have another length, or the device is out of memory.
        """
        if self._backend is None:
            raise ModelError("Borzoi is not loaded; call load first")
        self.check_codes(codes)
        return self._backend.facts(codes, bins.get(RESOLUTION_BP) if bins else None, exons)


if __name__ == "__main__":
    from builders import cli

    raise SystemExit(cli.run(Borzoi))
