"""Reads that outlive a move: where a file's object goes while its bytes are being sent, the rest comes from where the file is now.

On a disk an open file stays whole after it is unlinked, so this is for stores in the network.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol

from app.storage.backend import ObjectStream
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageUnavailable
from app.storage.ranges import ByteRange

PathLookup = Callable[[], Awaitable[str | None]]
"""Where the same bytes are now; None where there is no such file any more."""

MAX_RELOCATIONS = 4


class ObjectReader(Protocol):
    """The part of `StorageService` that it takes."""

    def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]: ...


async def read_across_moves(
    reader: ObjectReader, path: str, opened: ObjectStream, locate: PathLookup
) -> AsyncGenerator[bytes]:
    """The bytes of `opened`, which is being read from `path`, to their end. Close it. Raises what reading raises, when the file has
    not moved, or moves all the time."""
    span = opened.served
    if span is None or span.last is None:
        return
    position, last = span.first, span.last
    chunks = opened.chunks
    moves = 0
    async with AsyncExitStack() as stack:
        while position <= last:
            try:
                async for chunk in chunks:
                    position += len(chunk)
                    yield chunk
            except (ObjectNotFound, StorageUnavailable):
                now = await locate()
                moves += 1
                if now is None or now == path or moves > MAX_RELOCATIONS:
                    raise
                path = now
                again = await stack.enter_async_context(reader.read(path, ByteRange(position, last)))
                if again.info.size != opened.info.size:
                    raise ObjectChanged(
                        path, "delivery", f"holds {again.info.size} bytes, not {opened.info.size}"
                    ) from None
                chunks = again.chunks
            else:
                return  # whoever asked counts the bytes: a store may have given fewer
