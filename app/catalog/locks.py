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

from app.catalog.engine import Database, SqliteFile, translate
from app.catalog.errors import CatalogError, CatalogUnavailable

StillHeld = Callable[[], Awaitable[None]]
"""`Lock.require` of a lock that is held."""


class Lock:
    """A lock that is held."""

    def __init__(self, connection: AsyncConnection | None = None) -> None:
        self._connection = connection

    async def held(self) -> bool:
        """False when the connection was lost, and the lock with it."""
        if self._connection is None:
            return True
        try:
            await self._connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    async def require(self) -> None:
        """Raises `CatalogUnavailable` once it is lost."""
        if not await self.held():
            raise CatalogUnavailable("the connection that holds the lock is lost")


@asynccontextmanager
async def hold(database: Database, name: str) -> AsyncIterator[Lock | None]:
    """Held until the block ends. None, at once, where another process (or another block of this one) holds it. `name`: letters, digits
    and hyphens."""
    if isinstance(database.place, SqliteFile):
        path = database.place.path
        descriptor = await asyncio.to_thread(_try_file, path.with_name(f"{path.name}.{name}.lock"))
        try:
            yield None if descriptor is None else Lock()
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return
    # It may be held for as long as the process runs: not with a connection of the pool.
    async with database.held() as connection:
        if not await _try_advisory(connection, name):
            yield None
            return
        try:
            yield Lock(connection)
        finally:
            # The server would give it back only some time after the connection has ended, and the next one would not have it.
            with suppress(SQLAlchemyError):
                await connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _key(name)})


@asynccontextmanager
async def exclusively(database: Database, name: str) -> AsyncIterator[bool]:
    """As `hold`, for who need not ask whether it is still held: whether it was had."""
    async with hold(database, name) as lock:
        yield lock is not None


def _try_file(path: Path) -> int | None:
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


async def _try_advisory(connection: AsyncConnection, name: str) -> bool:
    statement = text("SELECT pg_try_advisory_lock(:key)")
    try:
        return bool((await connection.execute(statement, {"key": _key(name)})).scalar_one())
    except SQLAlchemyError as error:
        raise translate(error) from error


def _key(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"mediavault {name}".encode()).digest()[:8], signed=True)
