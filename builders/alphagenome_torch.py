"""AlphaGenome on PyTorch: its trunk once, its heads one after the other and on the needed bins only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

# First, because it says what to install.
from builders.alphagenome_model import HUMAN, architecture, drop_pairwise, head_of  # isort: skip

import torch

from builders.alphagenome_heads import COARSE_BP, HeadTracks, facts_of_heads, require_means
from builders.checkpoints import State, check_state, install, random_state, read_state, shapes_of
from builders.oracle import BinArray, Exons, Reduced
from builders.torch_gather import TorchGather
from builders.torch_runtime import TorchRuntime
from chorus_store.errors import WeightsError
from chorus_store.sequence import Codes, one_hot_table

REMEDY = "give model_all_folds.safetensors of gtca/alphagenome_pytorch, or its folder (--weights)"
_MEANS = ".track_means"
#: Factors of random weights by the end of their names; those below 1 keep 30 residual steps from growing out of bounds.
_FACTORS = {"conv.scale": 0.1, ".residual_scale": 0.1, _MEANS: 1.0}


@dataclass(frozen=True, eq=False)
class Embeddings:
    """What the trunk makes of a batch: channels at every base, and, further on, at every bin of 128 bp."""

    fine: torch.Tensor
    coarse: torch.Tensor


class TorchAlphaGenome:
    """Backend of `builders.alphagenome.AlphaGenome`.

    Parameters
    ----------
    heads : sequence of HeadTracks
    size : {"full", "small"}
    """

    def __init__(self, heads: Sequence[HeadTracks], size: str) -> None:
        self._heads = heads
        self._size = size

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """Build the model in evaluation mode on the device; see `Oracle.load`."""
        runtime = TorchRuntime(device, precision)
        model = architecture(self._size, {part.head.name: part.gather.n_channels for part in self._heads})
        shapes = shapes_of(model)
        if weights is None:
            state = _random_weights(shapes, seed)
        else:
            state = read_state(weights, REMEDY)
            _check_means(state, shapes, self._heads, weights)
            check_state(state, shapes, weights, REMEDY)
        install(model, state)
        drop_pairwise(model)
        self._runtime = runtime
        self._model = runtime.place(model)
        self._one_hot = runtime.table(one_hot_table())
        self._gathers = {part.head.name: TorchGather(part.gather, runtime) for part in self._heads}

    def facts(self, codes: Codes, bins: Mapping[int, BinArray] | None, exons: Exons | None) -> Reduced:
        """Window sums, means over exon bins and chosen bins; only they leave the device."""
        batch = len(codes)
        with self._runtime.inference():
            embeddings = self.embeddings(self._runtime.one_hot(codes, self._one_hot))

            def facts_of(part: HeadTracks, chosen: BinArray | None, measured: Exons | None) -> Reduced:
                gather = self._gathers[part.head.name]
                return gather.facts(partial(self.predict, part, embeddings), batch, chosen, measured)

            return facts_of_heads(self._heads, batch, bins, exons, facts_of)

    def embeddings(self, one_hot: torch.Tensor) -> Embeddings:
        """The trunk: encoder, transformer and decoder.

        The embedding of single bases that the heads see is a function of each base's and its bin's channels, and so is
        made where it is needed alone, by `predict`.
        """
        model = self._model
        organism = self._human(len(one_hot))
        with self._runtime.arithmetic(), self._runtime.autocast():
            pooled, skips = model.encoder(one_hot)
            tokens, _ = model.tower(pooled.transpose(1, 2) + model.organism_embed(organism)[:, None])
            trunk = tokens.transpose(1, 2)
            return Embeddings(model.decoder(trunk, skips), model.embedder_128bp(trunk, organism))

    def predict(self, part: HeadTracks, embeddings: Embeddings, wanted: torch.Tensor) -> torch.Tensor:
        """One head on some bins, on tensors of the device.

        Parameters
        ----------
        part : HeadTracks
            The head.
        embeddings : Embeddings
        wanted : Tensor of int64, shape (batch, bin)

        Returns
        -------
        Tensor of float32, shape (batch, bin, channel)
        """
        organism = self._human(len(wanted))
        # In float32: bf16 would swamp the effect of one base.
        with self._runtime.arithmetic():
            if part.head.resolution_bp == COARSE_BP:
                embedded = _at(embeddings.coarse, wanted)
            else:
                bins = _at(embeddings.coarse, wanted // COARSE_BP)
                embedded = self._model.embedder_1bp(_at(embeddings.fine, wanted), organism, skip_x=bins)
            return head_of(self._model, part.head.name)(embedded, organism)

    def _human(self, batch: int) -> torch.Tensor:
        return torch.full((batch,), HUMAN, device=self._runtime.device)


def _at(embeddings: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Float32 channels of some bins, (batch, channel, bin)."""
    return embeddings.gather(2, wanted[:, None].expand(-1, embeddings.shape[1], -1)).float()


def _random_weights(shapes: Mapping[str, torch.Size], seed: int) -> State:
    state = random_state(shapes, seed)
    for key, value in state.items():
        for ending, factor in _FACTORS.items():
            if key.endswith(ending):
                value.fill_(factor)
    return state


def _check_means(state: State, shapes: Mapping[str, torch.Size], heads: Sequence[HeadTracks], source: Path) -> None:
    """Refuse weights without the means by which predictions are scaled: they would be off by a factor of each track's.

    Raises
    ------
    WeightsError
        Means are missing, or what stands in their place is none.
    """
    keys = {f"heads.{part.head.name}{_MEANS}": part for part in heads}
    absent = [key for key in keys if key in shapes and key not in state]
    if absent:
        raise WeightsError(
            f"{source} lacks the track means ({', '.join(absent)}), without which predictions have no scale; {REMEDY}"
        )
    for key, part in keys.items():
        if key not in shapes or state[key].shape != shapes[key]:
            continue
        means = state[key][HUMAN].double().numpy()[part.gather.channels]
        require_means(means, f"{source}: {key}", REMEDY)
