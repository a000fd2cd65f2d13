"""`UploadRow`: the row of one upload session in a SQLite file, which several processes share."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from app.storage.resumable import ResumableWriteState


class TakenOver(Exception):
    """A newer append has begun."""


class UploadRow:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._execute("CREATE TABLE IF NOT EXISTS upload (state TEXT, generation INTEGER)")

    def reset(self) -> None:
        self._execute("DELETE FROM upload")
        self._execute("INSERT INTO upload VALUES (NULL, 0)")

    @property
    def state(self) -> ResumableWriteState | None:
        value = self._execute("SELECT state FROM upload")[0][0]
        return None if value is None else ResumableWriteState(value)

    def take_over(self) -> Callable[[ResumableWriteState], Awaitable[None]]:
        """The `save` of the newest writer; those of older ones raise from now on."""
        generation = self._execute("UPDATE upload SET generation = generation + 1 RETURNING generation")[0][0]

        async def save(state: ResumableWriteState) -> None:
            self.write(state, generation)

        return save

    def write(self, state: ResumableWriteState, generation: int) -> None:
        if not self._execute(
            "UPDATE upload SET state = ? WHERE generation = ? RETURNING generation", state.value, generation
        ):
            raise TakenOver

    def _execute(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._file, isolation_level=None, timeout=10)) as connection:
            connection.execute("PRAGMA synchronous = OFF")
            return connection.execute(statement, values).fetchall()
