"""Whether a store in the network takes writes, at the cost of few of them: versioned buckets and stores with a minimum storage time keep
every copy of a test object."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from app.storage.errors import StorageError, StorageUnavailable

PROBE_SECONDS = 3600.0
RECHECK_SECONDS = 60.0
FIRST_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 60.0
"""Of a write that was refused, which leaves nothing in the store."""


class WriteProbe:
    """Writes a test object at most once an hour. A write of anybody that failed since has it done sooner, at most once a minute. A probe that
    failed is repeated after pauses that grow to a minute, or to an hour where it stored its object; until then its failure stands,
    unless it was one of writing and somebody has written since."""

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        failed_writes: Callable[[], int],
        writes: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failed_writes` and `writes`: how many of anybody's have failed at the store so far, and how many it took."""
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
        """Raises why the store takes no writes."""
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
        except asyncio.CancelledError:  # whoever asked does not wait any longer
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
