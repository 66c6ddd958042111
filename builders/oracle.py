"""What an oracle declares and implements; the pipeline does the rest.

An adapter declares its geometry, encoding and track table, and implements `Oracle.load` and `Oracle.reduce`.
"""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from builders.rna_masks import RnaMask
from chorus_store.errors import ModelError
from chorus_store.exon_bins import ExonBins
from chorus_store.gene_bins import GeneBins
from chorus_store.layers import LAYERS, window_bins
from chorus_store.layout import Kind
from chorus_store.sequence import Codes
from chorus_store.tracks import StringArray, TrackTable

FloatArray = npt.NDArray[np.float32]
BinArray = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Head:
    """One output of a model.

    Attributes
    ----------
    name : str
        As in the track table's ``head`` column.
    resolution_bp : int
        Base pairs per bin; 0 for a scalar head.
    n_bins : int
        Bins of the output; 1 for a scalar head.
    offset_bp : int
        Where the first bin starts in the input window.
    """

    name: str
    resolution_bp: int
    n_bins: int
    offset_bp: int = 0


@dataclass(frozen=True)
class Encoding:
    """How the model wants its sequence: channel order, value at unknown bases, constant flanks."""

    order: str = "ACGT"
    unknown: float = 0.0
    left_flank: str = ""
    right_flank: str = ""


@dataclass(frozen=True)
class Reduced:
    """Facts of one batch.

    Attributes
    ----------
    statistics : ndarray of float32, shape (batch, track)
        The layer's statistic of each track (window sum, …), summed in float64; NaN where a track of gene
        expression has no exon bin.
    bins : ndarray of float32, shape (batch, slot, track), or None
        Values of the chosen bins, in the order asked for; None if none were. NaN where a slot has no bin.
    genes : ndarray of float32, shape (gene, exon track), or None
        The statistic of the tracks of gene expression over the bins of single genes, sequence after sequence, the
        tracks in the order of their rows; None if no genes were asked for.
    """

    statistics: FloatArray
    bins: FloatArray | None = None
    genes: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Exons:
    """Exon bins of a batch, on the output of the tracks of gene expression.

    Attributes
    ----------
    mask : ExonBins
        Of every sequence, the bins over which the statistic is taken.
    slots : ndarray of int32, shape (batch, slot), or None
        Bins whose values are wanted; −1 where there is none. As many slots as of the other tracks' bins.
    genes : GeneBins or None
        Genes over which the statistic is taken too, one by one; all their bins are in ``mask``.
    """

    mask: ExonBins
    slots: BinArray | None = None
    genes: GeneBins | None = None

    def take(self, rows: npt.NDArray[np.intp]) -> Exons:
        """Those of some sequences."""
        return Exons(
            self.mask.take(rows),
            None if self.slots is None else self.slots[rows],
            None if self.genes is None else self.genes.take(rows),
        )


@dataclass(frozen=True)
class Workload:
    """What a build takes, for an estimate before anything is downloaded.

    Attributes
    ----------
    n_tracks : int
    passes : int
        Forward passes of the model per sequence.
    added : sequence of str
        Tracks that a store gets beside those that it has; only of oracles with one model per track.
    gene_tracks : int
        Tracks with one value per gene.
    genes_per_position : mapping of Kind to float
        Genes on average, where there are such tracks.
    """

    n_tracks: int
    passes: int = 1
    added: Sequence[str] = ()
    gene_tracks: int = 0
    genes_per_position: Mapping[Kind, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class WindowGroup:
    """Tracks of one head that share a central window, half-open in bins."""

    head: Head
    first: int
    stop: int
    rows: npt.NDArray[np.intp]
    channels: npt.NDArray[np.intp]


class Oracle(ABC):
    """A sequence-to-function model, ready to be scored.

    Subclasses set the class attributes, `heads` and `tracks`, and implement `load` and `reduce`.

    Attributes
    ----------
    name : str
        Lower-case identifier; names the store, the NPZ and ``python -m builders.{name}``.
    title : str
        Name for people.
    version : str
        Of the model, not of this package.
    assembly : str
        Genome assembly of the tracks.
    licence, restriction : str
        Short name of the licence, and the uses of the weights that it forbids, a sentence; empty if none.
    input_length_bp : int
        Bases of one input window; the variant base sits at ``input_length_bp // 2 - 1``.
    max_unknown_fraction : float
        Windows with more unknown bases than this are left out of the plan.
    encoding : Encoding
        How sequences are turned into numbers.
    plan_defaults : mapping
        Fields of `chorus_store.plan.PlanOptions` in which this oracle differs from the defaults.
    tracks_per_unit : int or None
        None when all tracks come out of one pass; 1 for one model per track.
    seconds_per_sequence : mapping of (device, precision) to float
        Measured forward times, for estimates.
    default_batch, default_block : int
        Sequences per forward pass and positions per unit of work where none are asked for.
    expected_tracks : int
        Tracks of the published model.
    heads : tuple of Head
    tracks : TrackTable
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[str] = "1"
    assembly: ClassVar[str] = "hg38"
    licence: ClassVar[str] = ""
    restriction: ClassVar[str] = ""
    input_length_bp: int
    max_unknown_fraction: ClassVar[float] = 0.5
    encoding: Encoding = Encoding()
    plan_defaults: ClassVar[Mapping[str, Any]] = {}
    tracks_per_unit: ClassVar[int | None] = None
    seconds_per_sequence: ClassVar[Mapping[tuple[str, str], float]] = {}
    default_batch: ClassVar[int] = 4
    default_block: ClassVar[int] = 128
    expected_tracks: ClassVar[int]
    heads: tuple[Head, ...]
    tracks: TrackTable

    @classmethod  # noqa: B027 - most oracles have none
    def add_options(cls, options: argparse._ArgumentGroup) -> None:
        """Add the oracle's own command-line options; none by default."""

    @classmethod
    @abstractmethod
    def from_options(cls, args: argparse.Namespace, tracks: Path | None) -> Oracle:
        """Make the oracle that the command line asks for.

        Parameters
        ----------
        args : Namespace
            Parsed options, those of `add_options` among them.
        tracks : Path or None
            File of the track table; None if the oracle needs none.
        """

    @classmethod
    def resources(cls, args: argparse.Namespace) -> dict[str, str]:
        """What the oracle downloads when it is not given: option (``tracks``, ``weights``) to resource name."""
        return {}

    @classmethod
    def demo_tracks(cls) -> str:
        """Text of a small track table for ``--demo``; empty if the oracle takes none, so that --tracks is refused."""
        return ""

    @classmethod
    def workload(cls, args: argparse.Namespace) -> Workload:
        """Tracks and passes of the oracle that the command line asks for; those of the published model by default."""
        return Workload(cls.expected_tracks)

    def settings(self) -> dict[str, str]:
        """What else the numbers depend on, besides weights and precision: backend, size, …"""
        return {}

    def options(self) -> dict[str, Any]:
        """Values of the options of `add_options`, by destination, that make this oracle again; the settings among them.

        An option that only says where something comes from is left out: inputs are known by their content.
        """
        parser = argparse.ArgumentParser(add_help=False)
        self.add_options(parser.add_argument_group())
        own = {action.dest for action in parser._actions}
        return {name: value for name, value in self.settings().items() if name in own}

    @abstractmethod
    def load(self, weights: Path | None, *, device: str = "cpu", precision: str = "fp32", seed: int = 0) -> None:
        """Make the model ready.

        Parameters
        ----------
        weights : Path or None
            File or directory of published weights; None makes random weights from ``seed``.
        device : str
            ``cpu``, ``cuda:0``, …
        precision : {"fp32", "tf32", "bf16"}
            Arithmetic of the forward pass; sums over windows are float64 in any case.
        seed : int
            Of the random weights.

        Raises
        ------
        WeightsError
            The weights are of another architecture, damaged or missing.
        BackendUnavailableError
            The framework is not installed, or has no such device.
        """

    def for_tracks(self, tracks: StringArray) -> Oracle:
        """The loaded oracle that predicts these tracks and no others.

        Parameters
        ----------
        tracks : ndarray of str
            Identifiers; those of one unit of work.

        Returns
        -------
        Oracle
            Itself, unless every track has a model of its own: then the oracle of that model alone, for as long as
            the caller keeps it.

        Raises
        ------
        WeightsError
            The model of this track cannot be loaded; the others may.
        """
        return self

    def weights_of(self, track: str) -> Path | None:
        """File of the model of one track, where every track has its own; None if its weights are random."""
        return None

    @abstractmethod
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None) -> Reduced:
        """Predict a batch and keep only its facts.

        Parameters
        ----------
        codes : ndarray of uint8, shape (batch, input_length_bp)
            Base codes of `chorus_store.sequence`.
        bins : mapping of resolution in bp to ndarray of int32, shape (batch, slot), or None
            Bins whose values are wanted, for the heads of that resolution.
        """

    def reduce_alleles(self, codes: Codes) -> Reduced:
        """Predict reference and alternate alleles, in turn; `reduce`, unless one allele's facts depend on the other.

        Parameters
        ----------
        codes : ndarray of uint8, shape (batch, input_length_bp)
            A reference allele and its alternate, the next reference allele, and so on.
        """
        return self.reduce(codes)

    def check_codes(self, codes: Codes) -> None:
        """Refuse sequences of another length with `ModelError`."""
        if codes.ndim != 2 or codes.shape[1] != self.input_length_bp:
            raise ModelError(f"{self.title} takes (batch, {self.input_length_bp}) base codes, not {codes.shape}")

    def bins_by_resolution(self) -> dict[int, int]:
        """Output bins per resolution, finest first; empty for scalar oracles."""
        return dict(sorted((h.resolution_bp, h.n_bins) for h in self.heads if h.resolution_bp > 0))

    def window_groups(self) -> list[WindowGroup]:
        """Tracks grouped by head and central window; without those that are measured over exons."""
        return self._window_groups

    @cached_property
    def exon_rows(self) -> npt.NDArray[np.intp]:
        """Rows of the tracks that are measured over exons."""
        return np.flatnonzero([layer.aggregation == "exon_mean" for layer in self.tracks.layers()])

    def exon_head(self) -> Head | None:
        """The head that predicts the tracks that are measured over exons; None if there are no such tracks."""
        names = set(self.tracks.head[self.exon_rows].tolist())
        return next((head for head in self.heads if head.name in names), None)

    @cached_property
    def _window_groups(self) -> list[WindowGroup]:
        groups = []
        windows = np.array([LAYERS[layer].window_bp for layer in self.tracks.layer.tolist()])
        for head in self.heads:
            of_head = self.tracks.head == head.name
            of_head[self.exon_rows] = False
            for window_bp in sorted(set(windows[of_head].tolist())):
                rows = np.flatnonzero(of_head & (windows == window_bp))
                first, stop = (
                    window_bins(window_bp, head.resolution_bp, head.n_bins) if head.resolution_bp else (0, head.n_bins)
                )
                groups.append(WindowGroup(head, first, stop, rows, self.tracks.channel[rows].astype(np.intp)))
        return groups


class RnaOracle(Oracle):
    """An oracle with tracks of gene expression, which are measured over the bins of exons.

    Attributes
    ----------
    expected_exon_tracks : int
        Tracks of gene expression of the published model.
    genes_per_position : mapping of Kind to float
        Protein-coding genes with an exon in the output, on average, for estimates.
    rna_mask : {"exons", "gene"}
        Whether a background of these tracks is of the exons of all protein-coding genes in the output, merged, or of
        every gene by itself.
    """

    expected_exon_tracks: ClassVar[int] = 0
    genes_per_position: ClassVar[Mapping[Kind, float]] = {}
    rna_mask: RnaMask = "exons"

    @classmethod
    def workload(cls, args: argparse.Namespace) -> Workload:
        """Tracks and passes, and genes where they are counted one by one; see `Oracle.workload`."""
        workload = super().workload(args)
        if getattr(args, "rna_mask", "exons") == "exons":  # not every adapter offers the choice
            return workload
        return replace(workload, gene_tracks=cls.expected_exon_tracks, genes_per_position=cls.genes_per_position)

    def settings(self) -> dict[str, str]:
        """What tracks of gene expression are measured over."""
        return {"rna_mask": self.rna_mask} if len(self.exon_rows) else {}

    @abstractmethod
    def reduce(self, codes: Codes, bins: Mapping[int, BinArray] | None = None, exons: Exons | None = None) -> Reduced:
        """Predict a batch and keep only its facts.

        Parameters
        ----------
        codes, bins
            As in `Oracle.reduce`.
        exons : Exons or None
            What the tracks of gene expression are measured over; without it their facts are NaN.
        """
