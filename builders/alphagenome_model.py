"""AlphaGenome's architecture on PyTorch: the modules of alphagenome-pytorch, as published or narrow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from chorus_store.errors import BackendUnavailableError

try:
    import torch
    from alphagenome_pytorch import AlphaGenome, convolutions, embeddings, heads
    from alphagenome_pytorch.model import TransformerTower
    from torch import nn
    from torch.nn import functional
except ImportError as error:  # versions before 0.3 were other code of the same name, without these modules
    raise BackendUnavailableError(
        f"AlphaGenome needs PyTorch and alphagenome-pytorch 0.3.1 or later ({error}); with Python 3.12 or later "
        "pip install 'chorus-store[alphagenome]', with Python 3.11 "
        "pip install --ignore-requires-python --no-deps alphagenome-pytorch==0.3.1 torch safetensors"
    ) from error

#: From embeddings at some bins, (batch, channel, bin), and organisms to predictions, (batch, bin, channel).
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

ORGANISMS, HUMAN = 2, 0
#: The small model: channels at bins of 1, 2, 4, … 64 bp, blocks of the transformer, channels of the two embeddings.
_WIDTHS = (16, 20, 24, 28, 32, 36, 40)
_BLOCKS = 1
_FINE, _COARSE = 48, 64
#: What no background needs: pairs of bins.
_PAIRWISE = ("embedder_pair", "contact_maps_head", "splice_sites_junction_head")


def architecture(size: str, channels: Mapping[str, int]) -> Any:
    """The model without weights, on the meta device.

    Parameters
    ----------
    size : {"full", "small"}
    channels : mapping of head name to int
        The heads of the small model.
    """
    with torch.device("meta"):
        model = AlphaGenome(num_organisms=ORGANISMS)
        if size == "small":
            drop_pairwise(model)
            _narrow(model)
            _replace_heads(model, channels)
    # It is made, not loaded, and so has no data on the meta device; it says which channels the loss counts.
    usage = model.splice_sites_usage_head
    usage.track_mask = torch.ones(usage.track_mask.shape, dtype=torch.bool)
    return model


def drop_pairwise(model: Any) -> None:
    """Let go of the parts that predict pairs of bins."""
    for name in _PAIRWISE:
        setattr(model, name, None)


def head_of(model: Any, name: str) -> Predict:
    """One head, in the units of the experiments; probabilities of the splice heads."""
    if name == "splice_sites":
        return lambda embedded, organism: model.splice_sites_classification_head(embedded, organism)["probs"]
    if name == "splice_site_usage":
        return lambda embedded, organism: model.splice_sites_usage_head(embedded, organism)["predictions"]
    head = model.heads[name]
    finest = head.resolutions[0]
    return lambda embedded, organism: head({finest: embedded}, organism)[finest]


class _DownBlock(nn.Module):
    """The encoder's block, whose published form always adds 128 channels."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.added = out - into
        self.block1 = convolutions.ConvBlock(into, out, kernel_size=5)
        self.block2 = convolutions.ConvBlock(out, out, kernel_size=5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.block1(x) + functional.pad(x, (0, 0, 0, self.added))
        return out + self.block2(out)


def _narrow(model: Any) -> None:
    """Replace the trunk by one with the same geometry."""
    finest, trunk = _WIDTHS[0], _WIDTHS[-1]
    embedder = model.encoder.dna_embedder
    embedder.conv1 = nn.Conv1d(4, finest, kernel_size=15, padding="same")
    embedder.block = convolutions.ConvBlock(finest, finest, kernel_size=5)
    model.encoder.down_blocks = nn.ModuleList(_DownBlock(*widths) for widths in pairwise(_WIDTHS))
    model.organism_embed = nn.Embedding(ORGANISMS, trunk)
    model.tower = TransformerTower(trunk)
    model.tower.blocks = model.tower.blocks[:_BLOCKS]
    up = pairwise((trunk, *reversed(_WIDTHS)))
    model.decoder.up_blocks = nn.ModuleList(convolutions.UpResBlock(*widths) for widths in up)
    model.embedder_128bp = embeddings.OutputEmbedder(trunk, _COARSE, ORGANISMS)
    model.embedder_1bp = embeddings.OutputEmbedder(finest, _FINE, ORGANISMS)
    model.embedder_1bp.project_skip = nn.Conv1d(_COARSE, _FINE, kernel_size=1, bias=False)


def _replace_heads(model: Any, channels: Mapping[str, int]) -> None:
    model.heads = nn.ModuleDict(
        {
            name: heads.GenomeTracksHead(
                {1: _FINE, 128: _COARSE},
                channels[name],
                published.resolutions,
                ORGANISMS,
                apply_squashing=published.apply_squashing,
            )
            for name, published in model.heads.items()
            if name in channels
        }
    )
    model.splice_sites_classification_head = heads.SpliceSitesClassificationHead(_FINE, ORGANISMS)
    model.splice_sites_usage_head = heads.SpliceSitesUsageHead(_FINE, channels.get("splice_site_usage", 1), ORGANISMS)
