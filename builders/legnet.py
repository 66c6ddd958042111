"""LegNet (Penzar et al. 2023), as trained on lentiMPRA: 200 bp of sequence to its activity in K562, HepG2 and WTC11.

Run as ``python -m builders.legnet`` to build its background. Every cell type has a model of its own; one pass runs
them all.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from builders import trust
from builders.oracle import BinArray, Encoding, Head, Oracle, Reduced, Workload
from chorus_store.errors import InputError, ModelError, WeightsError
from chorus_store.matching import near
from chorus_store.sequence import Codes
from chorus_store.tracks import TrackTable

if TYPE_CHECKING:
    from builders.legnet_torch import TorchLegNet

CELL_TYPES = ("K562", "HepG2", "WTC11")
_HEAD = "activity"
_REMEDY = (
    "give a folder with {cell type}/config.json and {cell type}/weights.ckpt of Zenodo records 10558183 or 17863550 "
    "(--weights)"
)


class LegNet(Oracle):
    """LegNet on PyTorch.

    Parameters
    ----------
    cell_types : sequence of str
        Some of `CELL_TYPES`; each is a track.
    trusted : collection of str
        SHA-256 of checkpoints that may run code while they are read, or `builders.trust.ANY`.

    Raises
    ------
    InputError
        An unknown cell type, or none.

    Examples
    --------
    >>> LegNet(["HepG2"]).tracks
    <TrackTable 1 tracks: promoter_activity 1>
    """

    name = "legnet"
    title = "LegNet"
    licence = "MIT; weights: terms of their Zenodo record"
    expected_tracks = len(CELL_TYPES)
    input_length_bp = 200
    max_unknown_fraction = 0.3
    encoding = Encoding("AGCT", 0.25, "CATTGCGTGAACCGA", "AGGACCGGATCAACT")
    plan_defaults: ClassVar[Mapping[str, Any]] = {"n_gene_bodies": 0}
    # All three cell types, batches of 256 (benchmarks.oracle_speed). cuda: one H100 80 GB. cpu: two cores with AVX-512.
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {
        ("cuda", "fp32"): 0.0011,
        ("cuda", "tf32"): 0.00007,
        ("cuda", "bf16"): 0.00007,
        ("cpu", "fp32"): 0.0043,
    }
    # So short a sequence that a pass takes hundreds, and a unit of work many passes.
    default_batch = 256
    default_block = 2048
    heads = (Head(_HEAD, 0, 1),)

    def __init__(self, cell_types: Sequence[str] = CELL_TYPES, *, trusted: Collection[str] = ()) -> None:
        for name in cell_types:
            if name not in CELL_TYPES:
                raise InputError(f"LegNet has no cell type {name!r}; {near(name, CELL_TYPES)} (--cell-type)")
        self.cell_types = [name for name in CELL_TYPES if name in cell_types]
        if not self.cell_types:
            raise InputError(f"no cell type is asked for; LegNet has {', '.join(CELL_TYPES)} (--cell-type)")
        self.trusted = trusted
        self.tracks = TrackTable.from_rows(
            [
                (name, _HEAD, i, "LENTIMPRA", "promoter_activity", name, f"lentiMPRA activity in {name}", ".")
                for i, name in enumerate(self.cell_types)
            ]
        )
        self._backend: TorchLegNet | None = None

    @classmethod
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """``--cell-type`` and ``--trust-pickle``."""
        options.add_argument(
            "--cell-type", action="append", metavar="NAME",
            help=f"a cell type to build, to be repeated (default {', '.join(CELL_TYPES)})",
        )  # fmt: skip
        trust.add_option(options)

    @classmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> LegNet:
        """Make the oracle of the command line; see `Oracle.from_options`."""
        return cls(args.cell_type or CELL_TYPES, trusted=args.trust_pickle)

    @classmethod
    def workload(cls, args: argparse.Namespace) -> Workload:
        """As many tracks as cell types."""
        return Workload(len(cls.from_options(args, None).tracks))

    @classmethod
    def resources(cls, args: argparse.Namespace) -> dict[str, str]:
        """Weights, which people get by hand; see `Oracle.resources`."""
        return {"weights": "legnet"}

    def options(self) -> dict[str, Any]:
        """The cell types; see `Oracle.options`. Whom to trust is for each person to say."""
        return {"cell_type": self.cell_types}

    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make the models ready; see `Oracle.load`.

        ``weights`` is a folder that holds, for every cell type, a folder of its name with ``config.json`` and
        one checkpoint; for a single cell type it may be that folder itself.
        """
        # Imported late: the command line lists oracles and their options without a framework.
        from builders.legnet_torch import TorchLegNet

        folders = None if weights is None else self._folders(weights)
        backend = TorchLegNet(self.cell_types, self.encoding)
        remedy = f"{_REMEDY}; {trust.REMEDY}"
        backend.load(folders, device=device, precision=precision, seed=seed, trusted=self.trusted, remedy=remedy)
        self._backend = backend

    def _folders(self, weights: Path) -> dict[str, Path]:
        if len(self.cell_types) == 1 and (weights / "config.json").is_file():
            return {self.cell_types[0]: weights}
        folders = {name: weights / name for name in self.cell_types}
        absent = [name for name, folder in folders.items() if not folder.is_dir()]
        if absent:
            present = [f"--cell-type {name}" for name in CELL_TYPES if (weights / name).is_dir()]
            only = f", or build what there is: {' '.join(present)}" if present else ""
            raise WeightsError(f"{weights} has no folder {', '.join(absent)}; {_REMEDY}{only}")
        return folders

    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        """Predict a batch; see `Oracle.reduce`.

        Raises
        ------
        ModelError
            Nothing is loaded, the sequences have another length, or the device is out of memory.
        """
        if self._backend is None:
            raise ModelError("LegNet is not loaded; call load first")
        self.check_codes(codes)
        return Reduced(self._backend.facts(codes))


if __name__ == "__main__":
    from builders import cli

    raise SystemExit(cli.run(LegNet))
