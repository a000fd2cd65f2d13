"""`PeriodicTask`: work that is repeated in the background, at intervals and when it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

import structlog

_log = structlog.get_logger(__name__)


class PeriodicTask:
    """Works at once, then every `interval_seconds` while it is `running`, and soon after `wake`. No error ends it."""

    def __init__(
        self,
        name: str,
        work: Callable[[], Awaitable[None]],
        interval_seconds: float,
        *,
        expected_errors: tuple[type[Exception], ...],
        is_logged: Callable[[Exception], bool],
    ) -> None:
        """`name`: that of the work, in log lines. An error of `expected_errors` puts the work off until the next time; its line is logged
        unless `is_logged` says that another one tells of it. Other errors are logged with their traceback."""
        self._name = name
        self._work = work
        self._interval_seconds = interval_seconds
        self._expected_errors = expected_errors
        self._is_logged = is_logged
        self._woken = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Work until the block ends, and wait for the end of the work."""
        task = asyncio.create_task(self._run(), name=self._name)
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    def wake(self) -> None:
        self._woken.set()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            await self._work_once()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_seconds):
                    await self._woken.wait()

    async def _work_once(self) -> None:
        try:
            await self._work()
        except self._expected_errors as error:
            if not self._is_logged(error):
                _log.warning(f"{self._name} is put off", reason=str(error))
        except Exception:  # noqa: BLE001 - the task's outermost edge: one failed pass must not end the task
            _log.exception(f"{self._name} failed")
