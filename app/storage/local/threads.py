"""Blocking calls in threads, such that a cancellation never leaves one behind that still uses a descriptor.

A call to a disk that may hang cannot be waited for: `PatientThreads` give it up, and tell by its future when it has ended after all.
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

from app.storage.local.daemons import DaemonExecutor

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")

CLOSE_SECONDS = 1.0
"""How long the end of `PatientThreads` waits for what has begun."""
NO_ANSWER = "the disk does not answer"


class Threads:
    """Up to `count` threads; calls beyond that wait for one."""

    def __init__(self, name: str, count: int) -> None:
        self._executor: Executor = ThreadPoolExecutor(count, thread_name_prefix=name)

    def submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        """Have it called in a thread; `wait` for it."""
        return self._executor.submit(function, *arguments)

    async def wait(self, call: Future[_Result]) -> _Result:
        """The result of what was submitted. When cancelled, a call that has not begun is dropped; one that has begun is waited for."""
        try:
            return await asyncio.wrap_future(call)
        except asyncio.CancelledError:
            await _ended(call)
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


class PatientThreads(Threads):
    """Calls to one disk, none of which is waited for longer than `patience` seconds; that is an `OSError` with `ETIMEDOUT`, as what is
    submitted gets at once while `most_stuck` calls or more have not returned for so long. One that returns lets others try again."""

    def __init__(self, name: str, count: int, patience: float, most_stuck: int) -> None:
        self._executor = DaemonExecutor(name, count)
        self._patience = patience
        self._most_stuck = most_stuck
        self._calls: set[Future[Any]] = set()
        self._begun: dict[int, float] = {}
        """When each call began that has not ended, by its thread."""

    @property
    def stuck(self) -> int:
        """How many calls have not returned in time."""
        late = time.monotonic() - self._patience
        return sum(began <= late for began in tuple(self._begun.values()))

    def submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        if self.stuck >= self._most_stuck:
            raise _no_answer()
        return self._submit(function, *arguments)

    async def wait(self, call: Future[_Result]) -> _Result:
        """The result of what was submitted. A call that has begun is not waited for when cancelled, nor after `patience`: then it goes on, which
        `call` tells."""
        waiting = asyncio.wrap_future(call)
        try:
            done, _ = await asyncio.wait([waiting], timeout=self._patience)
            if done:
                return waiting.result()
            raise _no_answer()
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

    def start(self, function: Callable[[*_Arguments], object], *arguments: *_Arguments) -> None:
        """As in `Threads`, but never called here."""
        try:
            self._submit(function, *arguments)
        except RuntimeError:
            threading.Thread(target=function, args=arguments, daemon=True).start()

    async def aclose(self) -> None:
        """Waits a moment for the calls that have begun."""
        self._executor.shutdown(wait=False)
        left = [asyncio.wrap_future(call) for call in tuple(self._calls)]
        if left:
            _, stuck = await asyncio.wait(left, timeout=CLOSE_SECONDS)
            for call in stuck:
                call.cancel()

    def _submit(self, function: Callable[[*_Arguments], _Result], *arguments: *_Arguments) -> Future[_Result]:
        call: Future[_Result] = self._executor.submit(self._timed, function, *arguments)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def _release(self, call: Future[_Result], release: Callable[[_Result], None]) -> None:
        if not call.cancelled() and call.exception() is None:
            self.start(release, call.result())

    def _timed(self, function: Callable[..., Any], *arguments: Any) -> Any:
        thread = threading.get_ident()
        self._begun[thread] = time.monotonic()
        try:
            return function(*arguments)
        finally:
            del self._begun[thread]


def _no_answer() -> OSError:
    return OSError(errno.ETIMEDOUT, NO_ANSWER)


async def _ended(call: Future[_Result]) -> None:
    """Wait until the thread has left the call, however often the waiting is cancelled."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    call.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set_result, None))
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])
