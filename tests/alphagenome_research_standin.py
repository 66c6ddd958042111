"""A stand-in for alphagenome_research, AlphaGenome's JAX original, which is in no package index.

It has the original's modules, classes, methods and arguments as far as the JAX backend uses them, its axes, its
organisms, and its heads' names, parameters and arithmetic. Its trunk is another: one convolution and one mean over 128
bases, a few channels wide, where the original has an encoder, a transformer and a decoder. It shows that the backend
goes with this interface, and nothing of the published numbers.
"""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from builders.alphagenome_tracks import OUTPUT_TYPES, demo_metadata, read_metadata

FINE, COARSE, PAIR = 12, 16, 4
#: Shapes of the embeddings that came to the heads, at every trace.
SEEN: list[tuple[tuple[int, ...] | None, ...]] = []


class Organism(enum.Enum):
    HOMO_SAPIENS = 1
    MUS_MUSCULUS = 2

    def __lt__(self, other: Organism) -> bool:
        return self.value < other.value


@dataclass(frozen=True, kw_only=True)
class AlphaGenomeOutputMetadata:
    atac: pd.DataFrame | None = None
    cage: pd.DataFrame | None = None
    dnase: pd.DataFrame | None = None
    rna_seq: pd.DataFrame | None = None
    chip_histone: pd.DataFrame | None = None
    chip_tf: pd.DataFrame | None = None
    splice_sites: pd.DataFrame | None = None
    splice_site_usage: pd.DataFrame | None = None
    splice_junctions: pd.DataFrame | None = None
    contact_maps: pd.DataFrame | None = None
    procap: pd.DataFrame | None = None


class Embeddings(NamedTuple):
    embeddings_1bp: Any = None
    embeddings_128bp: Any = None
    embeddings_pair: Any = None

    def get_sequence_embeddings(self, resolution: int) -> Any:
        return {1: self.embeddings_1bp, 128: self.embeddings_128bp}[resolution]


def write_metadata(folder: Path) -> Path:
    """The demonstration's metadata, which the stand-in is for."""
    path = folder / "human.textproto"
    path.write_text(demo_metadata())
    return path


def metadata_of(path: Path) -> AlphaGenomeOutputMetadata:
    """Its tracks with means that differ, and what the backend has no use for: padding, and pairs of bins."""
    table = read_metadata(path)
    outputs = {"contact_maps": pd.DataFrame({"name": ["hic_1", "hic_2"], "strand": "."})}
    for kind in OUTPUT_TYPES.values():
        tracks = [track.split("/", 1)[1].rsplit("/", 1) for track in table.track[table.head == kind.head].tolist()]
        frame = pd.DataFrame([*tracks, ("Padding", ".")], columns=["name", "strand"])
        if not kind.head.startswith("splice"):
            frame["nonzero_mean"] = [*(1 + np.arange(len(tracks)) / 10), np.nan]
        outputs[kind.head] = frame
    return AlphaGenomeOutputMetadata(**outputs)


def _per_organism(name: str, shape: tuple[int, ...], organism: jax.Array, init: Any) -> jax.Array:
    return hk.get_parameter(name, (len(Organism), *shape), init=init)[organism]


class _MultiOrganismLinear(hk.Module):
    def __init__(self, n: int) -> None:
        super().__init__(name="multi_organism_linear")
        self.n = n

    def __call__(self, x: jax.Array, organism: jax.Array) -> jax.Array:
        # Unlike the original's normal distribution it compiles at once.
        init = hk.initializers.RandomUniform(-0.5, 0.5)
        w = _per_organism("w", (x.shape[-1], self.n), organism, init)
        b = _per_organism("b", (self.n,), organism, jnp.zeros)
        inner = (1,) * (x.ndim - 2)
        return jnp.einsum("b...i,bij->b...j", x, w) + b.reshape(len(b), *inner, -1)


class Head:
    """A head of the name, run as a module of the name."""

    def __init__(self, name: str, frames: list[pd.DataFrame]) -> None:
        self.name, self.n = name, len(frames[0])
        if not name.startswith(("splice", "contact")):
            self.means = jnp.asarray([np.nan_to_num(frame["nonzero_mean"].to_numpy()) for frame in frames], jnp.float32)

    def __call__(self, embeddings: Embeddings, organism: jax.Array) -> dict[str, jax.Array]:
        others = {"classification": self.classes, "usage": self.usage, "maps": self.maps}
        return hk.to_module(others.get(self.name.rpartition("_")[2], self.tracks))(self.name)(embeddings, organism)

    def tracks(self, embeddings: Embeddings, organism: jax.Array) -> dict[str, jax.Array]:
        predictions = {}
        for resolution in (128,) if self.name.startswith("chip") else (1, 128):
            with hk.name_scope(f"resolution_{resolution}"):
                x = _MultiOrganismLinear(self.n)(embeddings.get_sequence_embeddings(resolution), organism)
                scale = _per_organism("learnt_scale", (self.n,), organism, jnp.ones)[:, None]
                x = jax.nn.softplus(x) * jax.nn.softplus(scale)
                predictions[f"scaled_predictions_{resolution}bp"] = x
                x = jnp.where(x > 10, (x + 10) ** 2 / 40, x)
                x = x ** (1 / 0.75) if self.name == "rna_seq" else x
                predictions[f"predictions_{resolution}bp"] = x * (self.means[organism][:, None] * resolution)
        return predictions

    def classes(self, embeddings: Embeddings, organism: jax.Array) -> dict[str, jax.Array]:
        logits = _MultiOrganismLinear(self.n)(embeddings.embeddings_1bp, organism)
        return {"logits": logits, "predictions": jax.nn.softmax(logits.astype(jnp.float32))}

    def usage(self, embeddings: Embeddings, organism: jax.Array) -> dict[str, jax.Array]:
        logits = _MultiOrganismLinear(self.n)(embeddings.embeddings_1bp, organism)
        return {"logits": logits, "predictions": jax.nn.sigmoid(logits.astype(jnp.float32)).astype(jnp.float16)}

    def maps(self, embeddings: Embeddings, organism: jax.Array) -> dict[str, jax.Array]:
        return {"predictions": _MultiOrganismLinear(self.n)(embeddings.embeddings_pair, organism)}


class OutputEmbedder(hk.Module):
    def __call__(self, x: jax.Array, organism: jax.Array, n: int, skip: jax.Array | None = None) -> jax.Array:
        x = hk.Linear(n)(x)
        if skip is not None:
            x += jnp.repeat(hk.Linear(n, with_bias=False)(skip), x.shape[1] // skip.shape[1], axis=1)
        variance = hk.get_state("var_ema", (1, 1, n), jnp.float32, jnp.ones)
        return jax.nn.gelu(x * jax.lax.rsqrt(variance + 1e-5).astype(x.dtype) + hk.Embed(2, n)(organism)[:, None])


class AlphaGenome(hk.Module):
    """The model; outputs that the metadata lacks have no head."""

    def __init__(self, output_metadata: dict[Organism, AlphaGenomeOutputMetadata], *, name: str | None = None) -> None:
        super().__init__(name=name or "alphagenome")
        renamed = {"splice_sites": "splice_sites_classification", "splice_site_usage": "splice_sites_usage"}
        self._heads = {}
        for field in fields(AlphaGenomeOutputMetadata):
            frames = [getattr(metadata, field.name) for metadata in output_metadata.values()]
            if frames[0] is not None:
                head = renamed.get(field.name, field.name)
                self._heads[head] = Head(head, frames)

    @hk.name_like("__call__")
    def forward_trunk(self, dna_sequence: jax.Array, organism_index: jax.Array) -> Embeddings:
        batch, length, _ = dna_sequence.shape
        x = jax.nn.gelu(hk.Conv1D(FINE, 7)(dna_sequence))
        trunk = hk.Conv1D(COARSE, 3)(x.reshape(batch, length // 128, 128, FINE).mean(axis=2))
        coarse = OutputEmbedder()(trunk, organism_index, COARSE)
        fine = OutputEmbedder()(x, organism_index, FINE, coarse)
        return Embeddings(fine, coarse, jnp.einsum("bic,bjc->bij", trunk, trunk)[..., None])

    @hk.name_like("__call__")
    def forward_heads(self, embeddings: Embeddings, organism_index: jax.Array) -> dict[str, Any]:
        SEEN.append(tuple(None if part is None else part.shape for part in embeddings))
        predictions: dict[str, Any] = {"embeddings_1bp": embeddings.embeddings_1bp}
        with hk.name_scope("head"):
            for name, head in self._heads.items():
                predictions[name] = head(embeddings, organism_index)
        return predictions

    def __call__(self, dna_sequence: jax.Array, organism_index: jax.Array) -> tuple[dict[str, Any], Embeddings]:
        embeddings = self.forward_trunk(dna_sequence, organism_index)
        return self.forward_heads(embeddings, organism_index), embeddings


def install(patch: pytest.MonkeyPatch, outputs: AlphaGenomeOutputMetadata) -> None:
    """Let the original's imports find this, and the backend be imported anew."""
    for name in ("alphagenome_jax", "alphagenome_original"):
        # Set before it is deleted: so what is imported meanwhile is forgotten again, also where nothing was before.
        patch.setitem(sys.modules, f"builders.{name}", None)  # type: ignore[arg-type]
        del sys.modules[f"builders.{name}"]
    found: dict[str, dict[str, Any]] = {
        "alphagenome.models.dna_model": {"Organism": Organism},
        "alphagenome_research.model.embeddings": {"Embeddings": Embeddings},
        "alphagenome_research.model.metadata.metadata": {
            "AlphaGenomeOutputMetadata": AlphaGenomeOutputMetadata,
            "load": lambda organism: outputs,
        },
        "alphagenome_research.model.model": {"AlphaGenome": AlphaGenome},
    }
    for path, content in found.items():
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            patch.setitem(sys.modules, ".".join(parts[:end]), ModuleType(".".join(parts[:end])))
        vars(sys.modules[path]).update(content)
