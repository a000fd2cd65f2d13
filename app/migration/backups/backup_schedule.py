"""Makes a backup of the catalogue every so often while the service runs; of many replicas, one does."""

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
"""Between two looks at whether a backup is due; the first one, too, keeps away from the start."""

_log = structlog.get_logger(__name__)


class BackupSchedule:
    """Looks, while it is `run_in_background`, for whether the newest backup is older than `hours`; 0 never does. Survives whatever fails."""

    def __init__(self, backups: BackupStore, hours: float, check_media_location: Callable[[], Awaitable[None]]) -> None:
        """`check_media_location` raises a storage error while nothing may be written."""
        self._backups = backups
        self._period = timedelta(hours=hours)
        self._check_media_location = check_media_location

    @asynccontextmanager
    async def run_in_background(self) -> AsyncIterator[Self]:
        """Ends, and waits for its end, with the block: a backup that is being made is given up."""
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
            if not self._backups.outages.covers(error):
                _log.error("the catalogue could not be backed up", reason=str(error))
        except Exception:  # noqa: BLE001 - the task's outermost edge: one failure must not end all later backups
            _log.exception("backing up the catalogue failed")
