"""`ConnectionSlots`: bounds how many connections of a pool are used at once, and counts them."""

from __future__ import annotations

import asyncio


class ConnectionSlots:
    """`used` slots of `limit`; `waiting` callers want one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.waiting = 0
        self._free = asyncio.Semaphore(limit)

    @property
    def must_wait(self) -> bool:
        """True where `acquire` would not return at once."""
        return self._free.locked()

    async def acquire(self) -> None:
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.used += 1

    def release(self) -> None:
        self.used -= 1
        self._free.release()
