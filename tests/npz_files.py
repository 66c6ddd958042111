"""NPZ files for tests: sound ones of every age, and ZIP files that are wrong in every way."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chorus_store.layout import CDFS

Arrays = dict[str, npt.NDArray[Any]]


def background(n_tracks: int = 5, width: int = 20, *, scalar: bool = False, seed: int = 0) -> Arrays:
    """The arrays that every file has, and no more."""
    rng = np.random.default_rng(seed)
    cdfs = [cdf for cdf in CDFS if not (scalar and cdf == "perbin")]
    return {
        "track_ids": np.array([f"TRACK:{i:02d}" for i in range(n_tracks)], dtype=np.str_),
        **{f"{cdf}_cdfs": np.sort(rng.standard_normal((n_tracks, width), np.float32), axis=1) for cdf in cdfs},
    }


def with_seed_keys(arrays: Arrays) -> Arrays:
    """What the oldest files have besides: counts and signed flags."""
    n_tracks = len(arrays["track_ids"])
    counts = {name.replace("cdfs", "counts"): np.arange(n_tracks) * 1000 for name in arrays if name.endswith("cdfs")}
    return {**arrays, "signed_flags": np.arange(n_tracks) % 2 == 1, **counts}


def with_current_keys(arrays: Arrays) -> Arrays:
    """What newer files have besides."""
    seed = with_seed_keys(arrays)
    retained = {name.replace("counts", "retained"): seed[name] for name in seed if name.endswith("counts")}
    config = {"schema_version": 4, "genome": "hg38", "oracle": "enformer", "notes": "sampled → “twice”"}
    return {
        **seed,
        **retained,
        "perbin_tail_k": np.array(10_000),
        "layers_per_row": np.array(["tf_binding", "chromatin_accessibility"] * len(seed["track_ids"]))[
            : len(seed["track_ids"])
        ],
        "build_config": np.array([json.dumps(config)]),
    }


def save(path: Path, arrays: Arrays, *, compressed: bool = True) -> Path:
    """Write as the reference does."""
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def assert_same(first: Path, second: Path) -> None:
    """Both files hold the same arrays in the same order: keys, dtypes, shapes and every bit of the values."""
    with np.load(first, allow_pickle=False) as a, np.load(second, allow_pickle=False) as b:
        assert a.files == b.files
        for name in a.files:
            assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), name
            assert a[name].tobytes() == b[name].tobytes(), name


def npy(values: npt.ArrayLike, **header: Any) -> bytes:
    """Bytes of a ``.npy`` file, whose header may lie."""
    array = np.asarray(values)
    fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape, **header}
    text = repr(fields).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + array.tobytes()


@dataclass
class Entry:
    """A member of a ZIP file, written as it is told."""

    name: str
    data: bytes
    size: int
    crc: int
    method: int = zipfile.ZIP_DEFLATED
    flags: int = 0

    @classmethod
    def of(cls, name: str, contents: bytes, **fields: Any) -> Entry:
        """A sound one, apart from ``fields``."""
        deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = deflate.compress(contents) + deflate.flush()
        return cls(**{"name": name, "data": data, "size": len(contents), "crc": zlib.crc32(contents), **fields})


def write_zip(path: Path, entries: list[Entry], offsets: dict[str, int] | None = None) -> Path:
    """A ZIP file of these members; ``offsets`` are where the directory claims that some of them begin."""
    path.write_bytes(zip_bytes(entries, offsets))
    return path


def zip_bytes(entries: list[Entry], offsets: dict[str, int] | None = None) -> bytes:
    """Bytes of that file."""
    body, directory = b"", b""
    for entry in entries:
        name = entry.name.encode()
        fields = struct.pack(
            "<HHHHHLLLHH", 20, entry.flags, entry.method, 0, 33, entry.crc, len(entry.data), entry.size, len(name), 0
        )
        offset = (offsets or {}).get(entry.name, len(body))
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + fields + struct.pack("<HHHLL", 0, 0, 0, 0, offset) + name
        body += b"PK\x03\x04" + fields + name + entry.data
    n = len(entries)
    return body + directory + b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, n, n, len(directory), len(body), 0)


def zeros(n_bytes: int) -> bytes:
    """A deflate stream of so many mebibytes of zeros, made without making the zeros."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    deflate.compress(bytes(2**20))
    deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(2**20)) + deflate.flush(zlib.Z_FULL_FLUSH)
    return block * (n_bytes // 2**20) + deflate.flush()
