"""Backups of the catalogue: made into `backups/` of the media location, listed, and the old ones removed.

A backup is one object, written whole or not at all, of one view of the catalogue, and read back before it counts. It holds all that the
catalogue knows, the hashes of passwords and keys among it; the photos themselves are not in it.
"""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from app import __version__
from app.catalog.catalog import Catalog
from app.config import Settings
from app.migration.backup_file import CONTENT_TYPE, BackupDamaged, Header, read, written
from app.migration.relocation import bucket_location
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.service import StorageService

FOLDER = "backups"
LOCK = "backup"
"""One backup at a time, of all processes."""

_NAME = re.compile(r"mediavault-(\d{8}-\d{6}\.\d{3})\.jsonl\.gz")
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
        self._catalog = catalog
        self._storage = storage
        self._settings = settings

    async def create(self) -> Backup:
        """A new one; then those beyond the number to be kept are removed. Raises `BackupBusy`, `BackupDamaged` (the store gives back other
        bytes than it was given), `CatalogError` or `StorageError`; then there is no new backup."""
        async with self._catalog.exclusively(LOCK) as alone:
            if not alone:
                raise BackupBusy
            return await self._create()

    async def create_if_due(self, moment: datetime, period: timedelta) -> Backup | None:
        """As `create`, where the newest is older than `period`. None: it is not, or another process is at it."""
        async with self._catalog.exclusively(LOCK) as alone:
            if not alone:
                return None
            newest = max((backup.created_at for backup in await self._ours()), default=None)
            if newest is not None and moment - newest < period:
                return None
            return await self._create()

    async def _create(self) -> Backup:
        text = datetime.now(UTC).strftime(_TIME)[:-3]
        name, moment = f"mediavault-{text}.jsonl.gz", _moment(text)
        path = self._storage.managed_path(Key(f"{FOLDER}/{name}"))
        await self._write(path, moment)
        size = await self._read_back(path)
        await self._remove_old()
        return Backup(name, path, size, moment)

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

    async def _read_back(self, path: str) -> int:
        """The size in bytes of what is stored, which is a whole backup."""
        try:
            async with self._storage.read(path) as stream, aclosing(read(stream.chunks)) as parts:
                async for _ in parts:
                    pass
                return stream.info.size
        except BackupDamaged:
            await self._storage.unlink(path)
            raise

    async def _remove_old(self) -> None:
        """Nothing refers to backups, so no sweeper removes them."""
        for old in (await self._ours())[self._settings.backup_keep :]:
            try:
                await self._storage.unlink(old.path)
            except StorageError as error:
                _log.warning("an old backup could not be removed yet", path=old.path, reason=str(error))

    async def _ours(self) -> list[Backup]:
        """Of the engine that is set, newest first."""
        folder = self._storage.managed_path(Key(FOLDER)) + "/"
        return [backup for backup in await list_backups(self._storage) if backup.path.startswith(folder)]


async def list_backups(storage: StorageService) -> list[Backup]:
    """Of every configured engine, newest first. What others keep in the folder is left out."""
    found: list[Backup] = []
    async for path, info in storage.list_managed(FOLDER):
        name = info.key.removeprefix(f"{FOLDER}/")
        if match := _NAME.fullmatch(name):
            found.append(Backup(name, path, info.size, _moment(match[1])))
    return sorted(found, key=lambda backup: (backup.created_at, backup.path), reverse=True)


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
