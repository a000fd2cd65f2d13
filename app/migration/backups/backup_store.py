"""Backups of the catalogue: made into `backups/` of the media location, listed, and the old ones removed.

A backup is one object, written whole or not at all, of one view of the catalogue, under a name of its own until it was read back: what
is listed has been. It holds all that the catalogue knows, the hashes of passwords and keys among it; the photos themselves are not in it.
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
"""One backup at a time, of all processes."""

UNVERIFIED_SUFFIX = ".unverified"
"""Ends the name of one that has not been read back."""
MAX_CLOCK_AHEAD = timedelta(days=1)
"""A name that is further ahead of the clock was given by another clock: it says nothing about what is new and what is old."""

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
    """`size` in bytes, compressed."""

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
        """A new one; then those beyond the number to be kept are removed, never this one. Raises `BackupInProgress`, `BackupDamaged` (the store
        gives back other bytes than it was given), `CatalogError` or `StorageError`; then there is no new backup."""
        async with self._catalog.try_exclusive(BACKUP_LOCK_NAME) as alone:
            if not alone:
                raise BackupInProgress
            return await self._create()

    async def create_if_due(self, moment: datetime, period: timedelta) -> BackupInfo | None:
        """As `create`, where the newest is older than `period`. None: it is not, or another process is at it."""
        async with self._catalog.try_exclusive(BACKUP_LOCK_NAME) as alone:
            if not alone:
                return None
            found = self._exclude_future(await self._list_own(), moment)
            if found and moment - found[0].created_at < period:
                return None
            return await self._create()

    async def _create(self) -> BackupInfo:
        moment = datetime.now(UTC)
        name = f"mediavault-{moment.strftime(_TIME_FORMAT)[:-3]}.jsonl.gz"
        path = self._storage.managed_path(Key(f"{BACKUP_FOLDER}/{name}"))
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        await self._write(path + UNVERIFIED_SUFFIX, moment)
        made = BackupInfo(name, path, await self._verify(path + UNVERIFIED_SUFFIX), moment)
        await self._publish(made)
        await self._remove_old(made)
        return made

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
        """The size in bytes of what is stored, which is a whole backup; what is not is removed."""
        try:
            async with self._storage.read(path) as stream, aclosing(read_backup(stream.chunks)) as parts:
                async for _ in parts:
                    pass
                return stream.info.size
        except (BackupDamaged, StorageError):
            await self._remove(path)
            raise

    async def _publish(self, made: BackupInfo) -> None:
        """It gets its name. On S3 that is a copy, and all is well once that is there."""
        unverified = made.path + UNVERIFIED_SUFFIX
        try:
            await self._storage.rename(unverified, made.path)
        except StorageError as error:
            if not await self._storage.exists(made.path):
                raise
            _log.warning("what a backup was made of could not be removed yet", path=unverified, reason=str(error))

    async def _remove_old(self, made: BackupInfo) -> None:
        """Nothing refers to backups, so no sweeper removes them. What was not verified is of a process that died: it held the lock."""
        others = [
            backup
            for backup in self._exclude_future(await self._list_own(), datetime.now(UTC))
            if backup.path != made.path
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

    def _exclude_future(self, found: Iterable[BackupInfo], moment: datetime) -> list[BackupInfo]:
        """Those whose names may be true. Of the others each is spoken of once."""
        every = list(found)
        dated = exclude_future_backups(every, moment)
        for backup in every:
            if backup not in dated and backup.name not in self._warned_names:
                self._warned_names.add(backup.name)
                _log.warning("a backup has a name of the future, and is left alone", path=backup.path)
        return dated

    async def _list_own(self) -> list[BackupInfo]:
        """Of the engine that is set, newest first."""
        return [backup for backup in await list_backups(self._storage) if self._is_own(backup.path)]

    def _is_own(self, path: str) -> bool:
        return path.startswith(self._storage.managed_path(Key(BACKUP_FOLDER)) + "/")


async def list_backups(storage: StorageService) -> list[BackupInfo]:
    """Of every configured engine, newest first. What others keep in the folder, and what was not read back, is left out."""
    found: list[BackupInfo] = []
    async for path, info in _list_backup_folder(storage):
        name = info.key.removeprefix(f"{BACKUP_FOLDER}/")
        moment = _parse_created_at(name)
        if moment is not None:
            found.append(BackupInfo(name, path, info.size, moment))
    return sorted(found, key=lambda backup: (backup.created_at, backup.path), reverse=True)


async def _list_backup_folder(storage: StorageService) -> AsyncIterator[tuple[str, ObjectInfo]]:
    try:
        async for each in storage.list_managed(BACKUP_FOLDER):
            yield each
    except ListingIncomplete as error:  # folders in it are not ours
        if any(folder.endswith(f"/{BACKUP_FOLDER}") for folder in error.folders):
            raise


def exclude_future_backups(backups: Iterable[BackupInfo], moment: datetime) -> list[BackupInfo]:
    """Without those whose names are far ahead of that moment."""
    return [backup for backup in backups if backup.created_at - moment <= MAX_CLOCK_AHEAD]


def _parse_created_at(name: str) -> datetime | None:
    """When the backup of that name was made; None where it is the name of none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], _TIME_FORMAT).replace(tzinfo=UTC)
    except ValueError:  # no day of any calendar
        return None
