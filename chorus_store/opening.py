"""Open a store: lazily, after checking that it is one, complete, and of a version that can be read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from chorus_store.errors import CorruptStoreError, SchemaError, StoreNotFoundError
from chorus_store.layout import ROOT_VARIABLES, without_zarr_warnings
from chorus_store.schema import check_version, validate


def read_attributes(path: Path) -> dict[str, Any]:
    """Attributes of the Zarr group at ``path``, read as they are; {} where there is no group.

    Raises
    ------
    CorruptStoreError
        The metadata are not JSON.
    """
    file = path / "zarr.json"
    try:
        return dict(json.loads(file.read_bytes()).get("attributes", {}))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CorruptStoreError(f"{file} cannot be read ({error.strerror}); check its permissions") from error
    except (ValueError, TypeError, AttributeError) as error:
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
        raise StoreNotFoundError(f"no store at {path}: {_what_is_there(path)}")
    attributes = read_attributes(path)
    check_version(attributes)
    return attributes


def is_published(attributes: Mapping[str, Any]) -> bool:
    """Whether root attributes are those of a finished background rather than of a build."""
    return "provenance" in attributes


def open(path: str | PathLike[str]) -> xr.Dataset:
    """Open a published store.

    Parameters
    ----------
    path : path-like
        Of a local ``{oracle}.zarr``.

    Returns
    -------
    Dataset
        The background, dimensions ``track`` and ``quantile``; values are read when they are asked for. Its
        accessor ``.chorus`` answers percentiles.

    Raises
    ------
    StoreNotFoundError
        Nothing there, a build that is not published yet, or something else; the message says which.
    SchemaError
        Another kind of Zarr group, another version of the layout, attributes that break the schema, or a
        variable that is not there.
    CorruptStoreError
        Metadata that cannot be read.

    Examples
    --------
    >>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
    >>> store.chorus.percentile(0.31, track="ENCFF833POA")  # doctest: +SKIP
    0.9921
    """
    place = Path(path)
    attributes = root_attributes(place)
    if not is_published(attributes):
        raise StoreNotFoundError(
            f"the store at {place} is a build in progress, not published yet; finish it with --part all, "
            f"and see how far it is with: python -m chorus_store info {place}"
        )
    validate(attributes, "store")
    with reading(str(place)), without_zarr_warnings():
        store = xr.open_dataset(place, engine="zarr", zarr_format=3, consolidated=True, chunks=None)
    missing = [v.name for v in ROOT_VARIABLES if v.required and v.name not in store.variables]
    if missing:
        raise SchemaError(f"{place} lacks {', '.join(missing)}; copy or publish the store again")
    return store


def _what_is_there(place: Path) -> str:
    """What is at a path that holds no Zarr group, and what to do about it."""
    if not place.exists():
        return "there is nothing; check the path, or build one with: python -m builders"
    if place.suffix == ".npz":
        return "that is an NPZ export; open the {oracle}.zarr that it was made from"
    if place.is_file():
        return "that is a file; a store is a folder named {oracle}.zarr"
    inside = sorted(child.name for child in place.glob("*.zarr"))
    return f"that folder holds {', '.join(inside)}; open one of them" if inside else "that folder is not a Zarr group"


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn a failure to read into a `CorruptStoreError`; Zarr finds damage by the checksum of every chunk."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise CorruptStoreError(f"{what} cannot be read ({error}); copy or publish the store again") from error


def require_rows(rows: npt.NDArray[np.floating[Any]], name: str) -> None:
    """Refuse rows of a CDF that are not in the store: Zarr fills a lost chunk with NaN.

    Parameters
    ----------
    rows : ndarray of float, shape (..., quantile)
        As read from the store.
    name : str
        Of the array, for the message.

    Raises
    ------
    CorruptStoreError
        A row is missing.
    """
    if np.isnan(rows[..., -1]).any():
        raise CorruptStoreError(f"rows of {name} are missing; copy or publish the store again")
