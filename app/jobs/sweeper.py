"""Deletes files that are marked for deletion (`doomed`): first the object, then its row. No other code deletes managed
files.

One process of the installation sweeps (see `elected_work`). Several could sweep at once, and each be killed at any
point: a row stays until its object is known to be gone, and deleting an object that is already gone succeeds. A file
whose writer died is deleted only after `LATE_WRITE_GRACE`.
The sweeper also adds up kept counts, empties the trash by age, removes users that were deleted, deletes expired sessions and links, and
fills in folded names of assets after an upgrade.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

import structlog

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogError
from app.catalog.schema.records import File
from app.config import Settings
from app.periodic_task import PeriodicTask
from app.storage.errors import StorageError, StoragePermission
from app.storage.service import StorageService

SWEEP_INTERVAL_SECONDS = 60.0
HOUSEKEEPING_SECONDS = 3600.0
USER_REMOVAL_BATCH = 500
LEFTOVER_AGE = timedelta(days=1)
"""Unfinished writes (temporary files, multipart uploads) that are older than this have no writer any more."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SweepReport:
    """`trash`: assets removed from the trash. `objects`: objects deleted with their rows. `failed`: objects that the
    store refused to delete; they are tried again later. `users`: users removed, after the last of their files."""

    trash: int = 0
    objects: int = 0
    failed: int = 0
    users: int = 0


async def sweep(
    catalog: Catalog,
    storage: StorageService,
    *,
    now: datetime,
    limit: int = 500,
    trashed_before: datetime | None = None,
) -> SweepReport:
    """Sweep until nothing is due at `now`, `limit` files at a time. With `trashed_before`, first remove assets that
    were moved to the trash before it. Raises `CatalogError`; errors of the storage are logged and counted."""
    trash = await _empty_trash(catalog, trashed_before, limit) if trashed_before else 0
    objects = failed = 0
    while claimed := await catalog.files.claim_sweepable(now, limit):
        gone = await _delete_objects(storage, claimed)
        # A file that was deleted during its move has a second object, at the other path.
        kept = await catalog.path_switches.drop_deleted_for_sweeper([file.id for file in gone])
        deletable = [file for file in gone if file.id not in kept]
        await catalog.files.delete_swept(deletable)
        objects += len(deletable)
        failed += len(claimed) - len(gone)
        if not gone:
            break  # the store is unavailable: leave the rest for the next pass
    return SweepReport(trash, objects, failed, await catalog.user_removal.delete_marked())


async def _empty_trash(catalog: Catalog, before: datetime, limit: int) -> int:
    removed_count = 0
    while removed := await catalog.assets.purge_trash(before, limit):
        removed_count += removed
    return removed_count


async def _delete_objects(storage: StorageService, files: list[File]) -> list[File]:
    """Delete the files' objects. Returns the files whose objects are gone now."""
    try:
        failures = await storage.unlink_many([file.path for file in files])
    except StorageError as error:
        failures = dict.fromkeys((file.path for file in files), error)
    if failures:
        path, error = next(iter(failures.items()))
        _log.warning("objects could not be deleted yet", count=len(failures), first=path, reason=str(error))
    return [file for file in files if file.path not in failures]


class Sweeper:
    """Sweeps every minute while it is `running`, and when `wake` is called. No error ends it."""

    def __init__(
        self,
        catalog: Catalog,
        storage: StorageService,
        settings: Settings,
        check_media_location: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`check_media_location` raises a `StorageError` while the media location is not the one of this installation:
        an object that is not found there has not been deleted."""
        self._catalog = catalog
        self._storage = storage
        self._check_media_location = check_media_location
        self._trash_age = timedelta(days=settings.trash_days) if settings.trash_days else None
        self._accepts_immich_sessions = settings.immich_sessions
        self._housekeeping_due = 0.0
        self._task = PeriodicTask(
            "the sweep",
            self._sweep_once,
            SWEEP_INTERVAL_SECONDS,
            expected_errors=(CatalogError, StorageError),
            is_logged=catalog.outages.record_failure,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Sweep until the block ends, and wait for the end of the sweeping task."""
        async with self._task.running():
            yield self

    def wake(self) -> None:
        """Sweep soon: files were marked for deletion. Where another process sweeps, it finds them within a minute."""
        self._task.wake()

    async def _sweep_once(self) -> None:
        if self._check_media_location is not None:
            await self._check_media_location()
        while await self._catalog.user_removal.remove_some(USER_REMOVAL_BATCH):
            pass
        await self._catalog.kept_counts.fold()
        now = datetime.now(UTC)  # after the removal: its files are due in the same pass
        before = now - self._trash_age if self._trash_age else None
        report = await sweep(self._catalog, self._storage, now=now, trashed_before=before)
        if report != SweepReport():
            _log.info("swept", trash=report.trash, objects=report.objects, failed=report.failed, users=report.users)
        if time.monotonic() >= self._housekeeping_due:
            await self._run_housekeeping(now)
            self._housekeeping_due = time.monotonic() + HOUSEKEEPING_SECONDS

    async def _run_housekeeping(self, now: datetime) -> None:
        await self._catalog.sessions.delete_expired(now)
        if self._accepts_immich_sessions:
            await self._catalog.immich_sessions.delete_expired(now)
        else:
            await self._catalog.immich_sessions.delete_all()
        await self._catalog.sign_in_tokens.delete_expired(now)
        await self._catalog.archive_links.delete_expired(now)
        await self._catalog.download_parts.delete_expired(now)
        try:
            leftovers = await self._storage.sweep_leftovers(LEFTOVER_AGE, self._catalog.uploads.find_paths_in_use)
        except StoragePermission as error:
            # Not fatal: a lifecycle rule of the bucket can do it instead (docs/s3.md).
            _log.warning("leftovers of unfinished writes may not be swept", reason=str(error))
        else:
            if leftovers:
                _log.info("swept leftovers of unfinished writes", count=leftovers)
        if vanished := await self._catalog.kept_copies.find_vanished(USER_REMOVAL_BATCH):
            await self._catalog.path_switches.drop_deleted_for_sweeper(vanished)
        await self._catalog.kept_copies.drop_ownerless(USER_REMOVAL_BATCH)
        filled = await self._catalog.folded_names.fill_missing()
        if filled:
            _log.info("names of assets were filled in for searches", count=filled)
