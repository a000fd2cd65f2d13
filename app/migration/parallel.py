"""Several at a time, in order of arrival, with as many waiting as are worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def run_in_parallel(
    pages: AsyncIterator[Sequence[T]], concurrency: int, process: Callable[[T], Awaitable[None]]
) -> None:
    """`process` on everything that `pages` gives; the first failure ends all of it, and is raised."""
    queue: asyncio.Queue[T | None] = asyncio.Queue(concurrency)

    async def work() -> None:
        while (each := await queue.get()) is not None:
            await process(each)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
            async for page in pages:
                for each in page:
                    await queue.put(each)
            for _ in range(concurrency):
                await queue.put(None)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
