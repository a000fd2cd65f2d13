"""`ListingStore`: keeps a listing of the storage in a temporary SQLite database, so that its size does not depend on memory.

The caller provides the folder and removes it.
"""

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
    """Listed paths with sizes, and the suspects among them: objects without a row. Calls must not overlap. They raise a `StorageError` of
    the staging folder where its disk fails."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "listing"
        with raise_staging_errors(self._file):
            # The page cache keeps 2 MB in memory.
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
        """`listed` has path and size, `suspects` path, key and size."""
        await asyncio.to_thread(self._add, listed, list(suspects))

    async def sizes(self, paths: Sequence[str]) -> dict[str, int]:
        """Sizes by path, for those of `paths` that were listed."""
        return await asyncio.to_thread(self._sizes, paths)

    async def get_mismatches(self, after: str) -> list[tuple[str, str, int]]:
        """The next page of suspects after the path `after`, sorted by path."""
        return await asyncio.to_thread(self._suspects, after)

    def _add(self, listed: Sequence[tuple[str, int]], suspects: list[tuple[str, str, int]]) -> None:
        with raise_staging_errors(self._file):
            self._database.execute("BEGIN")
            self._database.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?)", listed)
            self._database.executemany("INSERT OR REPLACE INTO suspect VALUES (?, ?, ?)", suspects)
            self._database.execute("COMMIT")

    def _sizes(self, paths: Sequence[str]) -> dict[str, int]:
        placeholders = ", ".join("?" * len(paths))
        query = f"SELECT path, size FROM listed WHERE path IN ({placeholders})"  # noqa: S608 - question marks only
        with raise_staging_errors(self._file):
            return dict(self._database.execute(query, paths))

    def _suspects(self, after: str) -> list[tuple[str, str, int]]:
        query = "SELECT path, key, size FROM suspect WHERE path > ? ORDER BY path LIMIT ?"
        with raise_staging_errors(self._file):
            return self._database.execute(query, (after, _SUSPECTS_PAGE)).fetchall()


@contextmanager
def raise_staging_errors(file: Path) -> Generator[None]:
    """Raises `StorageError`s of the staging folder in place of errors of the SQLite database `file`."""
    try:
        with raise_storage_errors(str(file), STAGING, is_write=True):
            yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        kind = StagingFull if full else StorageUnavailable
        raise kind(str(file), STAGING, f"a listing cannot be kept: {error}") from error
