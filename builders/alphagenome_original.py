"""AlphaGenome's JAX original: its metadata, its parameters, and its trunk and heads as functions of them."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from chorus_store.errors import BackendUnavailableError, WeightsError

try:
    import haiku as hk
    import jax
    import jax.numpy as jnp
    import jmp
    from alphagenome.models.dna_model import Organism
    from alphagenome_research.model.embeddings import Embeddings
    from alphagenome_research.model.metadata.metadata import AlphaGenomeOutputMetadata, load
    from alphagenome_research.model.model import AlphaGenome

    # Its first revisions ran trunk and heads in one go, over the whole output.
    _TRUNK, _HEADS = AlphaGenome.forward_trunk, AlphaGenome.forward_heads
except (ImportError, AttributeError) as error:
    raise BackendUnavailableError(
        f"the jax backend of AlphaGenome needs JAX, Haiku and a recent alphagenome_research ({error}); "
        "pip install 'chorus-store[alphagenome-jax]', then, because it is in no package index, "
        "pip install git+https://github.com/google-deepmind/alphagenome_research"
    ) from error

#: Metadata of every organism, in the order of their indices.
Metadata = Mapping[Any, Any]
#: Parameters and state of the model.
Values = tuple[Any, Any]

REMEDY = "give the folder of google/alphagenome-all-folds on Hugging Face, or of another fold (--weights)"
HUMAN = Organism.HOMO_SAPIENS
_HUMAN_INDEX = 0
#: As published; fp32 is the same without rounding in between, other than that of the attention, which is its own.
_POLICIES = {
    "bf16": "params=float32,compute=bfloat16,output=bfloat16",
    "fp32": "params=float32,compute=float32,output=float32",
}
#: Names and values of the predictions, where the original's name is not that of the output.
_PREDICTIONS = {
    "splice_sites": ("splice_sites_classification", "predictions"),
    # Its probabilities are rounded to half precision, which is more than the effect of one base.
    "splice_site_usage": ("splice_sites_usage", "logits"),
}
#: Bases enough for every layer; parameters do not depend on their number.
_INIT_LENGTH_BP = 2048


def load_metadata() -> Metadata:
    """Metadata of the published model, whose parameters are those of both organisms."""
    return {organism: load(organism) for organism in (HUMAN, Organism.MUS_MUSCULUS)}


def random_values(metadata: Metadata, seed: int) -> Values:
    """Parameters and state as the model is initialised, by a seed."""
    values: Values = jax.jit(_initialise(metadata))(jax.random.key(seed), *_inputs())
    return values


def read_values(metadata: Metadata, path: Path, device: Any) -> Values:
    """Parameters and state of a checkpoint, on a device.

    Raises
    ------
    WeightsError
        There is no checkpoint, it is damaged, or it is of another architecture.
    """
    import orbax.checkpoint as ocp  # slow, and only needed for published weights

    placed = jax.sharding.SingleDeviceSharding(device)
    target = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed),
        jax.eval_shape(_initialise(metadata), jax.random.key(0), *_inputs()),
    )
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            values: Values = checkpointer.restore(path.absolute(), target=target, strict=True)
            return values
    except jax.errors.JaxRuntimeError:  # the device is out of memory
        raise
    except Exception as error:  # whatever Orbax raises for damaged files
        reason = " ".join(str(error).split())[:300]
    with warnings.catch_warnings():  # of coroutines that Orbax leaves behind then
        warnings.simplefilter("ignore")
        gc.collect()
    raise WeightsError(f"{path} is not a checkpoint of AlphaGenome ({reason}); {REMEDY}")


def trunk_of(metadata: Metadata, precision: str) -> Callable[..., tuple[Any, Any]]:
    """From values and one-hot bases to the embeddings of all bases and of all bins of 128 bp.

    Parameters
    ----------
    metadata : mapping
    precision : {"fp32", "bf16"}
    """
    forward = _transformed(_TRUNK, metadata, precision)

    def trunk(values: Values, one_hot: jax.Array) -> tuple[Any, Any]:
        embeddings, _ = forward.apply(*values, None, one_hot, _human(one_hot))
        return embeddings.embeddings_1bp, embeddings.embeddings_128bp

    return trunk


def head_of(metadata: Metadata, name: str) -> Callable[..., jax.Array]:
    """From values and embeddings at some bins to the predictions of one output, in the units of the experiments.

    Probabilities of the splice heads. In float32, whatever the trunk ran in: bf16 would swamp the effect of one base.

    Parameters
    ----------
    metadata : mapping
    name : str
        Of the output.

    Returns
    -------
    callable
        Of values, embeddings of bases, (batch, base, channel), or None for outputs at 128 bp, and embeddings of bins
        of 128 bp, (batch, bin, channel).
    """
    alone = {
        organism: AlphaGenomeOutputMetadata(**{name: getattr(outputs, name)}) for organism, outputs in metadata.items()
    }
    forward = _transformed(_HEADS, alone, "fp32")

    def head(values: Values, fine: jax.Array | None, coarse: jax.Array) -> jax.Array:
        predictions, _ = forward.apply(
            *values, None, Embeddings(embeddings_1bp=fine, embeddings_128bp=coarse), _human(coarse)
        )
        default = (name, "predictions_128bp" if fine is None else "predictions_1bp")
        output, kind = _PREDICTIONS.get(name, default)
        found = predictions[output][kind]
        return jax.nn.sigmoid(found) if kind == "logits" else found

    return head


def _initialise(metadata: Metadata) -> Callable[..., Values]:
    initialise: Callable[..., Values] = _transformed(AlphaGenome.__call__, metadata, "bf16").init
    return initialise


def _transformed(method: Callable[..., Any], metadata: Metadata, precision: str) -> Any:
    """A method of the model as a pure function."""
    policy = jmp.get_policy(_POLICIES[precision])

    def forward(*args: Any) -> Any:
        with hk.mixed_precision.push_policy(AlphaGenome, policy):
            return method(AlphaGenome(metadata), *args)

    return hk.transform_with_state(forward)


def _inputs() -> tuple[jax.Array, jax.Array]:
    one_hot = jnp.zeros((1, _INIT_LENGTH_BP, 4), jnp.float32)
    return one_hot, _human(one_hot)


def _human(like: jax.Array) -> jax.Array:
    return jnp.full(len(like), _HUMAN_INDEX, jnp.int32)
