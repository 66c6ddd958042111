"""Export a store as ``{oracle}_pertrack.npz``, the file that the existing normalizer reads.

The CDFs are streamed block by block through ISA-L's deflate into an ordinary ZIP file, so memory does not
grow with the number of tracks, and `numpy.load` reads the result without pickle. Equal stores give equal
bytes.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xarray as xr
from isal import isal_zlib
from tqdm import tqdm

from chorus_store import opening, schema
from chorus_store.errors import StoreWriteError
from chorus_store.layers import LAYERS
from chorus_store.layout import CDFS
from chorus_store.swap import aside_name

#: ``schema_version`` of ``build_config``.
BUILD_CONFIG_VERSION = 4

#: Bytes of a CDF that are held at a time.
_BLOCK_BYTES = 16 * 2**20


def export_npz(store_path: str | os.PathLike[str], out_path: str | os.PathLike[str], *, progress: bool = True) -> Path:
    """Write the canonical NPZ of a published store.

    Parameters
    ----------
    store_path : path-like
        A published ``{oracle}.zarr``.
    out_path : path-like
        The file to write; appears whole or not at all, and replaces an older one.
    progress : bool
        Show a progress bar when stderr is a terminal.

    Returns
    -------
    Path
        ``out_path``.

    Raises
    ------
    StoreNotFoundError, SchemaError
        No published store there; see `chorus_store.open`.
    CorruptStoreError
        Rows of a CDF are damaged or missing.
    StoreWriteError
        Full disk, or a folder that cannot be written; nothing is left behind.

    Examples
    --------
    >>> export_npz("enformer.zarr", "enformer_pertrack.npz")  # doctest: +SKIP
    PosixPath('enformer_pertrack.npz')
    """
    out = Path(out_path)
    with opening.open(store_path) as store, _written_whole(out) as file, ThreadPoolExecutor(1) as disk:
        cdfs = [cdf for cdf in CDFS if f"{cdf}_cdf" in store]
        synced: list[Future[None]] = []
        total = sum(store[f"{cdf}_cdf"].nbytes for cdf in cdfs)
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            tqdm(total=total, unit="B", unit_scale=True, desc=out.name, disable=not progress or None) as bar,
        ):
            _write(archive, "track_ids", _text(store["track"]))
            for cdf in cdfs:
                _write_cdf(archive, f"{cdf}_cdfs", store[f"{cdf}_cdf"], bar)
                file.flush()
                synced.append(disk.submit(os.fsync, file.fileno()))  # while the next one is compressed
            _write(archive, "signed_flags", store["signed"].values)
            for cdf in cdfs:
                _write(archive, f"{cdf}_counts", store[f"{cdf}_count"].values)
                _write(archive, f"{cdf}_retained", store[f"{cdf}_retained"].values)
            _write(archive, "layers_per_row", _text(store["layer"]))
            config = build_config(store)
            _write(archive, "build_config", np.array([json.dumps(config, sort_keys=True, allow_nan=False)]))
        for future in synced:
            future.result()
    return out


def is_current(store_path: str | os.PathLike[str], npz_path: str | os.PathLike[str]) -> bool:
    """Whether the NPZ at a path was exported from the background that the store holds now.

    They say the same of plan, samples and the statistics of every layer's CDFs, or they are not the same.
    """
    try:
        with np.load(npz_path, allow_pickle=False) as npz:
            exported = json.loads(str(npz["build_config"][0]))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile):
        return False
    with opening.open(store_path) as store:
        return bool(exported == build_config(store))


def default_path(store_path: str | os.PathLike[str]) -> Path:
    """Where a store's NPZ goes unless told otherwise: beside it, as ``{oracle}_pertrack.npz``.

    A demonstration goes to ``{oracle}_demo_pertrack.npz``, where nobody takes it for the real background.

    Raises
    ------
    StoreNotFoundError, SchemaError, CorruptStoreError
        As `chorus_store.open`.
    """
    with opening.open(store_path) as store:
        demo = "_demo" if store.attrs["demo"] else ""
        return Path(store_path).with_name(f"{store.attrs['oracle']['name']}{demo}_pertrack.npz")


def build_config(store: xr.Dataset) -> dict[str, Any]:
    """The NPZ's provenance document, checked against ``schemas/npz.schema.json``.

    Parameters
    ----------
    store : Dataset
        From `chorus_store.open`.

    Raises
    ------
    SchemaError
        The store's attributes do not make a valid document.
    """
    attributes, provenance = store.attrs, store.attrs["provenance"]
    plan, genome, geometry = provenance["plan"], provenance["inputs"]["genome"], provenance["geometry"]
    resolutions = sorted({head["resolution_bp"] for head in geometry["heads"]} - {0})
    config = {
        "schema_version": BUILD_CONFIG_VERSION,
        "genome": attributes["genome"],
        "demo": attributes["demo"],
        "oracle": attributes["oracle"]["name"],
        "n_tracks": store.sizes["track"],
        "cdf_points": store.sizes["quantile"],
        "input_length": geometry["input_length_bp"],
        "resolution": resolutions if len(resolutions) > 1 else next(iter(resolutions), None),
        "histone_window_bp": LAYERS["histone_marks"].window_bp,
        "other_window_bp": LAYERS["tf_binding"].window_bp,
        "layers_present": [layer for layer in LAYERS if layer in provenance["layers"]],
        "statistics_per_layer": provenance["layers"],
        "sampling": provenance["sampling"],
        "reference_sets": {
            key: plan[key] for key in ("effect_sha256", "effect_strata", "activity_sha256", "activity_strata", "seeds")
        },
        "fasta_sha256_prefix64mb": genome["fasta_sha256_prefix64mb"],
        "fai_sha256": genome["fai_sha256"],
    }
    schema.validate(config, "npz")
    return config


@contextmanager
def _written_whole(out: Path) -> Iterator[BinaryIO]:
    """A file beside ``out`` to write to; renamed to ``out`` at the end, removed on any failure."""
    partial = aside_name(out)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(out)
    except OSError as error:
        raise StoreWriteError(
            f"cannot write {out}: {error.strerror or error}; free some space or give another --out, "
            "and run the same command again"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[Any]:
    """Open one array of the archive for writing; its date is fixed, so that equal data give equal bytes."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as member:
        # zipfile takes no compressor from outside. ISA-L's makes the same format, 15 times as fast as zlib.
        member._compressor = isal_zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)  # type: ignore[attr-defined]
        yield member


def _write(archive: zipfile.ZipFile, name: str, values: npt.NDArray[Any]) -> None:
    with _member(archive, name) as member:
        np.lib.format.write_array(member, values, allow_pickle=False)


def _write_cdf(archive: zipfile.ZipFile, name: str, cdf: xr.DataArray, bar: Any) -> None:
    """Stream a (track, quantile) array."""
    header = {"descr": "<f4", "fortran_order": False, "shape": cdf.shape}
    with _member(archive, name) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for rows in _blocks(cdf):
            member.write(rows)
            bar.update(rows.nbytes)


def _blocks(cdf: xr.DataArray) -> Iterator[npt.NDArray[np.float32]]:
    """Rows of a CDF, some whole chunks at a time; the next block is read while one is being used."""
    n_tracks, width = cdf.shape
    chunk = cdf.encoding["chunks"][0]
    step = max(chunk, _BLOCK_BYTES // (4 * width) // chunk * chunk)

    def read(start: int) -> npt.NDArray[np.float32]:
        with opening.reading(str(cdf.name)):
            rows = np.ascontiguousarray(cdf[start : start + step].values, "<f4")
        opening.require_rows(rows, str(cdf.name))
        return rows

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, 0)
        for start in range(step, n_tracks, step):
            rows, following = following.result(), reader.submit(read, start)
            yield rows
        yield following.result()


def _text(column: xr.DataArray) -> npt.NDArray[np.str_]:
    """Strings of fixed width, as NumPy's own format wants them."""
    return np.array(column.values.tolist(), dtype=np.str_)
