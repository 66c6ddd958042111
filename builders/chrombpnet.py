"""ChromBPNet (Pampari et al. 2024) and BPNet ChIP (Avsec et al. 2021): 2,114 bp to the counts of 1,000 single bases.

Run as ``python -m builders.chrombpnet`` to build their background. Every track is a model of its own: a Keras ``.h5``
file, which is read without TensorFlow. Models can be added to a background later.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from builders import model_files, model_list, sizes
from builders.model_list import ASSAYS, HEAD, TrackModel
from builders.oracle import BinArray, Head, Oracle, Reduced, Workload
from builders.sizes import SIZES, Size
from chorus_store.errors import InputError, ModelError, WeightsError
from chorus_store.sequence import Codes
from chorus_store.tracks import StringArray

if TYPE_CHECKING:
    from builders.bpnet_torch import BPNetRunner

#: Channels of the trunk of random weights; all published models have eight dilated convolutions.
_FILTERS: Mapping[Size, int] = {"full": 512, "small": 16}
_LAYERS = 8
_DEMO_TRACKS = ("DNASE:K562", "ATAC:HepG2", "CHIP:K562:CTCF", "CHIP:HepG2:CEBPA")
#: In the place of a file, where weights are random.
_NO_FILE = "-"
#: If not one of so many models can be loaded, something is wrong with all of them.
_TELLING = 25
_NO_MODELS = (
    "ChromBPNet needs models: give a list of them (--tracks FILE), or single ones (--add ASSAY:CELL=FILE), or "
    "--random-weights SEED with a list; see docs/oracles.md"
)


class ChromBPNet(Oracle):
    """Models of one track each, accessibility and ChIP alike, one of them loaded at a time.

    Parameters
    ----------
    models : sequence of TrackModel
        The tracks, in row order.
    files : mapping of str to Path, optional
        File of every track; without, weights are random.
    size : {"full", "small"}
        Of random weights.

    Raises
    ------
    InputError
        There is no model, or no such size.

    Examples
    --------
    >>> ChromBPNet([TrackModel("ATAC:K562"), TrackModel("CHIP:K562:CTCF")]).tracks
    <TrackTable 2 tracks: chromatin_accessibility 1, tf_binding 1>
    """

    name = "chrombpnet"
    title = "ChromBPNet and BPNet ChIP"
    licence = "of each model: MIT (ENCODE), CC BY 4.0 (JASPAR)"
    expected_tracks = 9 + 744
    input_length_bp = 2114
    heads = (Head(HEAD, 1, 1000, 557),)
    # Batches of 64 (benchmarks.oracle_speed). cuda: one H100 80 GB. cpu: two cores with AVX-512.
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {
        ("cuda", "fp32"): 0.00077,
        ("cuda", "tf32"): 0.00027,
        ("cuda", "bf16"): 0.00062,
        ("cpu", "fp32"): 0.160,
    }
    plan_defaults: ClassVar[Mapping[str, Any]] = {"n_gene_bodies": 0}
    tracks_per_unit = 1
    default_batch = 64
    # All positions: a model is scored in one go.
    default_block = 1_000_000

    def __init__(
        self, models: Sequence[TrackModel], files: Mapping[str, Path] | None = None, *, size: Size = "full"
    ) -> None:
        if not models:
            raise InputError(_NO_MODELS)
        if size not in SIZES:
            raise InputError(f"{size!r} is not one of {', '.join(SIZES)}")
        self.tracks = model_list.track_table(models)
        self.size = size
        self._models = {model.track: model for model in models}
        self._files = files or {}
        self._loading: dict[str, Any] | None = None
        self._runner: BPNetRunner | None = None

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """``--add``, ``--only`` and ``--size``."""
        options.add_argument(
            "--add", action="append", default=[], metavar="ASSAY:CELL=FILE",
            help="one more model, beside those of --tracks and those that the store has; to be repeated "
            "(FILE is - where weights are random)",
        )  # fmt: skip
        options.add_argument(
            "--only", action="append", default=[], metavar="NAME",
            help="of the list, only this track, assay, cell type or ASSAY:CELL; to be repeated",
        )  # fmt: skip
        sizes.add_option(options)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> ChromBPNet:
        """Make the oracle of the command line, and download the models that are at an address.

        ``args.tracks`` is the list of models, ``args.weights`` a folder with their files; ``tracks`` that of the
        demonstration.
        """
        models = cls._asked(args, tracks)
        size = sizes.asked(args)
        if args.demo or args.random_weights is not None:
            return cls(models, size=size)
        return cls(models, model_files.located(models, args.weights, offline=args.offline), size=size)

    @classmethod
    def _asked(cls, args: argparse.Namespace, tracks: Path | None) -> list[TrackModel]:
        source = tracks or args.tracks
        if source:
            listed = model_list.read_list(source)
        elif args.demo:
            listed = [TrackModel(track) for track in _DEMO_TRACKS]
        elif args.only:
            raise InputError("--only chooses from a list of models; give one (--tracks FILE), or leave out --only")
        else:
            listed = []
        added = [cls._addition(text, args) for text in args.add]
        models = model_list.combined(model_list.chosen(listed, args.only), added)
        if not models:
            raise InputError(_NO_MODELS)
        return models

    @staticmethod
    def _addition(text: str, args: argparse.Namespace) -> TrackModel:
        model = model_list.parse_addition(text)
        if model.source != _NO_FILE and (args.demo or args.random_weights is not None):
            raise InputError(
                f"--add {text} names a file, and {'--demo' if args.demo else '--random-weights'} takes none; leave "
                f"out one of them, or add {model.track}={_NO_FILE} for a track with random weights"
            )
        return model

    @classmethod
    def demo_tracks(cls) -> str:
        """A list of four models; see `Oracle.demo_tracks`."""
        return "track\tmodel\n" + "".join(f"{track}\trandom weights\n" for track in _DEMO_TRACKS)

    @classmethod
    def workload(cls, args: argparse.Namespace) -> Workload:
        """The tracks that are asked for; see `Oracle.workload`.

        Raises
        ------
        InputError
            None are, or one twice, or options contradict each other.
        """
        tracks = [model.track for model in cls._asked(args, None)]
        return Workload(len(tracks), added=tracks)

    def settings(self) -> dict[str, str]:
        """Size of random weights; files say themselves what they are."""
        return {} if self._files else {"size": self.size}

    def weights_of(self, track: str) -> Path | None:
        """File of a track's model; see `Oracle.weights_of`."""
        return self._files.get(track)

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make ready to load models; see `Oracle.load`.

        Raises
        ------
        WeightsError
            None of the first 25 models can be loaded.
        """
        # Imported late: the command line lists oracles and their options without a framework.
        from builders import bpnet_torch

        self._loading = {"runtime": bpnet_torch.TorchRuntime(device, precision), "seed": seed}
        reasons = []
        for track in self.tracks.track[:_TELLING].tolist():
            try:
                self._run_model(track)
                return
            except WeightsError as error:
                reasons.append(f"  {track}: {error}")
        raise WeightsError(
            f"not one of the first {len(reasons)} models can be loaded:\n" + "\n".join(reasons[:3])
            + (f"\n  and {len(reasons) - 3} more" if len(reasons) > 3 else "")
        )  # fmt: skip

    def for_tracks(self, tracks: StringArray) -> ChromBPNet:
        """The oracle of one track, with its model loaded; see `Oracle.for_tracks`."""
        (track,) = tracks.tolist()
        one = ChromBPNet([self._models[track]], self._files, size=self.size)
        one._runner = self._run_model(track)
        return one

    def _run_model(self, track: str) -> BPNetRunner:
        from builders import bpnet_torch

        if self._loading is None:
            raise ModelError("ChromBPNet is not loaded; call load first")
        family = ASSAYS[track.partition(":")[0]]
        file = self.weights_of(track)
        if file is not None:
            return bpnet_torch.load_h5(file, family, self._loading["runtime"])
        seed = f"{self._loading['seed']} {track}"
        return bpnet_torch.load_random(family, _FILTERS[self.size], _LAYERS, seed, self._loading["runtime"])

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        """Predict a batch and keep only its facts; see `Oracle.reduce`.

        Raises
        ------
        ModelError
            No model is loaded, or the sequences have another length.
        DeviceMemoryError
            The device is out of memory.
        """
        if self._runner is None:
            raise ModelError("ChromBPNet has a model for each track; reduce with that of for_tracks")
        self.check_codes(codes)
        (group,) = self.window_groups()
        return Reduced(*self._runner.facts(codes, (group.first, group.stop), bins.get(1) if bins else None))


if __name__ == "__main__":
    from builders import cli

    raise SystemExit(cli.run(ChromBPNet))
