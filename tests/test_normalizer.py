"""The normalizer: the reference's answers, from NPZ files and stores, in threads and forks; and tracks appended."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chorus_store import lookup, matching
from chorus_store.errors import CorruptStoreError, InputError, StoreMismatchError
from chorus_store.layout import CDFS
from chorus_store.normalizer import PerTrackNormalizer
from chorus_store.npz import export_npz
from chorus_store.npz_import import import_npz
from tests.http_site import Site
from tests.http_site import site as site  # a fixture
from tests.stores import make_store

SUPERSEDED = "is superseded: it does not say how many values were kept; the version of its build_config is None, not 4"

Golden = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="session")
def golden(shared: Path) -> Golden:
    return dict(json.loads((shared / "golden/percentiles.json").read_text()))


@pytest.fixture(scope="session", params=["npz", "store"])
def toy(request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the awkward background either way."""
    if request.param == "npz":
        return shared / "golden"
    folder = tmp_path_factory.mktemp("toy")
    import_npz(shared / "golden/toy_pertrack.npz", folder / "toy.zarr")
    return folder


def normalizer_of(folder: Path, semantics: str) -> PerTrackNormalizer:
    """A normalizer that has given its warning of the toy's age."""
    normalizer = PerTrackNormalizer(folder, semantics=semantics)  # type: ignore[arg-type]
    if semantics == "current":
        with pytest.warns(UserWarning, match=SUPERSEDED):
            assert normalizer.n_tracks("toy") == 8
    return normalizer


def listed(answer: Any) -> Any:
    """An answer as JSON has it."""
    return answer.tolist() if isinstance(answer, np.ndarray) else answer


@pytest.mark.shared
@pytest.mark.parametrize("semantics", ["seed", "current"])
def test_golden_answers_one_at_a_time(golden: Golden, toy: Path, semantics: str):
    normalizer = normalizer_of(toy, semantics)
    for record in golden["single"]:
        track, value, signed = (record[key] for key in ("track", "value", "signed"))
        effect = normalizer.effect_percentile("toy", track, value, signed)
        assert effect == record[f"{semantics}_effect"]
        assert effect is None or type(effect) is float
        if f"{semantics}_activity" in record:
            assert normalizer.activity_percentile("toy", track, value) == record[f"{semantics}_activity"]
        if semantics == "current":
            assert normalizer.effect_exceedance("toy", track, value, signed) == record["current_exceedance"]
        if semantics == "current" and "current_support" in record:
            support = normalizer.effect_null_support("toy", track)
            assert (support and list(support)) == record["current_support"]


@pytest.mark.shared
@pytest.mark.parametrize("semantics", ["seed", "current"])
def test_golden_answers_in_batches(golden: Golden, toy: Path, semantics: str):
    normalizer = normalizer_of(toy, semantics)
    for record in golden["batch"]:
        track, values = record["track"], np.array(record["values"])
        answers = {
            "perbin": normalizer.perbin_percentile_batch("toy", track, values),
            "rescale": normalizer.perbin_floor_rescale_batch("toy", track, values),
        }
        if semantics == "current":
            answers["rescale_log"] = normalizer.perbin_floor_rescale_batch(
                "toy", track, values, floor_pctile=0.995, peak_pctile=0.999, log_scale=True
            )
            answers["signed_rescale_of_values_minus_1"] = normalizer.signed_floor_rescale_batch(
                "toy", track, values - 1
            )
            answers["is_signed"] = normalizer.is_signed("toy", track)
        for name, answer in answers.items():
            assert listed(answer) == record[f"{semantics}_{name}"], (track, name)


@pytest.mark.shared
@pytest.mark.parametrize("semantics", ["seed", "current"])
def test_golden_answers_all_at_once(golden: Golden, shared: Path, semantics: str):
    npz = dict(np.load(shared / "golden/toy_pertrack.npz"))
    rows = {track: row for row, track in enumerate(npz["track_ids"].tolist())}
    find = matching.find if semantics == "current" else lambda label, rows: rows.get(label)
    records = golden["single"]
    labels = [record["track"] for record in records]
    found = [find(label, rows) for label in labels]
    counts = npz["effect_counts"]
    index = np.array([-1 if row is None or not counts[row] else row for row in found])
    answers = lookup.percentile(
        [record["value"] for record in records],
        npz["effect_cdfs"],
        index,
        method="randomized" if semantics == "current" else "weak",
        signed=[record["signed"] for record in records],
        denominators=None if semantics == "current" else np.clip(counts[index], 1, 1000),
        labels=labels,
    )
    assert [None if np.isnan(p) else p for p in answers.tolist()] == [
        record[f"{semantics}_effect"] for record in records
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``enformer.zarr`` with ties and an empty track, and its NPZ."""
    folder = tmp_path_factory.mktemp("backgrounds")
    store = make_store(folder / "enformer.zarr", n_tracks=11, empty=(3,), decimals=1)
    export_npz(store, folder / "enformer_pertrack.npz", progress=False)
    return folder


@pytest.fixture(scope="module", params=["enformer.zarr", "enformer_pertrack.npz"])
def normalizer(request: pytest.FixtureRequest, folder: Path) -> PerTrackNormalizer:
    return PerTrackNormalizer(backgrounds={"enformer": folder / request.param})


@given(value=st.floats() | st.sampled_from([0.0, -0.0, 0.1, 1.5, -1.5]), track=st.integers(0, 10), signed=st.booleans())
@settings(deadline=None, max_examples=60)
def test_one_value_is_answered_as_an_array_is(normalizer: PerTrackNormalizer, value: float, track: int, signed: bool):
    label = normalizer.track_ids("enformer")[track]
    answer = normalizer.effect_percentile("enformer", label, value, signed)
    if track == 3:
        assert answer is None
        return
    row = normalizer._background("enformer").row("effect", track)[np.newaxis]  # type: ignore[union-attr]
    in_bulk = lookup.percentile([value], row, [0], method="randomized", signed=signed, labels=[label])[0]
    assert answer == (1.0 if np.isnan(value) else in_bulk)
    exceedance = lookup.exceedance([value], row, [0], signed=signed)[0]
    assert normalizer.effect_exceedance("enformer", label, value, signed) == (
        None if np.isnan(exceedance) else exceedance
    )
    bins = normalizer.perbin_percentile_batch("enformer", label, [[value]])
    assert bins is not None and bins.shape == (1, 1) and 0 <= bins[0, 0] <= 1


def test_nothing_to_answer_from(normalizer: PerTrackNormalizer):
    for oracle, track in {"borzoi": "DNASE:00000", "enformer": "DNASE:00009"}.items():
        assert normalizer.effect_percentile(oracle, track, 0.5) is None
        assert normalizer.activity_percentile(oracle, track, 0.5) is None
        assert normalizer.perbin_percentile_batch(oracle, track, [0.5]) is None
        assert normalizer.perbin_floor_rescale_batch(oracle, track, [0.5]) is None
        assert normalizer.signed_floor_rescale_batch(oracle, track, [0.5]) is None
        assert normalizer.effect_null_support(oracle, track) is None
        assert normalizer.effect_exceedance(oracle, track, 0.5) is None
        assert not normalizer.is_signed(oracle, track)
    assert normalizer.has_oracle("enformer") and not normalizer.has_oracle("borzoi")
    assert normalizer.n_tracks("borzoi") == 0 and normalizer.track_ids("borzoi") == []
    assert normalizer.summary("borzoi") is None and normalizer.provenance("borzoi") is None


def test_what_there_is(normalizer: PerTrackNormalizer, folder: Path):
    assert normalizer.n_tracks("enformer") == 11
    assert normalizer.track_ids("enformer")[:2] == ["DNASE:00000", "CHIP:00001"]
    assert [normalizer.is_signed("enformer", track) for track in ("RNA:00004", "RNA_00004", "CHIP:00001")] == [
        True,
        True,
        False,
    ]
    summary = normalizer.summary("enformer")
    assert summary is not None
    assert Path(summary.pop("place")).parent == folder
    assert summary == {
        "n_tracks": 11,
        "n_signed": 2,
        "cdfs": {
            "effect": {"tracks": 10, "offered": [10_000, 10_000]},
            "summary": {"tracks": 10, "offered": [31_500, 31_500]},
            "perbin": {"tracks": 10, "offered": [1_008_000, 1_008_000]},
        },
        "layers": {
            "chromatin_accessibility": 3,
            "tf_binding": 2,
            "histone_marks": 2,
            "tss_activity": 2,
            "gene_expression": 2,
        },
    }
    assert normalizer.provenance("enformer") == json.loads(np.load(folder / "enformer_pertrack.npz")["build_config"][0])


def test_the_seed_had_less(folder: Path):
    seed = PerTrackNormalizer(folder, semantics="seed")
    track, values = "DNASE:00000", [0.5]
    for refused in (
        lambda: seed.effect_null_support("enformer", track),
        lambda: seed.effect_exceedance("enformer", track, 0.5),
        lambda: seed.signed_floor_rescale_batch("enformer", track, values),
        lambda: seed.perbin_floor_rescale_batch("enformer", track, values, log_scale=True),
    ):
        with pytest.raises(InputError, match=r"the seed normalizer has no .*; use semantics='current'"):
            refused()
    assert seed.effect_percentile("enformer", "DNASE_00000", 0.5) is None
    with pytest.raises(InputError, match="unknown semantics 'april'; use 'current' or 'seed'"):
        PerTrackNormalizer(folder, semantics="april")  # type: ignore[arg-type]


def test_where_to_look(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHORUS_BACKGROUNDS_DIR", str(tmp_path))
    normalizer = PerTrackNormalizer()
    assert not normalizer.has_oracle("enformer")
    found, answers = [], set()
    for name in ("enformer_pertrack.npz", "enformer.zarr.zip", "enformer.zarr"):
        if name.endswith(".zip"):
            shutil.make_archive(str(tmp_path / "enformer.zarr"), "zip", folder / "enformer.zarr")
        else:
            (tmp_path / name).symlink_to(folder / name)
        assert normalizer.has_oracle("enformer")
        fresh = PerTrackNormalizer()
        summary = fresh.summary("enformer")
        assert summary is not None
        found.append(Path(summary["place"]).name)
        answers.add(fresh.effect_percentile("enformer", "CHIP_00001", 1.5))
    assert len(answers) == 1 and None not in answers
    assert found == ["enformer_pertrack.npz", "enformer.zarr.zip", "enformer.zarr"]
    monkeypatch.delenv("CHORUS_BACKGROUNDS_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".chorus").mkdir()
    (tmp_path / ".chorus/backgrounds").symlink_to(folder)
    assert PerTrackNormalizer().has_oracle("enformer")


@pytest.mark.parametrize("name", ["enformer.zarr", "enformer_pertrack.npz"])
def test_backgrounds_behind_a_url(folder: Path, site: Site, name: str):
    url = site.add(folder) + f"/{name}"
    remote, local = (PerTrackNormalizer(backgrounds={"enformer": place}) for place in (url, folder / name))
    assert questions(remote) == questions(local)


def rewrite(source: Path, target: Path, **changes: Any) -> Path:
    """An NPZ file with other arrays, or without those that are None."""
    arrays = {**np.load(source), **changes}
    np.savez(target, **{name: array for name, array in arrays.items() if array is not None})
    return target


def document(**changes: Any) -> np.ndarray:
    config = {"schema_version": 4, "genome": "hg38", "histone_window_bp": 2001, "other_window_bp": 501}
    return np.array([json.dumps({**config, **changes})])


@pytest.mark.parametrize("imported", [False, True])
def test_the_current_normalizer_asks_what_a_background_is(folder: Path, tmp_path: Path, imported: bool):
    source, npz = folder / "enformer_pertrack.npz", tmp_path / "other_pertrack.npz"

    def opened(semantics: str, **changes: Any) -> PerTrackNormalizer:
        place = rewrite(source, npz, **changes)
        if imported:
            place = import_npz(place, tmp_path / "other.zarr", overwrite=True, progress=False)
        return PerTrackNormalizer(backgrounds={"other": place}, semantics=semantics)  # type: ignore[arg-type]

    none = dict.fromkeys(f"{cdf}_retained" for cdf in CDFS)
    for changes, reason in (
        (none, "it does not say how many values were kept; build it again"),
        ({"build_config": None}, "the version of its build_config is None, not 4"),
        ({"build_config": document(schema_version=3)}, "the version of its build_config is 3, not 4"),
        ({"build_config": document(other_window_bp=1001)}, "its other_window_bp is 1001, that of today's scores 501"),
    ):
        normalizer = opened("current", **changes)
        with pytest.warns(UserWarning, match=reason) as caught:
            assert normalizer.effect_percentile("other", "DNASE:00000", 0.5) is not None
        assert len(caught) == 1
        with warnings.catch_warnings(action="error"):  # once
            normalizer.effect_percentile("other", "CHIP:00001", 0.5)
            opened("seed", **changes).effect_percentile("other", "DNASE:00000", 0.5)
    mouse = opened("current", build_config=document(genome="mm10"))
    with pytest.raises(
        StoreMismatchError, match="is a background of mm10, and the current normalizer takes hg38 alone"
    ):
        mouse.effect_percentile("other", "DNASE:00000", 0.5)
    assert opened("seed", build_config=document(genome="mm10")).effect_percentile("other", "DNASE:00000", 0.5)


@pytest.mark.filterwarnings("ignore:.*is superseded")
@pytest.mark.parametrize("semantics", ["seed", "current"])
def test_a_file_of_the_barest_kind(folder: Path, tmp_path: Path, semantics: str):
    npz = np.load(folder / "enformer_pertrack.npz")
    bare = {name: None for name in npz if name not in ("track_ids", "effect_cdfs")}
    place = rewrite(folder / "enformer_pertrack.npz", tmp_path / "bare_pertrack.npz", **bare)
    normalizer = PerTrackNormalizer(tmp_path, semantics=semantics)  # type: ignore[arg-type]
    assert normalizer.effect_percentile("bare", "DNASE:00003", 0.5) is None
    assert (
        normalizer.effect_percentile("bare", "CAGE:00003", 0.5) == 1.0
    )  # without counts no track is known to be empty
    assert normalizer.effect_percentile("bare", "CHIP:00001", 1e9) == 1.0
    assert normalizer.activity_percentile("bare", "CHIP:00001", 1.0) is None
    assert not normalizer.is_signed("bare", "RNA:00004")
    scaled = normalizer.perbin_floor_rescale_batch("bare", "CHIP:00001", [1e9])
    assert listed(scaled) == (None if semantics == "seed" else [3.0])
    assert normalizer.provenance("bare") == {}
    assert normalizer.summary("bare") == {
        "place": str(place),
        "n_tracks": 11,
        "n_signed": 0,
        "cdfs": {"effect": {"tracks": 11, "offered": None}},
        "layers": {},
    }


def test_damage_is_told(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "enformer.zarr", tmp_path / "enformer.zarr")
    shutil.rmtree(tmp_path / "enformer.zarr/effect_cdf/c")
    normalizer = PerTrackNormalizer(tmp_path)
    with pytest.raises(CorruptStoreError, match="effect_cdf"):
        normalizer.effect_percentile("enformer", "DNASE:00000", 0.5)
    assert normalizer.activity_percentile("enformer", "DNASE:00000", 1e9) == 1.0


def test_scalar_questions_import_little(folder: Path):
    code = """
import sys
from chorus_store.normalizer import PerTrackNormalizer
for suffix in (".zarr", "_pertrack.npz"):
    normalizer = PerTrackNormalizer(backgrounds={"enformer": f"{sys.argv[1]}/enformer{suffix}"})
    assert normalizer.effect_percentile("enformer", "DNASE:00000", 0.5) is not None
    assert normalizer.perbin_floor_rescale_batch("enformer", "DNASE:00000", [0.5]) is not None
print([name for name in ("xarray", "pandas", "dask", "numba", "jsonschema") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


def questions(normalizer: PerTrackNormalizer) -> list[Any]:
    """Answers of all kinds, of all tracks."""
    return [
        answer
        for track in normalizer.track_ids("enformer")
        for answer in (
            normalizer.effect_percentile("enformer", track, 0.5, signed=True),
            normalizer.activity_percentile("enformer", track, 0.7),
            listed(normalizer.perbin_percentile_batch("enformer", track, [0.1, 1.0])),
            normalizer.is_signed("enformer", track),
        )
    ]


@pytest.mark.parametrize("name", ["enformer.zarr", "enformer_pertrack.npz"])
def test_threads_share_a_normalizer(folder: Path, name: str):
    expected = questions(PerTrackNormalizer(backgrounds={"enformer": folder / name}))
    for _ in range(5):
        shared_by_all = PerTrackNormalizer(backgrounds={"enformer": folder / name})
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(questions, [shared_by_all] * 16)) == [expected] * 16


@pytest.mark.parametrize("name", ["enformer.zarr", "enformer_pertrack.npz"])
def test_a_fork_goes_on_asking(folder: Path, name: str):
    expected = questions(PerTrackNormalizer(backgrounds={"enformer": folder / name}))
    normalizer = PerTrackNormalizer(backgrounds={"enformer": folder / name})
    assert normalizer.effect_percentile("enformer", "DNASE:00000", 0.5, signed=True) == expected[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks where there are threads
        child = os.fork()
    if child == 0:
        os._exit(0 if questions(normalizer) == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert questions(normalizer) == expected
