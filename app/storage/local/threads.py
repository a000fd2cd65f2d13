"""Blocking calls in threads, such that a cancellation never leaves one behind that still uses a descriptor.

A call to a disk that may hang cannot be waited for: `TimeoutThreadPool` give it up, and tell by its future when it has ended after all.
"""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar, TypeVarTuple

from app.storage.local.daemon_executor import DaemonExecutor

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")

CLOSE_TIMEOUT_SECONDS = 1.0
"""How long the end of `TimeoutThreadPool` waits for what has begun."""
NO_ANSWER = "the disk does not answer"


class ThreadPool:
    """Up to `max_threads` threads; calls beyond that wait for one."""

    def __init__(self, name: str, max_threads: int) -> None:
        self._executor: Executor = ThreadPoolExecutor(max_threads, thread_name_prefix=name)

    def submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        """Have it called in a thread; `wait` for it."""
        return self._executor.submit(function, *arguments)

    async def wait(self, call: Future[_Result]) -> _Result:
        """The result of what was submitted. When cancelled, a call that has not begun is dropped; one that has begun is waited for."""
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            await _wait_until_done(call)
            raise

    async def run(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Call it in a thread, and wait for it."""
        return await self.wait(self.submit(function, *arguments))

    async def acquire(
        self, function: Callable[[*_Arguments], _Result], release: Callable[[_Result], None], *arguments: *_Arguments
    ) -> _Result:
        """As `run`, for what must be released: a result that comes too late for a cancelled caller is given to `release`."""
        call = self._executor.submit(function, *arguments)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            await _wait_until_done(call)
            if not call.cancelled() and call.exception() is None:
                await self.run_uncancelled(release, call.result())
            raise

    async def run_uncancelled(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """As `run`, for clearing up: made and waited for even when cancelled."""
        call = self._executor.submit(function, *arguments)
        try:
            await asyncio.shield(asyncio.wrap_future(call))
        except asyncio.CancelledError:
            await _wait_until_done(call)
            raise

    def run_in_background(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """Call it in a thread and do not wait: only for what cannot fail in a way that matters; `aclose` waits for it, and afterwards
        it is called at once."""
        try:
            self._executor.submit(function, *arguments)
        except RuntimeError:
            function(*arguments)

    async def aclose(self) -> None:
        """Waits for the calls that have begun."""
        await asyncio.to_thread(self._executor.shutdown)


class TimeoutThreadPool(ThreadPool):
    """Calls to one disk, none of which is waited for longer than `timeout_seconds` seconds; that is an `OSError` with `ETIMEDOUT`, as what is
    submitted gets at once while `max_stuck_calls` calls or more have not returned for so long. One that returns lets others try again."""

    def __init__(self, name: str, max_threads: int, timeout_seconds: float, max_stuck_calls: int) -> None:
        self._executor = DaemonExecutor(name, max_threads)
        self._timeout_seconds = timeout_seconds
        self._max_stuck_calls = max_stuck_calls
        self._calls: set[Future[Any]] = set()
        self._start_times: dict[int, float] = {}
        """When each call began that has not ended, by its thread."""

    @property
    def stuck_calls(self) -> int:
        """How many calls have not returned in time."""
        late = time.monotonic() - self._timeout_seconds
        return sum(began <= late for began in tuple(self._start_times.values()))

    def submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        if self.stuck_calls >= self._max_stuck_calls:
            raise _timeout_error()
        return self._submit(function, *arguments)

    async def wait(self, call: Future[_Result]) -> _Result:
        """The result of what was submitted. A call that has begun is not waited for when cancelled, nor after `patience`: then it goes on, which
        `call` tells."""
        waiting = asyncio.wrap_future(call)
        try:
            done, _ = await asyncio.wait([waiting], timeout=self._timeout_seconds)
            if done:
                return waiting.result()
            raise _timeout_error()
        finally:
            waiting.cancel()

    async def acquire(
        self, function: Callable[[*_Arguments], _Result], release: Callable[[_Result], None], *arguments: *_Arguments
    ) -> _Result:
        call = self.submit(function, *arguments)
        try:
            return await self.wait(call)
        except BaseException:
            call.add_done_callback(lambda call: self._release(call, release))
            raise

    def run_in_background(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """As in `ThreadPool`, but never called here."""
        try:
            self._submit(function, *arguments)
        except RuntimeError:
            threading.Thread(target=function, args=arguments, daemon=True).start()

    async def aclose(self) -> None:
        """Waits a moment for the calls that have begun."""
        self._executor.shutdown(wait=False)
        left = [asyncio.wrap_future(call) for call in tuple(self._calls)]
        if left:
            _, stuck = await asyncio.wait(left, timeout=CLOSE_TIMEOUT_SECONDS)
            for call in stuck:
                call.cancel()

    def _submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        call: Future[_Result] = self._executor.submit(self._record_start, function, *arguments)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def _release(self, call: Future[_Result], release: Callable[[_Result], None]) -> None:
        if not call.cancelled() and call.exception() is None:
            self.run_in_background(release, call.result())

    def _record_start(self, function: Callable[..., Any], *arguments: Any) -> Any:
        thread = threading.get_ident()
        self._start_times[thread] = time.monotonic()
        try:
            return function(*arguments)
        finally:
            del self._start_times[thread]


def _timeout_error() -> OSError:
    return OSError(errno.ETIMEDOUT, NO_ANSWER)


async def _wait_until_done(call: Future[_Result]) -> None:
    """Wait until the thread has left the call, however often the waiting is cancelled."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set_result, None))
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])
