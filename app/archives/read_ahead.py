"""Opening members ahead of their turn, bounded in count and bytes for the whole process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self

DEPTH_PER_TRANSFER = 16
"""Members opened ahead in one transfer."""
MAX_STREAMS = 32
"""Members opened ahead in the process, at most half of the connections to the store."""
MAX_BUFFERED_BYTES = 24 * 1024 * 1024
"""Bytes that all of them may hold."""
IDLE_SECONDS = 10.0
"""What was opened ahead for so long, without its turn coming, is closed: the client has paused, and others want the share."""
MAX_BYTES_PER_STREAM = 768 * 1024
"""What one of them holds at most: a chunk that waits, one in hand, and the socket's buffer."""


class BudgetShare:
    """A part of the budget; given back once."""

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
    """What is left to open ahead. Who gets no share reads its members one by one, and is slower, not wrong."""

    def __init__(
        self, depth: int = DEPTH_PER_TRANSFER, max_streams: int = MAX_STREAMS, max_bytes: int = MAX_BUFFERED_BYTES
    ) -> None:
        self.depth = depth
        self.free_streams = max_streams
        self.free_bytes = max_bytes

    def acquire(self, size: int) -> BudgetShare | None:
        """A share for a member of `size` bytes, if there is one left."""
        held = min(size, MAX_BYTES_PER_STREAM)
        if self.free_streams < 1 or self.free_bytes < held:
            return None
        self.free_streams -= 1
        self.free_bytes -= held
        return BudgetShare(self, held)


class MemberPrefetch:
    """One member being read by a task of its own, a chunk ahead of who takes them. Owns its share of the budget.

    Whose turn has come sets `is_taken` and iterates. `timed_out` is true where the turn came too late: open the member anew.
    """

    def __init__(
        self, open_member: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]], share: BudgetShare
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
            await self.task  # raises what ended it
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Stop reading. Not before the task has ended is its stream closed."""
        await self.close_all([self])

    @staticmethod
    async def close_all(fetches: Sequence[MemberPrefetch]) -> None:
        """The same for several at once. All of them end, and all shares are given back, even if this is itself cancelled."""
        for fetch in fetches:
            fetch.task.cancel()
        try:
            await asyncio.gather(*(fetch.task for fetch in fetches), return_exceptions=True)
        finally:
            for fetch in fetches:
                fetch.share.release()

    async def _run(self, open_member: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]) -> None:
        try:
            async with open_member() as chunks:
                async for chunk in chunks:
                    if not await self._put(chunk):
                        return
        except asyncio.CancelledError:
            raise  # by `aclose`: nobody waits for more
        except BaseException:
            await self._put(None)
            raise
        await self._put(None)

    async def _put(self, chunk: bytes | None) -> bool:
        """False when it was given up."""
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
