"""Reads that survive a move: when an object disappears during a read, the remaining bytes are read from the file's new path.

Needed for S3 only: on a local disk an open file keeps its bytes after it is unlinked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Protocol, TypeVar

from app.storage.backend import ObjectStream
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageUnavailable
from app.storage.ranges import ByteRange, FileWindow

PieceT = TypeVar("PieceT", bytes, bytes | FileWindow)

PathLookup = Callable[[], Awaitable[str | None]]
"""Returns the current path of the file; None where the file no longer exists."""

MAX_RELOCATIONS = 4


class ObjectReader(Protocol):
    """The part of `StorageService` that `read_across_moves` needs."""

    def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]: ...


async def read_across_moves(
    reader: ObjectReader, path: str, opened: ObjectStream, chunks: AsyncIterator[PieceT], locate: PathLookup
) -> AsyncGenerator[PieceT | bytes]:
    """Yields `chunks`, the chunks or windows of `opened`, a read of `path`. After a failed read it continues at the path that `locate`
    returns. The caller closes the generator. Raises the read's error where the file has not moved, or has moved more than `MAX_RELOCATIONS`
    times."""
    served = opened.served
    if served is None or served.last is None:
        return
    position, last = served.first, served.last
    pieces: AsyncIterator[PieceT | bytes] = chunks
    moves = 0
    async with AsyncExitStack() as stack:
        while position <= last:
            try:
                async for chunk in pieces:
                    position += len(chunk)
                    yield chunk
            except (ObjectNotFound, StorageUnavailable):
                new_path = await locate()
                moves += 1
                if new_path is None or new_path == path or moves > MAX_RELOCATIONS:
                    raise
                path = new_path
                reopened = await stack.enter_async_context(reader.read(path, ByteRange(position, last)))
                if reopened.info.size != opened.info.size:
                    raise ObjectChanged(
                        path, "delivery", f"holds {reopened.info.size} bytes, not {opened.info.size}"
                    ) from None
                pieces = reopened.chunks
            else:
                return  # the caller counts the bytes, in case the store has sent fewer
