"""Enformer on TensorFlow: the published SavedModel, its output reduced to facts in the same graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from builders.gather import CentralGather
from builders.oracle import BinArray, Reduced
from chorus_store.errors import BackendUnavailableError, DeviceMemoryError, InputError, WeightsError
from chorus_store.sequence import Codes, one_hot_table

try:
    from builders.quiet_tensorflow import tf
except ImportError as error:
    raise BackendUnavailableError(
        f"the tensorflow backend of Enformer needs TensorFlow ({error}); pip install 'chorus-store[enformer-tf]'"
    ) from error

HANDLE = "https://tfhub.dev/deepmind/enformer/1"
PRECISIONS = ("fp32", "tf32")
_REMEDY = f"give the folder of {HANDLE} or of a SavedModel with the same `model.predict_on_batch` (--weights)"


class TensorFlowEnformer:
    """Backend of `builders.enformer.Enformer`.

    Parameters
    ----------
    gather : CentralGather
        What to keep of the human output.
    input_length_bp : int
        Length of the sequences, all of which the SavedModel takes.
    """

    def __init__(self, gather: CentralGather, input_length_bp: int) -> None:
        self._gather = gather
        self._length = input_length_bp

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """Load the SavedModel and trace the graph; see `Oracle.load`. ``seed`` has nothing to seed."""
        if precision not in PRECISIONS:
            raise InputError(f"the tensorflow backend has {' and '.join(PRECISIONS)}, not {precision!r} (--precision)")
        if weights is None:
            raise WeightsError(f"the tensorflow backend has no random weights; {_REMEDY}, or use --backend torch")
        self._tf32 = precision == "tf32"
        self._device = _device(device)
        if not (weights / "saved_model.pb").is_file():
            raise WeightsError(f"{weights} is not a SavedModel (no saved_model.pb); {_REMEDY}")
        try:
            with tf.device(self._device):
                # What hub.load does once it has a folder; without tensorflow-hub and the old setuptools it
                # needs.
                self._saved_model = tf.saved_model.load(str(weights))
            predict = self._saved_model.model.predict_on_batch
        except AttributeError as error:
            raise WeightsError(f"{weights} has no `model.predict_on_batch` ({error}); {_REMEDY}") from error
        except Exception as error:  # whatever TensorFlow raises for damaged files
            raise WeightsError(f"{weights} cannot be loaded ({_first_line(error)}); {_REMEDY}") from error
        self._graph = self._trace(predict, weights)

    def facts(self, codes: Codes, bins: BinArray | None) -> Reduced:
        """Window sums and chosen bins; only they leave the device."""
        chosen = np.empty((len(codes), 0), np.int32) if bins is None else bins
        try:
            with tf.device(self._device), _arithmetic(self._tf32):
                statistics, values = self._graph(tf.constant(codes), tf.constant(chosen, tf.int32))
                return Reduced(statistics.numpy(), None if bins is None else values.numpy())
        except tf.errors.ResourceExhaustedError as error:
            raise DeviceMemoryError(f"the device is out of memory; lower --batch ({_first_line(error)})") from error

    def _trace(self, predict: Any, source: Path) -> Any:
        """One graph from base codes to facts, checked against the declared output."""
        gather = self._gather

        def facts(codes: Any, bins: Any) -> Any:
            human = predict(tf.gather(one_hot, tf.cast(codes, tf.int32)))["human"]
            human = tf.ensure_shape(human, (None, gather.n_bins, gather.n_channels))
            window = human[:, gather.first : gather.stop]
            sums = [tf.reduce_sum(tf.cast(window[:, a:b], tf.float64), axis=1) for a, b in gather.windows]
            statistics = tf.cast(tf.gather(tf.concat(sums, axis=1), gather.columns, axis=1), tf.float32)
            values = tf.gather(tf.gather(human, bins, axis=1, batch_dims=1), gather.channels, axis=2)
            return statistics, values

        signature = [tf.TensorSpec((None, self._length), tf.uint8), tf.TensorSpec((None, None), tf.int32)]
        try:
            with tf.device(self._device):
                one_hot = tf.constant(one_hot_table())
                return tf.function(facts, input_signature=signature).get_concrete_function()
        except (ValueError, TypeError, KeyError) as error:
            raise WeightsError(
                f"{source} does not turn (batch, {self._length}, 4) into a 'human' output of "
                f"(batch, {gather.n_bins}, {gather.n_channels}) ({_first_line(error)}); {_REMEDY}"
            ) from error


@contextmanager
def _arithmetic(tf32: bool) -> Iterator[None]:
    """TensorFloat-32 on or off inside, as before afterwards."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(tf32)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def _device(name: str) -> str:
    """TensorFlow's name of a device that is called as in PyTorch."""
    kind, _, number = name.partition(":")
    tf_name = f"{'GPU' if kind == 'cuda' else kind.upper()}:{number or 0}"
    physical = tf.config.list_physical_devices()
    available = [device.name.removeprefix("/physical_device:") for device in physical]
    if tf_name not in available:
        raise BackendUnavailableError(
            f"TensorFlow has no device {name!r} here; there is {', '.join(available)} (--device)"
        )
    for device in tf.config.list_physical_devices("GPU"):
        try:
            # Otherwise TensorFlow takes the whole of every GPU.
            tf.config.experimental.set_memory_growth(device, True)
        except RuntimeError:
            break  # already initialised by the caller: leave it as they set it
    return f"/{tf_name}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
