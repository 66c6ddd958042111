"""The plan as tables of arrays: content hashes, windows, and a round trip through xarray."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from chorus_store.errors import CorruptStoreError
from chorus_store.exon_bins import ExonBins, OutputAxis
from chorus_store.gene_bins import GeneBins
from chorus_store.layout import Kind
from chorus_store.plan_options import PlanOptions
from chorus_store.positions import BinArray, IntArray, StringArray

BoolArray = npt.NDArray[np.bool_]
#: Arrays with the names of their dimensions.
Columns = dict[str, tuple[tuple[str, ...], npt.NDArray[Any]]]

_VARIANT_COLUMNS = ("chrom", "pos", "ref", "alt", "stratum", "valid")
_BASELINE_COLUMNS = ("chrom", "pos", "stratum", "valid")


@dataclass(frozen=True, eq=False)
class Variants:
    """Single-nucleotide variants in sample order.

    Attributes
    ----------
    chrom, ref, alt, stratum : ndarray of str, shape (n,)
    pos : ndarray of int64, shape (n,)
        1-based.
    valid : ndarray of bool, shape (n,)
        Whether the input window lies in the contig and is known well enough; others are never scored.
    exons : ExonBins or None
        Bins of the exons at every position, none at positions that are not valid; None for oracles without tracks
        of gene expression.
    genes : GeneBins or None
        The same gene by gene, where these tracks have one value per gene.
    """

    chrom: StringArray
    pos: IntArray
    ref: StringArray
    alt: StringArray
    stratum: StringArray
    valid: BoolArray
    exons: ExonBins | None = None
    genes: GeneBins | None = None

    def __len__(self) -> int:
        return len(self.pos)

    def columns(self) -> Columns:
        """Everything as named arrays."""
        columns: Columns = {name: (("sample",), getattr(self, name)) for name in _VARIANT_COLUMNS}
        return {**columns, **_exon_columns("sample", self.exons), **_gene_columns("sample", self.genes)}


@dataclass(frozen=True, eq=False)
class Baselines:
    """Baseline positions in sample order.

    Attributes
    ----------
    chrom, stratum : ndarray of str, shape (n,)
        Strata are ``random``, ``ccre``, ``tss`` and ``gene_body``.
    pos : ndarray of int64, shape (n,)
        1-based.
    valid : ndarray of bool, shape (n,)
        As in `Variants`.
    bins : mapping of int to ndarray of int32, shape (n, slot)
        Output bins per resolution in bp; −1 at positions that are not valid.
    exons, genes
        As in `Variants`.
    exon_slots : ndarray of int32, shape (n, slot), or None
        The exon bins whose values are kept; −1 where there are fewer than slots.
    """

    chrom: StringArray
    pos: IntArray
    stratum: StringArray
    valid: BoolArray
    bins: Mapping[int, BinArray]
    exons: ExonBins | None = None
    exon_slots: BinArray | None = None
    genes: GeneBins | None = None

    def __len__(self) -> int:
        return len(self.pos)

    def columns(self) -> Columns:
        """Everything as named arrays."""
        columns: Columns = {name: (("position",), getattr(self, name)) for name in _BASELINE_COLUMNS}
        for resolution, bins in sorted(self.bins.items()):
            columns[_bins_name(resolution)] = (("position", "bin_slot"), bins)
        if self.exon_slots is not None:
            columns["exon_slots"] = (("position", "bin_slot"), self.exon_slots)
        return {**columns, **_exon_columns("position", self.exons), **_gene_columns("position", self.genes)}


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is going to be scored.

    Attributes
    ----------
    options : PlanOptions
    input_length_bp : int
        Width of the input window.
    max_unknown_fraction : float
        Windows with more unknown bases are not valid.
    bins_by_resolution : mapping of int to int
        Output bins per resolution in bp; empty for scalar oracles.
    variants : Variants
    baselines : Baselines
    exon_axis : OutputAxis or None
        The output on which the bins of exons are counted; None for oracles without tracks of gene expression.
    """

    options: PlanOptions
    input_length_bp: int
    max_unknown_fraction: float
    bins_by_resolution: Mapping[int, int]
    variants: Variants
    baselines: Baselines
    exon_axis: OutputAxis | None = None

    def __repr__(self) -> str:
        parts = []
        for kind, strata in self.strata().items():
            table = self.part(kind)
            counts = ", ".join(f"{name} {n:,}" for name, n in strata.items())
            parts.append(f"  {kind}: {len(table):,}, {int(table.valid.sum()):,} valid ({counts})")
        return "\n".join([f"<Plan {self.sha256[:12]}, windows of {self.input_length_bp:,} bp>", *parts])

    @property
    def effect_sha256(self) -> str:
        """Content hash of the variants, hexadecimal; the same on every platform."""
        return _digest(self.variants.columns())

    @property
    def activity_sha256(self) -> str:
        """Content hash of the baselines and their bins."""
        return _digest(self.baselines.columns())

    @property
    def sha256(self) -> str:
        """Content hash of the whole plan."""
        header = json.dumps(self._header(), sort_keys=True)
        return hashlib.sha256(f"{header}{self.effect_sha256}{self.activity_sha256}".encode()).hexdigest()

    def part(self, kind: Kind) -> Variants | Baselines:
        """Variants or baselines."""
        return self.variants if kind == "variants" else self.baselines

    def strata(self) -> dict[Kind, dict[str, int]]:
        """Positions per stratum, drawn, of variants and of baselines."""
        kinds: tuple[Kind, Kind] = ("variants", "baselines")
        counted = {kind: np.unique(self.part(kind).stratum, return_counts=True) for kind in kinds}
        return {kind: dict(zip(names.tolist(), n.tolist(), strict=True)) for kind, (names, n) in counted.items()}

    def windows(self, kind: Kind) -> IntArray:
        """First base of every input window, 0-based; meaningful where the position is valid."""
        return window_starts(self.part(kind).pos, self.input_length_bp)

    def to_datasets(self) -> dict[Kind, xr.Dataset]:
        """The plan as one dataset along ``sample`` and one along ``position``; see `from_datasets`."""
        attributes = {**self._header(), "plan_sha256": self.sha256}
        return {
            "variants": xr.Dataset(self.variants.columns(), attrs=attributes),
            "baselines": xr.Dataset(self.baselines.columns(), attrs=attributes),
        }

    @classmethod
    def from_datasets(cls, datasets: Mapping[Kind, xr.Dataset]) -> Plan:
        """The plan that `to_datasets` gave.

        Raises
        ------
        CorruptStoreError
            The datasets are not what was written.
        """
        try:
            plan = cls._read(datasets)
            expected = [dataset.attrs["plan_sha256"] for dataset in datasets.values()]
        except (KeyError, ValueError, TypeError) as error:
            raise CorruptStoreError(f"the stored plan cannot be read ({error}); build it again") from error
        if set(expected) != {plan.sha256}:
            raise CorruptStoreError("the stored plan is not the one that was written; build it again")
        return plan

    @classmethod
    def _read(cls, datasets: Mapping[Kind, xr.Dataset]) -> Plan:
        samples, positions = datasets["variants"], datasets["baselines"]
        header = samples.attrs
        bins_by_resolution = {int(resolution): n for resolution, n in header["bins_by_resolution"].items()}
        axis = OutputAxis(**header["exon_axis"]) if "exon_axis" in header else None
        of_variants = {name: _column(samples, name) for name in _VARIANT_COLUMNS}
        of_baselines = {name: _column(positions, name) for name in _BASELINE_COLUMNS}
        bins = {res: _column(positions, _bins_name(res)).astype(np.int32) for res in bins_by_resolution}
        slots = _column(positions, "exon_slots").astype(np.int32) if axis else None
        exons = [_read_exons(dataset) if axis else None for dataset in (samples, positions)]
        genes = [_read_genes(dataset) if "gene_id" in dataset else None for dataset in (samples, positions)]
        return cls(
            PlanOptions.from_dict(header["options"]),
            int(header["input_length_bp"]),
            float(header["max_unknown_fraction"]),
            bins_by_resolution,
            Variants(**of_variants, exons=exons[0], genes=genes[0]),
            Baselines(**of_baselines, bins=bins, exons=exons[1], exon_slots=slots, genes=genes[1]),
            axis,
        )

    def _header(self) -> dict[str, Any]:
        """What is not an array, as JSON values."""
        axis = {"exon_axis": asdict(self.exon_axis)} if self.exon_axis else {}
        return {
            **axis,
            "options": self.options.to_dict(),
            "input_length_bp": self.input_length_bp,
            "max_unknown_fraction": self.max_unknown_fraction,
            "bins_by_resolution": {str(res): n for res, n in sorted(self.bins_by_resolution.items())},
        }


def window_starts(pos: IntArray, input_length_bp: int) -> IntArray:
    """First base of the input window of every position, 0-based: the one definition of the window rule.

    A window is [pos − half, pos + half) with half = L // 2, so the base of ``pos`` sits at index half − 1.

    Parameters
    ----------
    pos : ndarray of int64, shape (n,)
        1-based.
    input_length_bp : int
        L, even.

    Examples
    --------
    >>> window_starts(np.array([100]), 8).tolist()
    [96]
    """
    return pos - input_length_bp // 2


def _bins_name(resolution_bp: int) -> str:
    return f"bins_{resolution_bp}bp"


def _column(dataset: xr.Dataset, name: str) -> Any:
    """One variable as the array that `Plan` holds, whatever string type the store gave it."""
    values = dataset[name].to_numpy()
    return values if values.dtype.kind in "biu" else np.array(values.tolist(), np.str_)


def _exon_columns(dim: str, exons: ExonBins | None, prefix: str = "exon") -> Columns:
    if exons is None:
        return {}
    dims = {"offset": (f"{dim}_edge",), "first": (f"{prefix}_run",), "stop": (f"{prefix}_run",)}
    return {f"{prefix}_{column.name}": (dims[column.name], getattr(exons, column.name)) for column in fields(ExonBins)}


def _read_exons(dataset: xr.Dataset, prefix: str = "exon") -> ExonBins:
    offset, first, stop = (_column(dataset, f"{prefix}_{column.name}") for column in fields(ExonBins))
    return ExonBins(offset, first.astype(np.int32), stop.astype(np.int32))


def _gene_columns(dim: str, genes: GeneBins | None) -> Columns:
    if genes is None:
        return {}
    columns: Columns = {"gene_offset": ((f"{dim}_edge",), genes.offset), "gene_id": (("gene",), genes.gene_id)}
    return {**columns, **_exon_columns("gene", genes.bins, "gene_exon")}


def _read_genes(dataset: xr.Dataset) -> GeneBins:
    return GeneBins(_column(dataset, "gene_offset"), _column(dataset, "gene_id"), _read_exons(dataset, "gene_exon"))


def _digest(columns: Columns) -> str:
    """SHA-256 over names and values: little-endian int64, or text separated by U+001F."""
    sha = hashlib.sha256()
    for name, (_, column) in columns.items():
        text = column.dtype.kind == "U"
        content = "\x1f".join(column.tolist()).encode() if text else column.astype("<i8").tobytes()
        sha.update(f"{name}{column.shape}{len(content)}:".encode() + content)
    return sha.hexdigest()
