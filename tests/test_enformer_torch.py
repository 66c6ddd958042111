"""Enformer on PyTorch: conformance, facts, weights and devices, with the small model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import conformance
from builders.enformer import Enformer
from builders.reduction import reduce_arrays
from chorus_store.errors import BackendUnavailableError, InputError, ModelError, WeightsError
from chorus_store.sequence import one_hot
from chorus_store.tracks import TrackTable

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra enformer)")
pytest.importorskip("enformer_pytorch", reason="enformer-pytorch is not installed (extra enformer)")

from builders.checkpoints import random_state  # noqa: E402
from builders.enformer_torch import _ARCHITECTURES  # noqa: E402

LENGTH = Enformer.input_length_bp


def tracks() -> TrackTable:
    assays = ("DNASE", "CHIP", "CHIP", "CAGE", "ATAC", "CHIP", "CAGE")
    layers = (
        "chromatin_accessibility", "histone_marks", "tf_binding", "tss_activity",
        "chromatin_accessibility", "histone_marks", "tss_activity",
    )  # fmt: skip
    return TrackTable.from_rows(
        [
            # Channels in another order than rows, so that a mix-up shows.
            (f"TRK{i}", "human", (i * 3) % 7, assay, layer, "K562", "", ".")
            for i, (assay, layer) in enumerate(zip(assays, layers, strict=True))
        ]
    )


@pytest.fixture(scope="module")
def oracle() -> Enformer:
    made = Enformer(tracks(), size="small")
    made.load(None, seed=1)
    return made


@pytest.fixture(scope="module")
def state(oracle: Enformer) -> dict[str, Any]:
    """Weights of the oracle, its trunk once."""
    shapes = {
        key: value.shape
        for key, value in published_architecture().state_dict().items()
        if not key.startswith("_trunk.")
    }
    return random_state(shapes, 1)


def published_architecture() -> Any:
    """The package's own small model, with a mouse head as the published weights have."""
    from enformer_pytorch.config_enformer import EnformerConfig
    from enformer_pytorch.modeling_enformer import Enformer as Published

    heads = {"human": 7}
    return Published(EnformerConfig(target_length=896, output_heads=heads, **_ARCHITECTURES["small"])).eval()


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (n, LENGTH), dtype=np.uint8)


def random_bins(n: int, seed: int = 0) -> dict[int, np.ndarray]:
    return {128: np.random.default_rng(seed).integers(0, 896, (n, 32), dtype=np.int32)}


def test_conforms(oracle: Enformer) -> None:
    counts = {"chromatin_accessibility": 2, "histone_marks": 2, "tf_binding": 1, "tss_activity": 2}
    assert conformance.check(oracle, counts) == []


def test_facts_are_those_of_the_full_prediction(oracle: Enformer, state: dict[str, Any]) -> None:
    model = published_architecture()
    model.load_state_dict(state, strict=False)
    codes, bins = random_codes(2), random_bins(2)
    flank = (LENGTH - 196_608) // 2
    with torch.inference_mode():
        full = model(torch.from_numpy(one_hot(codes[:, flank:-flank])))["human"].numpy()
    assert full.shape == (2, 896, 7)
    expected = reduce_arrays(oracle, {"human": full}, bins)
    found = oracle.reduce(codes, bins)
    assert found.statistics.dtype == np.float32 and found.bins is not None and expected.bins is not None
    np.testing.assert_allclose(found.statistics, expected.statistics, rtol=1e-5)
    np.testing.assert_allclose(found.bins, expected.bins, rtol=1e-5)
    assert oracle.reduce(codes).bins is None


def test_random_weights_vary_and_are_reproducible(oracle: Enformer) -> None:
    codes = random_codes(2)
    again, other = Enformer(tracks(), size="small"), Enformer(tracks(), size="small")
    before = torch.random.get_rng_state()
    again.load(None, seed=1)
    other.load(None, seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    facts = oracle.reduce(codes).statistics
    np.testing.assert_array_equal(again.reduce(codes).statistics, facts)
    assert not np.allclose(other.reduce(codes).statistics, facts)
    assert (np.ptp(facts, axis=1) > 0.1).all(), "tracks differ"
    assert (np.abs(facts[1] / facts[0] - 1) > 1e-3).all(), "sequences differ"


def test_one_base_changes_every_layer(oracle: Enformer) -> None:
    reference = random_codes(1) % 4
    alternate = reference.copy()
    alternate[0, LENGTH // 2 - 1] ^= 1
    ref, alt = oracle.reduce(reference).statistics, oracle.reduce(alternate).statistics
    effects = [layer.effect(ref[0, i], alt[0, i]) for i, layer in enumerate(oracle.tracks.layers())]
    assert min(effects) > 1e-4


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_lower_precision_is_close_and_leaves_settings_alone(oracle: Enformer, precision: str) -> None:
    codes, bins = random_codes(1), random_bins(1)
    lower = Enformer(tracks(), size="small")
    lower.load(None, seed=1, precision=precision)
    settings = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    np.testing.assert_allclose(lower.reduce(codes, bins).statistics, oracle.reduce(codes, bins).statistics, rtol=0.03)
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == settings


def test_read_only_codes_and_other_lengths(oracle: Enformer) -> None:
    codes = random_codes(1)
    codes.flags.writeable = False
    assert oracle.reduce(codes).statistics.shape == (1, 7)
    with pytest.raises(ModelError, match=r"\(batch, 393216\) base codes, not \(1, 1000\)"):
        oracle.reduce(codes[:, :1000])
    with pytest.raises(ModelError, match="call load first"):
        Enformer(tracks(), size="small").reduce(codes)


def with_second_trunk(state: dict[str, Any]) -> dict[str, Any]:
    members = {"stem": 1, "conv_tower": 2, "transformer": 4, "final_pointwise": 6}
    second = {}
    for key, value in state.items():
        head, _, rest = key.partition(".")
        if head in members:
            second[f"_trunk.{members[head]}.{rest}"] = value
    return {**state, **second, "_heads.mouse.0.weight": torch.zeros(3, 24)}


@pytest.mark.parametrize("form", ["safetensors", "pt", "bin with both trunks", "second trunk only", "folder", "half"])
def test_weights_round_trip(oracle: Enformer, state: dict[str, Any], tmp_path: Path, form: str) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "pytorch_model.bin"
    if form in ("safetensors", "folder"):
        path = tmp_path / "model.safetensors"
        save_file(state, path)
        (tmp_path / "config.json").write_text("{}")
    elif form == "bin with both trunks":
        torch.save(with_second_trunk(state), path)
    elif form == "second trunk only":
        both = with_second_trunk(state)
        torch.save({key: both[key] for key in both if key.startswith(("_trunk.", "_heads."))}, path)
    elif form == "half":
        torch.save({key: value.bfloat16() for key, value in state.items() if value.ndim}, path)
    else:
        path = tmp_path / "weights.pt"
        torch.save(state, path)
    loaded = Enformer(tracks(), size="small")
    loaded.load(tmp_path if form == "folder" else path)
    codes = random_codes(1)
    np.testing.assert_allclose(
        loaded.reduce(codes).statistics,
        oracle.reduce(codes).statistics,
        rtol=0.05 if form == "half" else 1e-6,  # bfloat16 keeps three digits
    )


def test_weights_that_do_not_fit_are_named(state: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    oracle = Enformer(tracks(), size="small")
    head = state["_heads.human.0.weight"]
    cases: list[tuple[dict[str, Any], str]] = [
        ({k: v for k, v in state.items() if k != "stem.0.weight"}, "missing: stem.0.weight"),
        ({**state, "extra.weight": head}, "unknown: extra.weight"),
        ({**state, "_heads.human.0.weight": head[:5]}, r"_heads.human.0.weight \(5, 24\) instead"),
        ({"a": head}, r"missing: .* and \d+ more; unknown: a"),
    ]  # fmt: skip
    for broken, message in cases:
        torch.save(broken, path)
        with pytest.raises(WeightsError, match=message) as caught:
            oracle.load(path)
        assert "EleutherAI/enformer-official-rough" in str(caught.value)


def test_files_that_are_no_weights(state: dict[str, Any], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    oracle = Enformer(tracks(), size="small")
    torch.save(state, tmp_path / "whole.pt")
    save_file(state, tmp_path / "whole.safetensors")
    contents = {
        "text.bin": b"not a checkpoint",
        "empty.pt": b"",
        "half.pt": (tmp_path / "whole.pt").read_bytes()[: 2**14],
        "half.safetensors": (tmp_path / "whole.safetensors").read_bytes()[: 2**14],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=f"{name} is not a readable checkpoint"):
            oracle.load(tmp_path / name)
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds no state dict"):
        oracle.load(tmp_path / "list.pt")
    torch.save(published_architecture(), tmp_path / "pickled.pt")
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        oracle.load(tmp_path / "pickled.pt")


def test_folders_without_one_file_of_weights(tmp_path: Path) -> None:
    oracle = Enformer(tracks(), size="small")
    with pytest.raises(WeightsError, match=r"no weights at .*nowhere"):
        oracle.load(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=r"holds no file ending in \.safetensors"):
        oracle.load(tmp_path)
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=r"holds 2 \.bin files"):
        oracle.load(tmp_path)


def test_devices_and_precisions_that_are_not_there() -> None:
    oracle = Enformer(tracks(), size="small")
    for device in (f"cuda:{torch.cuda.device_count() + 3}", "toaster"):
        with pytest.raises(BackendUnavailableError, match=f"no device '{device}' here; there is cpu"):
            oracle.load(None, device=device)
    with pytest.raises(InputError, match="'fp8' is not one of fp32, tf32, bf16"):
        oracle.load(None, precision="fp8")


@pytest.mark.shared
def test_the_published_track_table_conforms(shared: Path) -> None:
    oracle = Enformer(shared / "data" / "tracks" / "enformer_targets_human.txt.gz", size="small")
    oracle.load(None)
    counts = {
        "chromatin_accessibility": 684,
        "tf_binding": 2101,
        "histone_marks": 1890,
        "tss_activity": 638,
    }
    assert conformance.check(oracle, counts) == []
