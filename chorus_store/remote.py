"""Stores behind a URL: zarr's view of an fsspec file system, with a deadline and with errors that say what to do."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, WrapperStore

from chorus_store.errors import InputError, MissingPackageError, StoreNotFoundError, StoreUnreachableError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

#: Seconds that one request may take, retries included.
TIMEOUT_S = 10.0
#: Bytes that one request asks for at most, so that a slow line is not taken for a silent server.
MOST_BYTES = 2**20


def remote_store(url: str, storage_options: Mapping[str, Any] | None = None) -> RemoteStore:
    """Read-only store at a URL; nothing is asked of the server yet.

    Parameters
    ----------
    url : str
        ``https://host/folder/enformer.zarr``, ``s3://bucket/enformer.zarr`` or any other that fsspec knows.
    storage_options : mapping, optional
        For the fsspec file system, such as ``{"anon": True}`` for a public S3 bucket.

    Raises
    ------
    MissingPackageError
        What fsspec needs for this kind of URL is not installed.
    InputError
        No such kind of URL, or options that its file system does not have.
    """
    try:
        return RemoteStore(FsspecStore.from_url(url.rstrip("/"), dict(storage_options or {}), read_only=True))
    except ImportError as error:
        raise MissingPackageError(
            f"{url} needs a package that is not installed ({error}); "
            "for https:// and s3:// it comes with: pip install 'chorus-store[remote]'"
        ) from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{url} cannot be opened ({error}); check the URL and the storage options") from error


class RemoteStore(WrapperStore[FsspecStore]):
    """A store whose every failure to read is a `StoreUnreachableError`; what is not there stays None.

    Parameters
    ----------
    store : FsspecStore
        Where the bytes are.
    """

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Bytes of an object, or None where there is none; a whole object takes a request for every `MOST_BYTES`.

        Raises
        ------
        StoreUnreachableError
            No answer within `TIMEOUT_S`, a refusal, any other failure, or a server that does not have range requests.
        """
        if byte_range is not None:
            return await self._request(key, prototype, byte_range)
        parts: list[Buffer] = []
        while not parts or len(parts[-1]) == MOST_BYTES:
            begin = len(parts) * MOST_BYTES
            part = await self._request(key, prototype, RangeByteRequest(begin, begin + MOST_BYTES))
            if part is None:
                return None
            parts.append(part)
        return parts[0].combine(parts[1:])

    async def getsize(self, key: str) -> int:
        """Bytes of an object; StoreUnreachableError as `get`, FileNotFoundError where there is none."""
        async with self._answering(key):
            return await self._store.getsize(key)

    async def _request(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest) -> Buffer | None:
        async with self._answering(key):
            try:
                data = await super().get(key, prototype, byte_range)
            except Exception as error:
                if _status(error) != 416:
                    raise
                data = prototype.buffer.from_bytes(b"")  # the range begins where the object ends
        if data is not None and len(data) > _most(byte_range):
            raise StoreUnreachableError(
                f"{self._name(key)}: the server ignores range requests, so every lookup would move whole files; "
                "copy the store to a local disk, or serve it with a server that has them"
            )
        return data

    @asynccontextmanager
    async def _answering(self, key: str) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                yield
        except FileNotFoundError:
            raise
        except Exception as error:  # every file system of fsspec has its own
            raise StoreUnreachableError(f"{self._name(key)} cannot be read: {_reason(error)}") from error

    def _name(self, key: str) -> str:
        return f"{self._store.fs.unstrip_protocol(self._store.path)}/{key}"


class RemoteFile(io.RawIOBase):
    """One object of a remote store as a file that can be sought in; what is read is asked of the server.

    Parameters
    ----------
    store : RemoteStore
        The folder of the file.
    name : str
        The file's name there.

    Raises
    ------
    StoreNotFoundError
        The server has no such file.
    StoreUnreachableError
        As `RemoteStore.get`; reading raises it too.
    """

    def __init__(self, store: RemoteStore, name: str) -> None:
        self._store, self._name, self._position = store, name, 0
        try:
            self._size = sync(store.getsize(name))
        except FileNotFoundError as error:
            # fsspec says so of every failure to learn a size; reading a byte tells them apart.
            sync(store.get(name, default_buffer_prototype(), RangeByteRequest(0, 1)))
            raise StoreNotFoundError(f"no file {name} on the server ({error}); check the URL") from error

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file; asks nothing of the server."""
        self._position = offset + (0, self._position, self._size)[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or as much of it as one request may bring."""
        first = self._position
        last = min(first + min(len(buffer), MOST_BYTES), self._size)
        if first >= last:
            return 0
        data = sync(self._store.get(self._name, default_buffer_prototype(), RangeByteRequest(first, last)))
        if data is None or len(data) != last - first:
            raise StoreUnreachableError(f"{self._name} changed on the server while it was read; try again")
        buffer[: len(data)] = data.to_bytes()
        self._position = last
        return len(data)


def _most(byte_range: ByteRequest | None) -> float:
    """Bytes that the answer to a request may have."""
    match byte_range:
        case RangeByteRequest(start, end):
            return end - start
        case SuffixByteRequest(suffix):
            return suffix
    return float("inf")


def _status(error: Exception) -> int | None:
    """The HTTP status that an error of aiohttp stands for."""
    return getattr(error, "status", None)


def _reason(error: Exception) -> str:
    """What happened, and what to do about it."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s; check the network, or try again later"
    if isinstance(error, PermissionError) or _status(error) in (401, 403):
        return f"the server refuses ({error}); check the URL, and give credentials in the storage options"
    if type(error).__name__ == "NoCredentialsError":
        return 'no S3 credentials; for a public bucket give storage_options={"anon": True}'
    return f"{type(error).__name__}: {error}; check the URL and the network, or try again later"
