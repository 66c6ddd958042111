"""What a user may give by mistake, or after work with xarray and pandas: a right answer or an error that helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import chorus_store
from chorus_store.errors import CorruptStoreError, InputError, TrackNotFoundError
from tests.stores import make_store

#: Zarr warns of what xarray asks it for.
CONSOLIDATED = pytest.mark.filterwarnings("ignore:Consolidated metadata")
TRACKS = ["CHIP:00006", "DNASE:00000", "RNA:00004"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("misuse") / "enformer.zarr", 10)


@pytest.fixture(scope="module")
def store(path: Path) -> xr.Dataset:
    return chorus_store.open(path)


@pytest.fixture(scope="module")
def wide() -> pd.DataFrame:
    """A variant per row, a track per column."""
    return pd.DataFrame([[0.1, 0.2, -0.3], [1.1, 1.2, 1.3]], index=["rs1", "rs2"], columns=TRACKS)


def test_frames_are_aligned_by_the_labels_of_tracks(store: xr.Dataset, wide: pd.DataFrame):
    wanted = store.chorus.percentile(wide.to_numpy(), TRACKS)
    np.testing.assert_array_equal(store.chorus.percentile(wide), wanted)
    np.testing.assert_array_equal(store.chorus.percentile(wide.loc["rs1"]), wanted[0])
    np.testing.assert_array_equal(store.chorus.percentile(wide[TRACKS[::-1]]), wanted[:, ::-1])
    respelt = wide.rename(columns=lambda track: track.replace(":", "_"))
    np.testing.assert_array_equal(store.chorus.percentile(respelt), wanted)
    every = pd.Series(0.3, index=store["track"].values[::-1])
    np.testing.assert_array_equal(store.chorus.percentile(every), store.chorus.percentile(0.3)[::-1])
    with pytest.raises(InputError, match="name their tracks themselves: leave out track="):
        store.chorus.percentile(wide, TRACKS)
    with pytest.raises(TrackNotFoundError, match=r"no track 'CHIP:0006'.*CHIP:00006"):
        store.chorus.percentile(wide.rename(columns={"CHIP:00006": "CHIP:0006"}))


def test_other_frames_are_arrays(store: xr.Dataset, wide: pd.DataFrame):
    wanted = store.chorus.percentile(wide.to_numpy(), TRACKS)
    for columns in (range(3), ["a", "b", "c"]):
        np.testing.assert_array_equal(store.chorus.percentile(wide.set_axis(columns, axis=1), TRACKS), wanted)
    np.testing.assert_array_equal(store.chorus.percentile(wide["RNA:00004"], "RNA:00004"), wanted[:, 2])


@pytest.mark.parametrize(
    "quantiles", [slice(0, 100), slice(100, None), slice(None, None, -1), 5, [0, 199], [*range(50), *range(60, 200)]]
)
def test_a_selection_of_quantiles_is_refused(store: xr.Dataset, quantiles: Any):
    some = store.isel(quantile=quantiles)
    if quantiles == [0, 199]:  # a coarser CDF, and a whole one
        assert some.chorus.percentile(0.06, "CHIP:00006") in (0, 0.5, 1)
        return
    with pytest.raises(InputError, match="select tracks, not quantiles"):
        some.chorus.percentile(0.06, "CHIP:00006")
    if quantiles == 5:
        with pytest.raises(InputError, match="select tracks, not quantiles"):
            some.drop_vars("quantile").chorus.percentile(0.06, "CHIP:00006")


def test_what_xarray_fills_with_gaps_is_asked(store: xr.Dataset):
    """Labels, counts and flags are not of their own types then."""
    plain = store.chorus.percentile(-0.3)
    rna = store.where(store["layer"] == store["layer"].sel(track="RNA:00004"), drop=True)
    assert rna["signed"].dtype != bool
    assert rna["track"].values.tolist() == ["RNA:00004", "RNA:00009"]
    np.testing.assert_array_equal(rna.chorus.percentile(-0.3), plain[[4, 9]])
    merged = xr.merge(
        [store.isel(track=slice(5, None)), store.isel(track=slice(5))], join="outer", compat="no_conflicts"
    )
    np.testing.assert_array_equal(merged.chorus.percentile(xr.full_like(store["signed"], -0.3, dtype=float)), plain)
    gaps = store.where(store["assay"] == "CHIP")
    assert gaps.chorus.tracks(assay="chip", pattern="ctcf")["track"].values.tolist() == ["CHIP:00001", "CHIP:00006"]
    with pytest.warns(UserWarning, match="no effect background, so NaN, for track new"):
        answer = store.reindex(track=["RNA:00004", "new"]).chorus.percentile(-0.3)
    np.testing.assert_array_equal(answer, [plain[4], np.nan])


def test_dimensions_in_another_order(path: Path):
    for opened in (chorus_store.open(path), xr.open_zarr(path), chorus_store.open(path).load()):
        turned = opened.transpose("quantile", "track")
        for values in (np.full(3, 0.3), dask.array.full(3, 0.3, chunks=2)):
            wanted = np.asarray(opened.chorus.percentile(values, TRACKS))
            np.testing.assert_array_equal(np.asarray(turned.chorus.percentile(values, TRACKS)), wanted)


@CONSOLIDATED
def test_a_saved_selection_opens(path: Path, tmp_path: Path):
    store = chorus_store.open(path)
    some = store.sel(track=["CHIP:00006", "DNASE:00000"])  # both unsigned: a chunk of False alone
    some.to_zarr(tmp_path / "some.zarr")
    some.drop_attrs(deep=False).to_netcdf(tmp_path / "some.nc")
    wanted = some.chorus.percentile(0.3)
    np.testing.assert_array_equal(chorus_store.open(tmp_path / "some.zarr").chorus.percentile(0.3), wanted)
    np.testing.assert_array_equal(xr.open_dataset(tmp_path / "some.nc").chorus.percentile(0.3), wanted)


@CONSOLIDATED
def test_a_copy_with_the_seal_of_the_whole_is_refused(path: Path, tmp_path: Path):
    xr.open_zarr(path).isel(track=[0, 6]).load().to_zarr(tmp_path / "some.zarr")
    with pytest.raises(CorruptStoreError, match=r"not what was written.*open with chorus_store\.open"):
        chorus_store.open(tmp_path / "some.zarr")


@pytest.mark.parametrize(
    "track",
    [8, [8, 9], np.int64(8), b"CHIP:00006", {"CHIP:00006"}, np.nan, [None], [["CHIP:00006"]], [["a"], ["b", "c"]]],
)
def test_tracks_are_strings(store: xr.Dataset, track: Any):
    hint = r"; for row 8 use store\.track\[8\]" if "8" in str(track) and "CHIP" not in str(track) else ""
    with pytest.raises(InputError, match=rf"tracks are named by identifiers \(str\), not by .*{hint}"):
        store.chorus.percentile(0.06, track)


def test_labels_of_values_are_strings(store: xr.Dataset):
    values = xr.DataArray([0.1, 0.2], dims="track", coords={"track": [8, 9]})
    with pytest.raises(InputError, match=r"not by 8; for row 8 use store\.track\[8\]"):
        store.chorus.percentile(values)


@pytest.mark.parametrize("value", [[None], 5, b"x", ["tf_binding", None]])
def test_labels_to_choose_by_are_strings(store: xr.Dataset, value: Any):
    with pytest.raises(InputError, match="layer is a str or a list of them, not"):
        store.chorus.tracks(layer=value)


def test_a_description_is_a_near_match(store: xr.Dataset):
    description = store["description"].sel(track="CHIP:00006").item()
    with pytest.raises(TrackNotFoundError) as caught:
        store.chorus.percentile(0.06, description)
    assert f"near matches: CHIP:00006 ({description})" in str(caught.value)
    with pytest.raises(TrackNotFoundError, match="nothing looks like it"):
        store.drop_vars("description").chorus.percentile(0.06, description)


VALUES = {
    "strings": ["0.06", "x"],
    "digits": ["0.06"],
    "a string": "0.06",
    "objects": np.array(["0.06", 1.0], object),
    "a Series of strings": pd.Series(["0.06"]),
    "dict": {"CHIP:00006": 0.06},
    "ragged": [[1.0], [1.0, 2.0]],
    "Dataset": xr.Dataset({"effect": 0.06}),
    "dates": np.datetime64("2020-01-01"),
    "complex": 1j,
    "set": {0.06},
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_values_are_numbers(store: xr.Dataset, values: Any):
    with pytest.raises(InputError, match="values are numbers, an array or a DataArray of them"):
        store.chorus.percentile(values, "CHIP:00006")


@pytest.mark.parametrize("values", [[None, 0.3], pd.Series([None, 0.3], dtype="Float64"), [np.nan, np.float32(0.3)]])
def test_missing_values_are_missing(store: xr.Dataset, values: Any):
    answer = store.chorus.percentile(values, "CHIP:00006")
    assert np.isnan(answer).tolist() == [True, False]


@pytest.mark.parametrize("signed", ["no", 0, [True]])
def test_signed_is_a_bool(store: xr.Dataset, signed: Any):
    with pytest.raises(InputError, match="signed is True or False, or None"):
        store.chorus.percentile(0.06, "CHIP:00006", signed=signed)
    assert store.chorus.percentile(-99.0, "CHIP:00006", signed=np.True_) == -1


@pytest.mark.parametrize(
    "options", [{"floor": 0.99, "peak": 0.5}, {"floor": 0.9, "peak": 0.9}, {"max_value": -1}, {"max_value": np.nan}]
)
def test_scales_that_are_none(store: xr.Dataset, options: dict[str, float]):
    with pytest.raises(InputError, match="make no scale: give a floor below the peak, and a max_value above 0"):
        store.chorus.rescale(0.06, "CHIP:00006", **options)


def test_percentiles_in_percent(store: xr.Dataset):
    with pytest.raises(InputError, match=r"95 is no percentile.*0\.95, not 95"):
        store.chorus.quantile([0.5, 95], "CHIP:00006")
    with pytest.raises(InputError, match=r"-0\.5 is no percentile"):
        store.chorus.quantile(-0.5, "CHIP:00006")
    assert np.isfinite(store.chorus.quantile(-0.5, "RNA:00004"))
    assert np.isnan(store.chorus.quantile(np.nan, "CHIP:00006"))
    lazy = store.chorus.quantile(dask.array.full(2, 95.0), "CHIP:00006")
    with pytest.raises(InputError, match="95 is no percentile"):
        lazy.compute()


@pytest.mark.parametrize("cdf", ["Effect", "activity", "effect_cdf"])
def test_cdfs_by_other_names(store: xr.Dataset, cdf: str):
    for ask in (store.chorus.percentile, store.chorus.quantile, store.chorus.exceedance, store.chorus.standard_error):
        with pytest.raises(InputError, match=f"no background '{cdf}': cdf is one of effect, summary, perbin"):
            ask(0.5, "CHIP:00006", cdf=cdf)
    with pytest.raises(InputError, match="cdf is one of effect, summary, perbin"):
        store.chorus.support("CHIP:00006", cdf)


def test_values_of_their_own_dimension(store: xr.Dataset):
    with pytest.raises(InputError, match=r"2 values .* do not fit 3 tracks; .* xr\.DataArray\(values, dims="):
        store.chorus.quantile([0.5, 0.95], TRACKS)
    assert store.chorus.quantile(xr.DataArray([0.5, 0.95], dims="value"), TRACKS).shape == (2, 3)
