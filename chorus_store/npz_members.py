"""The arrays inside an NPZ file: a ZIP of ``.npy`` members, read without trusting a byte of it.

`numpy.load` believes what a file declares. Here sizes are checked before memory is taken, no more is inflated than was
declared, pickles are refused, and every member must be found where the directory says, with nothing between two of
them. ISA-L inflates, NumPy's own reader parses the headers.
"""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from chorus_store.errors import ChorusStoreError, CorruptStoreError, SchemaError

#: Deflate cannot do better than this.
_MAX_RATIO = 1032
#: Files that say they hold more than this must not also say that they are compressed better than that.
_BOMB_BYTES, _BOMB_RATIO = 2**30, 100
#: Local extra fields and a data descriptor fit between two members, a member that the directory hides does not.
_MAX_GAP = 64
#: A header of numbers or text is shorter; longer ones can exhaust Python's parser.
_MAX_HEADER = 2000
_PIECE_BYTES = 256 * 1024


@dataclass(frozen=True)
class Member:
    """One array of the file, of which only the header was read.

    Attributes
    ----------
    shape : tuple of int
        Entries along each axis.
    dtype : dtype
        Without objects.
    fortran_order : bool
        Whether the first axis varies fastest in the file.
    entry : zipfile.ZipInfo
        Its sizes and checksum.
    start : int
        Where its bytes begin.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    entry: zipfile.ZipInfo
    start: int

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


class NpzMembers:
    """The members of an NPZ file.

    Parameters
    ----------
    file : binary file
        Seekable; stays open and is read whenever an array is asked for, by several threads or, if it is a local
        file, forked processes if need be.
    where : str
        Its name, for the messages.

    Raises
    ------
    SchemaError
        Not a ZIP file, or one that holds something else than plain arrays, or is encrypted, or declares sizes
        that no background has.
    CorruptStoreError
        Truncated or damaged.
    """

    def __init__(self, file: BinaryIO, where: str) -> None:
        self._file, self._where = file, where
        self._local = hasattr(os, "pread") and isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO)
        self._seeking = threading.Lock()
        with self._undamaged():
            size = file.seek(0, 2)
            file.seek(0)
            if not file.read(4).startswith(b"PK"):
                raise SchemaError(f"{where} is not an NPZ file (a ZIP of arrays); check the path")
            self._archive = zipfile.ZipFile(file)
            entries = self._archive.infolist()
            self._require_tiling(entries)
            self._require_sizes(entries, size)
            #: Every array, by its key.
            self.members: Mapping[str, Member] = {self._key(entry): self._member(entry) for entry in entries}
        if len(self.members) != len(entries):
            raise CorruptStoreError(f"{where} holds two arrays of one name; write or copy the file again")

    @contextmanager
    def _undamaged(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except (ChorusStoreError, MemoryError):
            raise
        except Exception as error:  # of damaged bytes zipfile, zlib and NumPy's parser raise nearly everything
            raise CorruptStoreError(
                f"{what}{self._where} is damaged ({error or type(error).__name__}); copy or export the file again"
            ) from error

    def _require_tiling(self, entries: list[zipfile.ZipInfo]) -> None:
        """Refuse members that overlap, and gaps in which a member may be that the directory has lost."""
        end = 0
        for entry in sorted(entries, key=lambda entry: entry.header_offset):
            self._require_gap(entry.header_offset - end)
            end = entry.header_offset + 30 + len(entry.filename.encode()) + entry.compress_size
        self._require_gap(self._archive.start_dir - end)

    def _require_gap(self, n_bytes: int) -> None:
        if not 0 <= n_bytes <= _MAX_GAP:
            raise CorruptStoreError(
                f"{self._where} is damaged (members {'overlap' if n_bytes < 0 else 'are missing'}); "
                "copy or export the file again"
            )

    def _require_sizes(self, entries: list[zipfile.ZipInfo], size: int) -> None:
        """Refuse what cannot be true, and what would fill the memory."""
        for entry in entries:
            possible = 1 if entry.compress_type == zipfile.ZIP_STORED else _MAX_RATIO
            if entry.file_size > entry.compress_size * possible:
                raise CorruptStoreError(
                    f"{entry.filename} of {self._where} declares {entry.file_size:,} bytes, more than its "
                    f"{entry.compress_size:,} can hold; copy or export the file again"
                )
        declared = sum(entry.file_size for entry in entries)
        if declared > max(_BOMB_BYTES, size * _BOMB_RATIO):
            raise SchemaError(
                f"{self._where} would inflate from {size:,} to {declared:,} bytes, as no background does; "
                "it looks like a ZIP bomb: do not use it"
            )

    def _key(self, entry: zipfile.ZipInfo) -> str:
        if not entry.filename.endswith(".npy"):
            raise SchemaError(f"{self._where} holds {entry.filename!r}, which is no array: it is not an NPZ file")
        if entry.flag_bits & 1:
            raise SchemaError(
                f"{entry.filename} of {self._where} is encrypted; export the file again without a password"
            )
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SchemaError(
                f"{entry.filename} of {self._where} is compressed by method {entry.compress_type}; NPZ files are "
                "stored or deflated; write it with numpy.savez_compressed"
            )
        return entry.filename.removesuffix(".npy")

    def _member(self, entry: zipfile.ZipInfo) -> Member:
        """Read the header of a member."""
        with self._archive.open(entry) as stream:
            version = np.lib.format.read_magic(stream)
            if version != (1, 0):
                raise SchemaError(f"{entry.filename} of {self._where} has structured entries; leave it out")
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=_MAX_HEADER)
            if dtype.hasobject:
                raise SchemaError(
                    f"{entry.filename} of {self._where} holds pickled objects, which are never read; write it again "
                    "as numbers or text"
                )
            name_bytes, extra_bytes = struct.unpack("<HH", self._bytes_at(entry.header_offset + 26, 4))
            start = entry.header_offset + 30 + name_bytes + extra_bytes
            member = Member(shape, dtype, fortran_order, entry, start)
            if min(shape, default=0) < 0 or stream.tell() + member.nbytes != entry.file_size:
                raise CorruptStoreError(
                    f"{entry.filename} of {self._where} holds {entry.file_size:,} bytes, which are not {dtype} of "
                    f"shape {shape}; copy or export the file again"
                )
        return member

    def read(self, name: str) -> npt.NDArray[Any]:
        """Read one array.

        Parameters
        ----------
        name : str
            Its key.

        Returns
        -------
        ndarray
            In the order of axes and bytes that the file has.

        Raises
        ------
        CorruptStoreError
            Damaged: by the deflate stream, by the checksum, or by the length.
        """
        member = self.members[name]
        with self._undamaged(f"{name} of "):
            data = _Stream(member, self._bytes_at).take(member.nbytes)
        return data.view(member.dtype).reshape(member.shape, order="F" if member.fortran_order else "C")

    def blocks(self, name: str, rows: int) -> Iterator[npt.NDArray[Any]]:
        """Read one array of at least one axis block by block; the checksum is known to hold at the end.

        Parameters
        ----------
        name : str
            Its key.
        rows : int
            Of a block.

        Yields
        ------
        ndarray
            The next rows. One that is Fortran-ordered is read whole first.

        Raises
        ------
        CorruptStoreError
            As `read`.
        """
        member = self.members[name]
        if member.fortran_order:
            whole = self.read(name)
            yield from (whole[start : start + rows] for start in range(0, len(whole), rows))
            return
        per_row = member.nbytes // member.shape[0]
        with self._undamaged(f"{name} of "):
            stream = _Stream(member, self._bytes_at)
            for start in range(0, member.shape[0], rows):
                data = stream.take(min(rows, member.shape[0] - start) * per_row)
                yield data.view(member.dtype).reshape(-1, *member.shape[1:])

    def _bytes_at(self, position: int, n_bytes: int) -> bytes:
        if self._local:  # the position of an open file is shared with forked processes
            return os.pread(self._file.fileno(), n_bytes, position)
        with self._seeking:
            self._file.seek(position)
            return self._file.read(n_bytes)


class _Stream:
    """The bytes of a member after its header; zipfile's own reader takes a quarter longer, without ISA-L half as long.

    Parameters
    ----------
    member : Member
    bytes_at : callable
        Reads at a position of the file a number of bytes.
    """

    def __init__(self, member: Member, bytes_at: Callable[[int, int], bytes]) -> None:
        self._bytes_at, self._entry = bytes_at, member.entry
        self._position, self._end = member.start, member.start + member.entry.compress_size
        deflated = member.entry.compress_type == zipfile.ZIP_DEFLATED
        self._inflater = isal_zlib.decompressobj(-zlib.MAX_WBITS) if deflated else None
        self._left, self._checksum = member.entry.file_size, 0
        self.take(member.entry.file_size - member.nbytes)

    def take(self, n_bytes: int) -> npt.NDArray[np.uint8]:
        """The next bytes, in memory of their own; with the last of the member its checksum is compared."""
        data = np.empty(n_bytes, np.uint8)
        done = 0
        while done < n_bytes:
            piece = self._piece(n_bytes - done)
            data.data[done : done + len(piece)] = piece
            self._checksum = isal_zlib.crc32(piece, self._checksum)
            done += len(piece)
        self._left -= n_bytes
        if not self._left and self._checksum != self._entry.CRC:
            raise ValueError("its checksum is another")
        return data

    def _piece(self, most: int) -> bytes:
        """Some of the next bytes."""
        if self._inflater is None:
            piece = self._raw(most)
        else:
            piece, compressed = b"", b"?"
            while compressed and not piece:
                compressed = self._inflater.unconsumed_tail or self._raw(_PIECE_BYTES)
                piece = self._inflater.decompress(compressed, min(most, 4 * _PIECE_BYTES))
        if not piece:
            raise EOFError("it ends too early")
        return piece

    def _raw(self, most: int) -> bytes:
        data = self._bytes_at(self._position, min(most, _PIECE_BYTES, self._end - self._position))
        self._position += len(data)
        return data
