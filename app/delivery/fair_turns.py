"""`FairTurns`: bounds how many chunks of one account are handled in one pass of the event loop, so that others are answered in between."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Hashable
from functools import partial

from app.delivery.response import TakeTurn

FREE_DOWNLOADS = 32
"""An account with so many downloads or fewer waits for no turns: to spread their chunks would only cost passes."""
TURNS_PER_PASS = 2
"""Chunks of an account with more downloads in one pass. Each takes a fraction of a millisecond: a request of another account, which takes some
passes, is answered in some milliseconds, however many downloads run."""


class FairTurns:
    """One per process. The downloads of an account take turns in the order in which they ask."""

    def __init__(self) -> None:
        self._downloads: Counter[Hashable] = Counter()
        self._taken: Counter[Hashable] = Counter()
        """By account: turns in this pass."""
        self._waiting: dict[Hashable, deque[asyncio.Future[None]]] = {}
        self._is_scheduled = False

    def join(self, account: Hashable) -> TakeTurn:
        """Count one more download of the account, until `leave`; returns what its chunks wait for."""
        self._downloads[account] += 1
        return partial(self._take, account)

    def leave(self, account: Hashable) -> None:
        self._downloads[account] -= 1
        if not self._downloads[account]:
            del self._downloads[account]

    async def _take(self, account: Hashable) -> None:
        """Return when the account may handle its next chunk: in the next pass, or a later one."""
        if self._downloads[account] <= FREE_DOWNLOADS:
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._begin_pass, loop)
        if self._taken[account] < TURNS_PER_PASS and account not in self._waiting:
            self._taken[account] += 1
            await asyncio.sleep(0)
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(account, deque()).append(turn)
        await turn

    def _begin_pass(self, loop: asyncio.AbstractEventLoop) -> None:
        self._taken.clear()
        for account, turns in list(self._waiting.items()):
            while turns and self._taken[account] < TURNS_PER_PASS:
                turn = turns.popleft()
                if not turn.done():  # cancelled: its client is gone
                    turn.set_result(None)
                    self._taken[account] += 1
            if not turns:
                del self._waiting[account]
        self._is_scheduled = bool(self._waiting)
        if self._is_scheduled:
            loop.call_soon(self._begin_pass, loop)
