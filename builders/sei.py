"""Sei (Chen et al. 2022): 4,096 bp of sequence to 40 sequence classes and 21,907 chromatin profiles.

Run as ``python -m builders.sei`` to build its background.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from builders import sei_tracks, sizes
from builders.oracle import BinArray, Encoding, Head, Oracle, Reduced, Workload
from builders.sei_tracks import CLASS_NAMES, CLASSES, N_PROFILES, PROFILES
from builders.sizes import SIZES, Size
from chorus_store.errors import InputError, ModelError
from chorus_store.sequence import Codes

if TYPE_CHECKING:
    from builders.sei_torch import TorchSei

Strands = Literal["forward", "mean"]
N_VALUES = (0.0, 0.25)


class Sei(Oracle):
    """Sei on PyTorch.

    Parameters
    ----------
    names : sequence of str, optional
        Names of the profiles, in the order of the model's outputs; needed where they are tracks and where
        histones are rescaled. The small model takes any number.
    profiles : bool
        Whether the profiles are tracks as well as the classes.
    strands : {"forward", "mean"}
        ``mean`` averages a sequence and its reverse complement, as the authors do.
    n_value : {0.0, 0.25}
        Encoding of an unknown base in all four channels; the authors' is 0.25.
    rescale_histones : bool
        Whether class scores of variants have the change of nucleosome occupancy taken out, as the authors do:
        the histone profiles of both alleles are scaled to the same sum, their mean.
    size : {"full", "small"}
        ``small`` has the published geometry with a few channels, for tests and demonstrations.

    Raises
    ------
    InputError
        A value that is not among those above, names are needed and not given, or no histone is among the names
        where histones are rescaled.

    Examples
    --------
    >>> Sei().tracks
    <TrackTable 40 tracks: regulatory_classification 40>
    """

    name = "sei"
    title = "Sei"
    licence = "academic and research use only"
    restriction = "the weights of Sei are for academic and research use only, and not to be passed on"
    expected_tracks = len(CLASS_NAMES)
    # Batches of 16 (benchmarks.oracle_speed). cuda: one H100 80 GB. cpu: two cores with AVX-512.
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {
        ("cuda", "fp32"): 0.0042,
        ("cuda", "tf32"): 0.00090,
        ("cuda", "bf16"): 0.00059,
        ("cpu", "fp32"): 0.696,
    }
    input_length_bp = 4096
    plan_defaults: ClassVar[Mapping[str, Any]] = {"n_gene_bodies": 0}
    # So large a last layer that it pays to read it for many sequences at once.
    default_batch = 16
    heads: tuple[Head, ...] = (Head(CLASSES, 0, 1),)

    def __init__(
        self,
        names: Sequence[str] | None = None,
        *,
        profiles: bool = False,
        strands: Strands = "forward",
        n_value: float = 0.0,
        rescale_histones: bool = False,
        size: Size = "full",
    ) -> None:
        for value, allowed in ((strands, get_args(Strands)), (n_value, N_VALUES), (size, SIZES)):
            if value not in allowed:
                raise InputError(f"{value!r} is not one of {', '.join(map(str, allowed))}")
        if names is None and (profiles or rescale_histones):
            raise InputError("profiles and rescaled histones need the names of the profiles (--tracks)")
        self._names = None if names is None else list(names)
        self._histones = sei_tracks.histone_channels(self._names) if self._names and rescale_histones else None
        if rescale_histones and not self._histones:
            raise InputError(
                f"none of the {len(names or ())} names is of a histone profile, so there is nothing to rescale; leave "
                "out --rescale-histones, or give names of histone marks too (--tracks)"
            )
        self._with_profiles = profiles
        self.strands = strands
        self.encoding = Encoding(unknown=n_value)
        self.rescale_histones = rescale_histones
        self.size = size
        self.tracks = sei_tracks.table(self._names if profiles else None)
        if profiles:
            self.heads = (Head(CLASSES, 0, 1), Head(PROFILES, 0, 1))
        self._backend: TorchSei | None = None

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """``--profiles``, ``--strands``, ``--n-value``, ``--rescale-histones`` and ``--size``."""
        options.add_argument("--profiles", action="store_true", help=f"add the {N_PROFILES:,} profiles as tracks")
        options.add_argument(
            "--strands", choices=get_args(Strands), default="forward",
            help="forward (default), or the mean of both strands, as the authors predict",
        )  # fmt: skip
        options.add_argument(
            "--n-value", type=float, choices=N_VALUES, default=0.0,
            help="encoding of an unknown base (default 0; the authors': 0.25)",
        )  # fmt: skip
        options.add_argument(
            "--rescale-histones", action="store_true",
            help="take nucleosome occupancy out of the class scores of variants, as the authors do",
        )  # fmt: skip
        sizes.add_option(options)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> Sei:
        """Make the oracle of the command line; see `Oracle.from_options`."""
        cls._require_pairs(args)
        names, size = None if tracks is None else sei_tracks.read_names(tracks), sizes.asked(args)
        if names is not None and tracks is not None and size == "full":
            sei_tracks.check_number(names, tracks)
        return cls(
            names,
            profiles=args.profiles,
            strands=args.strands,
            n_value=args.n_value,
            rescale_histones=args.rescale_histones,
            size=size,
        )

    @staticmethod
    def _require_pairs(args: argparse.Namespace) -> None:
        if args.rescale_histones and args.batch % 2:
            raise InputError(f"--rescale-histones takes alleles in pairs: --batch must be even, not {args.batch}")

    @classmethod
    def demo_tracks(cls) -> str:
        """Names of profiles of every layer."""
        return sei_tracks.demo_names()

    @classmethod
    def workload(cls, args: argparse.Namespace) -> Workload:
        """Classes, and profiles where they are asked for; twice the passes for both strands."""
        cls._require_pairs(args)
        n_profiles = N_PROFILES if args.profiles else 0
        return Workload(len(CLASS_NAMES) + n_profiles, 2 if args.strands == "mean" else 1)

    @classmethod
    def resources(cls, args: argparse.Namespace) -> dict[str, str]:
        """Weights, and the names of the profiles where they are needed; see `Oracle.resources`.

        Raises
        ------
        InputError
            Published weights are asked for the small model, which has none.
        """
        sizes.require_weights(args)
        names = {"tracks": "sei-profiles"} if args.profiles or args.rescale_histones else {}
        return {"weights": "sei", **names}

    def options(self) -> dict[str, Any]:
        """All of `add_options`; see `Oracle.options`."""
        return {
            "profiles": self._with_profiles,
            "strands": self.strands,
            "n_value": self.encoding.unknown,
            "rescale_histones": self.rescale_histones,
            "size": self.size,
        }

    def settings(self) -> dict[str, str]:
        """Size, strands, encoding of unknown bases, and whether histones are rescaled."""
        return {
            "size": self.size,
            "strands": self.strands,
            "n_value": str(self.encoding.unknown),
            "histones": "rescaled" if self.rescale_histones else "as predicted",
        }

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make the model ready; see `Oracle.load`.

        ``weights`` is a folder that holds, at any depth, ``projvec_targets.npy`` and beside it one checkpoint,
        such as ``sei.pth``.
        """
        # Imported late: the command line lists oracles and their options without a framework.
        from builders.sei_torch import TorchSei

        backend = TorchSei(
            len(self._names) if self._names else N_PROFILES,
            self.size,
            self.encoding,
            both_strands=self.strands == "mean",
            histones=self._histones,
        )
        backend.load(weights, device=device, precision=precision, seed=seed)
        self._backend = backend

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        """Predict a batch; see `Oracle.reduce`.

        Raises
        ------
        ModelError
            Nothing is loaded, the sequences have another length, or the device is out of memory.
        """
        return self._facts(codes, alleles=False)

    def reduce_alleles(self, codes: Codes) -> Reduced:
        """Predict alleles in pairs; see `Oracle.reduce_alleles`."""
        return self._facts(codes, alleles=True)

    def _facts(self, codes: Codes, *, alleles: bool) -> Reduced:
        if self._backend is None:
            raise ModelError("Sei is not loaded; call load first")
        self.check_codes(codes)
        return Reduced(self._backend.facts(codes, with_profiles=self._with_profiles, alleles=alleles))


if __name__ == "__main__":
    from builders import cli

    raise SystemExit(cli.run(Sei))
