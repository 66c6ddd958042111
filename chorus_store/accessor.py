"""``Dataset.chorus``: questions to a store, with labels in and labels out.

Thin and stateless: it aligns labels, reads the rows that are asked for and leaves the arithmetic to
`chorus_store.lookup`.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from chorus_store import lookup
from chorus_store.errors import InputError, TrackNotFoundError
from chorus_store.opening import reading, require_rows
from chorus_store.schema import check_version


@xr.register_dataset_accessor("chorus")  # type: ignore[no-untyped-call]
class ChorusAccessor:
    """Percentiles of values in the backgrounds of a store; reached as ``dataset.chorus``.

    Parameters
    ----------
    dataset : Dataset
        A store from `chorus_store.open` or `xarray.open_zarr`, or any selection of its tracks.

    Raises
    ------
    SchemaError
        The dataset is a store of a version that this release cannot read.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        if "schema" in dataset.attrs:
            check_version(dataset.attrs)
        self._dataset = dataset

    def percentile(
        self,
        values: Any,
        track: str | Sequence[str] | None = None,
        cdf: str = "effect",
        method: lookup.Method = "weak",
        signed: bool | None = None,
    ) -> Any:
        """Share of a track's background that lies at or below each value.

        Parameters
        ----------
        values : float, array_like or DataArray
            Raw values, any shape. A DataArray with a ``track`` coordinate is aligned by label: any tracks, in
            any order. Otherwise ``track`` names the tracks.
        track : str or sequence of str, optional
            One track for all values, or several. Several go along the ``track`` dimension of a DataArray (a
            new one, put last, where it has none) or along the last axis of an array; a single number is
            looked up in each. By default all tracks of the dataset.
        cdf : {"effect", "summary", "perbin"}
            Background of variant effects, of window statistics or of single bins.
        method : {"weak", "strict", "mean"}
            Whether background values equal to the value count: all, as in the reference; none; or half.
        signed : bool, optional
            True ranks the value as it is and answers 2·p − 1; False answers p, in the effect CDF that of the
            absolute value. By default each track's ``signed`` flag for effects, and False otherwise.

        Returns
        -------
        float, ndarray or DataArray of float64
            As ``values``: a number for a number and one track, a DataArray for a DataArray, else an array. In
            [0, 1], or [−1, 1] where signed. NaN where the value is NaN or the track has no background. Values
            backed by dask stay lazy.

        Raises
        ------
        TrackNotFoundError
            No such track; names near matches.
        InputError
            An unknown CDF or method, values whose shape does not fit the tracks, or ``track`` given although
            the values name their tracks.
        CorruptStoreError
            Rows that were asked for are damaged or missing.

        Warns
        -----
        UserWarning
            A track has no background: no values were ever offered to it.

        Examples
        --------
        >>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
        >>> store.chorus.percentile(0.31, track="ENCFF833POA")  # doctest: +SKIP
        0.9921
        """
        labelled = _labelled(values, track, self._variable("track"))
        labels = labelled["track"]
        rows = self._rows(labels)
        signs = self._signs(cdf, rows, signed)
        empty = self._column(f"{cdf}_count", rows) == 0
        if empty.any():
            names = np.unique(labels.values[empty.values])
            warnings.warn(f"no {cdf} background, so NaN, for track {', '.join(names[:5])}", stacklevel=2)
            labelled = labelled.where(~empty)
        result = xr.apply_ufunc(
            _percentile,
            self._background(cdf, rows, labelled),
            signs,
            labelled,
            input_core_dims=[["quantile"], [], []],
            kwargs={"cdf": cdf, "method": method},
            dask="parallelized",
            output_dtypes=[np.float64],
            keep_attrs=False,
        )
        return _like(values, result.transpose(*labelled.dims).rename(f"{cdf}_percentile"))

    def effect_percentile(self, values: Any, track: str | Sequence[str] | None = None, **options: Any) -> Any:
        """`percentile` of variant effects; ``options`` are its ``method`` and ``signed``."""
        return self.percentile(values, track, "effect", **options)

    def activity_percentile(self, values: Any, track: str | Sequence[str] | None = None, **options: Any) -> Any:
        """`percentile` of window statistics (``summary_cdf``); ``options`` are ``method`` and ``signed``."""
        return self.percentile(values, track, "summary", **options)

    def perbin_percentile(self, values: Any, track: str | Sequence[str] | None = None, **options: Any) -> Any:
        """`percentile` of single output bins; ``options`` are its ``method`` and ``signed``."""
        return self.percentile(values, track, "perbin", **options)

    def _variable(self, name: str) -> xr.Variable:
        if name not in self._dataset.variables:
            raise InputError(
                f"this dataset has no {name}; it has {', '.join(map(str, self._dataset.variables))}. "
                "Scalar oracles have no perbin CDF; chorus_store.open(path) opens a whole store"
            )
        return self._dataset.variables[name]

    def _rows(self, labels: xr.DataArray) -> xr.DataArray:
        """Row of each label, with the dimensions of ``labels``."""
        index = self._dataset.indexes.get("track")
        if index is None:  # one track was selected, and with it the index went
            index = pd.Index(np.atleast_1d(self._variable("track").values).tolist())
        wanted = np.atleast_1d(labels.values).astype(object)
        found = index.get_indexer(wanted)
        for i in np.flatnonzero(found < 0):
            found[i] = _match(str(wanted[i]), index)
        return xr.DataArray(found.reshape(labels.shape), dims=labels.dims)

    def _column(self, name: str, rows: xr.DataArray) -> xr.DataArray:
        """Entries of a per-track variable; the whole column is read once and stays in the dataset."""
        return xr.DataArray(np.atleast_1d(self._variable(name).values)[rows.values], dims=rows.dims)

    def _signs(self, cdf: str, rows: xr.DataArray, signed: bool | None) -> xr.DataArray:
        """Whether each row is signed."""
        if signed is None and cdf == "effect":
            return self._column("signed", rows)
        return xr.full_like(rows, bool(signed), dtype=bool)

    def _background(self, cdf: str, rows: xr.DataArray, values: xr.DataArray) -> xr.DataArray:
        """CDF rows without labels; in memory, or lazy with the chunks of lazy values."""
        variable = self._variable(f"{cdf}_cdf").to_base_variable()
        if "track" not in variable.dims:
            variable = variable.set_dims({"track": 1, **variable.sizes})  # type: ignore[no-untyped-call]
        background = xr.DataArray(variable).isel(track=rows)
        if values.chunks is None or not rows.dims:
            with reading(f"{cdf}_cdf"):
                return background.compute()
        return background.chunk({"quantile": -1} | {dim: values.chunksizes[dim] for dim in rows.dims})


def _percentile(
    rows: lookup.RowArray,
    signs: npt.NDArray[np.bool_],
    values: lookup.FloatArray,
    *,
    cdf: str,
    method: lookup.Method,
) -> lookup.FloatArray:
    """Percentiles of a block: rows ([track, 1, …,] quantile), signs ([track, 1, …]), values ([track, …])."""
    require_rows(rows, f"{cdf}_cdf")
    if cdf == "effect":
        values = np.where(signs, values, np.abs(values))
    width = rows.shape[-1]
    if rows.ndim == 1:
        ranks = lookup.rank(values, rows, method)
    else:
        ranks = lookup.rank_rows(values, rows.reshape(len(rows), width), method)
    return lookup.to_percentile(ranks, width, signs)


def _labelled(values: Any, track: str | Sequence[str] | None, all_tracks: xr.Variable) -> xr.DataArray:
    """Values with a ``track`` coordinate: one label for all of them, or one per entry of a dimension."""
    array = values if isinstance(values, xr.DataArray) else xr.DataArray(values)
    if "track" in array.coords:
        if track is not None:
            raise InputError("the values name their tracks themselves: leave out track=, or drop their coordinate")
        return array
    labels = np.asarray(all_tracks.values if track is None else track).tolist()
    if isinstance(labels, str):
        return array.assign_coords(track=labels)
    if array is not values and array.dims:
        array = array.rename({array.dims[-1]: "track"})
    if "track" not in array.dims:
        return array.expand_dims(track=labels, axis=-1)
    if array.sizes["track"] != len(labels):
        raise InputError(f"{array.sizes['track']} values along the track axis do not fit {len(labels)} tracks")
    return array.assign_coords(track=labels)


def _like(values: Any, result: xr.DataArray) -> Any:
    """The result in the form in which the values came."""
    if isinstance(values, xr.DataArray):
        return result
    return result.data if result.ndim or result.chunks is not None else float(result)


def _match(label: str, index: pd.Index[str]) -> int:
    """Row of a label that is not in the index as it stands, spelt as the reference's normalizer would."""
    spellings = (
        label.replace(":", "_"),
        label.replace("_", ":"),
        label.removesuffix(":+").removesuffix(":-"),
        label.rpartition(":")[2],
    )
    for row in index.get_indexer(pd.Index(spellings)):
        if row >= 0:
            return int(row)
    near = difflib.get_close_matches(label, index, n=3)
    hint = f"near matches: {', '.join(near)}" if near else "the coordinate 'track' lists them"
    raise TrackNotFoundError(f"no track {label!r} among the {len(index)} of this store; {hint}")
