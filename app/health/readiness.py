"""Readiness: runs named checks, each with a time-out, and caches their results for a few seconds, so that frequent polling costs nothing.

What is checked is passed in; nothing here knows the parts of the service.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

log = structlog.get_logger(__name__)

CHECK_SECONDS = 5.0
CACHE_SECONDS = 3.0

Check = Callable[[], Awaitable[None]]
"""Returns if the part is well, else raises an error."""


class CheckFailed(Exception):
    """A part is not well. The text holds nothing confidential: anyone may see it."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`failure`: the error; None for a part that is well. `seconds`: how long the check took. `is_required`: the service is not ready without it.
    `since`: when this process saw the part become well, or fail; aware UTC."""

    name: str
    failure: Exception | None
    seconds: float
    is_required: bool
    since: datetime


class ReadinessChecks:
    """Runs all checks concurrently, at most once in `cache_seconds`, and logs when a part's state changes."""

    def __init__(
        self,
        checks: Mapping[str, Check],
        optional_checks: Mapping[str, Check] | None = None,
        *,
        is_outage: Callable[[Exception], bool] = lambda _: False,
        cache_seconds: float = CACHE_SECONDS,
    ) -> None:
        """`optional_checks`: parts without which the service still works, such as one library of many; they are reported only. `is_outage`: whether
        a failure is logged elsewhere, so that it is not logged here; called in the order of the checks."""
        self._is_outage = is_outage
        self._checks = {**checks, **(optional_checks or {})}
        self._required = frozenset(checks)
        self._cache_seconds = cache_seconds
        self._since: dict[str, datetime] = {}
        self._results: tuple[CheckResult, ...] = ()
        self._expires = float("-inf")
        self._lock = asyncio.Lock()
        self._failing: set[str] = set()
        self._draining_since: datetime | None = None
        self._abandoned: set[asyncio.Future[None]] = set()

    def begin_drain(self) -> None:
        """From now on the process is not ready, whatever the checks say: it is about to stop."""
        self._draining_since = datetime.now(UTC)

    async def read_results(self) -> tuple[CheckResult, ...]:
        """The result of each check, at most `cache_seconds` old. Of a process that is about to stop, that result alone."""
        if self._draining_since is not None:
            return (CheckResult("process", CheckFailed("is stopping"), 0.0, True, self._draining_since),)
        async with self._lock:
            if time.monotonic() >= self._expires:
                checks = (self._run(name, check) for name, check in self._checks.items())
                self._results = tuple(await asyncio.gather(*checks))
                self._expires = time.monotonic() + self._cache_seconds
                for result in self._results:
                    self._log_change(result)
            return self._results

    async def _run(self, name: str, check: Check) -> CheckResult:
        start = time.monotonic()
        task = asyncio.ensure_future(check())
        try:
            await asyncio.wait([task], timeout=CHECK_SECONDS)
            failure = task.exception() if task.done() else TimeoutError()
        finally:
            self._abandon(task)
        if failure is not None and not isinstance(failure, Exception):
            raise failure
        if name not in self._since or (failure is not None) != (name in self._failing):
            self._since[name] = datetime.now(UTC)
        return CheckResult(name, failure, time.monotonic() - start, name in self._required, self._since[name])

    def _abandon(self, task: asyncio.Future[None]) -> None:
        """Cancels a check without waiting for it: a query on a database that hangs takes ten seconds more to be cancelled."""
        if not task.done():
            task.cancel()
            self._abandoned.add(task)
            task.add_done_callback(self._abandoned.discard)

    def _log_change(self, result: CheckResult) -> None:
        if result.failure is None and result.name in self._failing:
            self._failing.remove(result.name)
            log.info("part is well again", part=result.name)
        elif result.failure is not None and result.name not in self._failing and not self._is_outage(result.failure):
            self._failing.add(result.name)
            reason = str(result.failure) or type(result.failure).__name__
            log.error("part is not well", part=result.name, reason=reason)
