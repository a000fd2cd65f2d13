"""Connections to a SQLite file: their settings, their engine of SQLAlchemy, and snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiosqlite
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.catalog.database import time_limits
from app.catalog.database.sqlite_driver import SqliteDriver, SqliteDriverConnection
from app.catalog.database.sqlite_file import SqliteConnection, SqliteFileGuard
from app.catalog.database.text_functions import SQLITE_FUNCTION, sqlite_contains_folded

READERS = 4
"""Connections that only read."""


def create_engine(path: Path, file: SqliteFileGuard, *, connections: int, query_only: bool) -> AsyncEngine:
    async def connect() -> aiosqlite.Connection:
        await asyncio.to_thread(file.check_path)  # else a new connection would open or create another file
        factory = partial(SqliteConnection, file=file)
        opening = aiosqlite.connect(path, timeout=time_limits.BUSY_SECONDS, isolation_level=None, factory=factory)
        # As SQLAlchemy does when it connects by itself: a thread that is left must not keep a failed process alive.
        opening._thread.daemon = True  # noqa: SLF001
        connection = await _open_connection(opening)
        try:
            await connection.executescript(
                f"PRAGMA busy_timeout={time_limits.BUSY_SECONDS * 1000}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                # Statement journals and large sorts in memory: a container with a read-only root has no folder for them.
                f"PRAGMA foreign_keys=ON; PRAGMA temp_store=MEMORY; PRAGMA query_only={'ON' if query_only else 'OFF'};"
            )
            await connection.create_function(SQLITE_FUNCTION, 2, sqlite_contains_folded, deterministic=True)
            await asyncio.to_thread(file.record_opened)
        except BaseException:
            connection.stop()
            raise
        return connection

    options = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True} if query_only else {}
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        module=SqliteDriver(),
        async_creator=connect,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=time_limits.POOL_TIMEOUT_SECONDS,
        hide_parameters=True,
        **options,
    )
    if not query_only:
        event.listen(engine.sync_engine, "begin", _begin_immediate)
    return engine


async def _open_connection(opening: aiosqlite.Connection) -> aiosqlite.Connection:
    """Await the connection, and close it when the caller is cancelled meanwhile: aiosqlite would leave it to the
    garbage collector."""
    task = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_close_unused)
        raise


def _close_unused(task: asyncio.Future[aiosqlite.Connection]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().stop()


def require_driver_connection(connection: object) -> SqliteDriverConnection:
    if not isinstance(connection, SqliteDriverConnection):
        raise TypeError("a connection to SQLite is expected")
    return connection


def _begin_immediate(connection: Connection) -> None:
    driver_connection = connection.connection.dbapi_connection
    if isinstance(driver_connection, SqliteDriverConnection):
        driver_connection.begin_at_next_statement()


@asynccontextmanager
async def hold_snapshot(connection: AsyncConnection) -> AsyncIterator[None]:
    try:
        await connection.exec_driver_sql("BEGIN")
        yield
    except BaseException:
        await connection.invalidate()  # else the pool would hand it out again with the old snapshot
        raise
    await connection.exec_driver_sql("ROLLBACK")
