"""The Zarr layout: names, dimensions, dtypes, chunks, shards and codecs. No other module spells them out.

The published background is the root group, described by `ROOT_VARIABLES`; the plan, the facts ("samples") and the
progress records are groups below it. Everything is Zarr format 3.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numcodecs.blosc
import numpy as np
import numpy.typing as npt
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, TransposeCodec, ZstdCodec

from chorus_store import nodes
from chorus_store.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

# Blosc's own threads order the blocks of a buffer by who finishes first; without them bytes are reproducible.
numcodecs.blosc.use_threads = False

SCHEMA_NAME = "chorus-store"
#: Version of the layout on disk; raised when an older reader would misread it.
SCHEMA_VERSION = 1
#: ``schema_version`` of ``build_config``, the document of an NPZ; raised when an older reader would misread the file.
BUILD_CONFIG_VERSION = 4

CDF_POINTS = 10_000
CDFS = ("effect", "summary", "perbin")

#: Rows of a CDF that are compressed together: one percentile reads one such chunk.
TRACKS_PER_CHUNK = 4
#: Rows of a CDF per file, about.
TRACKS_PER_SHARD = 1024
#: Compaction works through the tracks in groups of at most this many, so shards and fact chunks are aligned to it.
TRACKS_PER_GROUP = 64
#: Decoded size aimed at for one inner chunk of the facts.
FACT_CHUNK_BYTES = 512 * 1024

#: The two kinds of positions of a plan.
Kind = Literal["variants", "baselines"]
PLAN, SAMPLES, PROGRESS, RUNS = "plan", "samples", "progress", "runs"
#: What belongs to the build rather than to the background.
BUILD_GROUPS = (PLAN, SAMPLES, PROGRESS, RUNS)


#: In which stores a variable is: in all, in all that were built rather than imported, or where there is cause.
Presence = Literal["always", "built", "sometimes"]


@dataclass(frozen=True)
class Variable:
    """One array of the root group."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    description: str
    presence: Presence = "built"


def _cdf_variables(cdf: str, meaning: str) -> tuple[Variable, ...]:
    presence: Presence = "sometimes" if cdf == "perbin" else "built"
    return (
        Variable(f"{cdf}_cdf", ("track", "quantile"), "float32", f"Sorted background of {meaning}", presence),
        Variable(f"{cdf}_count", ("track",), "int64", f"Values of {cdf} offered to the track", presence),
        Variable(f"{cdf}_retained", ("track",), "int64", f"Values of {cdf} kept for the CDF", presence),
    )


#: Every array of a published background; attributes, validation and documentation read this table.
ROOT_VARIABLES: tuple[Variable, ...] = (
    Variable("track", ("track",), "string", "Track identifier, in the row order of the NPZ", "always"),
    Variable("layer", ("track",), "string", "Canonical layer"),
    Variable("assay", ("track",), "string", "Assay"),
    Variable("cell_type", ("track",), "string", "Biosample"),
    Variable("description", ("track",), "string", "Free-text description"),
    Variable("strand", ("track",), "string", "+, - or ."),
    Variable("signed", ("track",), "bool", "Whether effects keep their sign", "always"),
    Variable("window_bp", ("track",), "int64", "Width of the central window in bp; 0 is the whole output"),
    Variable("resolution_bp", ("track",), "int64", "Base pairs per output bin; 0 for scalar oracles"),
    Variable("formula", ("track",), "string", "Formula of the effect"),
    Variable("pseudocount", ("track",), "float64", "Added to both alleles by the fold changes"),
    Variable("quantile", ("quantile",), "float64", "Cumulative probability of the grid point", "always"),
    *_cdf_variables("effect", "variant effects (absolute unless signed)"),
    *_cdf_variables("summary", "window statistics at baseline positions"),
    *_cdf_variables("perbin", "single output bins at baseline positions"),
)

VARIABLE: Mapping[str, Variable] = {variable.name: variable for variable in ROOT_VARIABLES}


def missing_variables(names: Container[str], *, imported: bool) -> list[str]:
    """Variables that a background lacks; a CDF at least must be there.

    Parameters
    ----------
    names : container of str
        Of the variables that are there.
    imported : bool
        Whether the background came from an NPZ file, which may know less than a build.

    Examples
    --------
    >>> missing_variables({"track", "signed", "quantile"}, imported=True)
    ['effect_cdf, summary_cdf or perbin_cdf']
    """
    wanted = ("always",) if imported else ("always", "built")
    missing = [v.name for v in ROOT_VARIABLES if v.presence in wanted and v.name not in names]
    if imported and not any(f"{cdf}_cdf" in names for cdf in CDFS):
        missing.append("effect_cdf, summary_cdf or perbin_cdf")
    return missing


@dataclass(frozen=True)
class FactArray:
    """One array of facts.

    Attributes
    ----------
    name : str
        Path below ``/samples``.
    kind : Kind
        Which part of the plan its samples come from: ``variants`` or ``baselines``.
    slots : bool
        Whether every position has one sample per bin slot rather than one.
    genes : bool
        Whether every position has one sample per gene, and the array only the tracks of gene expression; then it
        stands in for these tracks in the CDF.
    """

    name: str
    kind: Kind
    slots: bool = False
    genes: bool = False

    @property
    def cdf(self) -> str:
        """The CDF that it is made into."""
        return self.name.partition("/")[0].removeprefix("gene_")


FACT_ARRAYS: tuple[FactArray, ...] = (
    FactArray("effect/ref", "variants"),
    FactArray("effect/alt", "variants"),
    FactArray("gene_effect/ref", "variants", genes=True),
    FactArray("gene_effect/alt", "variants", genes=True),
    FactArray("summary/value", "baselines"),
    FactArray("gene_summary/value", "baselines", genes=True),
    FactArray("perbin/value", "baselines", slots=True),
)


#: Of consolidated metadata and PCodec, which this layout uses on purpose; of what is left of a table that is damaged.
_EXPECTED_WARNINGS = (
    "Consolidated metadata is currently not part",
    "Numcodecs codecs are not in the Zarr",
    "Object at .* is not recognized as a component of a Zarr hierarchy",
)

_silence, _silent, _silencing = ExitStack(), 0, threading.Lock()


@contextmanager
def without_zarr_warnings() -> Iterator[None]:
    """Silence what zarr says of what is as it must be, or of damage that is found anyway.

    Warning filters are global to the process, so of threads that are inside together the first sets them and the
    last restores them.
    """
    global _silent
    with _silencing:
        if not _silent:
            _silence.enter_context(warnings.catch_warnings())
            for message in _EXPECTED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
        _silent += 1
    try:
        yield
    finally:
        with _silencing:
            _silent -= 1
            if not _silent:
                _silence.close()


def root_attributes() -> dict[str, Any]:
    """The attributes that every store's root group has."""
    return {"schema": {"name": SCHEMA_NAME, "version": SCHEMA_VERSION}}


def cdf_codecs(codec: str = "blosc") -> dict[str, Any]:
    """``compressors`` and ``serializer`` of a CDF array for `zarr.create_array`.

    Parameters
    ----------
    codec : {"blosc", "pcodec"}
        Blosc zstd with byte shuffle, which every Zarr reader has, or PCodec (extra ``pcodec``), which is smaller.
        Both are followed by a checksum, so a damaged chunk cannot be read as numbers.
    """
    if codec == "blosc":
        blosc = BloscCodec(cname="zstd", clevel=8, shuffle="shuffle")
        return {"compressors": [blosc, Crc32cCodec()]}
    if codec == "pcodec":
        try:
            import pcodec  # noqa: F401
        except ImportError:
            raise InputError(
                "codec 'pcodec' needs the extra: pip install 'chorus-store[pcodec]', or use --codec blosc"
            ) from None
        from zarr.codecs.numcodecs import PCodec

        return {"serializer": PCodec(level=8), "compressors": [Crc32cCodec()]}
    raise InputError(f"unknown codec {codec!r}; use 'blosc' or 'pcodec'")


def tracks_per_shard(n_tracks: int) -> int:
    """Rows of one CDF shard: about `TRACKS_PER_SHARD`, all shards alike, aligned to groups and chunks.

    Examples
    --------
    >>> tracks_per_shard(5313), tracks_per_shard(6)
    (896, 8)
    """
    n_shards = math.ceil(n_tracks / TRACKS_PER_SHARD)
    step = TRACKS_PER_GROUP if n_tracks > TRACKS_PER_GROUP else TRACKS_PER_CHUNK
    return math.ceil(n_tracks / n_shards / step) * step


def create_cdf_array(
    group: zarr.Group, name: str, n_tracks: int, n_quantiles: int = CDF_POINTS, codec: str = "blosc"
) -> zarr.Array[Any]:
    """Create one CDF of `ROOT_VARIABLES` in ``group``, empty."""
    variable = VARIABLE[name]
    return group.create_array(
        name,
        shape=(n_tracks, n_quantiles),
        chunks=(TRACKS_PER_CHUNK, n_quantiles),
        shards=(tracks_per_shard(n_tracks), n_quantiles),
        dtype=variable.dtype,
        fill_value=np.nan,
        dimension_names=variable.dims,
        attributes={"description": variable.description},
        config={"write_empty_chunks": True},
        **cdf_codecs(codec),
    )


def write_root_array(group: zarr.Group, name: str, values: npt.ArrayLike) -> None:
    """Create and fill one of the small arrays of `ROOT_VARIABLES`."""
    variable = VARIABLE[name]
    data = np.asarray(values, dtype=None if variable.dtype == "string" else variable.dtype)
    write_array(group, name, data, variable.dims, {"description": variable.description})


def write_array(
    group: zarr.Group,
    name: str,
    values: npt.NDArray[Any],
    dims: tuple[str, ...],
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Create and fill an array of numbers or text in the root group, as one chunk with a checksum."""
    if values.dtype.kind in "UO":
        values, dtype = values.astype(np.dtypes.StringDType()), "string"
        compressors: list[Any] = [ZstdCodec(level=5, checksum=True)]
    else:
        dtype = values.dtype.newbyteorder("=").str
        compressors = [BloscCodec(cname="zstd", clevel=5, shuffle="shuffle"), Crc32cCodec()]
    array = group.create_array(
        name,
        shape=values.shape,
        chunks=tuple(max(1, size) for size in values.shape),
        dtype=dtype,
        dimension_names=dims,
        attributes=dict(attributes or {}),
        config={"write_empty_chunks": True},
        compressors=compressors,
    )
    array[...] = values


def fact_chunk_tracks(unit_samples: int, unit_tracks: int) -> int:
    """Tracks of one inner chunk of the facts: a power of two that makes at most `FACT_CHUNK_BYTES`.

    Examples
    --------
    >>> fact_chunk_tracks(4096, 5313), fact_chunk_tracks(128, 5313), fact_chunk_tracks(31500, 1)
    (32, 64, 1)
    """
    wanted = min(FACT_CHUNK_BYTES // (4 * unit_samples), TRACKS_PER_GROUP, unit_tracks)
    return int(2 ** (max(wanted, 1).bit_length() - 1))


def create_fact_array(group: zarr.Group, name: str, shape: tuple[int, int], unit: tuple[int, int]) -> zarr.Array[Any]:
    """Create one (sample, track) array of facts whose shard is one unit of work.

    The inner chunks are stored track-major, so that compaction reads contiguous columns. They are not compressed:
    single predictions are noise to a compressor (Blosc keeps 92 % of the bytes at half the speed).

    Parameters
    ----------
    group : zarr.Group
        The store's root.
    name : str
        Name of a `FactArray`.
    shape : (int, int)
        Samples and tracks of the whole array.
    unit : (int, int)
        Samples and tracks of one unit of work.
    """
    samples, tracks = max(1, min(unit[0], shape[0])), min(unit[1], shape[1])
    chunk_tracks = fact_chunk_tracks(samples, tracks)
    return group.create_array(
        f"{SAMPLES}/{name}",
        shape=shape,
        dtype="float32",
        chunks=(samples, chunk_tracks),
        shards=(samples, math.ceil(tracks / chunk_tracks) * chunk_tracks),
        filters=[TransposeCodec(order=(1, 0))],
        compressors=[Crc32cCodec()],
        fill_value=np.nan,
        dimension_names=("sample", "track"),
        config={"write_empty_chunks": True},
    )


def write_table(group: zarr.Group, name: str, table: xr.Dataset) -> None:
    """Write a small Dataset of plain columns as a group below ``group``, strings as Zarr strings."""
    target = group.create_group(name, attributes={str(key): value for key, value in table.attrs.items()})
    for key, variable in table.variables.items():
        text = variable.dtype.kind in "UOT"
        array = target.create_array(
            str(key),
            shape=variable.shape,
            chunks=tuple(max(1, size) for size in variable.shape),
            dtype=str if text else variable.dtype,
            dimension_names=[str(dim) for dim in variable.dims],
            compressors=[ZstdCodec(level=5, checksum=True)],
        )
        array[...] = variable.values.astype(np.dtypes.StringDType()) if text else variable.values


def read_table(store: Path, name: str) -> xr.Dataset:
    """Read what `write_table` wrote, all of it, strings as NumPy strings."""
    import xarray as xr

    for metadata in (store / name).glob("*/zarr.json"):
        nodes.check_array(metadata.parent)
    with (
        without_zarr_warnings(),
        xr.open_zarr(store, group=name, consolidated=False, zarr_format=3, chunks=None) as lazy,
    ):
        table: xr.Dataset = lazy.load()
    return table.assign(
        {
            key: (variable.dims, np.array(variable.values.tolist(), dtype=np.str_))
            for key, variable in table.variables.items()
            if variable.dtype.kind == "T"
        }
    )


def shard_file(store: Path, array: str, indices: tuple[int, ...]) -> Path:
    """File of one shard of an array in a local store."""
    return store.joinpath(array, "c", *map(str, indices))
