"""``{oracle}_pertrack.npz`` as it is: opened by its headers, checked, and read array by array when asked; no xarray."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
import numpy.typing as npt

from chorus_store.errors import CorruptStoreError, SchemaError, StoreNotFoundError
from chorus_store.npz_contract import BUILD_CONFIG, CDF_KEYS, COUNT_KEYS, TRACK_IDS, check
from chorus_store.npz_members import Member, NpzMembers
from chorus_store.opening import ascends
from chorus_store.places import is_url, open_file
from chorus_store.schema import check_build_config

if TYPE_CHECKING:
    import xarray as xr

#: End of the name of a file of background, after the oracle.
SUFFIX = "_pertrack.npz"

#: Rows that are checked together, so that they stay in the processor's cache.
_CHECKED_ROWS = 64


class NpzFile:
    """An open file; closed by `close`, at the end of a ``with`` block, or when nothing refers to it any more.

    Made by `open_npz_file`.

    Attributes
    ----------
    name : str
        Path or URL.
    arrays : mapping of str to Member
        Shape and dtype of every array, by its key.
    n_tracks, n_points : int
        Rows and columns of the CDFs.
    track_ids : list of str
        Identifier of every row; no two are equal.
    build_config_text : str, optional
        The provenance document as it stands in the file; None where there is none.
    build_config : dict, optional
        The same, parsed.
    """

    def __init__(self, file: BinaryIO, name: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.name = name
        self._file, self._storage_options = file, storage_options
        self._read: dict[str, npt.NDArray[Any]] = {}
        self._reading = threading.Lock()
        self._members = NpzMembers(file, name)
        self.arrays: Mapping[str, Member] = self._members.members
        sizes = check(self.arrays, name)
        self.n_tracks, self.n_points = sizes["track"], sizes["quantile"]
        self.track_ids = self._track_ids()
        self.build_config_text = self.text(BUILD_CONFIG).item() if BUILD_CONFIG in self.arrays else None
        self.build_config = None if self.build_config_text is None else self._parsed(self.build_config_text)

    @property
    def oracle(self) -> str | None:
        """Name of the oracle, by the document or else by the name of the file."""
        name = (self.build_config or {}).get("oracle")
        if isinstance(name, str):
            return name
        file = self.name.replace("\\", "/").rpartition("/")[2]
        return file.removesuffix(SUFFIX) if file.endswith(SUFFIX) else None

    def read(self, name: str) -> npt.NDArray[Any]:
        """One whole array; read and checked when first asked for, and kept until the file is closed.

        Parameters
        ----------
        name : str
            Its key, such as ``effect_cdfs``.

        Returns
        -------
        ndarray
            With the shape and dtype of the file. It is shared by all who ask: do not write to it.

        Raises
        ------
        CorruptStoreError
            Damaged, or a row of a CDF that is not finite or does not ascend; names the track.
        SchemaError
            A negative count; names the track.
        """
        with self._reading:
            if name not in self._read:
                array = self._members.read(name)
                self._check(name, array, 0)
                self._read[name] = array
            return self._read[name]

    def text(self, name: str) -> npt.NDArray[np.object_]:
        """An array of text as Python strings.

        Raises
        ------
        CorruptStoreError
            Damaged.
        SchemaError
            Entries that are not Unicode.
        """
        array = self.read(name)
        codes = array.ravel().view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        # Surrogates, and what is beyond Unicode; Zarr's strings lack the very last code point too.
        if ((codes >= 0xD800) & (codes <= 0xDFFF) | (codes >= 0x10FFFF)).any():
            raise SchemaError(f"{name} of {self.name} is not Unicode text; export the file again")
        return array.astype(object)

    def blocks(self, name: str, rows: int) -> Iterator[npt.NDArray[Any]]:
        """An array of at least one axis, block by block and checked; only one block is in memory.

        The checksum of the array is compared at its end: until then the blocks are not to be relied on.

        Parameters
        ----------
        name : str
            Its key.
        rows : int
            Of a block.

        Yields
        ------
        ndarray
            The next rows.

        Raises
        ------
        CorruptStoreError, SchemaError
            As `read`.
        """
        first = 0
        for block in self._members.blocks(name, rows):
            self._check(name, block, first)
            yield block
            first += len(block)

    def close(self) -> None:
        """Close the file; what was read stays with those who have it."""
        self._read.clear()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._file.close()

    def __reduce__(self) -> Any:
        return open_npz_file, (self.name, self._storage_options)

    def __repr__(self) -> str:
        return f"<NpzFile {self.name}: {self.n_tracks:,} tracks, {', '.join(self.arrays)}>"

    def _track_ids(self) -> list[str]:
        labels: list[str] = self.text(TRACK_IDS).tolist()
        if len(set(labels)) < len(labels):
            (label, times), *_ = Counter(labels).most_common(1)
            raise SchemaError(f"{TRACK_IDS} of {self.name} has {label!r} {times} times; write the file again")
        return labels

    def _parsed(self, text: str) -> dict[str, Any]:
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SchemaError(
                f"{BUILD_CONFIG} of {self.name} is not a JSON document ({error}); export the file again"
            ) from error
        if not isinstance(config, dict):
            raise SchemaError(f"{BUILD_CONFIG} of {self.name} is not a JSON object; export the file again")
        check_build_config(config, self.name)
        return config

    def _check(self, name: str, array: npt.NDArray[Any], first: int) -> None:
        """Refuse values that are no counts or no CDFs; ``first`` is the row of the first entry."""
        if name in COUNT_KEYS and (array < 0).any():
            track = self.track_ids[first + int(np.argmax(array < 0))]
            raise SchemaError(f"{name} of {self.name} is negative for track {track}; export the file again")
        if name in CDF_KEYS:
            for start in range(0, len(array), _CHECKED_ROWS):
                good = ascends(array[start : start + _CHECKED_ROWS])
                if not good.all():
                    track = self.track_ids[first + start + int(np.argmin(good))]
                    raise CorruptStoreError(
                        f"{name} of {self.name} has a row that does not ascend or is not finite, of track {track}; "
                        "export the file again"
                    )


def open_npz_file(
    place: str | PathLike[str] | BinaryIO,
    storage_options: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
) -> NpzFile:
    """Open ``{oracle}_pertrack.npz``; no more is read than headers, track identifiers and the provenance document.

    Parameters
    ----------
    place : path-like, str or binary file
        A local file, a URL, or an open file, which is closed with the `NpzFile`.
    storage_options : mapping, optional
        For the fsspec file system of a URL.
    name : str, optional
        What messages call an open file.

    Returns
    -------
    NpzFile

    Raises
    ------
    StoreNotFoundError
        No such file, or no access.
    SchemaError
        Not an NPZ file, or one that does not follow the contract: a missing key, another dtype or shape, pickled
        or encrypted arrays, track identifiers that repeat, a ``build_config`` that is not JSON.
    CorruptStoreError
        Truncated or damaged.
    StoreUnreachableError, MissingPackageError
        As `chorus_store.open`, of a URL.

    Examples
    --------
    >>> with open_npz_file("enformer_pertrack.npz") as npz:  # doctest: +SKIP
    ...     npz.read("effect_cdfs")[npz.track_ids.index("ENCFF833POA")]
    """
    with ExitStack() as stack:
        file = stack.enter_context(_opened(place, storage_options))
        called = fspath(place) if isinstance(place, str | PathLike) else name or "the NPZ file"
        npz = NpzFile(file, called, storage_options)
        stack.pop_all()
    return npz


def _opened(place: str | PathLike[str] | BinaryIO, storage_options: Mapping[str, Any] | None) -> BinaryIO:
    """The file at a place."""
    if not isinstance(place, str | PathLike):
        return place
    if is_url(place):
        return open_file(fspath(place), storage_options)
    try:
        return Path(place).open("rb")
    except OSError as error:
        raise StoreNotFoundError(f"no NPZ file at {place} ({error.strerror}); check the path") from error


def open_npz(place: str | PathLike[str], storage_options: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Open ``{oracle}_pertrack.npz`` with the names of a store; values are read when they are asked for.

    Parameters
    ----------
    place : path-like or str
        A local file or a URL.
    storage_options : mapping, optional
        For the fsspec file system of a URL.

    Returns
    -------
    Dataset
        ``track``, ``signed`` (False for all where the file does not say), ``quantile``, the CDFs and whatever else
        the file holds. Attributes ``oracle`` (its ``name``), ``genome`` and ``build_config``, where they are known.

    Raises
    ------
    StoreNotFoundError, SchemaError, CorruptStoreError, StoreUnreachableError, MissingPackageError
        As `open_npz_file`.

    Examples
    --------
    >>> open_npz("enformer_pertrack.npz").sizes  # doctest: +SKIP
    Frozen({'track': 5313, 'quantile': 10000})
    """
    from chorus_store.npz_dataset import as_dataset

    with ExitStack() as stack:
        dataset = as_dataset(stack.enter_context(open_npz_file(place, storage_options)))
        stack.pop_all()
    return dataset
