"""The xarray backend ``chorus``: ``xr.open_dataset(place, engine="chorus")``, for stores and NPZ files.

xarray imports this module to learn what it can open, so it imports the rest only to open something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike, fspath
from typing import Any

import xarray as xr
from xarray.backends import BackendEntrypoint


class ChorusBackend(BackendEntrypoint):
    """Opens what `chorus_store.open` opens, as ``engine="chorus"``.

    Without ``engine`` xarray chooses it for files named ``*_pertrack.npz``, which no other engine opens.

    Examples
    --------
    >>> xr.open_dataset("enformer_pertrack.npz")  # doctest: +SKIP
    >>> xr.open_dataset("enformer.zarr", engine="chorus", chunks={})  # doctest: +SKIP
    """

    description = "Open backgrounds of chorus-store: {oracle}.zarr and {oracle}_pertrack.npz"

    def open_dataset(  # type: ignore[override]
        self,
        filename_or_obj: str | PathLike[str],
        *,
        drop_variables: str | Iterable[str] | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> xr.Dataset:
        """See `chorus_store.open`; ``drop_variables`` are left out where they exist."""
        dataset = _open(filename_or_obj, storage_options)
        return dataset.drop_vars(drop_variables, errors="ignore") if drop_variables else dataset

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether this is the path of an NPZ file that holds a background, by its name."""
        return isinstance(filename_or_obj, str | PathLike) and fspath(filename_or_obj).endswith("_pertrack.npz")


def _open(place: str | PathLike[str], storage_options: Mapping[str, Any] | None) -> xr.Dataset:
    if fspath(place).endswith(".npz"):
        from chorus_store.npz_file import open_npz

        return open_npz(place, storage_options)
    from chorus_store.lazy import as_dataset
    from chorus_store.places import open_group

    return as_dataset(open_group(place, storage_options))
