"""Columns of the facts, straight from their files.

Zarr decodes what all threads ask for on one event loop, which many cores of compaction would wait for. Facts are not
compressed (`layout.create_fact_array`), so a column is a slice of every shard; the thread that wants it reads it here
and compares the checksums, as Zarr would.
"""

from __future__ import annotations

import math
import os
from io import FileIO
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import zarr

from chorus_store import layout
from chorus_store.errors import CorruptStoreError

FloatArray = npt.NDArray[np.float32]

_CHECKSUM_BYTES = 4
#: Offset and size of one chunk, two little-endian uint64, in the index at the end of a shard.
_ENTRY_BYTES = 16


def read_columns(store: Path, name: str, array: zarr.Array[Any], first: int, stop: int) -> FloatArray:
    """All samples of tracks [first, stop), track-major.

    Parameters
    ----------
    store : Path
        The store.
    name : str
        Path of the array in it.
    array : zarr.Array
        The same, opened: shape, chunks and shards are taken from it.
    first, stop : int
        Tracks.

    Returns
    -------
    ndarray of float32, shape (stop - first, samples), C-contiguous

    Raises
    ------
    CorruptStoreError
        A file is missing, cut short, or fails its checksum.
    """
    n_samples = array.shape[0]
    samples, tracks = array.chunks
    per_shard = (array.shards or array.chunks)[1] // tracks
    columns = np.empty((stop - first, n_samples), np.float32)
    for row, start in enumerate(range(0, n_samples, samples)):
        for number in range(first // tracks, math.ceil(stop / tracks)):
            shard, position = divmod(number, per_shard)
            raw = _read_chunk(layout.shard_file(store, name, (row, shard)), position, per_shard, 4 * samples * tracks)
            chunk = np.frombuffer(raw, "<f4").reshape(tracks, samples)
            origin = number * tracks
            low, high = max(first, origin), min(stop, origin + tracks)
            here = columns[low - first : high - first, start : start + samples]
            here[...] = chunk[low - origin : high - origin, : here.shape[1]]
    return columns


def _read_chunk(file: Path, position: int, per_shard: int, size: int) -> bytes:
    """One chunk of a shard, whose index is at its end."""
    index_bytes = _ENTRY_BYTES * per_shard
    try:
        with file.open("rb", buffering=0) as handle:
            handle.seek(-index_bytes - _CHECKSUM_BYTES, os.SEEK_END)
            index = np.frombuffer(_read_checked(handle, index_bytes), "<u8").reshape(per_shard, 2)
            handle.seek(int(index[position, 0]))
            return _read_checked(handle, size)
    except (OSError, ValueError, OverflowError) as error:
        raise CorruptStoreError(
            f"{file} is not what was written ({error}); delete it and run the same command again: only its unit of "
            "work is redone"
        ) from error


def _read_checked(handle: FileIO, size: int) -> bytes:
    """So many bytes and the CRC-32C behind them."""
    data = handle.read(size)
    if google_crc32c.value(data) != int.from_bytes(handle.read(_CHECKSUM_BYTES), "little"):
        raise ValueError("its checksum differs")
    return data
