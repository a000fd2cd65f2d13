"""Work that only one process may do at a time, of all that share a catalogue: a named lock, which ends with whoever holds it.

PostgreSQL: an advisory lock of a connection of its own. SQLite: `flock` on a file beside the catalogue.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database, SqliteFile, translate_database_error
from app.catalog.errors import CatalogError, CatalogUnavailable

LockCheck = Callable[[], Awaitable[None]]
"""`Lock.require` of a lock that is held."""


class ProcessLock:
    """A lock that is held."""

    def __init__(self, connection: AsyncConnection | None = None) -> None:
        self._connection = connection

    async def is_held(self) -> bool:
        """False when the connection was lost, and the lock with it."""
        if self._connection is None:
            return True
        try:
            await self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    async def check_held(self) -> None:
        """Raises `CatalogUnavailable` once it is lost."""
        if not await self.is_held():
            raise CatalogUnavailable("the connection that holds the lock is lost")


@asynccontextmanager
async def try_lock(database: Database, name: str) -> AsyncIterator[ProcessLock | None]:
    """Held until the block ends. None, at once, where another process (or another block of this one) holds it. `name`: letters, digits
    and hyphens."""
    if isinstance(database.location, SqliteFile):
        path = database.location.path
        descriptor = await asyncio.to_thread(_try_file_lock, path.with_name(f"{path.name}.{name}.lock"))
        try:
            yield None if descriptor is None else ProcessLock()
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return
    # It may be held for as long as the process runs: not with a connection of the pool.
    async with database.dedicated_connection() as connection:
        if not await _try_advisory_lock(connection, name):
            yield None
            return
        try:
            yield ProcessLock(connection)
        finally:
            # The server would give it back only some time after the connection has ended, and the next one would not have it.
            with suppress(SQLAlchemyError):
                await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _advisory_key(name)})


@asynccontextmanager
async def try_exclusive(database: Database, name: str) -> AsyncIterator[bool]:
    """As `try_lock`, for who need not ask whether it is still held: whether it was had."""
    async with try_lock(database, name) as lock:
        yield lock is not None


def _try_file_lock(path: Path) -> int | None:
    """A descriptor that holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CatalogError(f"cannot use {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


async def _try_advisory_lock(connection: AsyncConnection, name: str) -> bool:
    statement = text("SELECT pg_try_advisory_lock(:key)")
    try:
        return bool((await connection.execute(statement, {"key": _advisory_key(name)})).scalar_one())
    except SQLAlchemyError as error:
        raise translate_database_error(error) from error


def _advisory_key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"mediavault {name}".encode()).digest()[:8], signed=True)
