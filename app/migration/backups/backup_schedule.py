"""Makes backups of the catalogue at intervals while the service runs. Of several replicas only one makes each backup."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Self

import structlog

from app.catalog.errors import CatalogError
from app.migration.backups.backup_format import BackupDamaged
from app.migration.backups.backup_store import BackupStore
from app.storage.errors import StorageError

CHECK_INTERVAL_SECONDS = 600.0
"""Pause between two checks whether a backup is due, and before the first one, so that it does not delay the start."""

_log = structlog.get_logger(__name__)


class BackupSchedule:
    """Makes a backup whenever the newest one is older than `hours`; 0 switches it off. A failure is logged and does not end the
    schedule."""

    def __init__(self, backups: BackupStore, hours: float, check_media_location: Callable[[], Awaitable[None]]) -> None:
        """`check_media_location` raises a `StorageError` while nothing may be written."""
        self._backups = backups
        self._period = timedelta(hours=hours)
        self._check_media_location = check_media_location

    @asynccontextmanager
    async def run_in_background(self) -> AsyncIterator[Self]:
        """Runs the schedule during the `async with` block. At its end a backup in progress is aborted."""
        task = asyncio.create_task(self._run(), name="backups")
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        pause = min(CHECK_INTERVAL_SECONDS, self._period.total_seconds())
        while pause:
            await asyncio.sleep(pause)
            await self._create_if_due()

    async def _create_if_due(self) -> None:
        try:
            await self._check_media_location()
            backup = await self._backups.create_if_due(datetime.now(UTC), self._period)
            if backup is not None:
                _log.info("the catalogue is backed up", path=backup.path, size=backup.size)
        except (BackupDamaged, CatalogError, StorageError) as error:
            if not self._backups.outages.record_failure(error):
                _log.error("the catalogue could not be backed up", reason=str(error))
        except Exception:  # noqa: BLE001 - the task's outermost edge: one failure must not end all later backups
            _log.exception("backing up the catalogue failed")
