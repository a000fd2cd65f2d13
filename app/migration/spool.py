"""What a listing found, kept on disk while it is compared: a private SQLite database without a name, which goes with the process."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Self

_SUSPECTS_AT_ONCE = 500


class Spool:
    """Paths with the sizes that were listed, and which of them no row accounted for. Use one call at a time."""

    def __init__(self) -> None:
        # An empty name: a temporary file that is deleted as soon as it is open. Only a few megabytes of it are in memory.
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE;"
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
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?)", listed)
        self._database.executemany("INSERT OR REPLACE INTO suspect VALUES (?, ?, ?)", suspects)
        self._database.execute("COMMIT")

    def _sizes(self, paths: Sequence[str]) -> dict[str, int]:
        places = ", ".join("?" * len(paths))
        query = f"SELECT path, size FROM listed WHERE path IN ({places})"  # noqa: S608 - question marks only
        return dict(self._database.execute(query, paths))

    def _suspects(self, after: str) -> list[tuple[str, str, int]]:
        query = "SELECT path, key, size FROM suspect WHERE path > ? ORDER BY path LIMIT ?"
        return self._database.execute(query, (after, _SUSPECTS_AT_ONCE)).fetchall()
