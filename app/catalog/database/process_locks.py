"""Named locks between the processes that share a catalogue. A lock ends with the process that holds it.

PostgreSQL: an advisory lock of a dedicated connection. SQLite: `flock` on a file beside the catalogue.
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

from app.catalog.database.engine import Database
from app.catalog.database.error_translation import translate_database_error
from app.catalog.database.locations import SqliteLocation
from app.catalog.errors import CatalogError, CatalogUnavailable

LockCheck = Callable[[], Awaitable[None]]
"""`ProcessLock.check_held` of a lock."""


class ProcessLock:
    """A lock that this process has acquired."""

    def __init__(self, connection: AsyncConnection | None = None) -> None:
        self._connection = connection

    @property
    def can_be_lost(self) -> bool:
        """Whether the lock ends before the process when its connection is lost."""
        return self._connection is not None

    async def is_held(self) -> bool:
        """False when the connection was lost, and with it the lock."""
        if self._connection is None:
            return True
        try:
            await self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    async def check_held(self) -> None:
        """Raises `CatalogUnavailable` when the lock was lost."""
        if not await self.is_held():
            raise CatalogUnavailable("the connection that holds the lock is lost")


@asynccontextmanager
async def try_lock(database: Database, name: str) -> AsyncIterator[ProcessLock | None]:
    """Hold the lock `name` (letters, digits and hyphens) until the block ends. Yields None, without waiting, when
    another process, or another block of this process, holds it."""
    if isinstance(database.location, SqliteLocation):
        path = database.location.path
        descriptor = await asyncio.to_thread(_try_file_lock, path.with_name(f"{path.name}.{name}.lock"))
        try:
            yield None if descriptor is None else ProcessLock()
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return
    # The lock may be held for as long as the process runs, so its connection is not one of the pool.
    async with database.dedicated_connection() as connection:
        if not await _try_advisory_lock(connection, name):
            yield None
            return
        try:
            yield ProcessLock(connection)
        finally:
            # The server releases the lock only some time after the connection has ended; the next holder would not get
            # it.
            with suppress(SQLAlchemyError):
                await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _advisory_key(name)})


@asynccontextmanager
async def try_exclusive(database: Database, name: str) -> AsyncIterator[bool]:
    """As `try_lock`, for callers that need not check later whether the lock is still held. Yields whether it was
    acquired."""
    async with try_lock(database, name) as lock:
        yield lock is not None


def _try_file_lock(path: Path) -> int | None:
    """A descriptor that holds the lock; None when another one holds it."""
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
