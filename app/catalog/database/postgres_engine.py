"""Connections to PostgreSQL: their settings, their engines of SQLAlchemy, and snapshots."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.catalog.database import time_limits
from app.catalog.database.availability import AvailabilityMonitor
from app.catalog.database.locations import DatabaseLocation, SqliteLocation

CONNECTIONS = 10


_SERVER_KEEPALIVES = (
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=15000"
)
"""The server ends the sessions of a host that has lost power, and with them its locks, within some fifteen seconds. By default it would
do so after two hours. A server on the same host, over a UNIX socket, ignores these."""


def build_postgres_arguments(url: URL) -> dict[str, Any]:
    """Arguments of `psycopg.connect`: those of the URL, and time limits that psycopg does not set itself."""
    options = (
        f"-c timezone=UTC -c lock_timeout={time_limits.BUSY_SECONDS}s -c statement_timeout={time_limits.STATEMENT_SECONDS}s"
        f" -c idle_in_transaction_session_timeout={time_limits.STATEMENT_SECONDS}s{_SERVER_KEEPALIVES}"
    )
    defaults: dict[str, str | int] = {
        "connect_timeout": time_limits.CONNECT_SECONDS,
        # A host that disappears is noticed within half a minute.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    _, given = url.get_dialect()().create_connect_args(url)
    own = given.get("options")
    return {**defaults, **given, "options": f"{options} {own}" if own else options}


def create_unpooled_engine(location: DatabaseLocation) -> AsyncEngine:
    if isinstance(location, SqliteLocation):
        raise TypeError("a SQLite file has no sessions")
    return create_async_engine(
        URL.create(location.url.drivername),
        connect_args=build_postgres_arguments(location.url),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )


def create_engine(url: URL, availability: AvailabilityMonitor) -> AsyncEngine:
    engine = create_async_engine(
        URL.create(url.drivername),
        connect_args=build_postgres_arguments(url),
        pool_size=CONNECTIONS,
        max_overflow=0,
        pool_timeout=time_limits.POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        skip_autocommit_rollback=True,
    )

    def add_connection(connection: Any, _record: Any) -> None:
        availability.add_connection(connection.driver_connection)

    event.listen(engine.sync_engine, "connect", add_connection)
    return engine


@asynccontextmanager
async def hold_snapshot(connection: AsyncConnection) -> AsyncIterator[AsyncConnection]:
    await set_execution_options(connection, isolation_level="REPEATABLE READ", postgresql_readonly=True)
    async with connection.begin():
        # Each statement is quick, but between two of them the caller may wait for a slow store.
        await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        yield connection


async def set_execution_options(connection: AsyncConnection, **mode: Any) -> None:
    """Set options until the connection returns to the pool. They are set on a connection that is checked out and not on
    the engine: psycopg awaits here, and if a checkout were cancelled meanwhile, nothing would return the connection to
    the pool."""
    try:
        await connection.execution_options(**mode)
    except BaseException:
        await connection.invalidate()  # the pool resets only options that were set completely
        raise
