"""The small Enformer written a second time, in TensorFlow, with the signature of the published SavedModel.

It takes the weights of the PyTorch model, so that two independent implementations can be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from builders.quiet_tensorflow import tf

Weights = dict[str, npt.NDArray[np.float32]]
INPUT_BP = 393_216
MODEL_BP = 196_608


def save(folder: Path, weights: Weights, n_bins: int = 896, length: int = INPUT_BP) -> Path:
    """Write a SavedModel whose ``model.predict_on_batch`` is the small Enformer with these weights."""
    root = tf.Module()
    root.model = SmallEnformer(weights, n_bins, length)
    tf.saved_model.save(root, str(folder))
    return folder


class SmallEnformer(tf.Module):  # type: ignore[misc]
    def __init__(self, weights: Weights, n_bins: int, length: int) -> None:
        super().__init__()
        self.n_bins = n_bins
        # Variables of one module; the names are those of the state dict, without dots.
        self.values = {name.replace(".", "/"): tf.Variable(value) for name, value in weights.items()}
        signature = [tf.TensorSpec((None, length, 4), tf.float32)]
        self.predict_on_batch = tf.function(self._predict, input_signature=signature)

    def w(self, *path: object) -> Any:
        return self.values["/".join(map(str, path))]

    def _predict(self, one_hot: Any) -> dict[str, Any]:
        flank = (one_hot.shape[1] - MODEL_BP) // 2
        x = self.convolve(one_hot[:, flank : flank + MODEL_BP], "stem/0")
        x = x + self.block(x, "stem/1/fn")
        x = self.pool(x, "stem/2")
        for stage in range(6):
            x = self.block(x, f"conv_tower/{stage}/0")
            x = x + self.block(x, f"conv_tower/{stage}/1/fn")
            x = self.pool(x, f"conv_tower/{stage}/2")
        x = x + self.attend(self.layer_norm(x, "transformer/0/0/fn/0"), "transformer/0/0/fn/1")
        hidden = self.layer_norm(x, "transformer/0/1/fn/0")
        x = x + self.dense(tf.nn.relu(self.dense(hidden, "transformer/0/1/fn/1")), "transformer/0/1/fn/4")
        trim = (x.shape[1] - self.n_bins) // 2
        x = self.gelu(self.block(x[:, trim : trim + self.n_bins], "final_pointwise/1"))
        human = tf.nn.softplus(self.dense(x, "_heads/human/0"))
        return {"human": human, "mouse": human[..., :1]}

    @staticmethod
    def gelu(x: Any) -> Any:
        return tf.sigmoid(1.702 * x) * x

    def dense(self, x: Any, path: str) -> Any:
        product = tf.einsum("bni,oi->bno", x, self.w(path, "weight"))
        return product + self.w(path, "bias") if f"{path}/bias" in self.values else product

    def convolve(self, x: Any, path: str) -> Any:
        kernel = tf.transpose(self.w(path, "weight"), (2, 1, 0))
        return tf.nn.conv1d(x, kernel, stride=1, padding="SAME") + self.w(path, "bias")

    def block(self, x: Any, path: str) -> Any:
        scale = self.w(path, 0, "weight") * tf.math.rsqrt(self.w(path, 0, "running_var") + 1e-5)
        normal = (x - self.w(path, 0, "running_mean")) * scale + self.w(path, 0, "bias")
        return self.convolve(self.gelu(normal), f"{path}/2")

    def pool(self, x: Any, path: str) -> Any:
        pairs = tf.reshape(x, (-1, x.shape[1] // 2, 2, x.shape[2]))
        logits = tf.einsum("bnpi,oi->bnpo", pairs, self.w(path, "to_attn_logits/weight")[:, :, 0, 0])
        return tf.reduce_sum(pairs * tf.nn.softmax(logits, axis=2), axis=2)

    def layer_norm(self, x: Any, path: str) -> Any:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-5) * self.w(path, "weight") + self.w(path, "bias")

    def attend(self, x: Any, path: str) -> Any:
        heads = self.w(path, "rel_content_bias").shape[1]
        query, key, value = (self.split(self.dense(x, f"{path}/to_{name}"), heads) for name in "qkv")
        query *= query.shape[-1] ** -0.5
        n, n_features = x.shape[1], self.w(path, "to_rel_k/weight").shape[1]
        relative = self.split(self.dense(positional_features(n, n_features)[None], f"{path}/to_rel_k"), heads)
        content = tf.einsum("bhid,bhjd->bhij", query + self.w(path, "rel_content_bias"), key)
        distance = tf.einsum("bhid,hjd->bhij", query + self.w(path, "rel_pos_bias"), relative[0])
        # Row i holds distances −n+1 … n−1; key j is at distance j − i, which is column j − i + n − 1.
        columns = tf.range(n)[None, :] - tf.range(n)[:, None] + n - 1
        rows = tf.broadcast_to(tf.range(n)[:, None], (n, n))
        by_query = tf.transpose(distance, (2, 3, 0, 1))
        shifted = tf.transpose(tf.gather_nd(by_query, tf.stack([rows, columns], -1)), (2, 3, 0, 1))
        attended = tf.einsum("bhij,bhjd->bihd", tf.nn.softmax(content + shifted), value)
        return self.dense(tf.reshape(attended, (-1, n, heads * value.shape[-1])), f"{path}/to_out")

    @staticmethod
    def split(x: Any, heads: int) -> Any:
        return tf.transpose(tf.reshape(x, (-1, x.shape[1], heads, x.shape[2] // heads)), (0, 2, 1, 3))


def positional_features(n: int, n_features: int) -> Any:
    """Exponential, central-mask and gamma bases of the distance, and the same times its sign."""
    basis = n_features // 6
    signed = np.arange(-n + 1, n, dtype=np.float64)[:, None]
    distance = np.abs(signed)
    half_life = 2 ** np.linspace(3, np.log2(n), basis)
    exponential = np.exp(-np.log(2) / half_life * distance)
    mask = (2.0 ** np.arange(1, basis + 1) - 1 > distance).astype(np.float64)
    gamma = _gamma(distance, np.linspace(n / basis, n, basis), n / (2 * basis))
    features = np.concatenate([exponential, mask, gamma], axis=1)
    return tf.constant(np.concatenate([features, np.sign(signed) * features], axis=1), tf.float32)


def _gamma(distance: Any, mean: Any, deviation: float) -> Any:
    """Gamma densities with these means and one standard deviation, relative to the largest of them."""
    shape, rate = (mean / deviation) ** 2, mean / deviation**2
    with np.errstate(divide="ignore"):
        log_density = (shape - 1) * np.log(distance) - rate * distance
    log_normal = np.array([_lgamma(value) for value in shape]) - shape * np.log(rate)
    density = np.exp(log_density - log_normal) + 1e-8
    return density / density.max(axis=1, keepdims=True)


def _lgamma(value: float) -> float:
    import math

    return math.lgamma(value)
