"""A lock that one process of all that use the catalogue can hold, for as long as it likes: gone when the process is.

PostgreSQL: an advisory lock on a connection of its own. SQLite: `flock` on a file beside the catalogue.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.engine import Database, SqliteFile, translate
from app.catalog.errors import CatalogError, CatalogUnavailable, MigrationBusy

_ADVISORY_LOCK = 0x6D656469_6D6F7665
_SUFFIX = ".migrate.lock"

StillHeld = Callable[[], Awaitable[None]]
"""Raises `CatalogUnavailable` once the lock is lost."""


@asynccontextmanager
async def exclusive(database: Database) -> AsyncIterator[StillHeld]:
    """Raises `MigrationBusy` at once where another process holds it."""
    place = database.place
    async with _file_lock(place.path) if isinstance(place, SqliteFile) else _advisory_lock(database) as still_held:
        yield still_held


@asynccontextmanager
async def _file_lock(path: Path) -> AsyncIterator[StillHeld]:
    try:
        descriptor = os.open(path.with_name(path.name + _SUFFIX), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CatalogError(f"cannot use the folder of {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MigrationBusy from None
        yield _for_ever
    finally:
        os.close(descriptor)


async def _for_ever() -> None:
    """Only the end of the process takes a file's lock away."""


@asynccontextmanager
async def _advisory_lock(database: Database) -> AsyncIterator[StillHeld]:
    engine = database.writer.execution_options(isolation_level="AUTOCOMMIT")
    try:
        connection = await engine.connect()
    except SQLAlchemyError as error:
        raise translate(error) from error
    try:
        got = await connection.execute(text(f"SELECT pg_try_advisory_lock({_ADVISORY_LOCK})"))
        if not got.scalar_one():
            raise MigrationBusy
        try:
            yield partial(_still_held, connection)
        finally:
            await _give_back(connection)
    finally:
        await connection.close()


async def _still_held(connection: AsyncConnection) -> None:
    try:
        await connection.execute(text("SELECT 1"))
    except SQLAlchemyError:
        raise CatalogUnavailable("the connection that holds the lock is lost") from None


async def _give_back(connection: AsyncConnection) -> None:
    try:
        await connection.execute(text(f"SELECT pg_advisory_unlock({_ADVISORY_LOCK})"))
    except SQLAlchemyError:
        await connection.invalidate()  # back in the pool it might keep the lock
