"""LegNet: the architecture golden, weights and configuration, trust, and builds by the command line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chorus_store
from builders import cli, conformance
from builders.legnet import CELL_TYPES, LegNet
from chorus_store.errors import BackendUnavailableError, InputError, ModelError, WeightsError
from chorus_store.sequence import encode
from tests import tiny
from tests.filled import fill_by_name

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra legnet)")

from builders import legnet_torch  # noqa: E402
from builders.checkpoints import random_state, shapes_of  # noqa: E402
from builders.legnet_torch import LegNetConfig  # noqa: E402

#: An architecture that is read in no time, with what else a configuration holds.
CONFIG = {
    "stem_ch": 6, "stem_ks": 5, "ef_ks": 3, "ef_block_sizes": [8, 8], "pool_sizes": [2, 2], "resize_factor": 2,
    "use_reverse_channel": False, "reverse_augment": True, "max_shift": None, "max_lr": 0.01,
}  # fmt: skip


def state_of(config: dict[str, Any], seed: int = 1) -> dict[str, Any]:
    known = {name: config[name] for name in LegNetConfig.__dataclass_fields__ if name in config}
    return random_state(shapes_of(legnet_torch.LegNet(LegNetConfig(**known))), seed)


def write_weights(folder: Path, state: dict[str, Any], config: dict[str, Any] = CONFIG, **more: Any) -> Path:
    """A folder of configuration and checkpoint, as published: the model inside its training module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = {"epoch": 25, "state_dict": {f"model.{key}": value for key, value in state.items()}, **more}
    torch.save(checkpoint, folder / "weights.ckpt")
    return folder


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (n, 200), dtype=np.uint8)


@pytest.fixture(scope="module")
def oracle() -> LegNet:
    made = LegNet()
    made.load(None, seed=1)
    return made


@pytest.mark.shared
def test_the_architecture_is_the_published_one(shared: Path, tmp_path: Path) -> None:
    golden = json.loads((shared / "golden/legnet_architecture.json").read_text())
    config = {**golden["constructor"], "use_reverse_channel": golden["constructor"]["in_ch"] == 5}
    shapes = {key: tuple(shape) for key, shape in golden["state_dict"].items()}
    published = legnet_torch.LegNet(LegNetConfig())
    assert shapes_of(published) == shapes
    write_weights(tmp_path, fill_by_name(shapes, {"": 1.5}), config)
    oracle = LegNet(["HepG2"])
    oracle.load(tmp_path)
    found = oracle.reduce(np.stack([encode(sequence) for sequence in golden["sequences"]])).statistics
    np.testing.assert_allclose(found[:, 0], golden["outputs"], rtol=1e-4)


def test_conforms_at_full_size(oracle: LegNet) -> None:
    assert conformance.check(oracle, {"promoter_activity": 3}) == []
    assert oracle.tracks.track.tolist() == list(CELL_TYPES)


def test_every_cell_type_has_its_own_model(oracle: LegNet) -> None:
    codes = random_codes(6)
    found = oracle.reduce(codes).statistics
    assert found.dtype == np.float32 and (np.ptp(found, axis=0) > 1e-4).all(), "sequences differ"
    for i, cell_type in enumerate(CELL_TYPES):
        alone = LegNet([cell_type])
        alone.load(None, seed=1)
        np.testing.assert_array_equal(alone.reduce(codes).statistics[:, 0], found[:, i])
    assert len({tuple(column) for column in found.T.tolist()}) == 3


def test_flanks_unknown_bases_and_the_reverse_channel_reach_the_model(tmp_path: Path) -> None:
    """The sequence as the authors encode it, through the architecture alone."""
    with_channel = {**CONFIG, "use_reverse_channel": True}
    state = state_of(with_channel)
    oracle = LegNet(["K562"])
    oracle.load(write_weights(tmp_path, state, with_channel))
    codes = random_codes(3)
    columns = {0: [1, 0, 0, 0, 0], 1: [0, 0, 1, 0, 0], 2: [0, 1, 0, 0, 0], 3: [0, 0, 0, 1, 0], 4: [0.25] * 4 + [0]}
    flanked = [[*encode("CATTGCGTGAACCGA"), *row, *encode("AGGACCGGATCAACT")] for row in codes]
    encoded = torch.tensor([[columns[int(code)] for code in row] for row in flanked])
    assert encoded.shape == (3, 230, 5)
    model = legnet_torch.LegNet(LegNetConfig(6, 5, 3, (8, 8), (2, 2), 2, True)).eval()
    model.load_state_dict(state)
    with torch.inference_mode():
        expected = model(encoded).numpy()
    np.testing.assert_allclose(oracle.reduce(codes).statistics[:, 0], expected, rtol=1e-5)


def test_lower_precision_is_close(oracle: LegNet) -> None:
    codes = random_codes(4)
    lower = LegNet()
    lower.load(None, seed=1, precision="bf16")
    np.testing.assert_allclose(lower.reduce(codes).statistics, oracle.reduce(codes).statistics, rtol=0.02, atol=0.02)


def test_what_cannot_be_run() -> None:
    with pytest.raises(ModelError, match="call load first"):
        LegNet().reduce(random_codes(1))
    oracle = LegNet()
    with pytest.raises(BackendUnavailableError, match="no device 'toaster'"):
        oracle.load(None, device="toaster")
    oracle.load(None)
    with pytest.raises(ModelError, match=r"LegNet takes \(batch, 200\) base codes, not \(1, 230\)"):
        oracle.reduce(np.zeros((1, 230), np.uint8))


def test_cell_types_are_named() -> None:
    with pytest.raises(InputError, match="no cell type 'k526'; near matches: K562"):
        LegNet(["k526"])
    with pytest.raises(InputError, match="no cell type is asked for"):
        LegNet([])
    assert LegNet(["WTC11", "K562"]).cell_types == ["K562", "WTC11"], "in the order of the tracks"


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = state_of(CONFIG)
    oracle = LegNet(["K562"])
    stem = "stem.block.0.weight"
    cases: list[tuple[dict[str, Any], str]] = [
        ({key: value for key, value in state.items() if key != stem}, f"missing: {stem}"),
        ({**state, "extra": state[stem]}, "unknown: extra"),
        ({**state, stem: state[stem][:, :3]}, r"wrong shape: stem.block.0.weight \(6, 3, 5\) instead of \(6, 4, 5\)"),
        (state_of({**CONFIG, "ef_block_sizes": [8, 12]}), r"main.1.1.block.0.weight \(12, 16, 3\)"),
        ({}, r"missing: .* and \d+ more"),
        *(
            ({**state, stem: state[stem].to(dtype)}, f"not floating point: {stem} {name}")
            for dtype, name in ((torch.int8, "int8"), (torch.bool, "bool"), (torch.complex64, "complex64"))
        ),
    ]
    for broken, message in cases:
        with pytest.raises(WeightsError, match=message) as caught:
            oracle.load(write_weights(tmp_path, broken))
        assert "Zenodo records 10558183" in str(caught.value)


def test_damaged_and_absent_files_are_named(tmp_path: Path) -> None:
    folder = write_weights(tmp_path / "all" / "K562", state_of(CONFIG))
    whole = (folder / "weights.ckpt").read_bytes()
    for damaged in (b"", b"no checkpoint", whole[: len(whole) // 2], whole[:-100]):
        (folder / "weights.ckpt").write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"weights\.ckpt is not a readable checkpoint"):
            LegNet(["K562"]).load(tmp_path / "all")
    (folder / "weights.ckpt").unlink()
    with pytest.raises(WeightsError, match=r"holds no file ending in .*\.ckpt"):
        LegNet(["K562"]).load(folder)
    with pytest.raises(WeightsError, match=r"has no folder HepG2, WTC11; .* build what there is: --cell-type K562"):
        LegNet().load(tmp_path / "all")
    with pytest.raises(WeightsError, match="has no folder K562, HepG2, WTC11"):
        LegNet().load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "list indices"),
        ("{}", "no 'ef_block_sizes'"),
        (json.dumps({**CONFIG, "ef_ks": 2.5}), "float"),
        (json.dumps({**CONFIG, "ef_block_sizes": 8}), "not iterable"),
        (json.dumps({**CONFIG, "pool_sizes": [2]}), "as many pools as blocks"),
        (json.dumps({**CONFIG, "stem_ch": 0}), "positive"),
        (json.dumps({**CONFIG, "stem_ch": 10**30}), "at most 65,536"),
        (json.dumps({**CONFIG, "ef_block_sizes": [8, 10**12]}), "at most 65,536"),
        (json.dumps({**CONFIG, "ef_block_sizes": [], "pool_sizes": []}), "at least one block"),
        (json.dumps({**CONFIG, "pool_sizes": [20, 12]}), "pools of 20×12 leave nothing of 230 bp"),
        (json.dumps({**CONFIG, "use_reverse_channel": "false"}), "must be true or false, not 'false'"),
        (None, "No such file"),
    ],
)
def test_configurations_that_are_none(tmp_path: Path, text: str | None, reason: str) -> None:
    write_weights(tmp_path / "K562", state_of(CONFIG))
    (tmp_path / "K562/config.json").unlink()
    if text is not None:
        (tmp_path / "K562/config.json").write_text(text)
    with pytest.raises(WeightsError, match=rf"config\.json is not the configuration of a LegNet \(.*{reason}"):
        LegNet(["K562"]).load(tmp_path)


class Program:
    """What a pickle can do: it makes a file when it is read."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_checkpoint_runs_code_only_when_it_is_trusted(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    folder = write_weights(tmp_path / "weights", state_of(CONFIG), callbacks=Program(trace))
    checksum = hashlib.sha256((folder / "weights.ckpt").read_bytes()).hexdigest()
    for trusted, message in (((), "--trust-pickle"), (("0" * 64,), rf"SHA-256 is {checksum}, not the one given")):
        with pytest.raises(WeightsError, match=message):
            LegNet(["K562"], trusted=trusted).load(folder)
        assert not trace.exists()
    for trusted in ((checksum,), ("any",)):
        oracle = LegNet(["K562"], trusted=trusted)
        oracle.load(folder)
        assert oracle.reduce(random_codes(2)).statistics.shape == (2, 1)
        assert trace.exists()
        trace.unlink()
    (folder / "weights.ckpt").write_bytes(b"no checkpoint")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        LegNet(["K562"], trusted=("any",)).load(folder)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(LegNet, arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "Traceback" not in message
    return message


def test_trust_and_cell_types_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = tiny.write_inputs(tmp_path)
    weights = tmp_path / "weights"
    for i, cell_type in enumerate(("K562", "HepG2")):
        write_weights(weights / cell_type, state_of(CONFIG, i), hyper_parameters=tmp_path)
    command = tiny.arguments(inputs, tmp_path / "out", "--weights", str(weights), "--batch", "16")
    assert "no folder WTC11" in refused(capsys, *command)
    assert "no cell type 'hepg2'; near matches: HepG2" in refused(capsys, *command, "--cell-type", "hepg2")
    command += ["--cell-type", "HepG2", "--cell-type", "K562"]
    assert "--trust-pickle SHA256 for this very file" in refused(capsys, *command)
    with pytest.raises(SystemExit, match="2"):
        cli.run(LegNet, [*command, "--trust-pickle", "abc"])
    assert "'abc' is not a SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "out/legnet.zarr").exists(), "weights that are refused leave nothing"
    assert cli.run(LegNet, [*command, "--trust-pickle"]) == 0
    with chorus_store.open(tmp_path / "out/legnet.zarr") as store:
        assert store["track"].values.tolist() == ["K562", "HepG2"]
        assert store.attrs["demo"] is False


def test_weights_are_got_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("CHORUS_DATA_DIR", str(data))
    command = tiny.arguments(tiny.write_inputs(tmp_path), tmp_path / "out", "--batch", "16", "--cell-type", "HepG2")
    message = refused(capsys, *command, "--offline")
    assert "zenodo.org/records/17863550" in message and f"{data / 'legnet'} (a folder of them)" in message
    write_weights(data / "legnet/HepG2", state_of(CONFIG, 1))
    assert cli.run(LegNet, [*command, "--offline"]) == 0
    with chorus_store.open(tmp_path / "out/legnet.zarr") as store:
        assert store.attrs["demo"] is False


def test_the_demo_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(LegNet, ["--demo", "--out", str(tmp_path), "--batch", "32"]) == 0
    assert "above 9" in capsys.readouterr().out
    with (
        chorus_store.open(tmp_path / "legnet_demo.zarr") as store,
        np.load(tmp_path / "legnet_demo_pertrack.npz") as npz,
    ):
        assert "perbin_cdf" not in store and "perbin_cdfs" not in npz.files
        assert store["signed"].values.all() and npz["signed_flags"].all()
        assert (store["effect_count"] == 48).all() and store["effect_cdf"].min() < 0 < store["effect_cdf"].max()
        middle = float(store["summary_cdf"].sel(track="WTC11").values[5000])
        assert store.chorus.percentile(middle, track="WTC11", cdf="summary") == pytest.approx(0.5, abs=0.01)


def test_an_estimate_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(LegNet, ["--out", str(tmp_path), "--dry-run", "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tracks"] == 3
    assert (report["work"]["variants"]["units"], report["work"]["baselines"]["units"]) == (5, 15)
    assert (report["work"]["variants"]["sequences"], report["work"]["baselines"]["sequences"]) == (20_000, 29_500)
    assert report["facts_bytes"] == 4 * 3 * (2 * 10_000 + 29_500), "no bins"
    assert report["seconds_per_sequence"] > 0
    assert cli.run(LegNet, ["--out", str(tmp_path), "--dry-run", "--json", "--cell-type", "WTC11"]) == 0
    assert json.loads(capsys.readouterr().out)["tracks"] == 1
