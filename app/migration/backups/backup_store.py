"""`BackupStore`: makes backups of the catalogue in `backups/` of the media location, lists them, and removes old ones.

A backup is one object, written atomically from one database snapshot. It has a temporary name until it has been read back, so listed
backups are verified. It contains all rows of the catalogue, including hashes of passwords and keys, but not the photos.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from app import __version__
from app.catalog.catalog import Catalog
from app.config import Settings
from app.migration.backups.backup_format import CONTENT_TYPE, BackupDamaged, BackupHeader, read_backup, write_backup
from app.migration.backups.path_relocation import bucket_path_prefix
from app.storage.backend import ObjectInfo
from app.storage.errors import ListingIncomplete, StorageError
from app.storage.key import Key
from app.storage.service import StorageService

BACKUP_FOLDER = "backups"
BACKUP_LOCK_NAME = "backup"
"""The lock that lets only one process make a backup at a time."""

UNVERIFIED_SUFFIX = ".unverified"
"""Ends the name of a backup that has not been read back yet."""
MAX_CLOCK_AHEAD = timedelta(days=1)
"""A backup whose name is further in the future was named by a wrong clock: its age is unknown."""

_NAME = re.compile(r"mediavault-(\d{8}-\d{6}\.\d{3})\.jsonl\.gz")
_UNVERIFIED_NAME = re.compile(_NAME.pattern + re.escape(UNVERIFIED_SUFFIX))
_TIME_FORMAT = "%Y%m%d-%H%M%S.%f"
_log = structlog.get_logger(__name__)


class BackupInProgress(Exception):
    """Another process is making a backup."""

    def __init__(self) -> None:
        super().__init__("another backup is being made")


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """`size` is compressed, in bytes."""

    name: str
    path: str
    size: int
    created_at: datetime


class BackupStore:
    def __init__(self, catalog: Catalog, storage: StorageService, settings: Settings) -> None:
        self.outages = catalog.outages
        self._catalog = catalog
        self._storage = storage
        self._settings = settings
        self._warned_names: set[str] = set()

    async def create(self) -> BackupInfo:
        """Make a backup, then remove the oldest ones beyond the number to keep, never the new one. Raises `BackupInProgress`,
        `BackupDamaged` (the store returns other bytes than were written), `CatalogError` or `StorageError`; then there is no new backup."""
        async with self._catalog.try_exclusive(BACKUP_LOCK_NAME) as has_lock:
            if not has_lock:
                raise BackupInProgress
            return await self._create()

    async def create_if_due(self, moment: datetime, period: timedelta) -> BackupInfo | None:
        """As `create`, where the newest backup is older than `period`. None where it is not, or another process makes a backup."""
        async with self._catalog.try_exclusive(BACKUP_LOCK_NAME) as has_lock:
            if not has_lock:
                return None
            backups = self._exclude_future(await self._list_own(), moment)
            if backups and moment - backups[0].created_at < period:
                return None
            return await self._create()

    async def _create(self) -> BackupInfo:
        moment = datetime.now(UTC)
        name = f"mediavault-{moment.strftime(_TIME_FORMAT)[:-3]}.jsonl.gz"
        path = self._storage.managed_path(Key(f"{BACKUP_FOLDER}/{name}"))
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        await self._write(path + UNVERIFIED_SUFFIX, moment)
        backup = BackupInfo(name, path, await self._verify(path + UNVERIFIED_SUFFIX), moment)
        await self._publish(backup)
        await self._remove_old(backup)
        return backup

    async def _write(self, path: str, moment: datetime) -> None:
        installation = str(await self._catalog.installation.get_id())
        async with (
            self._storage.write(path, content_type=CONTENT_TYPE) as writer,
            self._catalog.open_snapshot() as snapshot,
        ):
            header = BackupHeader(
                revision=snapshot.revision,
                created_at=moment.isoformat(),
                program=__version__,
                installation=installation,
                media_location=str(self._settings.media_location),
                bucket_location=bucket_path_prefix(self._settings),
            )
            async with aclosing(write_backup(header, snapshot)) as pieces:
                async for piece in pieces:
                    await writer.write(piece)

    async def _verify(self, path: str) -> int:
        """Read the backup back and return its size in bytes. A damaged one is removed before the error is raised."""
        try:
            async with self._storage.read(path) as stream, aclosing(read_backup(stream.chunks)) as parts:
                async for _ in parts:
                    pass
                return stream.info.size
        except (BackupDamaged, StorageError):
            await self._remove(path)
            raise

    async def _publish(self, backup: BackupInfo) -> None:
        """Rename the backup to its final name. On S3 that is a copy and a delete: a failed delete is logged, not raised."""
        unverified = backup.path + UNVERIFIED_SUFFIX
        try:
            await self._storage.rename(unverified, backup.path)
        except StorageError as error:
            if not await self._storage.exists(backup.path):
                raise
            _log.warning("the temporary copy of a backup could not be removed yet", path=unverified, reason=str(error))

    async def _remove_old(self, new_backup: BackupInfo) -> None:
        """Remove old backups, which have no rows for the sweeper. Also remove unverified ones: this process holds the lock, so the
        process that made them is dead."""
        others = [
            backup
            for backup in self._exclude_future(await self._list_own(), datetime.now(UTC))
            if backup.path != new_backup.path
        ]
        for old in others[self._settings.backup_keep - 1 :]:
            await self._remove(old.path)
        async for path, info in _list_backup_folder(self._storage):
            if self._is_own(path) and _UNVERIFIED_NAME.fullmatch(info.key.removeprefix(f"{BACKUP_FOLDER}/")):
                await self._remove(path)

    async def _remove(self, path: str) -> None:
        try:
            await self._storage.unlink(path)
        except StorageError as error:
            _log.warning("a backup could not be removed yet", path=path, reason=str(error))

    def _exclude_future(self, backups: Iterable[BackupInfo], moment: datetime) -> list[BackupInfo]:
        """The backups without those of `exclude_future_backups`; each of these is logged once."""
        all_backups = list(backups)
        dated = exclude_future_backups(all_backups, moment)
        for backup in all_backups:
            if backup not in dated and backup.name not in self._warned_names:
                self._warned_names.add(backup.name)
                _log.warning("a backup has a name of the future, and is left alone", path=backup.path)
        return dated

    async def _list_own(self) -> list[BackupInfo]:
        """The backups of the engine in use, newest first."""
        return [backup for backup in await list_backups(self._storage) if self._is_own(backup.path)]

    def _is_own(self, path: str) -> bool:
        return path.startswith(self._storage.managed_path(Key(BACKUP_FOLDER)) + "/")


async def list_backups(storage: StorageService) -> list[BackupInfo]:
    """The verified backups of every configured engine, newest first. Other files in the folder are left out."""
    backups: list[BackupInfo] = []
    async for path, info in _list_backup_folder(storage):
        name = info.key.removeprefix(f"{BACKUP_FOLDER}/")
        moment = _parse_created_at(name)
        if moment is not None:
            backups.append(BackupInfo(name, path, info.size, moment))
    return sorted(backups, key=lambda backup: (backup.created_at, backup.path), reverse=True)


async def _list_backup_folder(storage: StorageService) -> AsyncIterator[tuple[str, ObjectInfo]]:
    try:
        async for path_and_info in storage.list_managed(BACKUP_FOLDER):
            yield path_and_info
    except ListingIncomplete as error:  # unlistable folders below it are not ours
        if any(folder.endswith(f"/{BACKUP_FOLDER}") for folder in error.folders):
            raise


def exclude_future_backups(backups: Iterable[BackupInfo], moment: datetime) -> list[BackupInfo]:
    """Without those whose names are more than `MAX_CLOCK_AHEAD` later than `moment`."""
    return [backup for backup in backups if backup.created_at - moment <= MAX_CLOCK_AHEAD]


def _parse_created_at(name: str) -> datetime | None:
    """The time in a backup's name; None for other names."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:  # an impossible date
        return None
