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
from app.migration.backup_file import CONTENT_TYPE, BackupDamaged, Header, read, written
from app.migration.relocation import bucket_location
from app.storage.backend import ObjectInfo
from app.storage.errors import ListingIncomplete, StorageError
from app.storage.key import Key
from app.storage.service import StorageService

FOLDER = "backups"
LOCK = "backup"
"""One backup at a time, of all processes."""

UNVERIFIED = ".unverified"
"""Ends the name of one that has not been read back."""
AHEAD = timedelta(days=1)
"""A name that is further ahead of the clock was given by another clock: it says nothing about what is new and what is old."""

_NAME = re.compile(r"mediavault-(\d{8}-\d{6}\.\d{3})\.jsonl\.gz")
_UNVERIFIED_NAME = re.compile(_NAME.pattern + re.escape(UNVERIFIED))
_TIME = "%Y%m%d-%H%M%S.%f"
_log = structlog.get_logger(__name__)


class BackupBusy(Exception):
    """Another process is making a backup."""

    def __init__(self) -> None:
        super().__init__("another backup is being made")


@dataclass(frozen=True, slots=True)
class Backup:
    """`size` in bytes, compressed."""

    name: str
    path: str
    size: int
    created_at: datetime


class Backups:
    def __init__(self, catalog: Catalog, storage: StorageService, settings: Settings) -> None:
        self.outages = catalog.outages
        self._catalog = catalog
        self._storage = storage
        self._settings = settings
        self._told_ahead: set[str] = set()

    async def create(self) -> Backup:
        """A new one; then those beyond the number to be kept are removed, never this one. Raises `BackupBusy`, `BackupDamaged` (the store
        gives back other bytes than it was given), `CatalogError` or `StorageError`; then there is no new backup."""
        async with self._catalog.exclusively(LOCK) as alone:
            if not alone:
                raise BackupBusy
            return await self._create()

    async def create_if_due(self, moment: datetime, period: timedelta) -> Backup | None:
        """As `create`, where the newest is older than `period`. None: it is not, or another process is at it."""
        async with self._catalog.exclusively(LOCK) as alone:
            if not alone:
                return None
            found = self._dated(await self._ours(), moment)
            if found and moment - found[0].created_at < period:
                return None
            return await self._create()

    async def _create(self) -> Backup:
        moment = datetime.now(UTC)
        name = f"mediavault-{moment.strftime(_TIME)[:-3]}.jsonl.gz"
        path = self._storage.managed_path(Key(f"{FOLDER}/{name}"))
        moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
        await self._write(path + UNVERIFIED, moment)
        made = Backup(name, path, await self._verified(path + UNVERIFIED), moment)
        await self._list(made)
        await self._remove_old(made)
        return made

    async def _write(self, path: str, moment: datetime) -> None:
        installation = str(await self._catalog.installation.id())
        async with self._storage.write(path, content_type=CONTENT_TYPE) as writer, self._catalog.snapshot() as snapshot:
            header = Header(
                revision=snapshot.revision,
                created_at=moment.isoformat(),
                program=__version__,
                installation=installation,
                media_location=str(self._settings.media_location),
                bucket_location=bucket_location(self._settings),
            )
            async with aclosing(written(header, snapshot)) as pieces:
                async for piece in pieces:
                    await writer.write(piece)

    async def _verified(self, path: str) -> int:
        """The size in bytes of what is stored, which is a whole backup; what is not is removed."""
        try:
            async with self._storage.read(path) as stream, aclosing(read(stream.chunks)) as parts:
                async for _ in parts:
                    pass
                return stream.info.size
        except (BackupDamaged, StorageError):
            await self._remove(path)
            raise

    async def _list(self, made: Backup) -> None:
        """It gets its name. On S3 that is a copy, and all is well once that is there."""
        unverified = made.path + UNVERIFIED
        try:
            await self._storage.rename(unverified, made.path)
        except StorageError as error:
            if not await self._storage.exists(made.path):
                raise
            _log.warning("what a backup was made of could not be removed yet", path=unverified, reason=str(error))

    async def _remove_old(self, made: Backup) -> None:
        """Nothing refers to backups, so no sweeper removes them. What was not verified is of a process that died: it held the lock."""
        others = [backup for backup in self._dated(await self._ours(), datetime.now(UTC)) if backup.path != made.path]
        for old in others[self._settings.backup_keep - 1 :]:
            await self._remove(old.path)
        async for path, info in _in_folder(self._storage):
            if self._is_ours(path) and _UNVERIFIED_NAME.fullmatch(info.key.removeprefix(f"{FOLDER}/")):
                await self._remove(path)

    async def _remove(self, path: str) -> None:
        try:
            await self._storage.unlink(path)
        except StorageError as error:
            _log.warning("a backup could not be removed yet", path=path, reason=str(error))

    def _dated(self, found: Iterable[Backup], moment: datetime) -> list[Backup]:
        """Those whose names may be true. Of the others each is spoken of once."""
        every = list(found)
        dated = dated_until(every, moment)
        for backup in every:
            if backup not in dated and backup.name not in self._told_ahead:
                self._told_ahead.add(backup.name)
                _log.warning("a backup has a name of the future, and is left alone", path=backup.path)
        return dated

    async def _ours(self) -> list[Backup]:
        """Of the engine that is set, newest first."""
        return [backup for backup in await list_backups(self._storage) if self._is_ours(backup.path)]

    def _is_ours(self, path: str) -> bool:
        return path.startswith(self._storage.managed_path(Key(FOLDER)) + "/")


async def list_backups(storage: StorageService) -> list[Backup]:
    """Of every configured engine, newest first. What others keep in the folder, and what was not read back, is left out."""
    found: list[Backup] = []
    async for path, info in _in_folder(storage):
        name = info.key.removeprefix(f"{FOLDER}/")
        moment = _moment(name)
        if moment is not None:
            found.append(Backup(name, path, info.size, moment))
    return sorted(found, key=lambda backup: (backup.created_at, backup.path), reverse=True)


async def _in_folder(storage: StorageService) -> AsyncIterator[tuple[str, ObjectInfo]]:
    try:
        async for each in storage.list_managed(FOLDER):
            yield each
    except ListingIncomplete as error:  # folders in it are not ours
        if any(folder.endswith(f"/{FOLDER}") for folder in error.folders):
            raise


def dated_until(backups: Iterable[Backup], moment: datetime) -> list[Backup]:
    """Without those whose names are far ahead of that moment."""
    return [backup for backup in backups if backup.created_at - moment <= AHEAD]


def _moment(name: str) -> datetime | None:
    """When the backup of that name was made; None where it is the name of none."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        return datetime.strptime(match[1], _TIME).replace(tzinfo=UTC)
    except ValueError:  # no day of any calendar
        return None
