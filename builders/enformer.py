"""Enformer (Avsec et al. 2021): 393,216 bp of sequence to 5,313 human tracks in 896 bins of 128 bp.

Run as ``python -m builders.enformer`` to build its background. Two backends predict the same: ``torch``
(enformer-pytorch's architecture) and ``tensorflow`` (the published SavedModel).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Protocol, get_args

from builders import sizes
from builders.enformer_tracks import demo_targets, read_targets
from builders.gather import CentralGather
from builders.oracle import BinArray, Head, Oracle, Reduced
from builders.sizes import Size
from builders.targets import HEAD
from chorus_store.errors import InputError, ModelError, TrackTableError
from chorus_store.sequence import Codes
from chorus_store.tracks import TrackTable

BackendName = Literal["torch", "tensorflow"]

RESOLUTION_BP = 128
#: Resource of the published weights, by backend.
_WEIGHTS = {"torch": "enformer-pytorch", "tensorflow": "enformer-savedmodel"}


class Backend(Protocol):
    """A framework that runs the model."""

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """As `Oracle.load`."""

    def facts(self, codes: Codes, bins: BinArray | None) -> Reduced:
        """Window sums and the values of the chosen bins."""


class Enformer(Oracle):
    """Enformer on the PyTorch or the TensorFlow backend.

    Parameters
    ----------
    tracks : Path or TrackTable
        The targets file, or its table.
    backend : {"torch", "tensorflow"}
        What runs the model. Only ``torch`` has random weights and bf16.
    size : {"full", "small"}
        ``small`` has the published geometry with a few channels, for tests and demonstrations; it takes any
        number of tracks.

    Raises
    ------
    TrackTableError
        The table is malformed, or not of 5,313 tracks at full size.

    Examples
    --------
    >>> row = ("ENCFF833POA", "human", 0, "DNASE", "chromatin_accessibility", "cerebellum", "", ".")
    >>> Enformer(TrackTable.from_rows([row]), size="small").bins_by_resolution()
    {128: 896}
    """

    name = "enformer"
    title = "Enformer"
    licence = "CC BY 4.0"
    expected_tracks = 5313
    # cuda: one H100 80 GB, batches of 4, facts included (benchmarks.gpu_run). cpu: two cores with AVX-512.
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {
        ("cuda", "fp32"): 0.115,
        ("cuda", "tf32"): 0.032,
        ("cuda", "bf16"): 0.027,
        ("cpu", "fp32"): 42.4,
        ("cpu", "bf16"): 32.0,
    }
    input_length_bp = 393_216
    heads = (Head(HEAD, RESOLUTION_BP, 896, 139_264),)

    def __init__(self, tracks: Path | TrackTable, *, backend: BackendName = "torch", size: Size = "full") -> None:
        if backend not in get_args(BackendName):
            raise InputError(f"{backend!r} is not one of {', '.join(get_args(BackendName))}")
        remedy = "the published targets_human.txt"
        self.tracks = sizes.table_of(self.title, self.expected_tracks, tracks, size, read_targets, remedy)
        self.backend = backend
        self.size = size
        self._backend: Backend | None = None

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """``--backend`` and ``--size``."""
        options.add_argument(
            "--backend",
            choices=get_args(BackendName),
            default="torch",
            help="what runs the model (default torch)",
        )
        sizes.add_option(options)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> Enformer:
        """Make the oracle of the command line; see `Oracle.from_options`."""
        if tracks is None:
            raise TrackTableError("Enformer needs its track table (--tracks)")
        return cls(tracks, backend=args.backend, size=sizes.asked(args))

    @classmethod
    def demo_tracks(cls) -> str:
        """A targets file with every layer."""
        return demo_targets()

    @classmethod
    def resources(cls, args: argparse.Namespace) -> dict[str, str]:
        """Track table and weights; see `Oracle.resources`.

        Raises
        ------
        InputError
            Published weights are asked for the small model, which has none.
        """
        sizes.require_weights(args)
        return {"tracks": "enformer-tracks", "weights": _WEIGHTS[args.backend]}

    def settings(self) -> dict[str, str]:
        """Backend and size."""
        return {"backend": self.backend, "size": self.size}

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make the model ready; see `Oracle.load`.

        ``weights`` is for ``torch`` a ``.safetensors``, ``.bin`` or ``.pt`` file or a directory that holds
        one, for ``tensorflow`` the directory of the SavedModel.
        """
        gather = CentralGather.of(self, int(self.tracks.channel.max()) + 1)
        backend = self._new_backend(gather)
        backend.load(weights, device=device, precision=precision, seed=seed)
        self._backend = backend

    def _new_backend(self, gather: CentralGather) -> Backend:
        # Imported late: the command line lists oracles and their options without a framework.
        if self.backend == "torch":
            from builders.enformer_torch import TorchEnformer

            return TorchEnformer(gather, self.input_length_bp, self.size)
        from builders.enformer_tf import TensorFlowEnformer

        return TensorFlowEnformer(gather, self.input_length_bp)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        """Predict a batch and keep only its facts; see `Oracle.reduce`.

        Raises
        ------
        ModelError
            Nothing is loaded, the sequences have another length, or the device is out of memory.
        """
        if self._backend is None:
            raise ModelError("Enformer is not loaded; call load first")
        self.check_codes(codes)
        return self._backend.facts(codes, bins.get(RESOLUTION_BP) if bins else None)


if __name__ == "__main__":
    from builders import cli

    raise SystemExit(cli.run(Enformer))
