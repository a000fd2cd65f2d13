"""Connections to the database: parses `DB_URL`, opens short transactions for reads and writes, and translates errors of
SQLAlchemy and of the drivers to `CatalogError`s.

SQLite has one connection that writes (`BEGIN IMMEDIATE`, so that a transaction is refused at its begin, never in its
middle) and several that only read. PostgreSQL has one pool. Inside a transaction no caller may await anything but the
database.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
from sqlalchemy import Connection, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from app.catalog.database.availability import AvailabilityMonitor
from app.catalog.database.connection_slots import ConnectionSlots
from app.catalog.database.error_translation import DATABASE_ERRORS, translate_database_error
from app.catalog.database.group_commit import GroupCommit, TakeTransactions
from app.catalog.database.outage import OutageLog
from app.catalog.database.sqlite_driver import SqliteDriver, SqliteDriverConnection, Transaction, TransactionOutcome
from app.catalog.database.sqlite_file import SqliteConnection, SqliteFileGuard
from app.catalog.database.text_functions import SQLITE_FUNCTION, sqlite_contains_folded
from app.catalog.errors import (
    CatalogBusy,
    CatalogError,
    CatalogFileMoved,
    CatalogUnavailable,
    CatalogUnreachable,
    InvalidDatabaseUrl,
)
from app.concurrency_limit import ConcurrencyLimit, LimitReached

T = TypeVar("T")

POOL_TIMEOUT_SECONDS = 30
"""How long a call waits for a free connection."""
BUSY_SECONDS = 15
"""How long a write waits for a lock that another process holds."""
STATEMENT_SECONDS = 60
TRANSACTION_SECONDS = 90
"""How long a transaction may take in PostgreSQL. This limit is enforced here, because a stopped server process enforces
none of its own."""
CONNECT_SECONDS = 10

MAX_WAITING = 500

_SQLITE_READERS = 4
_POSTGRES_CONNECTIONS = 10


def now() -> datetime:
    """The time for rows: this process's clock, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SqliteLocation:
    """A catalogue in one file; `path` is absolute."""

    path: Path


@dataclass(frozen=True, slots=True)
class PostgresLocation:
    """A catalogue in PostgreSQL; `url` is SQLAlchemy's, including the driver's name."""

    url: URL


DatabaseLocation = SqliteLocation | PostgresLocation


def parse_url(db_url: str) -> DatabaseLocation:
    """Raises `InvalidDatabaseUrl`. The driver's name is optional; PostgreSQL's query string is kept."""
    try:
        url = make_url(db_url)
    except (ArgumentError, ValueError):
        raise InvalidDatabaseUrl("DB_URL is no database address") from None
    backend = url.drivername.partition("+")[0]
    if backend in ("postgresql", "postgres"):
        _check_escaped(db_url, url)
        return PostgresLocation(url.set(drivername="postgresql+psycopg"))
    if backend != "sqlite":
        raise InvalidDatabaseUrl("DB_URL starts with neither sqlite:/// nor postgresql://")
    if url.host or not url.database or url.database == ":memory:":
        raise InvalidDatabaseUrl("DB_URL names no file: sqlite:///relative/path or sqlite:////absolute/path")
    if url.query:
        raise InvalidDatabaseUrl(f"DB_URL: sqlite takes no parameter {next(iter(url.query))!r}")
    return SqliteLocation(Path(url.database).absolute())


def _check_escaped(db_url: str, url: URL) -> None:
    """Raises `InvalidDatabaseUrl` for an unescaped password: it ends at its first `@`, the rest would be taken for the
    host, and error messages of the driver would contain it."""
    if db_url.count("@") > 1 or "@" in f"{url.host}{url.database}":
        raise InvalidDatabaseUrl(
            "DB_URL has an '@', '/' or '?' in the user's name or the password that is not escaped: write %40, %2F, %3F"
        )


class Database:
    """Opens connections, each for one short transaction. All errors that leave it are `CatalogError`s."""

    def __init__(self, location: DatabaseLocation, max_waiting: int = MAX_WAITING) -> None:
        """`max_waiting`: how many calls may wait for a connection; one more is refused with `CatalogBusy`."""
        self.location = location
        bound = (max_waiting, "MEDIAVAULT_DATABASE_WAITING")
        self.waits = ConcurrencyLimit("calls wait for the database", limit=bound, account_limit=bound)
        """The calls that wait for a connection now."""
        self.outages = OutageLog(_describe_address(location))
        self.last_write_at = float("-inf")
        """`time.monotonic()` of the last commit, unless a write has failed since."""
        if isinstance(location, SqliteLocation):
            self._file = file = SqliteFileGuard(location.path)
            self.availability = None
            self.writer = _sqlite_engine(location.path, file, connections=1, query_only=False)
            self._reader = _sqlite_engine(location.path, file, connections=_SQLITE_READERS, query_only=True)
            self._transaction_seconds: float | None = (
                None  # no limit for SQLite: a thread that waits for a file cannot be cancelled
            )
            self._group_commit = GroupCommit(self._transact_together, self.waits.hold)
            self._write_slots = ConnectionSlots(1)
            self._read_slots = ConnectionSlots(_SQLITE_READERS)
        else:
            self._file = None
            self.availability = AvailabilityMonitor(self._probe, self.outages)
            self.writer = _postgres_engine(location.url, self.availability)
            self._reader = self.writer
            self._transaction_seconds = TRANSACTION_SECONDS
            self._write_slots = self._read_slots = ConnectionSlots(_POSTGRES_CONNECTIONS)

    @property
    def pools(self) -> Mapping[str, ConnectionSlots]:
        """The use of the pools of connections, by name."""
        if self._write_slots is self._read_slots:
            return {"all": self._read_slots}
        return {"writer": self._write_slots, "readers": self._read_slots}

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for queries. Each query sees what was committed before it began."""
        async with self._acquire_slot(self._read_slots), self._limit_seconds(self._transaction_seconds):
            try:
                async with self._reader.connect() as connection:
                    if isinstance(self.location, PostgresLocation):
                        await _set_execution_options(connection, isolation_level="AUTOCOMMIT")
                    yield connection
            except DATABASE_ERRORS as error:
                raise translate_database_error(error) from error
            self.outages.record_answer()

    async def query(self, function: Transaction[T]) -> T:
        """As `read`, for the queries of small requests that come by the thousand: on SQLite all are one call of the connection's thread."""
        if isinstance(self.location, PostgresLocation):
            async with self.read() as connection:
                return await function(connection)
        async with self._acquire_slot(self._read_slots):
            try:
                lent = await greenlet_spawn(self._reader.sync_engine.pool.connect)
                try:
                    result = await _require_sqlite(lent.dbapi_connection).query(function)
                finally:
                    lent.close()
            except DATABASE_ERRORS as error:
                raise translate_database_error(error) from error
            self.outages.record_answer()
            return result

    def write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction: a clean exit commits, an exception or a cancellation rolls back."""
        return self._transaction(self._transaction_seconds)

    async def transact(self, function: Transaction[T]) -> T:
        """As `write`, for the transactions of every upload: on SQLite all statements are one call of the connection's thread, and
        transactions that wait together share one commit. A cancelled caller's transaction may take place all the same."""
        if isinstance(self.location, PostgresLocation):
            async with self._transaction(self._transaction_seconds) as connection:
                return await function(connection)
        began = time.monotonic()
        try:
            async with asyncio.timeout(POOL_TIMEOUT_SECONDS) as limit:
                return await self._group_commit.run(function, on_begun=partial(limit.reschedule, None))
        except LimitReached as refusal:
            raise CatalogBusy(str(refusal)) from None
        except TimeoutError:
            raise self.outages.build_timeout_error(began, "no connection to the database is free") from None
        except DATABASE_ERRORS as error:
            raise translate_database_error(error) from error

    async def _transact_together(self, take: TakeTransactions) -> Sequence[TransactionOutcome]:
        async with self._handle_transaction(self._transaction_seconds):
            lent = await greenlet_spawn(self.writer.sync_engine.pool.connect)
            try:
                functions = take()
                driver_connection = _require_sqlite(lent.dbapi_connection)
                return await driver_connection.transact(functions) if functions else ()
            finally:
                lent.close()

    def long_write(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """As `write`, without a time limit: for schema upgrades and restores, which run alone."""
        return self._transaction(None)

    @asynccontextmanager
    async def _transaction(self, seconds: float | None) -> AsyncIterator[AsyncConnection]:
        async with self._handle_transaction(seconds), self.writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _handle_transaction(self, seconds: float | None) -> AsyncIterator[None]:
        """Holds one of the slots for writers, limits the time, translates errors and records the outcome."""
        async with self._acquire_slot(self._write_slots), self._limit_seconds(seconds):
            try:
                yield
            except DATABASE_ERRORS as error:
                failure = translate_database_error(error)
                if isinstance(failure, CatalogUnavailable):
                    self.last_write_at = float("-inf")
                raise failure from error
            self.last_write_at = time.monotonic()
            self.outages.record_answer()

    async def check_file(self) -> None:
        """Raises `CatalogFileMoved` when the path no longer leads to the SQLite file that is open."""
        if self._file is not None:
            try:
                await asyncio.to_thread(self._file.check_path)
            except sqlite3.OperationalError as error:
                raise CatalogFileMoved(str(error)) from None

    @asynccontextmanager
    async def dedicated_connection(self) -> AsyncIterator[AsyncConnection]:
        """A connection outside the pool and outside any transaction, for as long as the caller needs it: for locks that
        belong to a connection."""
        try:
            connection = await _unpooled_engine(self.location).connect()
        except DATABASE_ERRORS as error:
            failure = translate_database_error(error)
            if isinstance(failure, CatalogUnreachable) and await self._answers():
                failure = CatalogUnavailable(str(failure))  # such as a limit of connections: no outage
            raise failure from error
        try:
            yield connection
        finally:
            with suppress(SQLAlchemyError):
                await connection.close()

    async def _probe(self) -> None:
        """One query over a connection that was never used. Raises `CatalogError`."""
        try:
            async with _unpooled_engine(self.location).connect() as connection:
                await connection.execute(text("SELECT 1"))
        except DATABASE_ERRORS as error:
            raise translate_database_error(error) from error

    async def _answers(self) -> bool:
        """Whether a query over the pool's connections succeeds."""
        try:
            async with self.read() as connection:
                await connection.execute(text("SELECT 1"))
        except CatalogError:
            return False
        return True

    @asynccontextmanager
    async def snapshot_connection(self) -> AsyncIterator[AsyncConnection]:
        """One snapshot for all queries, taken at the first, however long it is used. It is the only transaction in
        which the caller may await something else than the database: it locks nothing and cannot write."""
        async with self._acquire_slot(self._read_slots):
            try:
                if isinstance(self.location, SqliteLocation):
                    async with self._reader.connect() as connection, _sqlite_snapshot(connection):
                        yield connection
                else:
                    async with self.writer.connect() as connection, _postgres_snapshot(connection) as view:
                        yield view
            except DATABASE_ERRORS as error:
                raise translate_database_error(error) from error

    async def aclose(self) -> None:
        if self.availability is not None:
            await self.availability.aclose()
        self.outages.close()
        if isinstance(self.location, SqliteLocation):
            await self._group_commit.aclose()
        await self.writer.dispose()
        await self._reader.dispose()

    @asynccontextmanager
    async def _acquire_slot(self, slots: ConnectionSlots) -> AsyncIterator[None]:
        # Wait here, never in the pool: Python 3.11's wait_for, which the pool uses, can swallow a cancellation.
        began = time.monotonic()
        try:
            async with asyncio.timeout(POOL_TIMEOUT_SECONDS) as limit:
                with self._watching(limit), self.waits.hold() if slots.must_wait else nullcontext():
                    await slots.acquire()
        except LimitReached as refusal:
            raise CatalogBusy(str(refusal)) from None
        except TimeoutError:
            raise self.outages.build_timeout_error(began, "no connection to the database is free") from None
        try:
            yield
        finally:
            slots.release()

    @asynccontextmanager
    async def _limit_seconds(self, seconds: float | None) -> AsyncIterator[None]:
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds) as limit:
                with self._watching(limit):
                    yield
        except TimeoutError:
            raise self.outages.build_timeout_error(began, "the database does not answer") from None

    def _watching(self, limit: asyncio.Timeout) -> AbstractContextManager[None]:
        return nullcontext() if self.availability is None else self.availability.watching(limit)


def _describe_address(location: DatabaseLocation) -> str:
    """The database's address, without the user's name and the password."""
    if isinstance(location, SqliteLocation):
        return str(location.path)
    host, port = (location.url.query.get(name) for name in ("host", "port"))
    return f"{_join_values(location.url.host or host)}:{_join_values(location.url.port or port or 5432)}/{location.url.database or ''}"


def _join_values(value: str | int | tuple[str, ...] | None) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value or "")


@asynccontextmanager
async def _sqlite_snapshot(connection: AsyncConnection) -> AsyncIterator[None]:
    try:
        await connection.exec_driver_sql("BEGIN")
        yield
    except BaseException:
        await connection.invalidate()  # else the pool would hand it out again with the old snapshot
        raise
    await connection.exec_driver_sql("ROLLBACK")


@asynccontextmanager
async def _postgres_snapshot(connection: AsyncConnection) -> AsyncIterator[AsyncConnection]:
    await _set_execution_options(connection, isolation_level="REPEATABLE READ", postgresql_readonly=True)
    async with connection.begin():
        # Each statement is quick, but between two of them the caller may wait for a slow store.
        await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        yield connection


async def _set_execution_options(connection: AsyncConnection, **mode: Any) -> None:
    """Set options until the connection returns to the pool. They are set on a connection that is checked out and not on
    the engine: psycopg awaits here, and if a checkout were cancelled meanwhile, nothing would return the connection to
    the pool."""
    try:
        await connection.execution_options(**mode)
    except BaseException:
        await connection.invalidate()  # the pool resets only options that were set completely
        raise


def _sqlite_engine(path: Path, file: SqliteFileGuard, *, connections: int, query_only: bool) -> AsyncEngine:
    async def connect() -> aiosqlite.Connection:
        await asyncio.to_thread(file.check_path)  # else a new connection would open or create another file
        factory = partial(SqliteConnection, file=file)
        opening = aiosqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None, factory=factory)
        # As SQLAlchemy does when it connects by itself: a thread that is left must not keep a failed process alive.
        opening._thread.daemon = True  # noqa: SLF001
        connection = await _open_connection(opening)
        try:
            await connection.executescript(
                f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
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
        pool_timeout=POOL_TIMEOUT_SECONDS,
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


def _require_sqlite(connection: object) -> SqliteDriverConnection:
    if not isinstance(connection, SqliteDriverConnection):
        raise TypeError("a connection to SQLite is expected")
    return connection


def _begin_immediate(connection: Connection) -> None:
    driver_connection = connection.connection.dbapi_connection
    if isinstance(driver_connection, SqliteDriverConnection):
        driver_connection.begin_at_next_statement()


_SERVER_KEEPALIVES = (
    " -c tcp_keepalives_idle=5 -c tcp_keepalives_interval=2 -c tcp_keepalives_count=3 -c tcp_user_timeout=15000"
)
"""The server ends the sessions of a host that has lost power, and with them its locks, within some fifteen seconds. By default it would
do so after two hours. A server on the same host, over a UNIX socket, ignores these."""


def build_postgres_arguments(url: URL) -> dict[str, Any]:
    """Arguments of `psycopg.connect`: those of the URL, and time limits that psycopg does not set itself."""
    options = (
        f"-c timezone=UTC -c lock_timeout={BUSY_SECONDS}s -c statement_timeout={STATEMENT_SECONDS}s"
        f" -c idle_in_transaction_session_timeout={STATEMENT_SECONDS}s{_SERVER_KEEPALIVES}"
    )
    defaults: dict[str, str | int] = {
        "connect_timeout": CONNECT_SECONDS,
        # A host that disappears is noticed within half a minute.
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    _, given = url.get_dialect()().create_connect_args(url)
    own = given.get("options")
    return {**defaults, **given, "options": f"{options} {own}" if own else options}


def _unpooled_engine(location: DatabaseLocation) -> AsyncEngine:
    if isinstance(location, SqliteLocation):
        raise TypeError("a SQLite file has no sessions")
    return create_async_engine(
        URL.create(location.url.drivername),
        connect_args=build_postgres_arguments(location.url),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )


def _postgres_engine(url: URL, availability: AvailabilityMonitor) -> AsyncEngine:
    engine = create_async_engine(
        URL.create(url.drivername),
        connect_args=build_postgres_arguments(url),
        pool_size=_POSTGRES_CONNECTIONS,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        hide_parameters=True,
        skip_autocommit_rollback=True,
    )

    def add_connection(connection: Any, _record: Any) -> None:
        availability.add_connection(connection.driver_connection)

    event.listen(engine.sync_engine, "connect", add_connection)
    return engine
