"""``zarr.json`` of a background, checked before Zarr looks at it.

Zarr finds codecs, data types and chunk keys by name among all packages that are installed, and puts the names of
arrays behind the path of the store. So a store may say no more than what the layout uses: nothing that it names makes
code run which was not asked for, and nothing outside of it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import zarr

from chorus_store.errors import CorruptStoreError, SchemaError

#: Codecs of the layout, those of its facts and of the optional PCodec too.
CODECS = frozenset(
    ("blosc", "bytes", "crc32c", "numcodecs.pcodec", "sharding_indexed", "transpose", "vlen-utf8", "zstd")
)
#: Data types of the layout, and those that an imported NPZ file may have besides.
DATA_TYPES = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
     "complex64", "complex128", "string")
)  # fmt: skip
#: What metadata of an array must have; Zarr takes one without them for something else, with a warning.
_MEMBERS = {"chunk_grid", "fill_value", "shape", "data_type", "chunk_key_encoding", "codecs"}
_ADVICE = "copy or publish the store again"


def open_array(folder: Path, mode: Literal["r", "r+"] = "r") -> zarr.Array[Any]:
    """Open one array of a local store, after the same checks as in `parse`.

    Raises
    ------
    SchemaError, CorruptStoreError
        As `parse`.
    FileNotFoundError
        There is no such array.
    """
    check_array(folder)
    return zarr.open_array(folder, mode=mode, zarr_format=3)


def check_array(folder: Path) -> None:
    """The checks of `parse` for one array of a local store."""
    where = folder / "zarr.json"
    with _checking(str(where)):
        node = json.loads(where.read_bytes())
        _check(folder.name, node, str(where))
        if node["node_type"] != "array":
            raise ValueError("it is no array")


def parse(data: bytes, where: str) -> dict[str, Any]:
    """Parse the metadata of a group, and check all that they say of arrays.

    Parameters
    ----------
    data : bytes
        Content of ``zarr.json``.
    where : str
        Its name, for the messages.

    Returns
    -------
    dict
        The document.

    Raises
    ------
    CorruptStoreError
        Not JSON, or not metadata of Zarr format 3.
    SchemaError
        An array whose name leaves the store, or whose codec, data type or chunk keys the layout does not have.

    Examples
    --------
    >>> parse(b'{"zarr_format": 3, "node_type": "group"}', "enformer.zarr/zarr.json")
    {'zarr_format': 3, 'node_type': 'group'}
    """
    with _checking(where):
        node: dict[str, Any] = json.loads(data)
        _check_node(node)
        for name, member in _members(node):
            _check(name, member, where)
    return node


@contextmanager
def _checking(where: str) -> Iterator[None]:
    try:
        yield
    except SchemaError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptStoreError(f"{where} is damaged ({type(error).__name__}: {error}); {_ADVICE}") from error


def _members(group: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and metadata of every node in consolidated metadata, however deep."""
    for name, node in ((group.get("consolidated_metadata") or {}).get("metadata") or {}).items():
        yield name, node
        yield from _members(node)


def _check_node(node: Any) -> None:
    if not isinstance(node, dict) or node.get("zarr_format") != 3:
        raise ValueError("it is no metadata of Zarr format 3")
    if not isinstance(node.get("attributes", {}), dict):
        raise ValueError("its attributes are no JSON object")


def _check(name: str, node: Mapping[str, Any], where: str) -> None:
    _check_node(node)
    if any(part in ("", ".", "..") or set(part) & set("\\:\0") for part in name.split("/")):
        raise SchemaError(f"{where} has an array {name!r}, a name that leaves the store; do not use it")
    if node["node_type"] == "array":
        if missing := _MEMBERS - node.keys():
            raise ValueError(f"{name} lacks {', '.join(sorted(missing))}")
        said = {
            "codecs": (set(_codecs(node["codecs"])), CODECS),
            "data type": ({_name(node["data_type"])}, DATA_TYPES),
            "chunk keys": ({_name(node["chunk_key_encoding"])}, {"default"}),
        }
        for what, (found, known) in said.items():
            if others := found - known:
                raise SchemaError(f"{name} in {where} has {what} {sorted(others)}, which no background has; {_ADVICE}")


def _codecs(codecs: Any) -> Iterator[str]:
    for codec in codecs:
        yield _name(codec)
        configuration = {} if isinstance(codec, str) else codec.get("configuration", {})
        for inner in ("codecs", "index_codecs"):
            yield from _codecs(configuration.get(inner, ()))


def _name(extension: Any) -> str:
    """Name of an extension point, which stands alone or with a configuration."""
    return str(extension if isinstance(extension, str) else extension["name"])
