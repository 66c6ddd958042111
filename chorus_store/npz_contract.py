"""The contract of ``{oracle}_pertrack.npz``: one table of keys that reading, importing and exporting share.

A file may hold further arrays; they are carried under their own names, those with one entry per track along ``track``.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from chorus_store import layout
from chorus_store.errors import SchemaError
from chorus_store.layout import CDFS

TRACK_IDS, BUILD_CONFIG = "track_ids", "build_config"


@dataclass(frozen=True)
class Key:
    """One array of the file.

    Attributes
    ----------
    name : str
        Its key.
    dims : tuple of str
        ``track``, ``quantile`` or ``document`` (of size 1).
    dtype : str
        Of NumPy; ``str`` is Unicode of any width.
    variable : str
        Variable of the store that it becomes; the document becomes an attribute instead.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    variable: str


#: In the order in which they are written.
KEYS: Mapping[str, Key] = {
    key.name: key
    for key in (
        Key(TRACK_IDS, ("track",), "str", "track"),
        *(Key(f"{cdf}_cdfs", ("track", "quantile"), "float32", f"{cdf}_cdf") for cdf in CDFS),
        Key("signed_flags", ("track",), "bool", "signed"),
        *(
            Key(f"{cdf}_{plural}", ("track",), "int64", f"{cdf}_{singular}")
            for cdf in CDFS
            for plural, singular in (("counts", "count"), ("retained", "retained"))
        ),
        Key("layers_per_row", ("track",), "str", "layer"),
        Key("perbin_tail_k", (), "int64", "perbin_tail_k"),
        Key(BUILD_CONFIG, ("document",), "str", BUILD_CONFIG),
    )
}

#: Keys of the CDFs, and of the numbers of values behind them.
CDF_KEYS = tuple(key.name for key in KEYS.values() if "quantile" in key.dims)
COUNT_KEYS = tuple(key.name for key in KEYS.values() if key.dims == ("track",) and key.dtype == "int64")

#: What an array that is carried cannot be called: what becomes of other keys, and the groups of a store.
_TAKEN = {key.variable for key in KEYS.values()} - KEYS.keys() | {
    "quantile", layout.PLAN, layout.SAMPLES, layout.PROGRESS, layout.RUNS,
}  # fmt: skip
_NAME = re.compile(r"(?!__)[A-Za-z0-9_-]+")
#: Type codes of the numbers that Zarr has too.
_NUMBERS = "?bBhHiIlLqQefdFD"


class Array(Protocol):
    """What the contract asks of an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Entries along each axis."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of an entry."""


def variable_of(name: str) -> str:
    """Variable of the store that a key becomes.

    Examples
    --------
    >>> variable_of("effect_cdfs"), variable_of("my_scores")
    ('effect_cdf', 'my_scores')
    """
    return KEYS[name].variable if name in KEYS else name


def dims_of(name: str, shape: tuple[int, ...], n_tracks: int) -> tuple[str, ...]:
    """Dimensions of the variable that a key becomes.

    Examples
    --------
    >>> dims_of("effect_cdfs", (6, 1000), 6), dims_of("my_scores", (6, 3), 6), dims_of("cutoffs", (3,), 6)
    (('track', 'quantile'), ('track', 'my_scores.1'), ('cutoffs.0',))
    """
    if name in KEYS:
        return KEYS[name].dims
    # No key has a dot, so none of these is also the name of a variable.
    dims = [f"{name}.{axis}" for axis in range(len(shape))]
    if shape[:1] == (n_tracks,):
        dims[0] = "track"
    return tuple(dims)


def check(arrays: Mapping[str, Array], where: str) -> dict[str, int]:
    """Check keys, dtypes and shapes.

    Parameters
    ----------
    arrays : mapping of str to array
        By key; only their shapes and dtypes are looked at.
    where : str
        Name of the file, for the messages.

    Returns
    -------
    dict
        Sizes of the dimensions ``track`` and ``quantile``.

    Raises
    ------
    SchemaError
        A key is missing, an array has another dtype or shape, or it cannot be carried.
    """
    if TRACK_IDS not in arrays or not any(name in arrays for name in CDF_KEYS):
        raise SchemaError(
            f"{where} is no background: it needs {TRACK_IDS} and one of {', '.join(CDF_KEYS)}, "
            f"and holds {reprlib.repr(sorted(arrays))}"
        )
    sizes = {"document": 1}
    for name, key in KEYS.items():
        if name in arrays:
            _check_key(key, arrays[name], sizes, where)
    if sizes["track"] < 1 or sizes["quantile"] < 2:
        raise SchemaError(
            f"{where} has CDFs of {sizes['track']} tracks × {sizes['quantile']} points: nothing to rank in"
        )
    for name in arrays.keys() - KEYS.keys():
        _check_carried(name, arrays[name], sizes["track"], where)
    return {dim: sizes[dim] for dim in ("track", "quantile")}


def _check_key(key: Key, array: Array, sizes: dict[str, int], where: str) -> None:
    """Check an array of the contract; sizes of dimensions seen for the first time are added to ``sizes``."""
    if not _is_a(array.dtype, key.dtype) or len(array.shape) != len(key.dims):
        raise SchemaError(
            f"{key.name} of {where} is {array.dtype} of shape {array.shape}, not {key.dtype} over {key.dims}; "
            "write the file again"
        )
    for dim, size in zip(key.dims, array.shape, strict=True):
        if sizes.setdefault(dim, size) != size:
            raise SchemaError(
                f"{key.name} of {where} has {size} entries along {dim}, other arrays {sizes[dim]}; write the file again"
            )


def _check_carried(name: str, array: Array, n_tracks: int, where: str) -> None:
    """Check an array that the contract does not know."""
    if name in _TAKEN or not _NAME.fullmatch(name):
        raise SchemaError(f"{where} has an array {name!r}, a name that a store cannot give it; rename it in the file")
    if array.dtype.kind != "U" and array.dtype.char not in _NUMBERS:
        raise SchemaError(f"{name} of {where} is {array.dtype}, which a store cannot hold; leave it out, or convert it")
    variable = layout.VARIABLE.get(name)
    if variable and (
        dims_of(name, array.shape, n_tracks) != variable.dims
        or not _is_a(array.dtype, variable.dtype.replace("string", "str"))
    ):
        raise SchemaError(
            f"{name} of {where} is {array.dtype} of shape {array.shape}; in a store that is a {variable.dtype} "
            f"over {variable.dims}; rename it in the file"
        )


def _is_a(dtype: np.dtype[Any], wanted: str) -> bool:
    return dtype.kind == "U" if wanted == "str" else dtype == np.dtype(wanted)
