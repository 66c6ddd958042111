"""A ``.zip`` of a store, on disk or behind a URL, read by byte ranges: no more than is asked for."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING, NamedTuple

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import WrapperStore

from chorus_store.errors import CorruptStoreError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

#: Where the directory of the archive is looked for: in so many last bytes, then in more.
_TAIL_BYTES, _MOST_TAIL_BYTES = 2**16, 2**24
#: Chunks are compressed already and metadata are short, so a member that deflates by more was made to fill memory.
_MOST_RATIO = 100


class Member(NamedTuple):
    """Where a member begins in the archive, its sizes there and inflated, and how it is compressed."""

    offset: int
    stored: int
    size: int
    method: int


class ZippedStore(WrapperStore[Store]):
    """The members of an archive as a read-only store, whether it holds the store or the store's folder.

    Members that are not compressed (``zip -0``, or Zarr's own archives) are read in part, deflated ones whole.

    Parameters
    ----------
    store : Store
        The folder of the archive.
    name : str
        The archive's name there.
    """

    def __init__(self, store: Store, name: str) -> None:
        super().__init__(store)
        self._name = name
        self._members: dict[str, Member] | None = None
        self._begins: dict[int, int] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZippedStore) and (self._store, self._name) == (other._store, other._name)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Bytes of a member, or None where there is none.

        Raises
        ------
        CorruptStoreError
            The archive is damaged, a zip bomb, or compressed by another method than deflate.
        """
        if self._members is None:
            self._members = await self._directory()
        if (member := self._members.get(key)) is None:
            return None
        begin = await self._begin(member)
        first, last = _span(byte_range, member.size)
        if member.method == zipfile.ZIP_STORED:
            return prototype.buffer.from_bytes(await self._read(RangeByteRequest(begin + first, begin + last)))
        data = self._inflated(key, member, await self._read(RangeByteRequest(begin, begin + member.stored)))
        return prototype.buffer.from_bytes(data[first:last])

    async def exists(self, key: str) -> bool:
        """Whether there is such a member."""
        if self._members is None:
            self._members = await self._directory()
        return key in self._members

    async def _read(self, span: ByteRequest) -> bytes:
        data = await self._store.get(self._name, default_buffer_prototype(), span)
        if data is None:
            raise FileNotFoundError(self._name)
        return data.to_bytes()

    async def _directory(self) -> dict[str, Member]:
        """Members by their keys in the store."""
        size = _TAIL_BYTES
        while True:
            tail = await self._read(SuffixByteRequest(size))
            try:
                with zipfile.ZipFile(io.BytesIO(tail)) as archive:
                    return _members(archive.infolist())
            except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # versions and names of damaged ones
                if len(tail) < size or size == _MOST_TAIL_BYTES:
                    raise CorruptStoreError(f"{self._name} is not a whole zip file ({error}); copy it again") from error
                size = min(size * 16, _MOST_TAIL_BYTES)

    async def _begin(self, member: Member) -> int:
        """Where a member's data begin: after its own header, which may be longer than its entry in the directory."""
        if member.offset not in self._begins:
            header = await self._read(RangeByteRequest(member.offset, member.offset + 30))
            if len(header) < 30 or header[:4] != b"PK\3\4":
                raise CorruptStoreError(f"{self._name} is damaged at byte {member.offset}; copy it again")
            self._begins[member.offset] = member.offset + 30 + sum(struct.unpack("<26x2H", header))
        return self._begins[member.offset]

    def _inflated(self, key: str, member: Member, data: bytes) -> bytes:
        if member.method != zipfile.ZIP_DEFLATED or member.size > _MOST_RATIO * member.stored:
            raise CorruptStoreError(
                f"{key} of {self._name} declares {member.size:,} bytes in {member.stored:,} (method {member.method}), "
                "which no store does; make the archive again with: zip -0 -r"
            )
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size)
        except zlib.error as error:
            raise CorruptStoreError(f"{key} of {self._name} is damaged ({error}); copy it again") from error


def _members(infos: list[zipfile.ZipInfo]) -> dict[str, Member]:
    # In the tail alone offsets are shifted; the first member of an archive is at byte 0.
    shift = min((info.header_offset for info in infos), default=0)
    roots = [info.filename for info in infos if info.filename.rpartition("/")[2] == "zarr.json"]
    root = min(roots, key=lambda name: name.count("/"), default="").removesuffix("zarr.json")
    return {
        info.filename.removeprefix(root): Member(
            info.header_offset - shift, info.compress_size, info.file_size, info.compress_type
        )
        for info in infos
        if info.filename.startswith(root)
    }


def _span(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    """First byte and the byte after the last of what is asked of ``size`` bytes."""
    match byte_range:
        case RangeByteRequest(start, end):
            return start, min(end, size)
        case OffsetByteRequest(offset):
            return offset, size
        case SuffixByteRequest(suffix):
            return max(0, size - suffix), size
    return 0, size
