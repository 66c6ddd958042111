"""Export a store as ``{oracle}_pertrack.npz``, the file that the existing normalizer reads.

The CDFs are streamed block by block through ISA-L's deflate into an ordinary ZIP file, so memory does not
grow with the number of tracks, and `numpy.load` reads the result without pickle. Equal stores give equal
bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import xarray as xr
from tqdm import tqdm

from chorus_store import naming, opening, origins, schema
from chorus_store.checks.background import check_labels, check_quantiles, check_tracks
from chorus_store.checks.counts import check_counts, check_sampling
from chorus_store.checks.findings import Finding
from chorus_store.checks.rows import RowCheck
from chorus_store.checks.subject import Subject
from chorus_store.coverage import covered, require_replaceable
from chorus_store.errors import ChorusStoreError, CorruptStoreError, InputError, SchemaError
from chorus_store.npz_config import build_config, imported_text
from chorus_store.npz_contract import BUILD_CONFIG, CDF_KEYS, KEYS, variable_of
from chorus_store.npz_file import open_npz_file
from chorus_store.npz_writer import new_archive, write_array, write_cdf
from chorus_store.swap import is_stream, written_whole

#: Bytes of a CDF that are held at a time.
_BLOCK_BYTES = 16 * 2**20


def export_npz(
    store_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    *,
    progress: bool = True,
    allow_fewer_tracks: bool = False,
) -> Path:
    """Write the canonical NPZ of a published store; of one that was imported, the file as it was.

    Parameters
    ----------
    store_path : path-like
        A published ``{oracle}.zarr``.
    out_path : path-like
        The file to write; appears whole or not at all, and replaces an older one.
    progress : bool
        Show a progress bar when stderr is a terminal.
    allow_fewer_tracks : bool
        Replace an older file whatever it is.

    Returns
    -------
    Path
        ``out_path``.

    Raises
    ------
    StoreNotFoundError, SchemaError
        No published store there; see `chorus_store.open`.
    InputError
        ``out_path`` is standard output (``-``), a device or a named pipe; an NPZ file is not written in one go.
    CorruptStoreError
        Rows of a CDF are damaged or missing, or anything else that the command ``validate`` would find in them, in
        labels or in counts; the older file stays.
    CoverageError
        A file is there that has samples of many more tracks, or that is no NPZ file of a background.
    StoreWriteError
        Full disk, or a folder that cannot be written; nothing is left behind.

    Examples
    --------
    >>> export_npz("enformer.zarr", "enformer_pertrack.npz")  # doctest: +SKIP
    PosixPath('enformer_pertrack.npz')
    """
    out = Path(out_path)
    if out_path == naming.STANDARD or is_stream(out):
        raise InputError(f"cannot write an NPZ file to {out_path}: it is no ordinary file; give the name of one")
    if out.exists() and not allow_fewer_tracks:
        require_replaceable(out, covered(store_path))
    with opening.open(store_path) as store, written_whole(out) as file:
        _require_store(store, store_path)
        subject = Subject(store_path, store, store.attrs)
        # What was imported goes back as it came, whatever its labels and counts are.
        with schema.expected(store_path):
            for check in (check_tracks, check_labels, check_quantiles, check_counts, check_sampling):
                _require_valid(subject, check(subject) if subject.is_built else ())
        synced: list[Future[None]] = []
        with (
            ThreadPoolExecutor(1) as disk,
            tqdm(total=store.nbytes, unit="B", unit_scale=True, desc=out.name, disable=not progress or None) as bar,
        ):
            # One array goes to disk while the next one is compressed.
            write_npz(subject, file, bar, lambda: synced.append(disk.submit(os.fsync, file.fileno())))
        for future in synced:
            future.result()
    return out


def write_npz(subject: Subject, file: BinaryIO, bar: Any, on_cdf: Callable[[], object] = lambda: None) -> None:
    """Write the NPZ of a background to an open file; every row is checked on its way.

    Parameters
    ----------
    subject : Subject
        With a background.
    file : binary file
        To write to.
    bar : tqdm
        Told of the bytes of the CDFs.
    on_cdf : callable
        Called whenever a CDF has been written.

    Raises
    ------
    CorruptStoreError
        Rows that cannot be read, or that the command ``validate`` would find fault with.
    """
    store = subject.background
    with new_archive(file) as archive:
        for name, dtype in arrays_of(store).items():
            if name in CDF_KEYS:
                cdf = store[variable_of(name)]
                write_cdf(archive, name, cdf.shape, _blocks(subject, cdf, bar))
                file.flush()
                on_cdf()
            else:
                write_array(archive, name, values_of(store, name, dtype))


def _require_valid(subject: Subject, findings: Iterable[Finding]) -> None:
    for finding in findings:
        if finding.severity == "error":
            raise CorruptStoreError(
                f"{subject.place} does not validate: {finding}; {finding.repair} "
                f"(all that is wrong: python -m chorus_store validate {subject.place})"
            )


def is_current(store_path: str | os.PathLike[str], npz_path: str | os.PathLike[str]) -> bool:
    """Whether the NPZ at a path was exported from the background that the store holds now.

    They say the same of plan, samples and the statistics of every layer's CDFs, or they are not the same; nor are they
    where one of them cannot be read.
    """
    try:
        with open_npz_file(npz_path) as npz, opening.open(store_path) as store:
            return bool(npz.build_config == build_config(store.attrs, store.sizes["track"]))
    except ChorusStoreError:
        return False


def default_path(store_path: str | os.PathLike[str]) -> Path:
    """Where a store's NPZ goes unless told otherwise: beside it, as ``{oracle}_pertrack.npz``.

    A demonstration goes to ``{oracle}_demo_pertrack.npz``, where nobody takes it for the real background.

    Raises
    ------
    StoreNotFoundError, SchemaError, CorruptStoreError
        As `chorus_store.open`.
    """
    with opening.open(store_path) as store:
        _require_store(store, store_path)  # the name of the oracle becomes that of a file
        name = naming.npz_name(store.attrs["oracle"]["name"], store.attrs["demo"])
        return naming.with_a_name(Path(store_path)).with_name(name)


def _require_store(store: xr.Dataset, place: str | os.PathLike[str]) -> None:
    if "schema" not in store.attrs:
        raise SchemaError(f"{place} is an NPZ file already, which needs no export; copy it")
    schema.validate(store.attrs, "store")


def _blocks(subject: Subject, cdf: xr.DataArray, bar: Any) -> Iterator[npt.NDArray[np.float32]]:
    """Rows of a CDF, some whole chunks at a time, and checked; the next block is read while one is being used."""
    n_tracks, width = cdf.shape
    checked = RowCheck(subject, str(cdf.name).removesuffix("_cdf"))
    chunk = cdf.encoding["chunks"][0]
    step = max(chunk, _BLOCK_BYTES // (4 * width) // chunk * chunk)

    def read(start: int) -> npt.NDArray[np.float32]:
        with opening.reading(str(cdf.name)):
            rows = np.ascontiguousarray(cdf[start : start + step].values, "<f4")
        checked.look(slice(start, start + len(rows)), rows)
        _require_valid(subject, checked.findings())
        return rows

    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(read, 0)
        for start in range(step, n_tracks, step):
            rows, following = following.result(), reader.submit(read, start)
            yield rows
            bar.update(rows.nbytes)
        rows = following.result()
        yield rows
        bar.update(rows.nbytes)


def arrays_of(store: xr.Dataset) -> dict[str, str | None]:
    """Key and, where it is more than the values tell, dtype of every array to write, in order."""
    if opening.is_imported(store.attrs):
        arrays = {array["name"]: array["dtype"] for array in store.attrs["provenance"]["imported"]["arrays"]}
        missing = {variable_of(name) for name in arrays} - set(store.variables) - {BUILD_CONFIG}
        if missing:
            raise SchemaError(f"the store lacks {', '.join(sorted(missing))}, as imported; import the file again")
        return arrays | ({BUILD_CONFIG: None} if origins.ROWS in store.attrs["provenance"] else {})
    return {name: None for name, key in KEYS.items() if key.variable in store or name == BUILD_CONFIG}


def values_of(store: xr.Dataset, name: str, dtype: str | None) -> npt.NDArray[Any]:
    """One of the small arrays, as NumPy's own format wants it: strings of fixed width."""
    if name == BUILD_CONFIG:
        values: npt.NDArray[Any] = np.array([_document(store)])
    else:
        with opening.reading(name):
            values = store[variable_of(name)].values
        if values.dtype.kind == "O":
            values = values.astype(np.str_)
    if dtype is None or np.dtype(dtype).itemsize < values.itemsize:  # rows that were appended have longer strings
        return values
    return values.astype(dtype)


def _document(store: xr.Dataset) -> str:
    """Text of ``build_config``."""
    with opening.reading("the provenance"):  # a number that is none in JSON is damage, as numbers of arrays are
        if opening.is_imported(store.attrs):
            return imported_text(store.attrs, store.sizes["track"])
        config = build_config(store.attrs, store.sizes["track"])
        schema.validate(config, "npz")
        return json.dumps(config, sort_keys=True, allow_nan=False)
