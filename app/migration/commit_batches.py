"""`BatchCommitter`: commits results to the catalogue in batches, because a transaction for each file would cost more than its copy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_BATCH_RESULTS = 200
MAX_DELAY_SECONDS = 1.0


class BatchCommitter(Generic[T]):
    """Passes added results to `commit`, at most `MAX_BATCH_RESULTS` at a time, and no result later than `MAX_DELAY_SECONDS` while further
    ones are added. The caller calls `flush` at the end."""

    def __init__(self, commit: Callable[[list[T]], Awaitable[None]]) -> None:
        self._commit = commit
        self._waiting: list[T] = []
        self._oldest = 0.0
        self._flush_lock = asyncio.Lock()

    async def add(self, result: T) -> None:
        now = asyncio.get_running_loop().time()
        if not self._waiting:
            self._oldest = now
        self._waiting.append(result)
        if len(self._waiting) >= MAX_BATCH_RESULTS or now - self._oldest >= MAX_DELAY_SECONDS:
            await self.flush()

    async def flush(self) -> None:
        async with self._flush_lock:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH_RESULTS], self._waiting[MAX_BATCH_RESULTS:]
                await self._commit(batch)
