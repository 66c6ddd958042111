"""Sei: the architecture golden, facts, strands and histones, weights, tracks, and builds by the command line."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.interpolate import BSpline

import chorus_store
from builders import cli, conformance, sei_tracks
from builders.resources import RESOURCES
from builders.sei import Sei
from chorus_store.errors import InputError, ModelError, TrackTableError, WeightsError
from tests import tiny
from tests.filled import fill_by_name

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra sei)")

from builders import sei_torch  # noqa: E402
from builders.checkpoints import install, shapes_of  # noqa: E402

NAMES = sei_tracks.demo_names().splitlines()
LAYERS = {"chromatin_accessibility": 6, "tf_binding": 6, "histone_marks": 12, "regulatory_classification": 40}


def small(seed: int = 1, **options: Any) -> Sei:
    made = Sei(NAMES, profiles=True, size="small", **options)
    made.load(None, seed=seed)
    return made


@pytest.fixture(scope="module")
def oracle() -> Sei:
    return small()


def random_codes(n: int, seed: int = 0, bases: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, bases, (n, 4096), dtype=np.uint8)


def reverse_complement(codes: np.ndarray) -> np.ndarray:
    return np.array([3, 2, 1, 0, 4], np.uint8)[codes[:, ::-1]]


def on_meta(n_profiles: int, size: str) -> Any:
    with torch.device("meta"):
        return sei_torch.Sei(n_profiles, sei_torch.WIDTHS[size])


@pytest.mark.shared
def test_the_architecture_is_the_published_one(shared: Path, tmp_path: Path) -> None:
    """The full size, from a checkpoint that is filled by name; four gigabytes for a moment."""
    golden = json.loads((shared / "golden/sei_architecture.json").read_text())
    model = on_meta(sei_tracks.N_PROFILES, "full")
    assert shapes_of(model) == {key: tuple(shape) for key, shape in golden["state_dict"].items()}
    install(model, fill_by_name(shapes_of(model), {"classifier.2": 0.01}))
    codes = np.random.default_rng(2).integers(0, 4, 4096)
    encoded = torch.nn.functional.one_hot(torch.from_numpy(codes), 4).T[None].float()
    with torch.inference_mode():
        profiles = model.eval()(encoded)[0].numpy()
    np.testing.assert_allclose(profiles[:64], golden["outputs_first_64"], rtol=1e-4)
    np.testing.assert_allclose(profiles.mean(), golden["outputs_mean"], rtol=1e-4)
    np.save(tmp_path / "vectors.npy", np.random.default_rng(3).standard_normal((61, 21907)).astype(np.float32))
    directions = sei_torch.read_projection(tmp_path / "vectors.npy", 21907)
    np.testing.assert_allclose(profiles @ directions, golden["classes"], rtol=1e-4)


def test_splines_are_scipys() -> None:
    for n, df in ((256, 16), (7, 5), (2, 4)):
        knots = np.concatenate([np.zeros(3), np.linspace(0, 1, df - 2), np.ones(3)])
        expected = BSpline.design_matrix(np.linspace(0, 1, n), knots, 3).toarray()
        np.testing.assert_allclose(sei_torch.spline_basis(n, df), expected, atol=1e-12)


def test_conforms(oracle: Sei) -> None:
    """With a small model; the full size is a test of its own."""
    assert conformance.check(oracle, LAYERS) == []
    classes = Sei(size="small")
    classes.load(None)
    assert conformance.check(classes, {"regulatory_classification": 40}) == []


@pytest.mark.slow
def test_conforms_at_full_size() -> None:
    """Four gigabytes of random weights."""
    oracle = Sei()
    oracle.load(None)
    assert conformance.check(oracle, {"regulatory_classification": 40}) == []


def test_classes_are_projections_of_the_profiles(oracle: Sei) -> None:
    facts = oracle.reduce(random_codes(3)).statistics
    vectors = np.random.default_rng(1).standard_normal((40, len(NAMES)))
    expected = facts[:, 40:] @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    np.testing.assert_allclose(facts[:, :40], expected, rtol=1e-5, atol=1e-6)
    assert (np.ptp(facts, axis=0) > 1e-5).all(), "sequences differ"
    assert 0 < facts[:, 40:].min() < facts[:, 40:].max() < 1
    classes = Sei(NAMES, size="small")
    classes.load(None, seed=1)
    np.testing.assert_array_equal(classes.reduce(random_codes(3)).statistics, facts[:, :40])


def test_both_strands_are_averaged(oracle: Sei) -> None:
    codes = random_codes(2, bases=5)
    both = small(strands="mean").reduce(codes).statistics
    forward, reverse = (oracle.reduce(strand).statistics for strand in (codes, reverse_complement(codes)))
    np.testing.assert_allclose(both, (forward + reverse) / 2, rtol=1e-5, atol=1e-6)
    assert np.abs(forward - reverse).max() > 1e-3


def test_unknown_bases_are_encoded_as_asked(oracle: Sei) -> None:
    codes = random_codes(1)
    quarter = small(n_value=0.25)
    np.testing.assert_array_equal(quarter.reduce(codes).statistics, oracle.reduce(codes).statistics)
    codes[:, 1000:3000] = 4
    assert np.abs(quarter.reduce(codes).statistics - oracle.reduce(codes).statistics).max() > 1e-4


def test_histones_are_rescaled_for_variants_alone(oracle: Sei) -> None:
    """As the authors define it: both alleles' histone profiles are scaled to the mean of the two sums."""
    codes = random_codes(4)
    codes[1::2] = codes[::2]
    codes[1::2, 2047] ^= 1
    rescaled = small(rescale_histones=True)
    plain = oracle.reduce_alleles(codes).statistics.astype(np.float64)
    np.testing.assert_array_equal(rescaled.reduce(codes).statistics, oracle.reduce(codes).statistics)
    found = rescaled.reduce_alleles(codes).statistics
    np.testing.assert_array_equal(found[:, 40:], plain[:, 40:])
    histone = np.array(["H3K" in name for name in NAMES])
    vectors = np.random.default_rng(1).standard_normal((40, len(NAMES)))
    for first in (0, 2):
        pair = plain[first : first + 2, 40:].copy()
        sums = pair[:, histone].sum(axis=1)
        pair[:, histone] *= (sums.mean() / sums)[:, None]
        expected = pair @ vectors.T / np.linalg.norm(vectors, axis=1)
        np.testing.assert_allclose(found[first : first + 2, :40], expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found[:, :40] - plain[:, :40]).max() > 1e-5


def test_lower_precision_is_close(oracle: Sei) -> None:
    codes = random_codes(2)
    lower = Sei(NAMES, profiles=True, size="small")
    lower.load(None, seed=1, precision="bf16")
    np.testing.assert_allclose(lower.reduce(codes).statistics, oracle.reduce(codes).statistics, atol=0.02)


def test_what_cannot_be_run(oracle: Sei) -> None:
    with pytest.raises(ModelError, match="call load first"):
        Sei().reduce(random_codes(1))
    with pytest.raises(ModelError, match=r"Sei takes \(batch, 4096\) base codes, not \(1, 1000\)"):
        oracle.reduce(random_codes(1)[:, :1000])
    for options, message in (
        ({"strands": "reverse"}, "'reverse' is not one of forward, mean"),
        ({"n_value": 0.5}, "0.5 is not one of 0.0, 0.25"),
        ({"profiles": True}, "need the names"),
        ({"rescale_histones": True}, "need the names"),
        ({"rescale_histones": True, "names": NAMES[:3]}, "none of the 3 names is of a histone profile"),
    ):
        with pytest.raises(InputError, match=message):
            Sei(**options)  # type: ignore[arg-type]


def write_weights(folder: Path, oracle: Sei, prefix: str = "module.model.", suffix: str = ".pth") -> Path:
    """A folder of model and projection as published, with the oracle's own weights, and that state dict."""
    folder.mkdir(parents=True, exist_ok=True)
    backend: Any = oracle._backend
    state = {f"{prefix}{key}": value for key, value in backend._model.state_dict().items()}
    if suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, folder / "sei.safetensors")
    else:
        torch.save(state, folder / f"sei{suffix}")
    # As published: longer vectors than unit ones, and more of them than classes.
    vectors = np.concatenate([3 * backend._directions.numpy().T, np.ones((21, len(NAMES)))])
    np.save(folder / sei_torch.PROJECTION, vectors.astype(np.float32))
    return folder


@pytest.mark.parametrize(
    ("place", "prefix", "suffix"),
    [("", "module.model.", ".pth"), ("model", "module.model.", ".pth"), ("", "", ".safetensors"), ("", "", ".pt")],
)
def test_weights_round_trip(oracle: Sei, tmp_path: Path, place: str, prefix: str, suffix: str) -> None:
    write_weights(tmp_path / "weights" / place, oracle, prefix, suffix)
    loaded = Sei(NAMES, profiles=True, size="small")
    loaded.load(tmp_path / "weights")
    codes = random_codes(2)
    np.testing.assert_allclose(loaded.reduce(codes).statistics, oracle.reduce(codes).statistics, rtol=1e-5, atol=1e-6)


def test_weights_that_do_not_fit_are_named(oracle: Sei, tmp_path: Path) -> None:
    folder = write_weights(tmp_path, oracle)
    state = torch.load(folder / "sei.pth", weights_only=True)
    first = "module.model.lconv1.0.weight"
    cases: list[tuple[dict[str, Any], str]] = [
        ({key: value for key, value in state.items() if key != first}, r"missing: lconv1\.0\.weight"),
        ({**state, "module.model.extra": state[first]}, "unknown: extra"),
        ({**state, first: state[first][:5]}, r"lconv1\.0\.weight \(5, 4, 9\) instead of \(12, 4, 9\)"),
        ({"state_dict": {"model.stem.weight": state[first]}}, r"missing: .* unknown: model\.stem\.weight"),
    ]  # fmt: skip
    for broken, message in cases:
        torch.save(broken, folder / "sei.pth")
        with pytest.raises(WeightsError, match=message) as caught:
            small().load(folder)
        assert "Zenodo 4906997" in str(caught.value)
    torch.save({**state, "more": Path("x")}, folder / "sei.pth")
    with pytest.raises(WeightsError, match="not a readable checkpoint of tensors alone"):
        small().load(folder)


def test_damaged_and_absent_files_are_named(oracle: Sei, tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "weights", oracle)
    with pytest.raises(WeightsError, match=r"no weights at .*nowhere"):
        small().load(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"sei\.pth holds no projvec_targets\.npy"):
        small().load(folder / "sei.pth")
    whole = (folder / "sei.pth").read_bytes()
    for damaged in (b"", b"no checkpoint", whole[:-1000]):
        (folder / "sei.pth").write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"sei\.pth is not a readable checkpoint"):
            small().load(folder)
    (folder / "sei.pth").unlink()
    with pytest.raises(WeightsError, match=r"holds no file ending in .*\.pth"):
        small().load(folder)
    write_weights(folder / "twice", oracle)
    with pytest.raises(WeightsError, match=r"holds 2 projvec_targets\.npy"):
        small().load(folder)


def test_projections_that_do_not_fit_are_named(oracle: Sei, tmp_path: Path) -> None:
    folder = write_weights(tmp_path, oracle)
    path = folder / sei_torch.PROJECTION
    whole = path.read_bytes()
    for array, message in (
        (np.ones((61, 5)), r"shape \(61, 5\) instead of vectors of 24 profiles"),
        (np.ones((39, 24)), "for 40 classes"),
        (np.ones((61, 24), int), "holds int64"),
        (np.zeros((61, 24)), "no direction"),
        (np.full((61, 24), np.nan), "no direction"),
        (np.full((61, 24), None), "no usable vectors .*allow_pickle"),
    ):
        np.save(path, array, allow_pickle=True)
        with pytest.raises(WeightsError, match=message):
            small().load(folder)
    for damaged in (b"", b"text", whole[:-10]):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"projvec_targets\.npy holds no usable vectors"):
            small().load(folder)


def test_tracks_of_every_layer() -> None:
    table = Sei(NAMES, profiles=True, size="small").tracks
    assert table.layer_counts() == LAYERS
    assert (table.track[40], table.assay[40], table.cell_type[40]) == ("K562 | DNase | DEMO", "DNASE", "K562")
    assert Sei().tracks.track[0] == "PC1 Polycomb / Heterochromatin"
    assert sei_tracks.profile_rows(["x | DNase.hot | ENCODE", "x | H2A.Z | ID:1", "y | HNF4A | ID:2"])[:] == [
        (
            "x | DNase.hot | ENCODE",
            "profiles",
            0,
            "DNASE",
            "chromatin_accessibility",
            "x",
            "x | DNase.hot | ENCODE",
            ".",
        ),
        ("x | H2A.Z | ID:1", "profiles", 1, "CHIP", "histone_marks", "x", "x | H2A.Z | ID:1", "."),
        ("y | HNF4A | ID:2", "profiles", 2, "CHIP", "tf_binding", "y", "y | HNF4A | ID:2", "."),
    ]


@pytest.mark.shared
def test_the_published_names(shared: Path) -> None:
    tables = shared / "data" / "tracks"
    assert "".join(f"{name}\n" for name in sei_tracks.CLASS_NAMES) == (tables / "sei_seqclass.names").read_text()
    names = sei_tracks.read_names(tables / "sei_target.names.gz")
    sei_tracks.check_number(names, tables)
    counts = Sei(names, profiles=True).tracks.layer_counts()
    # 10,064 histone marks is what the authors count too.
    expected = {"chromatin_accessibility": 2562, "tf_binding": 9281, "histone_marks": 10_064}
    assert counts == {**expected, "regulatory_classification": 40}
    content = gzip.decompress((tables / "sei_target.names.gz").read_bytes())
    assert RESOURCES["sei-profiles"].checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no names"),
        ("K562 | DNase | ENCODE\nK562 | DNase | ENCODE\n", "line 2: K562 | DNase | ENCODE is already on line 1"),
        ("K562 | DNase | ENCODE\nindex\tidentifier\n", "line 2: 'index.*identifier' is not 'biosample | target"),
        ("K562 | DNase\n", "line 1: 'K562 | DNase' is not"),
    ],
)
def test_bad_names_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "target.names").write_text(text)
    with pytest.raises(TrackTableError, match=message.replace("|", r"\|")) as caught:
        sei_tracks.read_names(tmp_path / "target.names")
    assert "target.names of the Sei framework" in str(caught.value)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(Sei, arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


def test_contradictions_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ("--out", str(tmp_path))
    assert "--batch must be even, not 3" in refused(capsys, "--demo", "--rescale-histones", "--batch", "3", *out)
    assert "small model has no published weights" in refused(capsys, "--size", "small", *out)
    (tmp_path / "target.names").write_text(sei_tracks.demo_names())
    (tmp_path / "x").touch()
    files = [text for name in ("fasta", "gtf", "ccres") for text in (f"--{name}", str(tmp_path / "x"))]
    command = (*files, "--tracks", str(tmp_path / "target.names"), "--random-weights", "0", "--profiles", *out)
    assert "names 24 profiles where Sei predicts 21,907" in refused(capsys, *command)


def test_the_demo_in_the_authors_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--profiles", "--strands", "mean", "--n-value", "0.25", "--rescale-histones")
    assert cli.run(Sei, ["--demo", "--out", str(tmp_path), *options]) == 0
    assert "PC1 Polycomb / Heterochromatin is above 9" in capsys.readouterr().out
    with chorus_store.open(tmp_path / "sei_demo.zarr") as store, np.load(tmp_path / "sei_demo_pertrack.npz") as npz:
        assert "perbin_cdf" not in store and "perbin_cdfs" not in npz.files
        assert store["track"].values.tolist() == npz["track_ids"].tolist() == [*sei_tracks.CLASS_NAMES, *NAMES]
        assert store["signed"].values.tolist() == [True] * 40 + [False] * 24
        assert (store["effect_count"] == 48).all() and (store["summary_count"] == 80).all()
        classes, profiles = store["effect_cdf"].values[:40], store["effect_cdf"].values[40:]
        assert classes.min() < 0 < classes.max() and 0 <= profiles.min() < profiles.max()
        assert not store["window_bp"].values.any(), "a probability is of no window"
        assert {layer["window_bp"] for layer in store.attrs["provenance"]["layers"].values()} == {0}
        assert store.attrs["provenance"]["parameters"]["oracle"] == {
            "size": "small", "strands": "mean", "n_value": "0.25", "histones": "rescaled"
        }  # fmt: skip
        assert store.chorus.percentile(1.0, track=NAMES[0], cdf="effect") == 1
    assert "was built from something else: histones" in refused(capsys, "--demo", "--out", str(tmp_path), *options[:-1])


def test_published_weights_state_their_licence(oracle: Sei, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inputs = tiny.write_inputs(tmp_path)
    (tmp_path / "target.names").write_text(sei_tracks.demo_names())
    more = ("--size", "small", "--tracks", str(tmp_path / "target.names"), "--profiles", "--n-gene-bodies", "0")
    for out, weights in (
        ("published", ("--weights", str(write_weights(tmp_path / "weights", oracle)))),
        ("random", ("--random-weights", "1")),
    ):
        caplog.clear()
        assert cli.run(Sei, tiny.arguments(inputs, tmp_path / out, *more, *weights, variant_margin_bp=3000)) == 0
        assert ("academic and research use only" in caplog.text) == (out == "published")
    with (
        chorus_store.open(tmp_path / "published/sei.zarr") as published,
        chorus_store.open(tmp_path / "random/sei_demo.zarr") as random,
    ):
        np.testing.assert_allclose(published["summary_cdf"], random["summary_cdf"], rtol=1e-4, atol=1e-6)


def test_an_estimate_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reports = []
    for options in ((), ("--profiles",), ("--strands", "mean")):
        assert cli.run(Sei, ["--out", str(tmp_path), "--dry-run", "--json", "--device", "cpu", *options]) == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert [report["tracks"] for report in reports] == [40, 21_947, 40]
    assert reports[0]["work"]["baselines"]["positions"] == 29_500
    assert not reports[0]["problems"]
    pairs = ["--out", str(tmp_path), "--dry-run", "--json", "--rescale-histones", "--batch", "1"]
    for options in ([], ["--demo"]):
        assert cli.run(Sei, [*pairs, *options]) == 0
        (problem,) = json.loads(capsys.readouterr().out)["problems"]
        assert problem == "--rescale-histones takes alleles in pairs: --batch must be even, not 1"
    assert reports[2]["seconds_per_sequence"] == 2 * reports[0]["seconds_per_sequence"] > 0
