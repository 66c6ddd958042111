"""Values beside the rows of their tracks: labels in, labels out, whatever the form of the values.

The arithmetic is a *kernel*, a function of arrays: ``kernel(values, rows, index, labels, signed)`` with values
(n, …), rows (m, quantile), and of length n the row of each entry of values (−1: none), the track as asked for and
whether it is signed. It answers with an array of the shape of the values, NaN where there is no row.
"""

from __future__ import annotations

import sys
import uuid
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from chorus_store import matching
from chorus_store.errors import InputError, SchemaError, TrackNotFoundError
from chorus_store.labelled import labelled, not_an_identifier
from chorus_store.layout import CDFS
from chorus_store.lookup import FloatArray, RowArray
from chorus_store.opening import reading, require_rows

Indices = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]
Labels = npt.NDArray[Any]
Kernel = Callable[[FloatArray, RowArray, Indices, Labels, Flags], FloatArray]


class Query:
    """A question to a dataset: values, and the tracks that they belong to.

    Parameters
    ----------
    dataset : Dataset
        A background, or a selection of its tracks.
    values, track
        As `chorus_store.labelled.labelled` takes them.

    Attributes
    ----------
    values : DataArray
        With the coordinate ``track``.
    rows : DataArray of int
        Row of each label, with the dimensions of the labels.

    Raises
    ------
    TrackNotFoundError
        No such track; names near matches.
    InputError
        Values that are no numbers or do not fit the tracks, labels that are no str, or both name tracks.
    """

    def __init__(self, dataset: xr.Dataset, values: Any, track: str | Sequence[str] | None) -> None:
        self._dataset = dataset
        self._given = values
        self.values = labelled(values, track, self._variable("track"))
        labels = self.values["track"]
        self._labels = np.atleast_1d(labels.values).ravel().astype(object)
        self.rows = xr.DataArray(self._find(self._labels).reshape(labels.shape), dims=labels.dims)

    def column(self, name: str) -> xr.DataArray:
        """Entries of a per-track variable at the labels; lazy where values and dataset both are backed by dask."""
        variable = _with_tracks(self._variable(name))
        if variable.chunks is None or self.values.chunks is None:
            # The whole column is read once and stays in the dataset.
            return xr.DataArray(variable.values[self.rows.values], dims=self.rows.dims)
        return xr.DataArray(variable).isel(track=self.rows)

    def sampled(self, cdf: str) -> xr.DataArray:
        """Whether each label has a background: a count above 0, or no counts in the file that it comes from."""
        self._variable(f"{cdf}_cdf")
        if f"{cdf}_count" not in self._dataset.variables:
            return xr.full_like(self.rows, True, dtype=bool)
        return self.column(f"{cdf}_count") > 0

    def signed(self, cdf: str, override: bool | None) -> xr.DataArray:
        """Whether each label is signed: in the effect CDF by the store, else no, unless told."""
        if cdf not in CDFS:
            raise InputError(
                f"no background {cdf!r}: cdf is one of {', '.join(CDFS)}; effect is of variants, summary of windows "
                "(activity), perbin of single bins"
            )
        if not (override is None or isinstance(override, bool | np.bool_)):
            raise InputError(f"signed is True or False, or None for what the store says, not {override!r}")
        if override is None and cdf == "effect":
            # What xarray fills with gaps, as where and merge do, is no longer bool; a track that is one is unsigned.
            flags = self.column("signed")
            return flags if flags.dtype == bool else flags.fillna(False).astype(bool)
        return xr.full_like(self.rows, bool(override), dtype=bool)

    def answer(self, cdf: str, kernel: Kernel, signed: xr.DataArray, only: xr.DataArray | None = None) -> xr.DataArray:
        """Run a kernel over the values and the rows of their tracks.

        Parameters
        ----------
        cdf : {"effect", "summary", "perbin"}
            Whose rows.
        kernel : callable
            See the module.
        signed : DataArray of bool
            Given to the kernel.
        only : DataArray of bool, optional
            Labels to answer for; NaN for the others. By default those with a background, with a warning that
            names the others.

        Returns
        -------
        DataArray of float64
            Dimensions and coordinates of `values`; lazy where they are.
        """
        has_row = self.sampled(cdf) if only is None else only
        if only is None:
            self.warn_of(~has_row, cdf)
        values = self.values.transpose(*self.rows.dims, ...)
        if values.chunks is None:
            data = _ask(kernel, values.values, *self._read(cdf, has_row), self._labels, signed.values)
            result = xr.DataArray(data, coords=values.coords, dims=values.dims)
        else:
            result = xr.apply_ufunc(
                partial(_ask_block, kernel=kernel, cdf=cdf, warn=only is None and has_row.chunks is not None),
                self._lazy_rows(cdf, values),
                has_row,
                xr.DataArray(self._labels.astype(str).reshape(self.rows.shape), dims=self.rows.dims),
                signed,
                values,
                input_core_dims=[["quantile"], [], [], [], []],
                dask="parallelized",
                output_dtypes=[np.float64],
                keep_attrs=False,
            )
        return result.transpose(*self.values.dims)

    def warn_of(self, missing: xr.DataArray, cdf: str) -> None:
        """Warn of labels without background; of lazy ones nothing is known yet."""
        if missing.chunks is None:
            _warn_of_missing(cdf, self._labels[missing.values.ravel()])

    def like_given(self, answer: xr.DataArray, name: str) -> Any:
        """An answer in the form of the values: DataArray, array, or a number for a number and one track."""
        if isinstance(self._given, xr.DataArray):
            return answer.rename(name)
        return answer.data if answer.ndim or answer.chunks is not None else float(answer)

    def _variable(self, name: str) -> xr.Variable:
        if name not in self._dataset.variables:
            raise InputError(
                f"this dataset has no {name}; it has {', '.join(map(str, self._dataset.variables))}. "
                "Scalar oracles have no perbin CDF; chorus_store.open(path) opens a whole store"
            )
        return self._dataset.variables[name]

    def _find(self, labels: Labels) -> Indices:
        index = self._dataset.indexes.get("track")
        if index is None:  # one track was selected, and with it the index went
            index = pd.Index(np.atleast_1d(self._variable("track").values).tolist())
        if not index.is_unique:
            raise SchemaError(f"the track {index[index.duplicated()][0]!r} is there twice; leave out one of the rows")
        found: Indices = index.get_indexer(pd.Index(labels))
        missing = np.flatnonzero(found < 0)
        if missing.size:
            known = {str(label): row for row, label in enumerate(index)}
            for i in missing:
                if not isinstance(labels[i], str):
                    raise not_an_identifier(labels[i])
                row = matching.find(labels[i], known)
                if row is None:
                    raise TrackNotFoundError(
                        f"no track {labels[i]!r} among the {len(known):,} of this dataset; "
                        f"{matching.near(labels[i], known, self._described(known))}"
                    )
                found[i] = row
        return found

    def _described(self, tracks: Iterable[str]) -> dict[str, str]:
        """Descriptions of the tracks, to their identifiers; an NPZ has identifiers alone."""
        if "description" not in self._dataset.variables:
            return {}
        descriptions = np.atleast_1d(self._variable("description").values).astype(str).tolist()
        return dict(zip(descriptions, tracks, strict=True))

    def _read(self, cdf: str, has_row: xr.DataArray) -> tuple[RowArray, Indices]:
        """Rows of a CDF, and for each label which of them; those in memory are used where they are."""
        variable = _with_tracks(self._variable(f"{cdf}_cdf"))
        wanted = np.where(has_row.values, self.rows.values, -1).ravel()
        if variable._in_memory:
            return variable.values, wanted
        used, index = np.unique(wanted[wanted >= 0], return_inverse=True)
        with reading(f"{cdf}_cdf"):
            rows = variable[_as_slice(used)].values
        require_rows(rows, f"{cdf}_cdf")
        wanted[wanted >= 0] = index
        return rows, wanted

    def _lazy_rows(self, cdf: str, values: xr.DataArray) -> xr.DataArray:
        """Row of each label, in chunks that fit those of the values."""
        background = xr.DataArray(_with_tracks(self._variable(f"{cdf}_cdf")).to_base_variable())
        if self.rows.ndim == 1:
            rows = background.isel(track=_as_slice(self.rows.values)).rename(track=self.rows.dims[0])
        else:
            rows = background.isel(track=self.rows)
        chunks = {"quantile": -1} | {dim: values.chunksizes[dim] for dim in self.rows.dims}
        # A name of its own, lest dask reads through a background in memory to make one.
        return rows.chunk(chunks) if rows.chunks else rows.chunk(chunks, token=uuid.uuid4().hex)


def _as_slice(rows: Indices) -> slice | Indices:
    """The same rows as a slice where they are a run: read and indexed without a copy."""
    if rows.size and rows[-1] - rows[0] + 1 == rows.size and (np.diff(rows) == 1).all():
        return slice(int(rows[0]), int(rows[-1]) + 1)
    return rows


def _ask(
    kernel: Kernel, values: npt.NDArray[Any], rows: RowArray, index: Indices, labels: Labels, signed: Flags
) -> FloatArray:
    """Call a kernel on values (label…, …), whose label dimensions are those of ``signed``, as one."""
    flat = values.reshape(index.size, *values.shape[signed.ndim :])
    return kernel(flat, rows, index, labels, signed.ravel()).reshape(values.shape)


def _ask_block(
    rows: RowArray,
    has_row: Flags,
    labels: Labels,
    signed: Flags,
    values: npt.NDArray[Any],
    *,
    kernel: Kernel,
    cdf: str,
    warn: bool,
) -> FloatArray:
    """One block of lazy values (label…, …): rows (label…, 1…, quantile), the others (label…, 1…)."""
    require_rows(rows, f"{cdf}_cdf")
    n, width = has_row.size, rows.shape[-1]
    if warn:
        _warn_of_missing(cdf, labels[~has_row])
    index = np.where(has_row.ravel(), np.arange(n), -1)
    flat = values.reshape(n, values.size // max(n, 1))
    return kernel(flat, rows.reshape(n, width), index, labels.ravel(), signed.ravel()).reshape(values.shape)


def _with_tracks(variable: xr.Variable) -> xr.Variable:
    """The variable with a track dimension, put first, also where one track was selected."""
    if "track" in variable.dims:
        return variable if variable.dims[0] == "track" else variable.transpose("track", ...)
    return variable.set_dims({"track": 1, **variable.sizes})  # type: ignore[no-untyped-call,no-any-return]


def _warn_of_missing(cdf: str, labels: Labels) -> None:
    missing = list(dict.fromkeys(labels.tolist()))
    if missing:
        more = f" and {len(missing) - 5:,} more" if len(missing) > 5 else ""
        text = f"no {cdf} background, so NaN, for track {', '.join(map(str, missing[:5]))}{more}"
        warnings.warn(text, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """``stacklevel`` with which `_warn_of_missing` points at the first frame outside this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        level, frame = level + 1, frame.f_back
    return level
