"""Readiness: named checks, each with a time-out, their results shared for a few seconds so that polling costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

CHECK_SECONDS = 5.0
SHARED_SECONDS = 3.0

Check = Callable[[], Awaitable[None]]
"""Returns when the part is well, else raises what is wrong."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """`failure` is None for a part that is well. `seconds`: how long the check took."""

    name: str
    failure: Exception | None
    seconds: float


class Health:
    """Runs the checks at most every few seconds, whoever asks, all at the same time; logs when a part's state turns."""

    def __init__(self, checks: Mapping[str, Check], *, shared_seconds: float = SHARED_SECONDS) -> None:
        self._checks = dict(checks)
        self._shared_seconds = shared_seconds
        self._results: tuple[CheckResult, ...] = ()
        self._expires = float("-inf")
        self._lock = asyncio.Lock()
        self._failing: set[str] = set()

    async def results(self) -> tuple[CheckResult, ...]:
        """The state of each part, at most a few seconds old."""
        async with self._lock:
            if time.monotonic() >= self._expires:
                checks = (self._run(name, check) for name, check in self._checks.items())
                self._results = tuple(await asyncio.gather(*checks))
                self._expires = time.monotonic() + self._shared_seconds
                for result in self._results:
                    self._note(result)
            return self._results

    async def _run(self, name: str, check: Check) -> CheckResult:
        start = time.monotonic()
        failure: Exception | None = None
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await check()
        except Exception as error:  # noqa: BLE001 - whatever a part says, it is not well
            failure = error
        return CheckResult(name, failure, time.monotonic() - start)

    def _note(self, result: CheckResult) -> None:
        if result.failure is None and result.name in self._failing:
            self._failing.remove(result.name)
            log.info("part is well again", part=result.name)
        elif result.failure is not None and result.name not in self._failing:
            self._failing.add(result.name)
            reason = str(result.failure) or type(result.failure).__name__
            log.error("part is not well", part=result.name, reason=reason)
