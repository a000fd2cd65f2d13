"""Log lines about outages of the database: one when it stops answering, one when it answers again, none for the calls
that fail meanwhile. It detects outages from the calls of others and makes none itself.

Code that is about to log an error asks `OutageLog.record_failure` first.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from app.catalog.errors import CatalogUnavailable, CatalogUnreachable

QUIET_SECONDS = 5.0
"""An outage is over after so long without a failure. Otherwise a database that answers only some calls would cause two
lines for each of them."""
LATE_SECONDS = 35.0
"""How long after an outage a call may still fail because it had waited for a connection since before the outage ended.
"""


class FailedWork(StrEnum):
    """The kinds of failed calls that the line about an outage's end counts separately."""

    REQUEST = "requests"
    BACKGROUND = "background"
    CHECK = "checks"


@dataclass(slots=True)
class _Outage:
    began: float
    failed_at: float
    answered_at: float | None = None
    """The first answer since the last failure."""
    failed: Counter[FailedWork] = field(default_factory=Counter)


class OutageLog:
    """The outages of one database, as seen by one process."""

    def __init__(self, database: str) -> None:
        """`database`: its address for log lines, without credentials."""
        self._database = database
        self._outage: _Outage | None = None
        self._answered_at = time.monotonic()
        self._ended_at = float("-inf")

    @property
    def answered_at(self) -> float:
        """`time.monotonic()` of the last answer; at first, of the beginning."""
        return self._answered_at

    def record_answer(self) -> None:
        """Record that a call succeeded."""
        self._answered_at = time.monotonic()
        if self._outage is not None:
            self._end_if_quiet(self._outage)

    def build_timeout_error(self, since: float, reason: str) -> CatalogUnavailable:
        """The error for a call that has waited since `since` (`time.monotonic()`): `CatalogUnavailable` when another
        call was answered meanwhile, so that the database is only slow, else `CatalogUnreachable`."""
        return CatalogUnavailable(reason) if self._answered_at > since else CatalogUnreachable(reason)

    def record_failure(self, error: BaseException, work: FailedWork = FailedWork.BACKGROUND) -> bool:
        """Whether the log lines about an outage already explain this error. If so, the error is counted and the caller
        does not log it. Writes the first line of an outage that begins with this error. A check that times out during
        an outage is covered, too."""
        now = time.monotonic()
        if isinstance(error, CatalogUnreachable):
            self._fail(str(error), now)
        elif type(error) is not CatalogUnavailable and not (
            work is FailedWork.CHECK and isinstance(error, TimeoutError)
        ):
            return False
        if self._outage is None:
            return work is FailedWork.BACKGROUND and now - self._ended_at < LATE_SECONDS
        self._outage.failed[work] += 1
        _get_logger().debug("a call failed while the catalogue is unreachable", work=work.value, reason=str(error))
        return True

    def close(self) -> None:
        """Log the end of an outage that still lasts: the database is no longer used."""
        if self._outage is not None:
            self._end(self._outage, "the catalogue was unreachable until the end", time.monotonic())

    def _fail(self, reason: str, now: float) -> None:
        if self._outage is None:
            self._outage = _Outage(now, now)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            _get_logger().warning("the catalogue is unreachable", database=self._database, since=since, reason=reason)
        self._outage.failed_at = now
        self._outage.answered_at = None

    def _end_if_quiet(self, outage: _Outage) -> None:
        if outage.answered_at is None:
            outage.answered_at = self._answered_at
        if self._answered_at - outage.failed_at >= QUIET_SECONDS:
            self._end(outage, "the catalogue is reachable again", outage.answered_at)

    def _end(self, outage: _Outage, event: str, ended: float) -> None:
        self._outage = None
        self._ended_at = time.monotonic()
        counts = {work.value: outage.failed[work] for work in FailedWork}
        _get_logger().warning(event, database=self._database, seconds=round(ended - outage.began, 1), **counts)


def _get_logger() -> Any:
    """structlog is imported where there is something to log: no command that opens a catalogue is to wait for it."""
    import structlog  # noqa: PLC0415

    return structlog.get_logger(__name__)
