"""Labels in, labels out: every form of a question gives the plain answer, from the rows asked for alone."""

from __future__ import annotations

import json
import shutil
import warnings
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
from chorus_store.alignment import Query
from chorus_store.errors import CorruptStoreError, InputError, SchemaError, TrackNotFoundError
from chorus_store.ties import randomized_rank
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
    with pytest.raises(CorruptStoreError, match="effect_cdf/c/0/0 is missing"):
        store.chorus.percentile(1.0, "CHIP:00006")
    lazy = store.chorus.percentile(dask.array.zeros((1, 2)), ["CHIP:00006", "CHIP:00007"])
    with pytest.raises(CorruptStoreError, match="effect_cdf/c/0/0 is missing"):
        lazy.compute()


def test_a_track_without_background_answers_nan(store: xr.Dataset):
    with pytest.warns(UserWarning, match=f"no effect background, so NaN, for track {EMPTY}") as caught:
        answer = store.chorus.percentile(0.5, [UNSIGNED, EMPTY])
    assert Path(caught[0].filename) == Path(__file__)
    assert np.isnan(answer).tolist() == [False, True]


@pytest.mark.parametrize("lazy", [False, True])
def test_a_dask_backed_store_warns_too(path: Path, lazy: bool):
    values = dask.array.zeros(2, chunks=1) if lazy else np.zeros(2)
    with pytest.warns(UserWarning, match=f"no effect background, so NaN, for track {EMPTY}"):
        assert np.isnan(np.asarray(xr.open_zarr(path).chorus.percentile(values, [UNSIGNED, EMPTY]))).tolist()[1]


def test_unknown_tracks_and_cdfs(store: xr.Dataset, tmp_path: Path):
    with pytest.raises(TrackNotFoundError, match=r"no track 'CHIP:0001' among the 10.*CHIP:00001"):
        store.chorus.percentile(0.5, "CHIP:0001")
    with pytest.raises(TrackNotFoundError, match="nothing looks like it"):
        store.chorus.percentile(0.5, ["?"])
    with pytest.raises(InputError, match="no background 'typo': cdf is one of effect, summary, perbin"):
        store.chorus.percentile(0.5, SIGNED, cdf="typo")
    scalar = chorus_store.open(make_store(tmp_path / "legnet.zarr", 3, perbin=False))
    with pytest.raises(InputError, match=r"no perbin_cdf.*Scalar oracles"):
        scalar.chorus.perbin_percentile(0.5, "DNASE:00000")
    with pytest.raises(SchemaError, match="too new"):
        store.assign_attrs(schema={"name": "chorus-store", "version": 99}).chorus  # noqa: B018


QUESTIONS = {
    "percentile": lambda ask, values, tracks: ask.percentile(values, tracks, method="mean"),
    "randomized": lambda ask, values, tracks: ask.percentile(values, tracks, method="randomized"),
    "quantile": lambda ask, values, tracks: ask.quantile(values, tracks, cdf="summary"),
    "exceedance": lambda ask, values, tracks: ask.exceedance(values, tracks),
    "rescale": lambda ask, values, tracks: ask.rescale(values, tracks, log=True),
    "standard_error": lambda ask, values, tracks: ask.standard_error(values, tracks),
}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("tracks", [SIGNED, [SIGNED, UNSIGNED], [EMPTY, UNSIGNED]])
def test_lazy_answers_are_the_plain_ones(path: Path, question: str, tracks: Any):
    """Of dask-backed values, of dask-backed backgrounds, of backgrounds in memory; and none before it is asked."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("computed")

    ask, values = QUESTIONS[question], np.linspace(0, 4, 12).reshape(6, 2) % 1
    values[0] = np.nan
    lazy = dask.array.from_array(values, chunks=(4, 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no (effect|summary|any) background")
        plain = ask(chorus_store.open(path).chorus, values, tracks)
        np.testing.assert_array_equal(ask(chorus_store.open(path).load().chorus, values, tracks), plain)
        np.testing.assert_array_equal(ask(xr.open_zarr(path).chorus, values, tracks), plain)
        for opened in (chorus_store.open(path), xr.open_zarr(path), chorus_store.open(path).load()):
            with dask.config.set(scheduler=refuse):
                answer = ask(opened.chorus, lazy, tracks)
            assert isinstance(answer, dask.array.Array)
            np.testing.assert_array_equal(answer.compute(), plain)
    assert np.isnan(plain[0]).all()
    # Within the background there is no exceedance.
    assert question == "exceedance" or np.isfinite(plain[1:, 1]).all()


def test_a_background_in_memory_is_used_where_it_is(store: xr.Dataset):
    loaded = store.load()
    seen = []

    def kernel(values: Any, rows: Any, index: Any, labels: Any, signed: Any) -> Any:
        seen.append((rows, index.tolist(), labels.tolist()))
        return values

    query = Query(loaded, [0.5, 0.5], [SIGNED, UNSIGNED])
    query.answer("effect", kernel, query.signed("effect", None))
    assert np.shares_memory(seen[0][0], loaded["effect_cdf"].values)
    assert seen[0][1:] == ([4, 1], [SIGNED, UNSIGNED])


@given(st.floats(-1, 1), st.sampled_from(["effect", "summary"]), st.sampled_from(WITH_BACKGROUND))
@settings(max_examples=50, deadline=None)
def test_quantile_is_the_inverse_of_percentile(path: Path, p: float, cdf: str, track: str):
    store = chorus_store.open(path)
    lowest = -1 if cdf == "effect" and track.startswith("RNA") else 0
    if p < lowest:
        with pytest.raises(InputError, match="is no percentile"):
            store.chorus.quantile(p, track, cdf)
        return
    value = store.chorus.quantile(p, track, cdf)
    assert value in store[f"{cdf}_cdf"].sel(track=track).values
    reached = store.chorus.percentile(value, track, cdf)
    just_below = store.chorus.percentile(value, track, cdf, method="strict")
    assert reached >= p - 1e-12
    assert just_below <= max(p, lowest)


def test_support_and_exceedance(store: xr.Dataset):
    row = store["effect_cdf"].sel(track=SIGNED).values.astype(float)
    low, high = store.chorus.support(SIGNED)
    assert (low, high) == (row[0], row[-1])
    assert store.chorus.exceedance([2 * high, 3 * low, 0.5 * high], SIGNED).ravel().tolist()[:2] == [2, 3]
    assert np.isnan(store.chorus.exceedance(0.5 * high, SIGNED))
    top = store.chorus.support(UNSIGNED)[1]
    assert store.chorus.exceedance(-1.5 * top, UNSIGNED) == pytest.approx(1.5, rel=1e-15)
    with pytest.warns(UserWarning, match="no effect background"):
        both = store.chorus.support([UNSIGNED, EMPTY])
    assert both["high"].sel(track=UNSIGNED) == top
    assert np.isnan(both["low"].sel(track=EMPTY))


def test_rescale_falls_back(store: xr.Dataset):
    """Perbin, else summary, else effect: the first that has samples for the track."""
    values = np.array([[0.5, 4.0, 9.0]]).T
    counts = {"perbin": [1, 0, 0], "summary": [1, 1, 0], "effect": [1, 1, 1]}
    tracks = ["CHIP:00001", "CHIP:00002", "CAGE:00003"]
    some = store.sel(track=tracks).load()
    some = some.assign({f"{cdf}_count": ("track", of_tracks) for cdf, of_tracks in counts.items()})
    answer = some.chorus.rescale(np.repeat(values, 3, axis=1))
    for i, (track, cdf) in enumerate(zip(tracks, counts, strict=True)):
        row = some[f"{cdf}_cdf"].sel(track=track).values.astype(float)
        floor, peak = row[int(0.95 * row.size)], row[int(0.99 * row.size)]
        np.testing.assert_array_equal(answer[:, i], np.clip((values[:, 0] - floor) / (peak - floor), 0, 3))
    signed = some.chorus.rescale(-9.0, tracks[0], signed=True, max_value=2)
    assert -2 <= signed < 0
    with pytest.raises(InputError, match="floor and peak are quantiles"):
        some.chorus.rescale(1.0, tracks[0], floor=95)
    with pytest.warns(UserWarning, match=f"no any background, so NaN, for track {EMPTY}"):
        assert np.isnan(store.chorus.rescale(1.0, EMPTY))


def test_standard_error_is_binomial(store: xr.Dataset):
    assert store.chorus.standard_error(0.9, UNSIGNED) == pytest.approx(np.sqrt(0.9 * 0.1 / 10_000), rel=1e-12)
    assert store.chorus.standard_error(0.8, SIGNED) == pytest.approx(2 * np.sqrt(0.9 * 0.1 / 10_000), rel=1e-12)
    assert 0 < store.chorus.standard_error(1.0, UNSIGNED, cdf="perbin") < 1e-6
    with pytest.raises(InputError, match="no perbin_count"):
        store.drop_vars(["perbin_count", "perbin_retained"]).chorus.standard_error(0.5, UNSIGNED, "perbin")


def test_randomized_draws_by_the_identifier_as_asked(store: xr.Dataset):
    row = store["effect_cdf"].sel(track=UNSIGNED).values.astype(float)
    tied = next(float(value) for value in row if (row == value).sum() > 3)
    left, right = np.searchsorted(row, tied, "left"), np.searchsorted(row, tied, "right")
    for label in (UNSIGNED, "CHIP_00001", "CHIP:00001:+"):
        rank = randomized_rank(label, tied, int(left), int(right))
        for value in (tied, -tied):
            assert store.chorus.percentile(value, label, method="randomized") == rank / row.size


def test_tracks_by_label(store: xr.Dataset):
    names = lambda **wanted: store.chorus.tracks(**wanted)["track"].values.tolist()  # noqa: E731
    assert names(layer="histone_marks") == ["CHIP:00002", "CHIP:00007"]
    assert names(assay=["dnase", "rna"], cell_type="k562") == ["DNASE:00000", "RNA:00009"]
    assert names(pattern="ctcf.*(hepg2|k562)") == ["CHIP:00001", "CHIP:00006"]
    assert names(pattern="ctcf", cell_type="GM12878") == []
    assert names() == store["track"].values.tolist()
    assert store.chorus.tracks(layer="histone_marks").chorus.percentile(1.0).shape == (2,)
    with pytest.raises(InputError, match=r"no track has cell_type 'K526'; it is one of GM12878, HepG2, K562"):
        names(cell_type="K526")
    with pytest.raises(InputError, match="not a regular expression"):
        names(pattern="(")
    with pytest.raises(InputError, match="has no layer"):
        store.drop_vars("layer").chorus.tracks(layer="tf_binding")


def test_repr_reads_nothing(tmp_path: Path):
    path = make_store(tmp_path / "enformer.zarr", 10)
    store = chorus_store.open(path)
    for array in path.glob("*_cdf/c"):
        shutil.rmtree(array)
    assert repr(store.chorus) == "<chorus: Enformer, 10 tracks, CDFs effect, summary, perbin of 200 points>"


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
