"""A store of a background, of which every chunk must be there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zarr.abc.store import Store
from zarr.storage import WrapperStore

from chorus_store.errors import CorruptStoreError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


class IntactStore(WrapperStore[Store]):
    """Reads a background, of which every chunk is written, and refuses one that is missing.

    Zarr would fill it with the array's fill value, and 0, False and "" pass for data.
    """

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Bytes of an object, or None where there is no such metadata.

        Raises
        ------
        CorruptStoreError
            A chunk is missing.
        """
        data = await self._store.get(key, prototype, byte_range)
        if data is None and ("/c/" in key or key.endswith("/c")):
            raise CorruptStoreError(f"{key} is missing; copy or publish the store again")
        return data
