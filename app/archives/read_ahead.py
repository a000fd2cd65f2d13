"""Read-ahead for archives in S3: opens members before their turn, with a budget of streams and bytes for the whole process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self

DEPTH_PER_TRANSFER = 16
"""Members that one transfer opens ahead."""
MAX_STREAMS = 32
"""Members opened ahead in the process: at most half of the connections to the store."""
MAX_BUFFERED_BYTES = 24 * 1024 * 1024
"""Bytes that all prefetched members together may hold."""
IDLE_SECONDS = 10.0
"""A prefetched member that waits this long for its turn is closed: its client has paused, and other transfers need the share."""
MAX_BYTES_PER_STREAM = 768 * 1024
"""The most that one prefetched member holds: a chunk in the queue, a chunk being put, and the socket's buffer."""


class ReadAheadReservation:
    """One stream and some bytes of the budget. `release` is idempotent."""

    def __init__(self, budget: ReadAheadBudget, size: int) -> None:
        self._budget = budget
        self._size = size
        self._is_held = True

    def release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._budget.free_streams += 1
            self._budget.free_bytes += self._size


class ReadAheadBudget:
    """The streams and bytes left for read-ahead. A transfer that gets no share reads its members one by one: slower, with the same bytes."""

    def __init__(
        self, depth: int = DEPTH_PER_TRANSFER, max_streams: int = MAX_STREAMS, max_bytes: int = MAX_BUFFERED_BYTES
    ) -> None:
        self.depth = depth
        self.free_streams = max_streams
        self.free_bytes = max_bytes

    def acquire(self, size: int) -> ReadAheadReservation | None:
        """A share for a member of `size` bytes; None if the budget does not allow it. Does not wait."""
        reserved = min(size, MAX_BYTES_PER_STREAM)
        if self.free_streams < 1 or self.free_bytes < reserved:
            return None
        self.free_streams -= 1
        self.free_bytes -= reserved
        return ReadAheadReservation(self, reserved)


class MemberPrefetch:
    """Reads one member in a task of its own, one chunk ahead of the consumer. Owns its share of the budget.

    The consumer sets `is_taken` at the member's turn, then iterates. `timed_out`: the turn came after `IDLE_SECONDS`; the member must be
    opened again.
    """

    def __init__(
        self, open_member: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]], share: ReadAheadReservation
    ) -> None:
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self.share = share
        self.task = asyncio.create_task(self._run(open_member))
        self._ended = False
        self.is_taken = False
        self.timed_out = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            raise StopAsyncIteration
        chunk = await self._chunks.get()
        if chunk is None:
            self._ended = True
            await self.task  # raises the exception that ended the task, if any
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Cancel the task, and wait until it has closed its stream."""
        await self.close_all([self])

    @staticmethod
    async def close_all(prefetches: Sequence[MemberPrefetch]) -> None:
        """`aclose` for several at once. All tasks are cancelled and all shares released, even if this call is itself cancelled."""
        for prefetch in prefetches:
            prefetch.task.cancel()
        try:
            await asyncio.gather(*(prefetch.task for prefetch in prefetches), return_exceptions=True)
        finally:
            for prefetch in prefetches:
                prefetch.share.release()

    async def _run(self, open_member: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        try:
            async with open_member() as chunks:
                async for chunk in chunks:
                    if not await self._put(chunk):
                        return
        except asyncio.CancelledError:
            raise  # by `aclose`: there is no consumer to notify
        except BaseException:
            await self._put(None)
            raise
        await self._put(None)

    async def _put(self, chunk: bytes | None) -> bool:
        """Queue a chunk, or None for the end. False if the member timed out."""
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                await self._chunks.put(chunk)
        except TimeoutError:
            if not self.is_taken:
                self.timed_out = True
                self._chunks.get_nowait()
                self.share.release()
                return False
            await self._chunks.put(chunk)
        return True
