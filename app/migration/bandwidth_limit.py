"""`BandwidthLimit`: a limit of bytes per second that all copies of a run share."""

from __future__ import annotations

import asyncio


class BandwidthLimit:
    """`rate` in bytes per second; None for no limit. `acquire` waits until the rate allows the bytes of this and all earlier calls."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._free_at = 0.0

    async def acquire(self, size: int) -> None:
        if self._rate is None:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + size / self._rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
