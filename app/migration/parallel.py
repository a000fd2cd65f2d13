"""Several at a time, in order of arrival, with as many waiting as are worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def in_parallel(
    source: AsyncIterator[Sequence[T]], concurrency: int, act: Callable[[T], Awaitable[None]]
) -> None:
    """`act` on everything that `source` gives; the first failure ends all of it, and is raised."""
    queue: asyncio.Queue[T | None] = asyncio.Queue(concurrency)

    async def work() -> None:
        while (each := await queue.get()) is not None:
            await act(each)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
            async for page in source:
                for each in page:
                    await queue.put(each)
            for _ in range(concurrency):
                await queue.put(None)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
