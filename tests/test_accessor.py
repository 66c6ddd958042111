"""Labels in, labels out: every form of a question gives the plain answer, from the rows asked for alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import chorus_store
from chorus_store import lookup
from chorus_store.errors import CorruptStoreError, InputError, SchemaError, TrackNotFoundError
from tests.stores import make_store

SIGNED, UNSIGNED, EMPTY = "RNA:00004", "CHIP:00001", "CAGE:00008"
WITH_BACKGROUND = [f"{a}:{i:05d}" for i, a in enumerate(["DNASE", "CHIP", "CHIP", "CAGE", "RNA"] * 2) if i != 8]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("accessor") / "enformer.zarr", 10, empty=(8,), decimals=2)


@pytest.fixture(scope="module")
def store(path: Path) -> xr.Dataset:
    return chorus_store.open(path)


def expected(store: xr.Dataset, value: float, track: str, cdf: str = "effect", method: str = "weak") -> float:
    """The definition, one value at a time."""
    one = store.sel(track=track)
    row = one[f"{cdf}_cdf"].values
    signed = cdf == "effect" and bool(one["signed"])
    query = abs(value) if cdf == "effect" and not signed else value
    return float(lookup.to_percentile(lookup.rank(query, row, method), len(row), signed))


@pytest.mark.parametrize("method", ["weak", "strict", "mean"])
@pytest.mark.parametrize("track", [SIGNED, UNSIGNED])
def test_one_number_one_track(store: xr.Dataset, track: str, method: Any):
    answer = store.chorus.percentile(-0.5, track, method=method)
    assert type(answer) is float
    assert answer == expected(store, -0.5, track, method=method)


def test_only_effects_are_taken_absolute(store: xr.Dataset):
    assert store.chorus.effect_percentile(-2.0, UNSIGNED) == store.chorus.effect_percentile(2.0, UNSIGNED) > 0
    assert store.chorus.activity_percentile(-2.0, UNSIGNED) == 0
    assert store.chorus.perbin_percentile(-2.0, UNSIGNED) == 0
    assert store.chorus.activity_percentile(2.0, SIGNED) == expected(store, 2.0, SIGNED, "summary")
    assert store.chorus.perbin_percentile(2.0, SIGNED) == expected(store, 2.0, SIGNED, "perbin")


def test_signed_overrides_the_store(store: xr.Dataset):
    assert store.chorus.percentile(-99.0, UNSIGNED, signed=True) == -1
    assert store.chorus.percentile(-99.0, SIGNED, signed=False) == 1
    plain = store.chorus.activity_percentile(2.0, SIGNED)
    assert store.chorus.activity_percentile(2.0, SIGNED, signed=True) == 2 * plain - 1


def test_arrays_take_tracks_along_their_last_axis(store: xr.Dataset):
    values, tracks = np.array([[0.1, -0.2], [1.5, 3.0], [np.nan, 9.0]]), [SIGNED, UNSIGNED]
    answer = store.chorus.percentile(values, tracks)
    assert isinstance(answer, np.ndarray)
    for (i, j), value in np.ndenumerate(values):
        np.testing.assert_equal(answer[i, j], expected(store, value, tracks[j]))
    np.testing.assert_array_equal(store.chorus.percentile(values, SIGNED)[:, 0], answer[:, 0])
    np.testing.assert_array_equal(store.chorus.percentile(1.5, tracks), store.chorus.percentile([1.5, 1.5], tracks))
    with pytest.raises(InputError, match="2 values along the track axis do not fit 1 tracks"):
        store.chorus.percentile(values, [SIGNED])


@st.composite
def labelled_values(draw: st.DrawFn) -> xr.DataArray:
    """Values of some tracks in some order of dimensions, in memory or in dask chunks."""
    tracks = draw(st.lists(st.sampled_from(WITH_BACKGROUND), min_size=1, max_size=5))
    shape = (draw(st.integers(1, 4)), len(tracks), draw(st.integers(1, 3)))
    seed = draw(st.integers(0, 99))
    array = xr.DataArray(
        np.random.default_rng(seed).normal(0, 3, shape).round(2),
        dims=("variant", "track", "allele"),
        coords={"track": tracks, "variant": np.arange(shape[0])},
    ).transpose(*draw(st.permutations(["variant", "track", "allele"])))
    return array.chunk(variant=2, track=draw(st.integers(1, 5))) if draw(st.booleans()) else array


@given(labelled_values(), st.sampled_from(["effect", "summary", "perbin"]), st.booleans())
@settings(max_examples=20, deadline=None)
def test_labelled_values_are_aligned(path: Path, values: xr.DataArray, cdf: str, chunked_store: bool):
    opened = xr.open_zarr(path) if chunked_store else chorus_store.open(path)
    answer = opened.chorus.percentile(values, cdf=cdf)
    assert answer.dims == values.dims
    assert (answer.chunks is None) == (values.chunks is None)
    xr.testing.assert_equal(answer.coords.to_dataset(), values.coords.to_dataset())
    plain = values.load().stack(entry=values.dims)
    wanted = [expected(opened, float(v), str(t), cdf) for v, t in zip(plain.values, plain["track"].values, strict=True)]
    np.testing.assert_array_equal(answer.stack(entry=values.dims).values, wanted)


def test_dimensions_without_labels(store: xr.Dataset):
    values = xr.DataArray([[0.1, 0.2]], dims=("variant", "track"))
    by_list = store.chorus.percentile(values, [SIGNED, UNSIGNED])
    assert by_list["track"].values.tolist() == [SIGNED, UNSIGNED]
    new_dimension = store.chorus.percentile(values.isel(track=0, drop=True), [SIGNED, UNSIGNED])
    assert new_dimension.dims == ("variant", "track")
    assert new_dimension.sel(track=SIGNED).item() == by_list.sel(track=SIGNED).item()
    per_variant = xr.DataArray([0.1, 0.2], dims="variant", coords={"track": ("variant", [SIGNED, UNSIGNED])})
    assert store.chorus.percentile(per_variant).values.tolist() == by_list.values[0].tolist()
    with pytest.raises(InputError, match="name their tracks themselves"):
        store.chorus.percentile(by_list, SIGNED)


def test_selections_of_the_store(store: xr.Dataset):
    full = store.chorus.percentile(1.0, SIGNED)
    assert store.sel(track=SIGNED).chorus.percentile(1.0) == full
    assert store.sel(track=[UNSIGNED, SIGNED]).chorus.percentile(1.0).tolist()[1] == full
    assert store.load().chorus.percentile(1.0, SIGNED) == full


def test_nothing_is_computed_until_asked(path: Path):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed")

    values = dask.array.from_array(np.full((4, 2), 0.5), chunks=(2, 1))
    with dask.config.set(scheduler=refuse):
        answer = chorus_store.open(path).chorus.percentile(values, [SIGNED, UNSIGNED])
        single = chorus_store.open(path).chorus.percentile(values, SIGNED)
    assert answer.compute().shape == (4, 2)
    np.testing.assert_array_equal(single.compute()[:, 0], answer.compute()[:, 0])


def test_only_the_rows_asked_for_are_read(tmp_path: Path):
    path = make_store(tmp_path / "enformer.zarr", 10)
    shard = path / "effect_cdf" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[5] ^= 0xFF  # within the first chunk: tracks 0 to 3
    shard.write_bytes(data)
    store = chorus_store.open(path)
    assert 0 <= store.chorus.percentile(1.0, "CHIP:00006") <= 1
    with pytest.raises(CorruptStoreError, match=r"effect_cdf cannot be read.*publish the store again"):
        store.chorus.percentile(1.0, "CHIP:00001")
    shard.unlink()
    with pytest.raises(CorruptStoreError, match="rows of effect_cdf are missing"):
        store.chorus.percentile(1.0, "CHIP:00006")
    lazy = store.chorus.percentile(dask.array.zeros((1, 2)), ["CHIP:00006", "CHIP:00007"])
    with pytest.raises(CorruptStoreError, match="rows of effect_cdf are missing"):
        lazy.compute()


def test_a_track_without_background_answers_nan(store: xr.Dataset):
    with pytest.warns(UserWarning, match=f"no effect background, so NaN, for track {EMPTY}") as caught:
        answer = store.chorus.percentile(0.5, [UNSIGNED, EMPTY])
    assert Path(caught[0].filename) == Path(__file__)
    assert np.isnan(answer).tolist() == [False, True]


def test_unknown_tracks_and_cdfs(store: xr.Dataset, tmp_path: Path):
    with pytest.raises(TrackNotFoundError, match=r"no track 'CHIP:0001' among the 10.*CHIP:00001"):
        store.chorus.percentile(0.5, "CHIP:0001")
    with pytest.raises(TrackNotFoundError, match="lists them"):
        store.chorus.percentile(0.5, ["?"])
    with pytest.raises(InputError, match="no typo_count"):
        store.chorus.percentile(0.5, SIGNED, cdf="typo")
    scalar = chorus_store.open(make_store(tmp_path / "legnet.zarr", 3, perbin=False))
    with pytest.raises(InputError, match=r"no perbin_count.*Scalar oracles"):
        scalar.chorus.perbin_percentile(0.5, "DNASE:00000")
    with pytest.raises(SchemaError, match="too new"):
        store.assign_attrs(schema={"name": "chorus-store", "version": 99}).chorus  # noqa: B018


@pytest.mark.shared
def test_spellings_of_the_reference(shared: Path):
    toy = np.load(shared / "golden" / "toy_pertrack.npz")
    dataset = xr.Dataset(
        {
            "effect_cdf": (("track", "quantile"), toy["effect_cdfs"]),
            "effect_count": ("track", toy["effect_counts"]),
            "signed": ("track", toy["signed_flags"]),
        },
        coords={"track": toy["track_ids"].astype(object)},
    )
    spelt_otherwise = 0
    for record in json.loads((shared / "golden" / "percentiles.json").read_text())["single"]:
        track, value, wanted = record["track"], record["value"], record["current_effect"]
        if wanted is None:
            with pytest.raises(TrackNotFoundError) if track != "failed:e" else pytest.warns(UserWarning):
                dataset.chorus.percentile(value, track)
        elif record["signed"]:  # as it is: the reference never takes the absolute value
            low, high = (dataset.chorus.percentile(value, track, method=m, signed=True) for m in ("strict", "weak"))
            assert low <= wanted <= high
            spelt_otherwise += track not in toy["track_ids"]
    assert spelt_otherwise > 10
