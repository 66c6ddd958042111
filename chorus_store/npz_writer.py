"""Arrays → members of an NPZ file, through ISA-L's deflate; equal arrays give equal bytes."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from isal import isal_zlib


def new_archive(file: BinaryIO) -> zipfile.ZipFile:
    """An NPZ file to write to."""
    return zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)


def write_array(archive: zipfile.ZipFile, name: str, values: npt.NDArray[Any]) -> None:
    """Write an array that is in memory, as the member ``{name}.npy``."""
    with _member(archive, name) as member:
        np.lib.format.write_array(member, values, allow_pickle=False)


def write_cdf(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], blocks: Iterable[npt.NDArray[np.float32]]
) -> None:
    """Write a CDF block by block of its rows, which are C-ordered and together make the shape."""
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    with _member(archive, name) as member:
        np.lib.format.write_array_header_1_0(member, header)
        for rows in blocks:
            member.write(rows)


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[Any]:
    """Open one array of the archive for writing; its date is fixed, so that equal data give equal bytes."""
    info = zipfile.ZipInfo(f"{name}.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    with archive.open(info, "w", force_zip64=True) as member:
        # zipfile takes no compressor from outside. ISA-L's makes the same format, 15 times as fast as zlib.
        member._compressor = isal_zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)  # type: ignore[attr-defined]
        yield member
