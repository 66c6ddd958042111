"""Keras files of ChromBPNet and BPNet ChIP: what is read from them, what it predicts, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders import model_files
from builders.model_list import Family, TrackModel
from chorus_store.errors import WeightsError
from chorus_store.sequence import one_hot
from tests.bpnet_files import chip_layers, chrombpnet_layers, write_h5

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra chrombpnet)")
h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra chrombpnet)")

from builders.bpnet_h5 import read_h5  # noqa: E402
from builders.bpnet_torch import BPNet, load_h5  # noqa: E402
from builders.torch_runtime import TorchRuntime  # noqa: E402

FAMILIES: tuple[Family, Family] = ("accessibility", "chip")
CPU = TorchRuntime("cpu", "fp32")


def layers_of(family: Family, seed: int = 0, **sizes: int) -> dict[str, Any]:
    return chrombpnet_layers(seed, **sizes) if family == "accessibility" else chip_layers(seed, **sizes)


def random_codes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 5, (n, 2114), dtype=np.uint8)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "expected", "family"),
    [
        ("chrombpnet_small.h5", "chrombpnet_small_expected.npz", "accessibility"),
        ("bpnet_chip_weights.h5", "bpnet_chip_expected.npz", "chip"),
    ],
)
def test_agrees_with_the_reference(shared: Path, file: str, expected: str, family: Family) -> None:
    runner = load_h5(shared / "golden" / file, family, CPU)
    with np.load(shared / "golden" / expected) as golden, torch.inference_mode():
        logits, log_counts = runner.predict(golden["sequence"])
        signal = runner.signal(golden["sequence"])
        for found, name in ((logits, "profile_logits"), (log_counts, "log_counts"), (signal, "profile")):
            values = found.numpy().reshape(golden[name].shape)
            np.testing.assert_allclose(values, golden[name], rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.shared
def test_facts_of_the_reference_pool_both_strands(shared: Path) -> None:
    runner = load_h5(shared / "golden/bpnet_chip_weights.h5", "chip", CPU)
    with np.load(shared / "golden/bpnet_chip_expected.npz") as golden:
        sequences, profile = golden["sequence"], golden["profile"].astype(np.float64)
    bins = np.random.default_rng(0).integers(0, 1000, (len(sequences), 32), dtype=np.int32)
    statistics, chosen = runner.facts(sequences, (250, 751), bins)
    np.testing.assert_allclose(statistics[:, 0], profile[:, 250:751].sum(axis=(1, 2)), rtol=1e-4)
    assert chosen is not None and statistics.dtype == chosen.dtype == np.float32
    per_base = np.take_along_axis(profile.sum(axis=2), bins, axis=1)
    np.testing.assert_allclose(chosen[:, :, 0], per_base, rtol=1e-4, atol=1e-5)


def keras_model(keras: Any, family: Family, filters: int, depth: int) -> Any:
    """The published architectures, written with Keras' layers."""
    layers = keras.layers
    sequence = keras.Input((2114, 4), name="sequence")
    if family == "accessibility":
        x = layers.Conv1D(filters, 21, activation="relu", name="wo_bias_bpnet_1st_conv")(sequence)
        for i in range(1, depth + 1):
            conv = layers.Conv1D(filters, 3, activation="relu", dilation_rate=2**i, name=f"wo_bias_bpnet_{i}conv")(x)
            x = layers.Add()([conv, layers.Cropping1D(2**i, name=f"wo_bias_bpnet_{i}crop")(x)])
        logits = layers.Conv1D(1, 75, name="wo_bias_bpnet_prof_out_precrop")(x)
        counts = layers.Dense(1, name="wo_bias_bpnet_logcount_predictions")(layers.GlobalAveragePooling1D()(x))
        return keras.Model(sequence, [layers.Flatten()(logits), counts])
    x = layers.Conv1D(filters, 21, name="main_conv_0")(sequence)
    for i in range(1, depth + 1):
        conv = layers.Conv1D(filters, 3, dilation_rate=2**i, name=f"main_dil_conv_{i}")(layers.ReLU()(x))
        x = layers.Add()([conv, layers.Cropping1D(2**i)(x)])
    x = layers.ReLU()(x)
    no_profile, no_counts = keras.Input((1000, 2)), keras.Input((1,))
    profile = layers.Concatenate()([layers.Conv1D(2, 75, name="main_profile_head")(x), no_profile])
    counts = layers.Dense(1, name="main_counts_head")(layers.GlobalAveragePooling1D()(x))
    outputs = [
        layers.Conv1D(2, 1, name="profile_predictions")(profile),
        layers.Dense(1, name="logcounts_predictions")(layers.Concatenate()([counts, no_counts])),
    ]
    return keras.Model([sequence, no_profile, no_counts], outputs)


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore")  # what TensorFlow and its Keras say on import is theirs
@pytest.mark.parametrize("weights_alone", [False, True])
@pytest.mark.parametrize("package", ["keras", "tf_keras"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_keras_model_predicts_the_same(tmp_path: Path, package: str, family: Family, weights_alone: bool) -> None:
    keras = pytest.importorskip(package)
    keras.utils.set_random_seed(1)
    model = keras_model(keras, family, filters=12, depth=8)
    model.set_weights([values + np.float32(0.02) for values in model.get_weights()])  # biases begin at zero
    path = tmp_path / ("weights.h5" if weights_alone else "model.h5")
    if weights_alone and package == "keras":
        pytest.skip("Keras 3 saves weights alone in a format without layer names")
    (model.save_weights if weights_alone else model.save)(path)
    codes = random_codes(3)
    inputs = [one_hot(codes)]
    if family == "chip":  # the count biases of both strands are zero, and enter as log(exp(0) + exp(0))
        inputs += [np.zeros((3, 1000, 2), np.float32), np.full((3, 1), np.log(2), np.float32)]
    logits, log_counts = (np.asarray(output) for output in model(inputs if family == "chip" else inputs[0]))
    with torch.inference_mode():
        found_logits, found_counts = load_h5(path, family, CPU).predict(codes)
    np.testing.assert_allclose(found_logits.numpy().reshape(logits.shape), logits, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found_counts.numpy(), log_counts, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("prefix", ["wo_bias_", ""])
def test_nesting_and_prefix_do_not_matter(tmp_path: Path, family: Family, nested: bool, prefix: str) -> None:
    layers = {prefix + name.removeprefix("wo_bias_"): arrays for name, arrays in layers_of(family).items()}
    model = read_h5(write_h5(tmp_path / "model.h5", layers, nested=nested))
    plain = read_h5(write_h5(tmp_path / "plain.h5", layers_of(family)))
    assert (model.family, model.filters, model.layers) == (family, 4, 8)
    assert model.arrays.keys() == plain.arrays.keys()
    for name, values in plain.arrays.items():
        np.testing.assert_array_equal(model.arrays[name], values)
    kernel = layers_of(family)["wo_bias_bpnet_1st_conv" if family == "accessibility" else "main_conv_0"]["kernel"]
    np.testing.assert_array_equal(model.arrays["first.weight"], np.transpose(kernel, (2, 1, 0)))


def test_a_base_is_where_the_offset_says(tmp_path: Path) -> None:
    """A model that copies the A of a base to its logit: base i of the input is base i − 557 of the output."""
    layers = {name: {k: v * 0 for k, v in arrays.items()} for name, arrays in chrombpnet_layers(0, filters=1).items()}
    layers["wo_bias_bpnet_1st_conv"]["kernel"][10, 0, 0] = 1
    layers["wo_bias_bpnet_prof_out_precrop"]["kernel"][37, 0, 0] = 1
    runner = load_h5(write_h5(tmp_path / "model.h5", layers), "accessibility", CPU)
    codes = np.ones((1, 2114), np.uint8)
    codes[0, [557, 1056, 1556]] = 0
    with torch.inference_mode():
        logits, _ = runner.predict(codes)
    assert np.flatnonzero(logits.numpy()).tolist() == [0, 499, 999]


@pytest.mark.parametrize(("family", "log_counts", "total"), [
    ("accessibility", 3.0, np.expm1(3.0)), ("accessibility", -0.5, 0.0), ("accessibility", 0.0, 0.0),
    ("chip", 3.0, np.exp(3.0) - 2), ("chip", 0.5, 0.0), ("chip", 12.0, np.exp(12.0) - 2),
])  # fmt: skip
def test_counts_are_spread_over_all_positions_and_strands(family: Family, log_counts: float, total: float) -> None:
    strands = 2 if family == "chip" else 1
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 300, (2, 1000, strands)).astype(np.float32))
    signal = BPNet(family, 1, 8).signal(logits, torch.full((2, 1), log_counts))
    assert signal.dtype == torch.float64 and signal.shape == logits.shape
    weights = np.exp(logits.double().numpy() - logits.double().numpy().max(axis=(1, 2), keepdims=True))
    expected = total * weights / weights.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(signal.numpy(), expected, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("length", [0, 1, 100, 3000, -2000, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    whole = write_h5(tmp_path / "whole.h5", chrombpnet_layers(0)).read_bytes()
    cut = tmp_path / "cut.h5"
    cut.write_bytes(whole[:length])
    with pytest.raises(WeightsError, match=r"cut.h5 cannot be read as HDF5"):
        read_h5(cut)


@pytest.mark.parametrize("content", [b"not HDF5 at all", b"PK\x03\x04 a .keras archive"])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.h5").write_bytes(content)
    for path in (tmp_path / "model.h5", tmp_path / "absent.h5"):
        with pytest.raises(WeightsError, match="cannot be read as HDF5"):
            read_h5(path)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "unpacked/fold_0").mkdir(parents=True)
    files = model_files.located([TrackModel("ATAC:K562", str(tmp_path / "unpacked"))], None, offline=True)
    with pytest.raises(WeightsError, match=r"unpacked is a folder in which there is no \.h5 file; give the \.h5 of"):
        load_h5(files["ATAC:K562"], "accessibility", CPU)


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        ("text", r"object, shape \(\)"),
        (np.array([b"text"]), r"\|S4, shape \(1,\)"),
        (h5py.Empty("f"), "float32, shape None"),
        (np.zeros((21, 4, 0), np.float32), r"shape \(21, 4, 0\)"),
        (np.float32(1), r"float32, shape \(\)"),
        (np.zeros(3, [("a", "f4"), ("b", "f4")]), r"shape \(3,\)"),
        (np.zeros((21, 4, 4), np.complex64), "complex64"),
        (np.zeros((21, 4, 4), bool), "bool"),
    ],
)
def test_weights_that_are_no_real_numbers_are_named(tmp_path: Path, values: Any, finding: str) -> None:
    layers = chrombpnet_layers(0)
    layers["wo_bias_bpnet_1st_conv"]["kernel"] = values
    with pytest.raises(WeightsError, match=rf"model\.h5 .*kernel:0 is no array of real numbers: .*{finding}"):
        load_h5(write_h5(tmp_path / "model.h5", layers), "accessibility", CPU)


def change(layers: dict[str, Any], **renamed: str) -> dict[str, Any]:
    return {renamed.get(name.removeprefix("wo_bias_"), name): arrays for name, arrays in layers.items()}


def without(layers: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: arrays for name, arrays in layers.items() if name.removeprefix("wo_bias_") not in names}


def no_bias(layers: dict[str, Any]) -> dict[str, Any]:
    return {name: {"kernel": arrays["kernel"]} for name, arrays in layers.items()}


def not_finite(layers: dict[str, Any]) -> dict[str, Any]:
    layers["wo_bias_bpnet_3conv"]["kernel"][0, 0, 0] = np.nan
    return layers


@pytest.mark.parametrize(
    ("spoil", "family", "finding"),
    [
        (lambda layers: {}, "accessibility", "holds no layers of a Keras model"),
        (
            lambda layers: change(layers, bpnet_1st_conv="conv1d"),
            "accessibility",
            "another architecture: its layers are",
        ),
        (
            lambda layers: without(layers, "bpnet_prof_out_precrop"),
            "accessibility",
            "missing layers: bpnet_prof_out_prec",
        ),
        (lambda layers: without(layers, "bpnet_3conv"), "accessibility", "missing layers: bpnet_3conv; unknown layers"),
        (lambda layers: without(layers, "profile_predictions"), "chip", "missing layers: profile_predictions"),
        (lambda layers: layers | {"dense": layers["main_conv_0"]}, "chip", "unknown layers: dense"),
        (lambda layers: layers | chip_layers(1), "accessibility", "unknown layers: logcounts_predictions, main_conv_0"),
        (lambda layers: layers | chrombpnet_layers(1, prefix=""), "accessibility", "beside those of its bias"),
        (no_bias, "chip", "layers without kernel and bias: logcounts_predictions"),
        (not_finite, "accessibility", "not finite"),
    ],
)
def test_other_layers_are_named(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], dict[str, Any]], family: Family, finding: str
) -> None:
    path = write_h5(tmp_path / "model.h5", spoil(layers_of(family)))
    with pytest.raises(WeightsError, match=finding):
        read_h5(path)


@pytest.mark.parametrize(
    ("layer", "shape", "finding"),
    [
        ("wo_bias_bpnet_1st_conv", (25, 4, 4), r"first.weight \(4, 4, 25\) instead of \(4, 4, 21\)"),
        ("wo_bias_bpnet_prof_out_precrop", (25, 4, 1), r"profile.weight \(1, 4, 25\) instead of \(1, 4, 75\)"),
        ("wo_bias_bpnet_2conv", (5, 4, 4), r"dilated.1.weight"),
        ("wo_bias_bpnet_logcount_predictions", (4, 2), r"counts.weight \(2, 4\) instead of \(1, 4\)"),
    ],
)
def test_kernels_of_another_size_are_named(tmp_path: Path, layer: str, shape: tuple[int, ...], finding: str) -> None:
    layers = chrombpnet_layers(0)
    layers[layer]["kernel"] = np.zeros(shape, np.float32)
    with pytest.raises(WeightsError, match=finding):
        load_h5(write_h5(tmp_path / "model.h5", layers), "accessibility", CPU)


def test_a_model_too_deep_for_its_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="9 dilated convolutions leave fewer than 1,000"):
        load_h5(write_h5(tmp_path / "model.h5", chip_layers(0, depth=9)), "chip", CPU)


def test_a_model_for_another_assay_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="of the family chip, its track needs accessibility"):
        load_h5(write_h5(tmp_path / "model.h5", chip_layers(0)), "accessibility", CPU)
