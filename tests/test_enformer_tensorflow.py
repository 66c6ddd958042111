"""Enformer on TensorFlow, against the PyTorch backend and against SavedModels that are not Enformer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import conformance
from builders.enformer import Enformer
from chorus_store.errors import BackendUnavailableError, InputError, WeightsError

pytest.importorskip("builders.quiet_tensorflow", reason="TensorFlow is not installed (extra enformer-tf)")

from builders.quiet_tensorflow import tf
from tests import enformer_savedmodel
from tests.test_enformer_torch import random_bins, random_codes, tracks

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def torch_oracle() -> Enformer:
    oracle = Enformer(tracks(), size="small")
    oracle.load(None, seed=1)
    return oracle


@pytest.fixture(scope="module")
def saved_model(torch_oracle: Enformer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Enformer written in TensorFlow, with the weights of the PyTorch one."""
    from builders.checkpoints import random_state
    from tests.test_enformer_torch import published_architecture

    shapes = {k: v.shape for k, v in published_architecture().state_dict().items() if k[:7] != "_trunk."}
    weights = {name: value.numpy() for name, value in random_state(shapes, 1).items() if value.ndim}
    return enformer_savedmodel.save(tmp_path_factory.mktemp("model") / "enformer", weights)


@pytest.fixture(scope="module")
def oracle(saved_model: Path) -> Enformer:
    made = Enformer(tracks(), backend="tensorflow", size="small")
    made.load(saved_model)
    return made


def constant_model(folder: Path, n_bins: int = 896, n_channels: int = 7, head: str = "human") -> Path:
    """A SavedModel of the right signature with another output."""
    root, root.model = (module := tf.Module()), tf.Module()
    signature = [tf.TensorSpec((None, Enformer.input_length_bp, 4), tf.float32)]
    predict = lambda x: {head: tf.zeros((tf.shape(x)[0], n_bins, n_channels))}  # noqa: E731
    root.model.predict_on_batch = tf.function(predict, input_signature=signature)
    tf.saved_model.save(module, str(folder))
    return folder


def test_both_backends_give_the_same_facts(oracle: Enformer, torch_oracle: Enformer) -> None:
    codes, bins = random_codes(2), random_bins(2)
    ours, theirs = oracle.reduce(codes, bins), torch_oracle.reduce(codes, bins)
    assert ours.bins is not None and theirs.bins is not None and ours.statistics.dtype == np.float32
    np.testing.assert_allclose(ours.statistics, theirs.statistics, rtol=1e-4)
    np.testing.assert_allclose(ours.bins, theirs.bins, rtol=1e-4, atol=1e-5)
    assert oracle.reduce(codes).bins is None


def test_conforms(oracle: Enformer) -> None:
    assert conformance.check(oracle) == []


def test_outputs_of_another_shape(tmp_path: Path) -> None:
    oracle = Enformer(tracks(), backend="tensorflow", size="small")
    for name, wrong in {
        "bins": {"n_bins": 895},
        "tracks": {"n_channels": 8},
        "head": {"head": "mouse"},
    }.items():
        model = constant_model(tmp_path / name, **wrong)  # type: ignore[arg-type]
        with pytest.raises(WeightsError, match=r"'human' output of \(batch, 896, 7\)"):
            oracle.load(model)


def test_saved_models_without_the_signature(tmp_path: Path) -> None:
    oracle = Enformer(tracks(), backend="tensorflow", size="small")
    tf.saved_model.save(tf.Module(), str(tmp_path / "bare"))
    with pytest.raises(WeightsError, match=r"no `model\.predict_on_batch`"):
        oracle.load(tmp_path / "bare")
    with pytest.raises(WeightsError, match="not a SavedModel"):
        oracle.load(tmp_path)
    model = constant_model(tmp_path / "damaged")
    (model / "saved_model.pb").write_bytes((model / "saved_model.pb").read_bytes()[:100])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        oracle.load(model)


def test_what_this_backend_has_not(saved_model: Path) -> None:
    oracle = Enformer(tracks(), backend="tensorflow", size="small")
    with pytest.raises(WeightsError, match="no random weights"):
        oracle.load(None)
    with pytest.raises(InputError, match="fp32 and tf32, not 'bf16'"):
        oracle.load(saved_model, precision="bf16")
    with pytest.raises(BackendUnavailableError, match="no device 'cuda:3' here; there is CPU:0"):
        oracle.load(saved_model, device="cuda:3")
