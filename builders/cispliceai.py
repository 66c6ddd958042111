"""CI-SpliceAI (Strauch et al. 2022): probabilities of acceptors and donors at every base, on both strands.

Run as ``python -m builders.cispliceai`` to build its background. The model sees 5,000 bp on each side of a base and
reads one strand, the one that it is given; here it reads every window in both directions.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

import numpy as np

from builders.oracle import BinArray, FloatArray, Head, Oracle, Reduced
from builders.reduction import reduce_arrays
from chorus_store.errors import BackendUnavailableError, InputError, ModelError
from chorus_store.sequence import Codes, one_hot_table
from chorus_store.tracks import TrackTable

if TYPE_CHECKING:
    import torch

    from builders.cispliceai_torch import CISpliceAINet
    from builders.torch_runtime import TorchRuntime

Size = Literal["full", "small"]

#: What an output base depends on, on each side of it.
CONTEXT_BP = 5_000
#: Bases whose probabilities are predicted: the window of 501 and, on both sides of it, room for the drawn bins.
#: Longer outputs cost time and add nothing that is ranked.
OUTPUT_BP = 1_000
HEAD = "splice_sites"
_TRACKS = tuple((site, strand) for strand in "+-" for site in ("acceptor", "donor"))
#: Members of the ensemble and channels in each.
_DIMENSIONS = {"full": (5, 32), "small": (1, 8)}


class CISpliceAI(Oracle):
    """CI-SpliceAI on PyTorch.

    Parameters
    ----------
    size : {"full", "small"}
        ``small`` has the published geometry with one member of a few channels, for tests and demonstrations.

    Raises
    ------
    InputError
        There is no such size.

    Examples
    --------
    >>> CISpliceAI().tracks.track.tolist()
    ['acceptor:+', 'donor:+', 'acceptor:-', 'donor:-']
    """

    name = "cispliceai"
    title = "CI-SpliceAI"
    version = "1.2.2"
    licence = "CC BY 4.0"
    # Batches of 16 (benchmarks.oracle_speed). cuda: one H100 80 GB. cpu: two cores with AVX-512.
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {
        ("cuda", "fp32"): 0.0057,
        ("cuda", "tf32"): 0.0037,
        ("cuda", "bf16"): 0.0045,
        ("cpu", "fp32"): 0.644,
    }
    default_batch = 16
    expected_tracks = len(_TRACKS)
    input_length_bp = OUTPUT_BP + 2 * CONTEXT_BP
    heads = (Head(HEAD, 1, OUTPUT_BP, CONTEXT_BP),)
    tracks = TrackTable.from_rows(
        [
            (f"{site}:{strand}", HEAD, i, "SPLICE_SITES", "splicing", "", f"splice {site}, {strand} strand", strand)
            for i, (site, strand) in enumerate(_TRACKS)
        ]
    )

    def __init__(self, size: Size = "full") -> None:
        if size not in get_args(Size):
            raise InputError(f"{size!r} is not one of {', '.join(get_args(Size))}")
        self.size = size
        self._net: CISpliceAINet | None = None

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> CISpliceAI:
        """Make the oracle of the command line, small for a demonstration; see `Oracle.from_options`."""
        return cls("small" if args.demo else "full")

    @classmethod
    def resources(cls, args: argparse.Namespace) -> dict[str, str]:
        """The published weights; see `Oracle.resources`."""
        return {"weights": "cispliceai"}

    def settings(self) -> dict[str, str]:
        """The size."""
        return {"size": self.size}

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make the model ready; see `Oracle.load`. ``weights`` is the published frozen graph, ``CI-SpliceAI.pb``."""
        # Imported late: the command line lists oracles and their options without a framework.
        try:
            from builders.cispliceai_torch import load_net
            from builders.torch_runtime import TorchRuntime
        except ImportError as error:
            raise BackendUnavailableError(
                f"CI-SpliceAI needs PyTorch ({error}); pip install 'chorus-store[cispliceai]'"
            ) from error
        self._runtime: TorchRuntime = TorchRuntime(device, precision)
        self._table: torch.Tensor = self._runtime.table(one_hot_table())
        self._net = load_net(*_DIMENSIONS[self.size], weights, self._runtime, seed)

    def predict(self, codes: Codes) -> FloatArray:
        """Probabilities of splice sites.

        Parameters
        ----------
        codes : ndarray of uint8, shape (batch, 11000)
            Base codes of the plus strand.

        Returns
        -------
        ndarray of float32, shape (batch, 1000, 4)
            Of the tracks, at the central bases, both strands in the order of the plus strand.

        Raises
        ------
        ModelError
            Nothing is loaded, or the sequences have another length.
        DeviceMemoryError
            The device is out of memory.
        """
        if self._net is None:
            raise ModelError("CI-SpliceAI is not loaded; call load first")
        self.check_codes(codes)
        runtime = self._runtime
        with runtime.inference(), runtime.arithmetic(), runtime.autocast():
            plus = runtime.one_hot(codes, self._table).transpose(1, 2)
            # Channels in the order ACGT: reversed in both axes is the reverse complement.
            sites = self._net(plus)[:, 1:], self._net(plus.flip(1, 2))[:, 1:].flip(2)
            return np.concatenate([strand.cpu().numpy() for strand in sites], axis=1).swapaxes(1, 2)

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        """Predict a batch and keep only its facts; see `Oracle.reduce` and `predict`."""
        return reduce_arrays(self, {HEAD: self.predict(codes)}, bins)


if __name__ == "__main__":
    from builders import cli

    raise SystemExit(cli.run(CISpliceAI))
