"""Results that are settled in the catalogue together: a transaction for each file would cost more than its copy."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")

MOST = 200
PATIENCE_SECONDS = 1.0


class Batches(Generic[T]):
    """Hands what is added to `settle`, at most `MOST` at a time, and the first of them at most about a second after it was added
    as long as more come. `flush` at the end."""

    def __init__(self, settle: Callable[[list[T]], Awaitable[None]]) -> None:
        self._settle = settle
        self._waiting: list[T] = []
        self._oldest = 0.0
        self._turn = asyncio.Lock()

    async def add(self, result: T) -> None:
        now = asyncio.get_running_loop().time()
        if not self._waiting:
            self._oldest = now
        self._waiting.append(result)
        if len(self._waiting) >= MOST or now - self._oldest >= PATIENCE_SECONDS:
            await self.flush()

    async def flush(self) -> None:
        async with self._turn:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._settle(batch)
