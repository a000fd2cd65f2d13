"""Tests whether an S3 store accepts writes, with as few test objects as possible.

Few, since versioned buckets and stores with a minimum storage duration keep every copy of a test object.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from app.storage.errors import StorageError, StorageUnavailable

PROBE_SECONDS = 3600.0
RECHECK_SECONDS = 60.0
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0
"""Pause after a test write that was refused, which leaves nothing in the store."""


class WriteProbe:
    """Runs `probe`, which writes a test object, once an hour, or after a minute if another write of the service has failed since.

    A failed probe is repeated after pauses that grow to a minute, or to an hour if it did store its object. Until then `check` raises its error
    again, unless the probe had stored nothing and another write has succeeded since.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        failed_writes: Callable[[], int],
        writes: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failed_writes` and `writes`: counters of the service's failed and successful writes to the store."""
        self._probe = probe
        self._failed_writes = failed_writes
        self._writes = writes
        self._clock = clock
        self._probed_at = float("-inf")
        self._pause = 0.0
        self._failure: StorageError | None = None
        self._failed_writes_seen = 0
        self._writes_seen = 0

    async def check(self) -> None:
        """Raises the `StorageError` for which the store accepts no writes."""
        if self._failure is not None and not self._failure.probe_was_stored and self._writes() > self._writes_seen:
            self._pause, self._failure = 0.0, None
        if not self._is_due():
            if self._failure is not None:
                raise self._failure
            return
        self._probed_at = self._clock()
        self._failed_writes_seen = self._failed_writes()
        try:
            await self._probe()
        except StorageError as error:
            self._record_failure(error)
            raise
        except asyncio.CancelledError:  # the readiness check timed out
            self._record_failure(StorageUnavailable("", "s3", "a test object was not written in time"))
            raise
        self._pause, self._failure = 0.0, None

    def _record_failure(self, error: StorageError) -> None:
        self._failure = error
        self._writes_seen = self._writes()
        longest = PROBE_SECONDS if error.probe_was_stored else LONGEST_RETRY_SECONDS
        self._pause = min(max(FIRST_RETRY_SECONDS, 2 * self._pause), longest)

    def _is_due(self) -> bool:
        passed = self._clock() - self._probed_at
        if self._failure is not None:
            return passed >= self._pause
        return passed >= (RECHECK_SECONDS if self._failed_writes() > self._failed_writes_seen else PROBE_SECONDS)
