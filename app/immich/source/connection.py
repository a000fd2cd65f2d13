"""A connection to Immich's database that can only read: one `REPEATABLE READ READ ONLY` transaction from its first query to its
end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from sqlalchemy.engine import URL

from app.catalog.database.locations import PostgresLocation, parse_url
from app.catalog.errors import InvalidDatabaseUrl
from app.immich.errors import ImmichError, SourceUnavailable
from app.immich.source.records import UnusableDate

CONNECT_SECONDS = 10
KEEPALIVE_SECONDS = 20
"""A server that vanishes without a word is given up after four times so long."""
_TIMESTAMP_WITH_ZONE = 1184
"""The type's number in `pg_type`."""


class _TolerantTimestampLoader(Loader):
    """Loads times with a zone; those that Python cannot hold become `UnusableDate`, where psycopg's own loader fails the query. The
    session's zone is UTC."""

    def load(self, data: Buffer) -> datetime | UnusableDate:
        text = bytes(data).decode()
        try:
            return datetime.fromisoformat(text)
        except ValueError:
            return UnusableDate(text)


class SourceConnection:
    """Queries of one snapshot. Each query reads at most what its caller bounds."""

    def __init__(self, connection: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
        self._connection = connection

    async def fetch(self, query: sql.Composable | str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Raises `SourceUnavailable`."""
        with _translate_errors():
            cursor = await self._connection.execute(_compose(query), parameters)
            return await cursor.fetchall()

    async def stream(
        self, query: sql.Composable | str, parameters: Sequence[Any] = (), *, rows: int = 2000
    ) -> AsyncIterator[tuple[Any, ...]]:
        """Rows by a cursor of the server, which sends `rows` of them at a time. Raises `SourceUnavailable`."""
        with _translate_errors():
            async with self._connection.cursor("mediavault") as cursor:
                cursor.itersize = rows
                await cursor.execute(_compose(query), parameters)
                async for row in cursor:
                    yield row


@asynccontextmanager
async def open_source(database_url: str) -> AsyncIterator[SourceConnection]:
    """Raises `ImmichError` for an address that is none, and `SourceUnavailable`."""
    url = _parse(database_url)
    try:
        connection = await psycopg.AsyncConnection.connect(
            url.set(drivername="postgresql").render_as_string(hide_password=False),
            connect_timeout=CONNECT_SECONDS,
            options="-c timezone=UTC -c default_transaction_read_only=on -c statement_timeout=0 -c datestyle=ISO",
            application_name="mediavault",
            keepalives_idle=KEEPALIVE_SECONDS,
            keepalives_interval=KEEPALIVE_SECONDS,
            keepalives_count=3,
        )
    except psycopg.Error as error:
        raise SourceUnavailable(f"Immich's database: {_first_line(error)}") from error
    try:
        connection.adapters.register_loader(_TIMESTAMP_WITH_ZONE, _TolerantTimestampLoader)
        with _translate_errors():
            await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
            await connection.set_read_only(True)
        yield SourceConnection(connection)
    finally:
        await connection.close()


def _parse(database_url: str) -> URL:
    try:
        location = parse_url(database_url)
    except InvalidDatabaseUrl as error:
        raise ImmichError(str(error).replace("DB_URL", "--database-url")) from None
    if not isinstance(location, PostgresLocation):
        raise ImmichError("--database-url: Immich's database is PostgreSQL: postgresql://user:password@host/immich")
    return location.url


def _compose(query: sql.Composable | str) -> sql.Composed:
    text = sql.SQL(query) if isinstance(query, str) else query  # pyright: ignore[reportArgumentType] - only constants of this package
    return sql.Composed([text])


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise SourceUnavailable(f"Immich's database: {_first_line(error)}") from error


def _first_line(error: psycopg.Error) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
