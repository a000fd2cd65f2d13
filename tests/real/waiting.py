"""Waits for a condition, with a time limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

WITHIN_SECONDS = 15.0


def eventually(condition: Callable[[], bool], what: str, *, within: float = WITHIN_SECONDS) -> None:
    """Return as soon as `condition` holds. After `within` seconds, fail with `what`, the description of the condition."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        time.sleep(0.02)


async def eventually_so(condition: Callable[[], Awaitable[bool]], what: str, *, within: float = WITHIN_SECONDS) -> None:
    """Like `eventually`, for coroutines."""
    end = time.monotonic() + within
    while not await condition():
        assert time.monotonic() < end, f"not within {within:g} s: {what}"
        await asyncio.sleep(0.02)
