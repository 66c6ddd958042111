"""Percentiles behind the interface of the reference's ``PerTrackNormalizer``, from stores and from NPZ files.

A caller changes one import. Scalar questions read one chunk of one CDF the first time that a track is asked for, and
import neither xarray nor pandas nor dask nor numba.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chorus_store import lookup, matching
from chorus_store.background import (
    Background,
    Row,
    backgrounds_folder,
    find_background,
    open_background,
    require_genome,
    warn_of_age,
)
from chorus_store.errors import InputError, StoreNotFoundError
from chorus_store.places import Place
from chorus_store.ranking import FloatArray
from chorus_store.track_cdf import TrackCdf

Semantics = Literal["current", "seed"]


class PerTrackNormalizer:
    """The reference's normalizer, over stores (``{oracle}.zarr``) and NPZ files (``{oracle}_pertrack.npz``).

    It answers what the reference does, to the bit: Python floats one at a time, float64 arrays in batches, and None
    where there is nothing to answer from, which is an unknown oracle or track, a CDF that the oracle does not have, or
    a track without samples. NaN ranks last. Threads may share one, and forked processes may go on with it.

    Parameters
    ----------
    directory : path-like, optional
        Where ``{oracle}.zarr``, ``{oracle}.zarr.zip`` or ``{oracle}_pertrack.npz`` is looked for, in that order. By
        default ``CHORUS_BACKGROUNDS_DIR``, else ``~/.chorus/backgrounds``.
    semantics : {"current", "seed"}
        Which generation of the reference to answer as. The two differ in these ways:

        =================  ============================  ==========================================
        ..                 seed                          current
        =================  ============================  ==========================================
        track ids          as they are                   also in other spellings (`matching.find`)
        denominator        the count where that is less  the width of the grid
        ties               rank last among equals        a hash of track and value chooses
        rescale            perbin, whatever its count    first of perbin, summary, effect with
                                                         samples
        ``max_value``      1.5                           3.0
        the background     as it is                      refused unless of hg38; a warning if old
        =================  ============================  ==========================================

        Support, exceedance, the signed rescale and the logarithmic one are of ``current`` alone.
    backgrounds : mapping of str to path-like or URL, optional
        Backgrounds by oracle that lie elsewhere; looked at before the directory.

    Raises
    ------
    InputError
        Other semantics.

    Notes
    -----
    Every method that opens a background may also raise what `chorus_store.open` raises of one that is damaged, of
    another version, unpublished or unreachable; and with ``semantics="current"`` `StoreMismatchError` of one that is
    of another genome than hg38, as demonstrations are. One that the reference calls superseded, or whose windows are
    not today's, is warned of once, when it is opened.

    Examples
    --------
    >>> normalizer = PerTrackNormalizer("backgrounds")  # doctest: +SKIP
    >>> normalizer.effect_percentile("enformer", "ENCFF833POA", 0.31)  # doctest: +SKIP
    0.9921
    """

    def __init__(
        self,
        directory: Place | None = None,
        *,
        semantics: Semantics = "current",
        backgrounds: Mapping[str, Place] | None = None,
    ) -> None:
        if semantics not in ("current", "seed"):
            raise InputError(f"unknown semantics {semantics!r}; use 'current' or 'seed'")
        self._current = semantics == "current"
        self._directory = backgrounds_folder(directory)
        self._places = dict(backgrounds or {})
        self._backgrounds: dict[str, Background] = {}
        self._cdfs: dict[tuple[str, str, str], TrackCdf] = {}

    def effect_percentile(self, oracle: str, track: str, raw: float, signed: bool = False) -> float | None:
        """Percentile of a variant effect.

        Parameters
        ----------
        oracle, track : str
        raw : float
            Ranked as it is: take the absolute value first where the track is not signed.
        signed : bool
            Answer 2·p − 1. This is the caller's to say; `is_signed` knows what the background says.

        Returns
        -------
        float or None
            In [0, 1], or [−1, 1] if ``signed``.
        """
        cdf = self._cdf(oracle, "effect", track)
        return None if cdf is None else cdf.percentile(float(raw), signed)

    def activity_percentile(self, oracle: str, track: str, raw: float) -> float | None:
        """Percentile of a window statistic, in the summary CDF; see `effect_percentile`."""
        cdf = self._cdf(oracle, "summary", track)
        return None if cdf is None else cdf.percentile(float(raw), signed=False)

    def perbin_percentile_batch(self, oracle: str, track: str, values: npt.ArrayLike) -> FloatArray | None:
        """Percentiles of output bins.

        Parameters
        ----------
        oracle, track : str
        values : array_like of float, any shape

        Returns
        -------
        ndarray of float64 in [0, 1], shape of ``values``, or None
        """
        cdf = self._cdf(oracle, "perbin", track)
        return None if cdf is None else cdf.percentiles(values)

    def perbin_floor_rescale_batch(
        self,
        oracle: str,
        track: str,
        values: npt.ArrayLike,
        floor_pctile: float = 0.95,
        peak_pctile: float = 0.99,
        max_value: float | None = None,
        log_scale: bool = False,
    ) -> FloatArray | None:
        """Output bins scaled so that one percentile of the background becomes 0 and another 1.

        Parameters
        ----------
        oracle, track : str
        values : array_like of float, any shape
        floor_pctile, peak_pctile : float
            In [0, 1].
        max_value : float, optional
            Upper end of the answer; 3.0, or 1.5 with ``semantics="seed"``.
        log_scale : bool
            Scale log(1 + x); ``current`` only.

        Returns
        -------
        ndarray of float64 in [0, ``max_value``], shape of ``values``, or None
            NaN for NaN.

        Raises
        ------
        InputError
            A percentile outside [0, 1], or ``log_scale`` with ``semantics="seed"``.
        """
        if log_scale:
            self._require_current("log_scale")
        if max_value is None:
            max_value = 3.0 if self._current else 1.5
        row = self._scale_row(oracle, track)
        if row is None:
            return None
        return lookup.rescale(
            values, *lookup.anchors(row, floor_pctile, peak_pctile), max_value=max_value, log=log_scale
        )

    def signed_floor_rescale_batch(
        self, oracle: str, track: str, values: npt.ArrayLike, peak_pctile: float = 0.99, max_value: float = 3.0
    ) -> FloatArray | None:
        """Values in units of a percentile of the absolute background; ``current`` only.

        Parameters
        ----------
        oracle, track : str
        values : array_like of float, any shape
        peak_pctile : float
            In [0, 1].
        max_value : float
            End of the answer on both sides.

        Returns
        -------
        ndarray of float64 in [−``max_value``, ``max_value``], shape of ``values``, or None
            None too where that percentile is below 1e-9; NaN for NaN.

        Raises
        ------
        InputError
            A percentile outside [0, 1], or ``semantics="seed"``.
        """
        self._require_current("signed_floor_rescale_batch")
        row = self._scale_row(oracle, track)
        if row is None:
            return None
        unit = lookup.signed_unit(row[np.newaxis], peak_pctile)[0]
        return None if unit < lookup.LEAST_SPAN else lookup.signed_rescale(values, unit, max_value=max_value)

    def effect_null_support(self, oracle: str, track: str) -> tuple[float, float] | None:
        """Least and greatest effect of the background; ``current`` only (`InputError` otherwise)."""
        self._require_current("effect_null_support")
        cdf = self._cdf(oracle, "effect", track)
        return None if cdf is None else (cdf.entries[0], cdf.entries[-1])

    def effect_exceedance(self, oracle: str, track: str, raw: float, signed: bool = False) -> float | None:
        """How many times further out than the end of the background an effect lies; ``current`` only.

        Parameters
        ----------
        oracle, track : str
        raw : float
        signed : bool
            Compare a negative value with the lower end; otherwise the absolute value with the upper.

        Returns
        -------
        float or None
            Above 1; None too where the value lies within the background.

        Raises
        ------
        InputError
            ``semantics="seed"``.
        """
        self._require_current("effect_exceedance")
        cdf = self._cdf(oracle, "effect", track)
        return None if cdf is None else cdf.exceedance(float(raw), signed)

    def is_signed(self, oracle: str, track: str) -> bool:
        """Whether effects of a track keep their sign; False where nothing is known of it."""
        found = self._find(oracle, track)
        if found is None:
            return False
        background, row = found
        signed = background.column("signed")
        return signed is not None and bool(signed[row])

    def has_oracle(self, oracle: str) -> bool:
        """Whether there is a background of an oracle; it is not opened."""
        return oracle in self._backgrounds or self._place(oracle) is not None

    def n_tracks(self, oracle: str) -> int:
        """Number of tracks; 0 without a background."""
        return len(self.track_ids(oracle))

    def track_ids(self, oracle: str) -> list[str]:
        """Track ids in row order; [] without a background."""
        background = self._background(oracle)
        return [] if background is None else list(background.rows)

    def summary(self, oracle: str) -> dict[str, Any] | None:
        """What there is of an oracle; no CDF is read.

        Returns
        -------
        dict or None
            ``place``, ``n_tracks``, ``n_signed``; ``cdfs``, by name the number of ``tracks`` with samples and the
            least and greatest number ``offered`` to those (None without counts); ``layers``, by name the number of
            tracks (empty where the file does not say).
        """
        background = self._background(oracle)
        return None if background is None else background.summary()

    def provenance(self, oracle: str) -> dict[str, Any] | None:
        """How a background was built: the document ``build_config`` of the NPZ, the same from its store.

        Returns
        -------
        dict or None
            Empty where the file does not say; None without a background.
        """
        background = self._background(oracle)
        return None if background is None else dict(background.build_config)

    def append_tracks(self, oracle: str, tracks: Mapping[str, npt.ArrayLike]) -> None:
        """Add tracks after those that are there, which stay as they are.

        A whole new file or store is written beside the old one and put in its place in one step; a crash leaves the
        old one.

        Parameters
        ----------
        oracle : str
            Must have a local background.
        tracks : mapping of str to array_like
            Rows by the keys of the NPZ (``track_ids``, ``effect_cdfs``, …), the same whatever the background is kept
            in; see `chorus_store.append.append_tracks`.

        Raises
        ------
        StoreNotFoundError
            No background of this oracle.
        InputError
            Ids that are there already, keys that are missing or unknown, or arrays of a wrong shape or dtype,
            not finite or not ascending.
        StoreWriteError
            Full disk, or a folder that cannot be written.
        """
        from chorus_store.append import append_tracks

        place = self._place(oracle)
        if place is None:
            raise StoreNotFoundError(f"no background of {oracle} in {self._directory}; build or copy one first")
        append_tracks(place, tracks)
        self._backgrounds.pop(oracle, None)
        self._cdfs = {}

    def _require_current(self, what: str) -> None:
        if not self._current:
            raise InputError(f"the seed normalizer has no {what}; use semantics='current'")

    def _place(self, oracle: str) -> Place | None:
        return self._places.get(oracle) or find_background(self._directory, oracle)

    def _background(self, oracle: str) -> Background | None:
        """The background of an oracle, opened and checked when it is first asked for."""
        known = self._backgrounds.get(oracle)
        if known is None and (place := self._place(oracle)) is not None:
            opened = open_background(place)
            if self._current:
                require_genome(opened)
            known = self._backgrounds.setdefault(oracle, opened)
            if self._current and known is opened:  # not where another thread was faster
                warn_of_age(opened)
        return known

    def _find(self, oracle: str, track: str) -> tuple[Background, int] | None:
        """The background and the row of a track."""
        background = self._background(oracle)
        if background is None:
            return None
        row = matching.find(track, background.rows) if self._current else background.rows.get(track)
        return None if row is None else (background, row)

    def _cdf(self, oracle: str, cdf: str, track: str) -> TrackCdf | None:
        """CDF of a track that has samples."""
        key = oracle, cdf, track
        known = self._cdfs.get(key)
        if known is None and (found := self._find(oracle, track)) is not None:
            background, row = found
            count = background.count(cdf, row)
            if count != 0 and (entries := background.row(cdf, row)) is not None:
                width = len(entries)
                denominator = width if self._current or count is None else min(count, width)
                known = self._cdfs[key] = TrackCdf(track, entries.data, denominator, self._current)
        return known

    def _scale_row(self, oracle: str, track: str) -> Row | None:
        """CDF by which values of a track are scaled."""
        found = self._find(oracle, track)
        if found is None:
            return None
        background, row = found
        if not self._current:
            return background.row("perbin", row)
        rows = (background.row(cdf, row) for cdf in ("perbin", "summary", "effect") if background.count(cdf, row) != 0)
        return next((entries for entries in rows if entries is not None), None)
