"""Runs blocking calls in threads, so that a cancelled caller never closes a descriptor that a thread still uses.

`ThreadPool` waits until a call that has begun has ended, even when the caller is cancelled. `TimeoutThreadPool` is for disks that may hang:
it abandons a call after a timeout, and the call's future tells when it ended after all.
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
"""How long `TimeoutThreadPool.aclose` waits for calls that have begun."""
NO_ANSWER = "the disk does not answer"


class ThreadPool:
    """Up to `max_threads` threads; further calls are queued."""

    def __init__(self, name: str, max_threads: int) -> None:
        self._executor: Executor = ThreadPoolExecutor(max_threads, thread_name_prefix=name)

    def submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        """Start a call in a thread. Its result is awaited with `wait`."""
        return self._executor.submit(function, *arguments)

    async def wait(self, call: Future[_Result]) -> _Result:
        """The result of a submitted call. On cancellation, a call that has not begun is dropped; for a call that has begun, `wait`
        still waits."""
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            await _wait_until_done(call)
            raise

    async def run(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> _Result:
        """Run a call in a thread, and wait for its result."""
        return await self.wait(self.submit(function, *arguments))

    async def acquire(
        self, function: Callable[[*_Arguments], _Result], release: Callable[[_Result], None], *arguments: *_Arguments
    ) -> _Result:
        """As `run`, for a result that must be released. When the caller is cancelled, the result is passed to `release`."""
        call = self._executor.submit(function, *arguments)
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            await _wait_until_done(call)
            if not call.cancelled() and call.exception() is None:
                await self.run_uncancelled(release, call.result())
            raise

    async def run_uncancelled(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """As `run`, for cleaning up: the call is made, and waited for, even when the caller is cancelled."""
        call = self._executor.submit(function, *arguments)
        try:
            await asyncio.shield(asyncio.wrap_future(call))
        except asyncio.CancelledError:
            await _wait_until_done(call)
            raise

    def run_in_background(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """Start a call in a thread and ignore its result and errors. `aclose` waits for it. After `aclose` the call is made in the
        caller's thread."""
        try:
            self._executor.submit(function, *arguments)
        except RuntimeError:
            function(*arguments)

    async def aclose(self) -> None:
        """Waits for calls that have begun."""
        await asyncio.to_thread(self._executor.shutdown)


class TimeoutThreadPool(ThreadPool):
    """Threads for calls to one disk that may hang. Waiting for a call raises `OSError` with `ETIMEDOUT` after `timeout_seconds`. While
    `max_stuck_calls` or more calls have run for longer than that, `submit` raises the same error at once. When one of them returns, calls
    are accepted again."""

    def __init__(self, name: str, max_threads: int, timeout_seconds: float, max_stuck_calls: int) -> None:
        self._executor = DaemonExecutor(name, max_threads)
        self._timeout_seconds = timeout_seconds
        self._max_stuck_calls = max_stuck_calls
        self._calls: set[Future[Any]] = set()
        self._start_times: dict[int, float] = {}
        """Start times (monotonic) of running calls, by thread id."""

    @property
    def stuck_calls(self) -> int:
        """Number of running calls that have exceeded the timeout."""
        late = time.monotonic() - self._timeout_seconds
        return sum(began <= late for began in tuple(self._start_times.values()))

    def submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        if self.stuck_calls >= self._max_stuck_calls:
            raise _timeout_error()
        return self._submit(function, *arguments)

    async def wait(self, call: Future[_Result]) -> _Result:
        """The result of a submitted call. On cancellation and after the timeout a call that has begun is abandoned: it runs on, and `call`
        tells when it ends."""
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
        """As in `ThreadPool`, but never in the caller's thread: after `aclose` a daemon thread makes the call."""
        try:
            self._submit(function, *arguments)
        except RuntimeError:
            threading.Thread(target=function, args=arguments, daemon=True).start()

    async def aclose(self) -> None:
        """Waits `CLOSE_TIMEOUT_SECONDS` for calls that have begun."""
        self._executor.shutdown(wait=False)
        running = [asyncio.wrap_future(call) for call in tuple(self._calls)]
        if running:
            _, stuck = await asyncio.wait(running, timeout=CLOSE_TIMEOUT_SECONDS)
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
    """Wait until the thread has left the call, even when the waiting task is cancelled repeatedly."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set_result, None))
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])
