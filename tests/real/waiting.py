"""Waits for a condition, with a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

WITHIN_SECONDS = 15.0
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 0.1


def eventually(condition: Callable[[], bool], what: str, *, within: float = WITHIN_SECONDS) -> None:
    """Return soon after `condition` holds. After `within` seconds, fail with `what`, the description of the condition."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within, f"not within {within:g} s: {what}"
        time.sleep(choose_pause(began))


async def eventually_so(condition: Callable[[], Awaitable[bool]], what: str, *, within: float = WITHIN_SECONDS) -> None:
    """Like `eventually`, for coroutines."""
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() < began + within, f"not within {within:g} s: {what}"
        await asyncio.sleep(choose_pause(began))


def choose_pause(began: float) -> float:
    """Seconds until the condition is evaluated again: a tenth of the wait so far, because many conditions are requests to a service."""
    return min(max((time.monotonic() - began) / 10, SHORTEST_PAUSE), LONGEST_PAUSE)
