"""What a listing found, kept on disk while it is compared: a private SQLite database in a folder of the caller, which removes it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from app.storage.errors import StagingFull, StorageUnavailable
from app.storage.local.os_errors import raise_storage_errors
from app.storage.process_folder import STAGING

_SUSPECTS_PAGE = 500


class ListingStore:
    """Paths with the sizes that were listed, and which of them no row accounted for. Use one call at a time. All raise a `StorageError` of
    the staging folder where the disk refuses."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "listing"
        with raise_staging_errors(self._file):
            # Only a few megabytes of it are in memory.
            self._database = sqlite3.connect(self._file, check_same_thread=False, isolation_level=None)
            self._database.executescript(
                "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -2000;"
                "CREATE TABLE listed (path TEXT PRIMARY KEY, size INTEGER NOT NULL) WITHOUT ROWID;"
                "CREATE TABLE suspect (path TEXT PRIMARY KEY, key TEXT NOT NULL, size INTEGER NOT NULL) WITHOUT ROWID"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    async def add(self, listed: Sequence[tuple[str, int]], suspects: Iterable[tuple[str, str, int]]) -> None:
        """`suspects` are path, key and size."""
        await asyncio.to_thread(self._add, listed, list(suspects))

    async def sizes(self, paths: Sequence[str]) -> dict[str, int]:
        """Of those that were listed."""
        return await asyncio.to_thread(self._sizes, paths)

    async def suspects(self, after: str) -> list[tuple[str, str, int]]:
        """Some of them, those that come after the path `after`, in order."""
        return await asyncio.to_thread(self._suspects, after)

    def _add(self, listed: Sequence[tuple[str, int]], suspects: list[tuple[str, str, int]]) -> None:
        with raise_staging_errors(self._file):
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?)", listed)
            self._database.executemany("INSERT OR REPLACE INTO suspect VALUES (?, ?, ?)", suspects)
            self._database.execute("COMMIT")

    def _sizes(self, paths: Sequence[str]) -> dict[str, int]:
        places = ", ".join("?" * len(paths))
        query = f"SELECT path, size FROM listed WHERE path IN ({places})"  # noqa: S608 - question marks only
        with raise_staging_errors(self._file):
            return dict(self._database.execute(query, paths))

    def _suspects(self, after: str) -> list[tuple[str, str, int]]:
        query = "SELECT path, key, size FROM suspect WHERE path > ? ORDER BY path LIMIT ?"
        with raise_staging_errors(self._file):
            return self._database.execute(query, (after, _SUSPECTS_PAGE)).fetchall()


@contextmanager
def raise_staging_errors(file: Path) -> Generator[None]:
    """Raises errors of the staging folder in place of those of a database that is kept in its `file`."""
    try:
        with raise_storage_errors(str(file), STAGING, is_write=True):
            yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        kind = StagingFull if full else StorageUnavailable
        raise kind(str(file), STAGING, f"a listing cannot be kept: {error}") from error
