"""AlphaGenome on JAX, the original: its trunk once, its heads one after the other and on the needed bins only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# First, because it says what to install.
from builders.alphagenome_original import (  # isort: skip
    HUMAN, Metadata, Values, head_of, load_metadata, random_values, read_values, trunk_of,
)  # fmt: skip

import jax
import jax.numpy as jnp

from builders.alphagenome_heads import COARSE_BP, HeadTracks, facts_of_heads, require_means
from builders.gather import IntArray
from builders.host_gather import HostGather
from builders.jax_runtime import JaxRuntime
from builders.oracle import BinArray, Exons, FloatArray, Reduced
from chorus_store.errors import TrackTableError, WeightsError
from chorus_store.sequence import Codes, one_hot_table

_MEANS = "nonzero_mean"
#: Outputs without track means: theirs are probabilities.
_PROBABILITIES = ("splice_sites", "splice_site_usage")
_ANEW = "install alphagenome_research anew from its repository"


class JaxAlphaGenome:
    """Backend of `builders.alphagenome.AlphaGenome`.

    Parameters
    ----------
    heads : sequence of HeadTracks
    """

    def __init__(self, heads: Sequence[HeadTracks]) -> None:
        self._heads = heads

    def load(self, weights: Path | None, *, device: str, precision: str, seed: int) -> None:
        """Put parameters on the device and declare what is compiled at the first batch; see `Oracle.load`."""
        runtime = JaxRuntime(device, precision)
        metadata = load_metadata()
        with runtime.active():
            if weights is None:
                self._values = random_values(metadata, seed)
            else:
                for part in self._heads:
                    _check_tracks(part, metadata)
                self._values = read_values(metadata, weights, runtime.device)
        self._runtime = runtime
        trunk, one_hot = trunk_of(metadata, precision), one_hot_table()
        self._trunk = jax.jit(lambda values, codes: trunk(values, jnp.asarray(one_hot)[codes]))
        self._head = {part.head.name: jax.jit(_at_bins(part, metadata)) for part in self._heads}

    def facts(self, codes: Codes, bins: Mapping[int, BinArray] | None, exons: Exons | None) -> Reduced:
        """Window sums, means over exon bins and chosen bins; JAX has no float64 here, so the host adds up."""
        batch = len(codes)
        with self._runtime.active():
            embeddings = self._trunk(self._values, codes)

            def facts_of(part: HeadTracks, chosen: BinArray | None, measured: Exons | None) -> Reduced:
                predict = partial(self.predict, part, embeddings)
                return HostGather(part.gather).facts(predict, batch, chosen, measured)

            return facts_of_heads(self._heads, batch, bins, exons, facts_of)

    def predict(self, part: HeadTracks, embeddings: tuple[Any, Any], wanted: IntArray) -> FloatArray:
        """One head on some bins.

        Parameters
        ----------
        part : HeadTracks
            The head.
        embeddings : tuple of jax.Array
            Of all bases and of all bins of 128 bp, as the trunk makes them.
        wanted : ndarray of int64, shape (batch, bin)

        Returns
        -------
        ndarray of float32, shape (batch, bin, channel)
        """
        n_bins = wanted.shape[1]
        if not n_bins:  # gene expression where no exon is
            return np.empty((*wanted.shape, part.gather.n_channels), np.float32)
        # Every width is compiled anew, so that there are powers of two only.
        width = max(COARSE_BP, 1 << (n_bins - 1).bit_length())
        indices = np.pad(wanted, ((0, 0), (0, width - n_bins))).astype(np.int32)
        return np.asarray(self._head[part.head.name](self._values, embeddings, indices))[:, :n_bins]


def _at_bins(part: HeadTracks, metadata: Metadata) -> Callable[[Values, tuple[Any, Any], jax.Array], jax.Array]:
    """A head as a function of values, the trunk's embeddings and the wanted bins."""
    head = head_of(metadata, part.head.name)
    is_coarse = part.head.resolution_bp == COARSE_BP

    def predict(values: Values, embeddings: tuple[Any, Any], wanted: jax.Array) -> jax.Array:
        fine, coarse = embeddings
        if is_coarse:
            found = head(values, None, _at(coarse, wanted))
        else:
            # Most heads predict bins of 128 bp besides, and need some to run; the compiler leaves out what is not used.
            found = head(values, _at(fine, wanted), _at(coarse, wanted[:, ::COARSE_BP] // COARSE_BP))
        return found[:, :, : part.gather.n_channels]

    return predict


def _at(embeddings: jax.Array, wanted: jax.Array) -> jax.Array:
    """Channels of some bins, (batch, bin, channel)."""
    return jnp.take_along_axis(embeddings, wanted[:, :, None], axis=1)


def _check_tracks(part: HeadTracks, metadata: Metadata) -> None:
    """Compare the tracks of a head with the installed metadata, which has their means too.

    Raises
    ------
    TrackTableError
        A channel is another track there, or is not there.
    WeightsError
        Means are missing, or what stands in their place is none.
    """
    name, channels = part.head.name, part.gather.channels
    frame = getattr(metadata[HUMAN], name)
    here = [f"{name.upper()}/{track}/{strand}" for track, strand in zip(frame["name"], frame["strand"], strict=True)]
    for track, channel in zip(part.tracks.tolist(), channels.tolist(), strict=True):
        found = here[channel] if channel < len(here) else "nothing"
        if found != track:
            raise TrackTableError(
                f"channel {channel} of {name} is {track} in the track table, and {found} in the installed "
                "alphagenome_research; leave --tracks out, or install the revision that the table is of"
            )
    if name in _PROBABILITIES:
        return
    if _MEANS not in frame:
        raise WeightsError(
            f"alphagenome_research lacks the track means of {name}, without which predictions have no scale; {_ANEW}"
        )
    require_means(frame[_MEANS].to_numpy(np.float64)[channels], f"alphagenome_research, {name},", _ANEW)
