"""`UploadSweeper`: ends sessions that nobody continues, completes those whose client did not wait, and clears the storage of what ended
sessions have left. Any number of processes may sweep at once and be killed at any point."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.schema.upload_records import Upload
from app.periodic_task import PeriodicTask
from app.storage.errors import StorageError
from app.storage.resumable import ResumableWriteState
from app.storage.service import StorageService
from app.uploads.errors import UploadError

SWEEP_INTERVAL_SECONDS = 60.0
IDLE_BEFORE_COMPLETION = timedelta(minutes=5)
"""A client gets its answer from the request that sent the last byte; only after this time the sweeper completes the upload."""
RETRY_INTERVAL = timedelta(minutes=5)
MAX_ENDED_UPLOADS = 10_000
"""Ended sessions of a user whose answers are kept until they expire. More of them, of a client that begins and cancels for ever, are forgotten
earlier."""
BATCH_SIZE = 100

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class UploadSweepReport:
    expired: int = 0
    completed: int = 0
    cleared: int = 0
    forgotten: int = 0


async def sweep_uploads(
    catalog: Catalog,
    storage: StorageService,
    *,
    now: datetime,
    lifetime: timedelta,
    complete: Callable[[Upload], Awaitable[None]] | None = None,
    max_ended: int = MAX_ENDED_UPLOADS,
) -> UploadSweepReport:
    """One pass as of `now`. Raises `CatalogError`; errors of the storage, and of completing an upload, are logged."""
    completed = 0
    if complete is not None:
        for upload in await catalog.uploads.find_unfinished(now - IDLE_BEFORE_COMPLETION, BATCH_SIZE):
            completed += await _complete(complete, upload)
    expired = await catalog.uploads.expire(now, now + lifetime)
    cleared = 0
    while due := await catalog.uploads.claim_cleanups(now, now + LATE_WRITE_GRACE, BATCH_SIZE):
        for upload in due:
            cleared += await _clear(catalog, storage, upload, now)
    return UploadSweepReport(expired, completed, cleared, await catalog.uploads.forget(now, max_ended))


async def _complete(complete: Callable[[Upload], Awaitable[None]], upload: Upload) -> bool:
    try:
        await complete(upload)
    except (UploadError, StorageError, CatalogError) as error:
        _log.info("an upload whose bytes are all there is not completed", upload=str(upload.id), reason=str(error))
        return False
    return True


async def _clear(catalog: Catalog, storage: StorageService, upload: Upload, now: datetime) -> bool:
    """Clear the storage. Its file becomes `doomed`, and after the grace for late writes the storage is cleared once more."""
    state = None if upload.storage_state is None else ResumableWriteState(upload.storage_state)
    try:
        if upload.path is not None:
            await storage.resumable.abort(upload.path, state)
    except StorageError as error:
        _log.warning("an ended upload is not cleared yet", upload=str(upload.id), reason=str(error))
        await catalog.uploads.set_cleanup(upload.id, now + RETRY_INTERVAL)
        return False
    if upload.file_id is None or not await catalog.files.mark_for_deletion(upload.file_id, LATE_WRITE_GRACE):
        await catalog.uploads.set_cleanup(upload.id, None)
    return True


class UploadSweeper:
    """Sweeps every minute while it is `running`, and when `wake` is called. No error ends it."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        lifetime: timedelta,
        check_media_location: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check_media_location` raises a `StorageError` while the media location is not the one of this installation."""
        self._catalog = catalog
        self._storage = storage
        self._lifetime = lifetime
        self._check_media_location = check_media_location
        self._complete: Callable[[Upload], Awaitable[None]] | None = None
        self._task = PeriodicTask(
            "the sweep of uploads",
            self._sweep_once,
            SWEEP_INTERVAL_SECONDS,
            expected_errors=(CatalogError, StorageError),
            is_logged=catalog.outages.record_failure,
        )

    @asynccontextmanager
    async def running(self, complete: Callable[[Upload], Awaitable[None]]) -> AsyncIterator[Self]:
        """Sweep until the block ends. `complete`: see `UploadSessions.complete_idle`."""
        self._complete = complete
        async with self._task.running():
            yield self

    def wake(self) -> None:
        """Sweep soon: a session has ended. Where another process sweeps, it finds that within a minute."""
        self._task.wake()

    async def _sweep_once(self) -> None:
        if self._check_media_location is not None:
            await self._check_media_location()
        now = datetime.now(UTC)
        report = await sweep_uploads(
            self._catalog, self._storage, now=now, lifetime=self._lifetime, complete=self._complete
        )
        if report != UploadSweepReport():
            _log.info("swept uploads", **{name: getattr(report, name) for name in report.__dataclass_fields__})
