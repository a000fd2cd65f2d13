"""Processes items with several concurrent workers and a bounded queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def run_in_parallel(
    pages: AsyncIterator[Sequence[T]], concurrency: int, process: Callable[[T], Awaitable[None]]
) -> None:
    """Calls `process` for each item of `pages`, `concurrency` at a time. The first error cancels the rest and is raised. At most
    `concurrency` items are queued (back-pressure)."""
    queue: asyncio.Queue[T | None] = asyncio.Queue(concurrency)

    async def work() -> None:
        while (item := await queue.get()) is not None:
            await process(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
            async for page in pages:
                for item in page:
                    await queue.put(item)
            for _ in range(concurrency):
                await queue.put(None)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
