"""AlphaGenome (Avsec et al. 2026): 1,048,576 bp of sequence to 5,168 human tracks in bins of 1 and of 128 bp.

Run as ``python -m builders.alphagenome`` to build its background. Two backends predict the same: ``torch``
(alphagenome-pytorch) and ``jax`` (alphagenome_research, the original).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from builders import rna_masks, sizes
from builders.alphagenome_heads import HeadTracks
from builders.alphagenome_tracks import demo_metadata, read_metadata
from builders.gather import CentralGather
from builders.oracle import BinArray, Exons, Head, Reduced, RnaOracle
from builders.rna_masks import RnaMask
from builders.sizes import Size
from chorus_store.errors import InputError, ModelError, TrackTableError
from chorus_store.layout import Kind
from chorus_store.sequence import Codes
from chorus_store.tracks import TrackTable

BackendName = Literal["torch", "jax"]

#: Channels of every head of the published model, padding included.
CHANNELS = {
    "atac": 256,
    "cage": 640,
    "dnase": 384,
    "rna_seq": 768,
    "chip_histone": 1152,
    "chip_tf": 1664,
    "splice_sites": 5,
    "splice_site_usage": 734,
    "procap": 128,
}
#: Resource of the published weights, by backend.
_WEIGHTS = {"torch": "alphagenome", "jax": "alphagenome-jax"}
_COARSE = {"chip_histone": 128, "chip_tf": 128}
#: Classes of a splice site, none among them: the channels of this head are not independent.
_CLASSES = "splice_sites"
#: Enough bins of 128 bp for the widest window and for what is around it.
_SMALL_LENGTH_BP = 8_192


def _heads(input_length_bp: int) -> tuple[Head, ...]:
    return tuple(Head(name, _COARSE.get(name, 1), input_length_bp // _COARSE.get(name, 1)) for name in CHANNELS)


class Backend(Protocol):
    """A framework that runs the model."""

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """As `Oracle.load`."""

    def facts(self, codes: Codes, bins: Mapping[int, BinArray] | None, exons: Exons | None) -> Reduced:
        """As `RnaOracle.reduce`."""


class AlphaGenome(RnaOracle):
    """AlphaGenome on the PyTorch or the JAX backend.

    Parameters
    ----------
    tracks : Path or TrackTable
        The model's metadata, or their table.
    backend : {"torch", "jax"}
        What runs the model. Only ``torch`` has tf32.
    size : {"full", "small"}
        ``small`` has the published geometry with a few channels and 8,192 bp of sequence, for tests and
        demonstrations; it takes any number of tracks. On ``jax`` only the sequence is shorter: the original has one
        number of channels.
    rna_mask : {"exons", "gene"}
        What the background of RNA tracks is of; see `RnaOracle`.

    Raises
    ------
    InputError
        There is no such backend or size.
    TrackTableError
        The table is malformed, names heads or channels that the model does not have, or, at full size, is not of
        5,168 tracks.

    Examples
    --------
    >>> row = ("ATAC/T-cell/.", "atac", 0, "ATAC", "chromatin_accessibility", "T-cell", "", ".")
    >>> AlphaGenome(TrackTable.from_rows([row]), size="small").bins_by_resolution()
    {1: 8192}
    """

    name = "alphagenome"
    title = "AlphaGenome"
    licence = "AlphaGenome model terms, non-commercial"
    restriction = "the weights of AlphaGenome are for non-commercial use only, and not to be passed on"
    expected_tracks = 5168
    expected_exon_tracks = 667
    # GENCODE v44; baseline positions without cCREs.
    genes_per_position: ClassVar[Mapping[Kind, float]] = {"variants": 7.3, "baselines": 9.5}
    # Batches of 1 (benchmarks.oracle_speed). cuda: one H100 80 GB. cpu: two cores with AVX-512.
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {
        ("cuda", "fp32"): 2.65,
        ("cuda", "tf32"): 0.665,
        ("cuda", "bf16"): 0.616,
        ("cpu", "fp32"): 661.0,
    }
    default_batch = 1
    input_length_bp = 1_048_576
    heads = _heads(input_length_bp)

    def __init__(
        self,
        tracks: Path | TrackTable,
        *,
        backend: BackendName = "torch",
        size: Size = "full",
        rna_mask: RnaMask = "exons",
    ) -> None:
        if backend not in get_args(BackendName):
            raise InputError(f"{backend!r} is not one of {', '.join(get_args(BackendName))}")
        remedy = "its own metadata"
        self.tracks = sizes.table_of(self.title, self.expected_tracks, tracks, size, read_metadata, remedy)
        unknown = sorted(set(self.tracks.head.tolist()) - set(CHANNELS))
        if unknown:
            raise TrackTableError(f"AlphaGenome has no head {', '.join(unknown)}; it has {', '.join(CHANNELS)}")
        for name, n_channels in CHANNELS.items():
            if (self.tracks.channel[self.tracks.head == name] >= n_channels).any():
                raise TrackTableError(f"AlphaGenome's head {name} has {n_channels} channels, and the track table more")
        self.backend = backend
        self.size = size
        self.rna_mask = rna_mask
        if size == "small":
            self.input_length_bp = _SMALL_LENGTH_BP
            named = set(self.tracks.head.tolist())
            self.heads = tuple(head for head in _heads(_SMALL_LENGTH_BP) if head.name in named)
        self._backend: Backend | None = None

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """``--backend``, ``--size`` and ``--rna-mask``."""
        options.add_argument(
            "--backend", choices=get_args(BackendName), default="torch", help="what runs the model (default torch)"
        )
        sizes.add_option(options)
        rna_masks.add_option(options)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> AlphaGenome:
        """Make the oracle of the command line; see `Oracle.from_options`."""
        if tracks is None:
            raise TrackTableError("AlphaGenome needs its track table (--tracks)")
        return cls(tracks, backend=args.backend, size=sizes.asked(args), rna_mask=args.rna_mask)

    @classmethod
    def demo_tracks(cls) -> str:
        """Metadata with every layer."""
        return demo_metadata()

    @classmethod
    def resources(cls, args: argparse.Namespace) -> dict[str, str]:
        """Metadata and weights; see `Oracle.resources`.

        Raises
        ------
        InputError
            Published weights are asked for the small model, which has none.
        """
        sizes.require_weights(args)
        return {"tracks": "alphagenome-tracks", "weights": _WEIGHTS[args.backend]}

    def settings(self) -> dict[str, str]:
        """Backend, size, and which exons the tracks of gene expression are measured over."""
        return {"backend": self.backend, "size": self.size, **super().settings()}

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make the model ready; see `Oracle.load`.

        ``weights`` is for ``torch`` a ``.safetensors``, ``.bin`` or ``.pt`` file or a directory that holds one, for
        ``jax`` the directory of the checkpoint.
        """
        parts = []
        for head in self.heads:
            rows = np.flatnonzero(self.tracks.head == head.name)
            gather = CentralGather.of(self, self._channels_of(head, rows), head)
            parts.append(HeadTracks(head, rows, self.tracks.track[rows], gather))
        backend = self._new_backend(parts)
        backend.load(weights, device=device, precision=precision, seed=seed)
        self._backend = backend

    def _new_backend(self, parts: list[HeadTracks]) -> Backend:
        # Imported late: the command line lists oracles and their options without a framework.
        if self.backend == "torch":
            from builders.alphagenome_torch import TorchAlphaGenome

            return TorchAlphaGenome(parts, self.size)
        from builders.alphagenome_jax import JaxAlphaGenome

        return JaxAlphaGenome(parts)

    def _channels_of(self, head: Head, rows: npt.NDArray[np.intp]) -> int:
        if self.size == "small" and head.name != _CLASSES:
            return int(self.tracks.channel[rows].max()) + 1
        return CHANNELS[head.name]

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        """Predict a batch and keep only its facts; see `RnaOracle.reduce`.

        Raises
        ------
        ModelError
            Nothing is loaded, the sequences have another length, or the device is out of memory.
        """
        if self._backend is None:
            raise ModelError("AlphaGenome is not loaded; call load first")
        self.check_codes(codes)
        return self._backend.facts(codes, bins, exons)


if __name__ == "__main__":
    from builders import cli

    raise SystemExit(cli.run(AlphaGenome))
