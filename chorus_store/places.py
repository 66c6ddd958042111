"""A place (path or URL) → the Zarr group of the published background that is there; without xarray.

Places are local folders, ``.zip`` files of them, and URLs of either: ``http://``, ``https://``, ``s3://`` and whatever
else fsspec knows (extra ``remote``).
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.storage import LocalStore, StorePath

from chorus_store import nodes, seal
from chorus_store.errors import ChorusStoreError, CorruptStoreError, SchemaError, StoreNotFoundError
from chorus_store.intact import IntactStore
from chorus_store.layout import ROOT_VARIABLES, missing_variables, without_zarr_warnings
from chorus_store.opening import is_imported, is_published, what_is_there
from chorus_store.schema import check_version

if TYPE_CHECKING:
    from zarr.abc.store import Store

Place = str | PathLike[str]


def is_url(place: Place) -> bool:
    """Whether a place is a URL rather than a local path.

    Examples
    --------
    >>> is_url("s3://bucket/enformer.zarr"), is_url("data/enformer.zarr")
    (True, False)
    """
    return re.match(r"[a-z][a-z0-9+.-]+://", fspath(place)) is not None


def open_group(place: Place, storage_options: Mapping[str, Any] | None = None) -> zarr.Group:
    """Open the group of a published background: its metadata are read in one go, its arrays not at all.

    Parameters
    ----------
    place : path-like or str
        Of a folder ``{oracle}.zarr``, local or a URL, or of a ``.zip`` of one.
    storage_options : mapping, optional
        For the fsspec file system of a URL, such as ``{"anon": True}`` for a public S3 bucket.

    Returns
    -------
    zarr.Group
        Read-only, with consolidated metadata, and every required array with its dimensions and dtype.

    Raises
    ------
    StoreNotFoundError
        Nothing there, a build that is not published yet, or something else; the message says which.
    StoreUnreachableError
        The server of a URL does not answer, or refuses.
    SchemaError
        Another kind of Zarr group, another version of the layout, or an array that is missing or not as in
        `chorus_store.layout.ROOT_VARIABLES`.
    CorruptStoreError
        Metadata that cannot be read.
    MissingPackageError
        What fsspec needs for this kind of URL is not installed.

    Examples
    --------
    >>> open_group("enformer.zarr")["effect_cdf"].shape  # doctest: +SKIP
    (5313, 10000)
    """
    name = fspath(place)
    group, is_broken = _open(place, storage_options)
    check_version(group.attrs)
    if not is_published(group.attrs):
        raise StoreNotFoundError(
            f"the store at {name} is a build in progress, not published yet; finish it with --part all, "
            f"and see how far it is with: python -m chorus_store info {name}"
        )
    if group.metadata.consolidated_metadata is None:
        raise CorruptStoreError(f"{name} has no consolidated metadata; copy or publish the store again")
    _require_arrays(name, consolidated_arrays(group), imported=is_imported(group.attrs))
    if is_broken:
        raise CorruptStoreError(
            f"{name}/zarr.json is not what was written; copy or publish the store again. If it is a selection that "
            "was opened with xr.open_zarr and saved with to_zarr, open with chorus_store.open and save it again"
        )
    return group


def open_file(url: str, storage_options: Mapping[str, Any] | None = None) -> BinaryIO:
    """Open a file behind a URL for reading; no more of it is asked of the server than is read.

    Parameters
    ----------
    url : str
        Of a file.
    storage_options : mapping, optional
        As for `open_group`.

    Returns
    -------
    binary file
        Which can be sought in.

    Raises
    ------
    StoreNotFoundError, StoreUnreachableError, MissingPackageError
        As `open_group`.

    Examples
    --------
    >>> open_file("https://example.org/enformer_pertrack.npz").read(2)  # doctest: +SKIP
    b'PK'
    """
    from chorus_store.remote import RemoteFile, remote_store

    folder, name = _split(url)
    return io.BufferedReader(RemoteFile(remote_store(folder, storage_options), name))


def read_bytes(place: Place, name: str, storage_options: Mapping[str, Any] | None = None) -> bytes | None:
    """Content of one file of a store, by its path in it; None where there is none.

    Raises
    ------
    StoreUnreachableError, CorruptStoreError, MissingPackageError
        As `open_group`.
    """
    data = sync(_store(place, storage_options).get(name, default_buffer_prototype()))
    return None if data is None else data.to_bytes()


def fingerprint(place: Place) -> dict[str, Any]:
    """SHA-256 (hexadecimal) and size of a file, local or behind a URL, as ``sha256`` and ``bytes``."""
    with open_file(fspath(place)) if is_url(place) else Path(place).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
        return {"sha256": digest.hexdigest(), "bytes": file.tell()}


def _open(place: Place, storage_options: Mapping[str, Any] | None) -> tuple[zarr.Group, bool]:
    """The group at a place, and whether the seal of its metadata is broken."""
    store, where = IntactStore(_store(place, storage_options)), f"{fspath(place)}/zarr.json"
    try:
        data = sync(store.get("zarr.json", default_buffer_prototype()))
        if data is None:
            raise FileNotFoundError(where)
        metadata = nodes.parse(data.to_bytes(), where)
        with without_zarr_warnings():
            is_broken = seal.is_broken(metadata)  # before Zarr takes the metadata apart
            return zarr.Group(zarr.AsyncGroup.from_dict(StorePath(store), metadata)), is_broken
    except ChorusStoreError:
        raise
    except FileNotFoundError as error:
        raise StoreNotFoundError(f"no store at {fspath(place)}: {_instead(place)}") from error
    except PermissionError as error:
        raise StoreNotFoundError(f"no access to {fspath(place)} ({error.strerror}); check its permissions") from error
    except (OSError, ValueError, ArithmeticError, TypeError, KeyError, AttributeError) as error:
        raise CorruptStoreError(f"{where} is damaged ({error}); copy or publish the store again") from error


def _store(place: Place, storage_options: Mapping[str, Any] | None) -> Store:
    """Where the bytes are: a folder, or the members of an archive in a folder."""
    if not fspath(place).endswith(".zip"):
        return _folder(place, storage_options)
    from chorus_store.zipped import ZippedStore

    folder, name = _split(place)
    return ZippedStore(_folder(folder, storage_options), name)


def _folder(place: Place, storage_options: Mapping[str, Any] | None) -> Store:
    if not is_url(place):
        return LocalStore(Path(place), read_only=True)
    from chorus_store.remote import remote_store

    return remote_store(fspath(place), storage_options)


def _split(place: Place) -> tuple[str, str]:
    """The folder of a file, and its name."""
    if is_url(place):
        folder, _, name = fspath(place).rpartition("/")
        return folder, name
    return str(Path(place).parent), Path(place).name


def _instead(place: Place) -> str:
    return "the server has nothing there; check the URL" if is_url(place) else what_is_there(Path(place))


def consolidated_arrays(group: zarr.Group) -> dict[str, ArrayV3Metadata]:
    """Metadata of every array of a group, by name, without reading anything."""
    consolidated = group.metadata.consolidated_metadata
    members = consolidated.metadata.items() if consolidated else ()
    return {name: member for name, member in members if isinstance(member, ArrayV3Metadata)}


def _require_arrays(name: str, arrays: Mapping[str, ArrayV3Metadata], *, imported: bool) -> None:
    """Refuse a background whose arrays are not those of the layout."""
    if missing := missing_variables(arrays, imported=imported):
        raise SchemaError(f"{name} lacks {', '.join(missing)}; copy or publish the store again")
    sizes: dict[str, int] = {}
    for variable in ROOT_VARIABLES:
        if (array := arrays.get(variable.name)) is None:
            continue
        dtype = array.data_type.to_json(zarr_format=3)
        dims = array.dimension_names or ()
        if (dims, dtype) != (variable.dims, variable.dtype):
            raise SchemaError(
                f"{variable.name} of {name} is {dtype} over ({', '.join(map(str, dims))}), not {variable.dtype} over "
                f"({', '.join(variable.dims)}); copy or publish the store again"
            )
        for dim, size in zip(variable.dims, array.shape, strict=True):
            if sizes.setdefault(dim, size) != size:
                raise SchemaError(f"{variable.name} of {name} has {size} entries along {dim}, not {sizes[dim]}")
