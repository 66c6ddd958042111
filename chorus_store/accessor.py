"""``Dataset.chorus``: questions to a store, with labels in and labels out.

Thin and stateless: `chorus_store.alignment` brings values and rows together, `chorus_store.lookup` has the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from chorus_store import lookup, selection
from chorus_store.alignment import Flags, Indices, Labels, Query
from chorus_store.errors import InputError
from chorus_store.layout import CDFS
from chorus_store.lookup import FloatArray, Method, RowArray
from chorus_store.schema import check_version

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Tracks = str | Sequence[str] | None

#: Where `ChorusAccessor.rescale` looks for a background, best first.
RESCALED_BY = ("perbin", "summary", "effect")


@xr.register_dataset_accessor("chorus")  # type: ignore[no-untyped-call]
class ChorusAccessor:
    """Questions to the backgrounds of a store; reached as ``dataset.chorus``.

    All methods take values and tracks in the same forms. Values are a number, an array or a DataArray of any
    shape, float32 or float64, in memory or backed by dask (then the answer is lazy too). A DataArray with a
    ``track`` coordinate is aligned by label: any tracks, in any order; so is a DataFrame or Series whose columns or
    index hold tracks. Otherwise ``track`` names the tracks: one for
    all values; or several, which go along the ``track`` dimension of a DataArray (a new one, put last, where it has
    none) or along the last axis of an array, and a single number is asked of each; by default all tracks of the
    dataset. Identifiers may be spelt as `chorus_store.matching.find` accepts them.

    Answers are as the values: a number for a number and one track, a DataArray for a DataArray, else an array.
    NaN answers NaN, and so does a track without background, with a warning.

    Parameters
    ----------
    dataset : Dataset
        A store from `chorus_store.open` or `xarray.open_zarr`, or any selection of its tracks.

    Raises
    ------
    SchemaError
        The dataset is a store of a version that this release cannot read.
    TrackNotFoundError
        By every method: no such track; names near matches.
    InputError
        The dataset is a selection of quantiles. By every method: no such CDF in this dataset, an option out of its
        range, values that are no numbers or whose shape does not fit the tracks, labels that are no str, or ``track``
        given although the values name their tracks.
    CorruptStoreError
        By every method: rows that were asked for are damaged or missing.
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        if "schema" in dataset.attrs:
            check_version(dataset.attrs)
        _require_all_quantiles(dataset)
        self._dataset = dataset

    def __repr__(self) -> str:
        oracle = self._dataset.attrs.get("oracle", {})
        name = oracle.get("title", oracle.get("name", "background"))
        cdfs = [cdf for cdf in CDFS if f"{cdf}_cdf" in self._dataset.variables]
        sizes = self._dataset.sizes
        return (
            f"<chorus: {name}, {sizes.get('track', 1):,} tracks, CDFs {', '.join(cdfs)} "
            f"of {sizes.get('quantile', 0):,} points>"
        )

    def percentile(
        self,
        values: Any,
        track: Tracks = None,
        cdf: str = "effect",
        method: Method = "weak",
        signed: bool | None = None,
    ) -> Any:
        """Share of a track's background that lies at or below each value.

        Parameters
        ----------
        values : float, array_like or DataArray
            Raw values.
        track : str or sequence of str, optional
            Tracks of the values; see the class.
        cdf : {"effect", "summary", "perbin"}
            Background of variant effects, of window statistics or of single bins.
        method : {"weak", "strict", "mean", "randomized"}
            Whether background values equal to the value count: all, none, half, or as the reference's normalizer
            draws (see `chorus_store.ties`).
        signed : bool, optional
            True ranks the value as it is and answers 2·p − 1; False answers p, in the effect CDF that of the
            absolute value. By default each track's ``signed`` flag for effects, and False otherwise.

        Returns
        -------
        float, ndarray or DataArray of float64
            In [0, 1], or [−1, 1] where signed.

        Examples
        --------
        >>> store = chorus_store.open("enformer.zarr")  # doctest: +SKIP
        >>> store.chorus.percentile(0.31, track="ENCFF833POA")  # doctest: +SKIP
        0.9921
        """
        kernel = partial(_percentile, method=method, absolute=cdf == "effect")
        return self._ask(kernel, values, track, cdf, signed, f"{cdf}_percentile")

    def effect_percentile(self, values: Any, track: Tracks = None, **options: Any) -> Any:
        """`percentile` of variant effects; ``options`` are its ``method`` and ``signed``."""
        return self.percentile(values, track, "effect", **options)

    def activity_percentile(self, values: Any, track: Tracks = None, **options: Any) -> Any:
        """`percentile` of window statistics (``summary_cdf``); ``options`` are ``method`` and ``signed``."""
        return self.percentile(values, track, "summary", **options)

    def perbin_percentile(self, values: Any, track: Tracks = None, **options: Any) -> Any:
        """`percentile` of single output bins; ``options`` are its ``method`` and ``signed``."""
        return self.percentile(values, track, "perbin", **options)

    def quantile(self, p: Any, track: Tracks = None, cdf: str = "effect", signed: bool | None = None) -> Any:
        """Value whose percentile is ``p``: the smallest of the background that reaches it (NumPy's ``inverted_cdf``).

        Parameters
        ----------
        p : float, array_like or DataArray
            Percentiles as `percentile` answers them: in [0, 1], or [−1, 1] where signed; others are an InputError.
        track, cdf, signed
            As in `percentile`.

        Examples
        --------
        >>> store.chorus.quantile(0.99, track="ENCFF833POA")  # doctest: +SKIP
        0.2871
        """
        return self._ask(_quantile, p, track, cdf, signed, f"{cdf}_quantile")

    def support(self, track: Tracks = None, cdf: str = "effect") -> Any:
        """Smallest and largest value of a background.

        Returns
        -------
        (float, float) or Dataset
            A pair for one track, else a Dataset of ``low`` and ``high`` along ``track``.

        Examples
        --------
        >>> low, high = store.chorus.support("ENCFF833POA")  # doctest: +SKIP
        """
        query = Query(self._dataset, xr.DataArray(np.zeros(2), dims="bound"), track)
        bounds = query.answer(cdf, _support, query.signed(cdf, False))
        low, high = (bounds.isel(bound=i) for i in (0, 1))
        return xr.Dataset({"low": low, "high": high}) if low.ndim else (float(low), float(high))

    def exceedance(self, values: Any, track: Tracks = None, cdf: str = "effect", signed: bool | None = None) -> Any:
        """How many times the largest background value (where signed, the nearer end) a value is.

        NaN within the background, where `percentile` says all there is to say; above 1 outside.

        Parameters
        ----------
        values, track, cdf, signed
            As in `percentile`. Unsigned tracks take the absolute value.

        Examples
        --------
        >>> store.chorus.exceedance(1.5, track="ENCFF833POA")  # doctest: +SKIP
        1.83
        """
        return self._ask(_exceedance, values, track, cdf, signed, f"{cdf}_exceedance")

    def rescale(
        self,
        values: Any,
        track: Tracks = None,
        *,
        floor: float = 0.95,
        peak: float = 0.99,
        max_value: float = 3.0,
        log: bool = False,
        signed: bool | None = None,
    ) -> Any:
        """Values on a scale that tracks share: 0 at the ``floor`` quantile of a track's background, 1 at its ``peak``.

        By the per-bin background, else that of window statistics, else that of effects: the first for which the
        track has samples.

        Parameters
        ----------
        values, track
            As in `percentile`.
        floor, peak : float
            Quantiles, in [0, 1]; the floor below the peak.
        max_value : float
            Above 0. Answers are clipped to [0, max_value], or [−max_value, max_value] where signed.
        log : bool
            Rescale log1p of values and anchors, both first raised to 0.
        signed : bool, optional
            True divides by the ``peak`` quantile of the absolute background: no floor, no logarithm. By default
            each track's ``signed`` flag.

        Examples
        --------
        >>> store.chorus.rescale(2.5, track="ENCFF833POA")  # doctest: +SKIP
        1.21
        """
        if not (0 <= floor <= 1 and 0 <= peak <= 1):
            raise InputError(f"floor and peak are quantiles, from 0 to 1, not {floor} and {peak}")
        if not (floor < peak and max_value > 0):
            raise InputError(
                f"floor={floor}, peak={peak} and max_value={max_value} make no scale: give a floor below the peak, and "
                "a max_value above 0"
            )
        kernel = partial(_rescale, floor=floor, peak=peak, max_value=max_value, log=log)
        query = Query(self._dataset, values, track)
        signs = query.signed("effect", signed)
        answer = xr.full_like(query.values, np.nan, dtype=np.float64)
        left = xr.full_like(query.rows, True, dtype=bool)
        for cdf in (cdf for cdf in RESCALED_BY if f"{cdf}_cdf" in self._dataset.variables):
            here = left & query.sampled(cdf)
            answer = answer.fillna(query.answer(cdf, kernel, signs, only=here))
            left = left & ~here
        query.warn_of(left, "any")
        return query.like_given(answer, "rescaled")

    def standard_error(self, p: Any, track: Tracks = None, cdf: str = "effect", signed: bool | None = None) -> Any:
        """Binomial standard error of a percentile: how fine it may be read.

        sqrt(p·(1 − p) / n) with n the values that the CDF was made from (``{cdf}_retained``); p is held half a count
        away from 0 and 1, so that beyond the background the error is not 0. Doubled where signed.

        Parameters
        ----------
        p : float, array_like or DataArray
            Percentiles, answers of `percentile`.
        track, cdf, signed
            As in `percentile`.

        Examples
        --------
        >>> store.chorus.standard_error(0.99, track="ENCFF833POA")  # doctest: +SKIP
        0.000995
        """
        query = Query(self._dataset, p, track)
        signs = query.signed(cdf, signed)
        names = (f"{cdf}_retained", f"{cdf}_count")
        known = next((name for name in names if name in self._dataset.variables), names[1])
        answer = xr.apply_ufunc(
            lookup.standard_error,
            query.values,
            query.column(known),
            signs,
            dask="parallelized",
            output_dtypes=[np.float64],
            keep_attrs=False,
        )
        return query.like_given(answer.transpose(*query.values.dims), f"{cdf}_standard_error")

    def tracks(
        self,
        layer: str | Sequence[str] | None = None,
        assay: str | Sequence[str] | None = None,
        cell_type: str | Sequence[str] | None = None,
        pattern: str | None = None,
    ) -> xr.Dataset:
        """The background of some tracks alone, chosen by label.

        Parameters
        ----------
        layer, assay, cell_type : str or sequence of str, optional
            One or several values, in any case.
        pattern : str, optional
            Regular expression, found anywhere in identifier, description, cell type or assay, in any case.

        Returns
        -------
        Dataset
            Those that fit all that was given, in the order of the store; nothing is read but labels.

        Raises
        ------
        InputError
            No track has such a value; names near matches.

        Examples
        --------
        >>> store.chorus.tracks(assay="DNASE", cell_type="K562").chorus.percentile(0.3)  # doctest: +SKIP
        array([0.9871, 0.9902])
        """
        rows = selection.matching_rows(self._dataset, pattern, layer=layer, assay=assay, cell_type=cell_type)
        return self._dataset.isel(track=np.flatnonzero(rows))

    def plot(
        self, track: Tracks = None, cdf: str = "effect", value: float | None = None, ax: Axes | None = None
    ) -> Axes:
        """Draw the CDFs of some tracks, with a value marked; see `chorus_store.picture.plot`."""
        from chorus_store import picture

        return picture.plot(self._dataset, track, cdf, value, ax)

    def _ask(self, kernel: Any, values: Any, track: Tracks, cdf: str, signed: bool | None, name: str) -> Any:
        query = Query(self._dataset, values, track)
        return query.like_given(query.answer(cdf, kernel, query.signed(cdf, signed)), name)


def _require_all_quantiles(dataset: xr.Dataset) -> None:
    """Refuse rows that are not a whole CDF: their ranks would be divided by the wrong number."""
    rows = [dataset.variables[name] for cdf in CDFS if (name := f"{cdf}_cdf") in dataset.variables]
    grid = dataset.variables.get("quantile")
    whole = all("quantile" in row.dims for row in rows)
    if rows and grid is not None and whole:
        whole = grid.size > 1 and np.allclose(grid.values, np.linspace(0, 1, grid.size), rtol=0, atol=1e-6)
    if not whole:
        raise InputError(
            "this dataset has some quantiles of its backgrounds alone, not equal steps from 0 to 1: select tracks, not "
            "quantiles"
        )


def _percentile(
    values: FloatArray, rows: RowArray, index: Indices, labels: Labels, signed: Flags, *, method: Method, absolute: bool
) -> FloatArray:
    magnitude = ~signed if absolute else False
    return lookup.percentile(
        values, rows, index, method=method, absolute=magnitude, signed=signed, labels=labels.tolist()
    )


def _quantile(p: FloatArray, rows: RowArray, index: Indices, labels: Labels, signed: Flags) -> FloatArray:
    lowest = np.where(signed, -1, 0).reshape(-1, *[1] * (p.ndim - 1))
    outside = p[(p < lowest) | (p > 1)]
    if outside.size:
        raise InputError(f"{outside[0]:g} is no percentile: p is from 0 to 1, or −1 to 1 where signed; 0.95, not 95")
    return lookup.quantile(p, rows, index, signed=signed)


def _exceedance(values: FloatArray, rows: RowArray, index: Indices, labels: Labels, signed: Flags) -> FloatArray:
    return lookup.exceedance(values, rows, index, signed=signed)


def _support(values: FloatArray, rows: RowArray, index: Indices, labels: Labels, signed: Flags) -> FloatArray:
    bounds = np.stack(lookup.support(rows), axis=-1)[index].astype(np.float64)
    return np.where(index[:, np.newaxis] < 0, np.nan, bounds)


def _rescale(
    values: FloatArray,
    rows: RowArray,
    index: Indices,
    labels: Labels,
    signed: Flags,
    *,
    floor: float,
    peak: float,
    max_value: float,
    log: bool,
) -> FloatArray:
    answer = np.full(values.shape, np.nan)
    along = (...,) + (np.newaxis,) * (values.ndim - 1)
    plain, both = np.flatnonzero((index >= 0) & ~signed), np.flatnonzero((index >= 0) & signed)
    if plain.size:
        low, high = (anchor[index[plain]][along] for anchor in lookup.anchors(rows, floor, peak))
        answer[plain] = lookup.rescale(values[plain], low, high, max_value=max_value, log=log)
    if both.size:
        unit = lookup.signed_unit(rows[index[both]], peak)[along]
        answer[both] = lookup.signed_rescale(values[both], unit, max_value=max_value)
    return answer
