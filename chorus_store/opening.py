"""Open a store: lazily, after checking that it is one, complete, and of a version that can be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chorus_store import seal
from chorus_store.errors import ChorusStoreError, CorruptStoreError, MemoryBudgetError, StoreNotFoundError
from chorus_store.schema import check_version

if TYPE_CHECKING:
    import xarray as xr


def read_attributes(path: Path) -> dict[str, Any]:
    """Attributes of the Zarr group at ``path`` without their seal; {} where there is no group.

    Raises
    ------
    CorruptStoreError
        The metadata are not JSON, or not what was sealed.
    """
    return _attributes(path, check=lambda attributes: None)


def _attributes(path: Path, check: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Attributes of a group, checked before their seal is: of another version, it may be another kind of seal."""
    file = path / "zarr.json"
    try:
        node = json.loads(file.read_bytes())
        attributes = {name: value for name, value in node.get("attributes", {}).items() if name != seal.SEAL}
        check(attributes)
        if seal.is_broken(node):
            raise ValueError("its seal is broken")
        return attributes
    except ChorusStoreError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CorruptStoreError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptStoreError(f"{file} is damaged ({error}); copy or publish the store again") from error


def root_attributes(path: Path) -> dict[str, Any]:
    """Attributes of a store at any stage of its build, of a version that can be read.

    Raises
    ------
    StoreNotFoundError
        No Zarr group there; says what is there instead.
    SchemaError
        Not a store of this project, or another version of the layout.
    CorruptStoreError
        Metadata that cannot be read.
    """
    try:
        there = (path / "zarr.json").is_file()
    except PermissionError as error:
        raise StoreNotFoundError(f"no access to {path} ({error.strerror}); check its permissions") from error
    if not there:
        raise StoreNotFoundError(f"no store at {path}: {what_is_there(path)}")
    return _attributes(path, check_version)


def is_published(attributes: Mapping[str, Any]) -> bool:
    """Whether root attributes are those of a finished background rather than of a build."""
    return "provenance" in attributes


def is_imported(attributes: Mapping[str, Any]) -> bool:
    """Whether root attributes are those of a background that came from an NPZ file."""
    provenance = attributes.get("provenance")
    return isinstance(provenance, Mapping) and "imported" in provenance


def open(place: str | PathLike[str], storage_options: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Open a published background: a store, or an NPZ file.

    Parameters
    ----------
    place : path-like or str
        Of a folder ``{oracle}.zarr``, a ``.zip`` of one, or a file ``{oracle}_pertrack.npz``; local, or a URL
        (``https://``, ``s3://``; extra ``remote``).
    storage_options : mapping, optional
        For the fsspec file system of a URL, such as ``{"anon": True}`` for a public S3 bucket.

    Returns
    -------
    Dataset
        The background, dimensions ``track`` and ``quantile``; values are read when they are asked for. Its
        accessor ``.chorus`` answers percentiles.

    Raises
    ------
    StoreNotFoundError
        Nothing there, a build that is not published yet, or something else; the message says which.
    StoreUnreachableError
        The server of a URL does not answer, or refuses.
    SchemaError
        Another kind of Zarr group or NPZ, another version of the layout, or an array that is missing or not what
        it should be.
    CorruptStoreError
        Metadata or labels that cannot be read.
    MissingPackageError
        What this kind of URL needs is not installed.

    Examples
    --------
    >>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
    >>> store.chorus.percentile(0.31, track="ENCFF833POA")  # doctest: +SKIP
    0.9921
    """
    import xarray as xr

    from chorus_store.engine import ChorusBackend

    return xr.open_dataset(place, engine=ChorusBackend, storage_options=storage_options)


def what_is_there(place: Path) -> str:
    """What is at a path that holds no Zarr group, and what to do about it."""
    if not place.exists():
        return "there is nothing; check the path, or build one with: python -m builders"
    if place.suffix == ".npz":
        return "that is an NPZ file, not a store"
    if place.suffix == ".zip":
        return "that archive holds no store at its top"
    if place.is_file():
        return "that is a file; a store is a folder named {oracle}.zarr"
    inside = sorted(child.name for child in place.glob("*.zarr"))
    return f"that folder holds {', '.join(inside)}; open one of them" if inside else "that folder is not a Zarr group"


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn a failure to read into a `CorruptStoreError`; Zarr finds damage by the checksum of every chunk.

    What does not fit into memory is a `MemoryBudgetError`: sizes that are damaged are mostly too large.
    """
    try:
        yield
    except ChorusStoreError:
        raise
    except MemoryError as error:
        raise MemoryBudgetError(
            f"{what} does not fit into memory ({error}); ask for less of it, or, where that is little, copy or publish "
            "the store again"
        ) from error
    # RuntimeError is what Zstandard raises, TypeError and others are what Zarr does of metadata.
    except (OSError, ValueError, ArithmeticError, RuntimeError, TypeError, LookupError, AttributeError) as error:
        raise CorruptStoreError(f"{what} cannot be read ({error}); copy or publish the store again") from error


def ascends(rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.bool_]:
    """Whether each row is finite and ascending; a NaN does not ascend, and infinities stand at the ends.

    Parameters
    ----------
    rows : ndarray of float, shape (..., quantile)

    Returns
    -------
    ndarray of bool, shape (...)

    Examples
    --------
    >>> ascends(np.array([[1.0, 1.0, 2.0], [2.0, 1.0, 3.0], [1.0, np.nan, 2.0], [-np.inf, 0.0, 1.0]])).tolist()
    [True, False, False, False]
    """
    return np.asarray((rows[..., 1:] >= rows[..., :-1]).all(axis=-1) & np.isfinite(rows[..., [0, -1]]).all(axis=-1))


def require_rows(rows: npt.NDArray[np.floating[Any]], name: str) -> None:
    """Refuse rows of a CDF that cannot be one; to be called on rows just read.

    Parameters
    ----------
    rows : ndarray of float, shape (..., quantile)
        As read from the store.
    name : str
        Of the array, for the message.

    Raises
    ------
    CorruptStoreError
        A row is missing (Zarr fills a lost chunk with NaN), is not finite, or does not ascend.
    """
    if np.isnan(rows[..., [0, -1]]).any():
        raise CorruptStoreError(f"rows of {name} are missing; copy or publish the store again")
    if not ascends(rows).all():
        raise CorruptStoreError(f"rows of {name} are not finite and ascending; copy or publish the store again")
