"""Blocking calls in threads, such that a cancellation never leaves one behind that still uses a descriptor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")


class Threads:
    """Up to `count` threads; calls beyond that wait for one."""

    def __init__(self, name: str, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Call it in a thread. When cancelled, a call that has not begun is dropped; one that has begun is waited for."""
        call = self._executor.submit(function, *arguments)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            await _ended(call)
            raise

    async def acquire(
        self, function: Callable[[*_Arguments], _Result], release: Callable[[_Result], None], *arguments: *_Arguments
    ) -> _Result:
        """As `run`, for what must be released: a result that comes too late for a cancelled caller is given to `release`."""
        call = self._executor.submit(function, *arguments)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            await _ended(call)
            if not call.cancelled() and call.exception() is None:
                await self.finish(release, call.result())
            raise

    async def finish(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """As `run`, for clearing up: made and waited for even when cancelled."""
        call = self._executor.submit(function, *arguments)
        try:
            await asyncio.shield(asyncio.wrap_future(call))
        except asyncio.CancelledError:
            await _ended(call)
            raise

    def start(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """Call it in a thread and do not wait: only for what cannot fail in a way that matters; `aclose` waits for it, and afterwards
        it is called at once."""
        try:
            self._executor.submit(function, *arguments)
        except RuntimeError:
            function(*arguments)

    async def aclose(self) -> None:
        """Waits for the calls that have begun."""
        await asyncio.to_thread(self._executor.shutdown)


async def _ended(call: Future[_Result]) -> None:
    """Wait until the thread has left the call, however often the waiting is cancelled."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set_result, None))
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])
