"""`LocationListing`: lists a location once into a SQLite file in the staging folder, and looks up sizes there in constant memory."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from app.migration.listing_store import raise_staging_errors
from app.migration.source_and_target import MoveRefused
from app.storage.errors import ListingIncomplete, StorageError
from app.storage.key import Key
from app.storage.process_folder import STAGING
from app.storage.service import StorageLocation
from app.storage.staging import Staging

_BATCH = 1000


class LocationListing:
    """Sizes in bytes by key. Made by `open_listing`. `unlisted_folders`: folders that may not be listed."""

    def __init__(self, path: Path) -> None:
        self.unlisted_folders: tuple[str, ...] = ()
        self._path = path
        with raise_staging_errors(path):
            self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._database.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-8192;"
                "CREATE TABLE object (key TEXT PRIMARY KEY, size INTEGER) WITHOUT ROWID; BEGIN"
            )

    async def load(self, location: StorageLocation) -> Self:
        """List the location into the database. Raises `StorageError`."""
        batch: list[tuple[str, int]] = []
        try:
            async for info in location.backend.list_objects():
                batch.append((info.key, info.size))
                if len(batch) == _BATCH:
                    await asyncio.to_thread(self._insert, batch)
                    batch = []
        except ListingIncomplete as error:
            self.unlisted_folders = error.folders
        await asyncio.to_thread(self._insert, batch)
        return self

    async def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Sizes by key, for those of `keys` that exist."""
        return await asyncio.to_thread(self._sizes, list(keys))

    def is_in_unlisted_folder(self, key: Key) -> bool:
        """Whether the object may exist although it was not listed, because its folder may not be listed."""
        return any(key.value.startswith(f"{folder}/") for folder in self.unlisted_folders)

    def close(self) -> None:
        self._database.close()

    def _insert(self, batch: list[tuple[str, int]]) -> None:
        with raise_staging_errors(self._path):
            self._database.executemany("INSERT OR REPLACE INTO object VALUES (?, ?)", batch)

    def _sizes(self, keys: list[str]) -> dict[str, int]:
        placeholders = ",".join("?" * len(keys))
        with raise_staging_errors(self._path):
            return dict(self._database.execute(f"SELECT key, size FROM object WHERE key IN ({placeholders})", keys))  # noqa: S608 - only marks


@asynccontextmanager
async def open_listing(location: StorageLocation, staging: Staging) -> AsyncIterator[LocationListing]:
    """Lists the location now; the listing is removed at the end of the block. Raises `StorageError`, or `MoveRefused` where the listing
    cannot be kept."""
    try:
        async with staging.temporary_folder() as folder:
            listing = await asyncio.to_thread(LocationListing, folder / "listing")
            try:
                yield await listing.load(location)
            finally:
                listing.close()
    except StorageError as error:
        if error.backend != STAGING:
            raise
        raise MoveRefused(f"MEDIAVAULT_STAGING_FOLDER: {error.key}: {error.detail}") from error
