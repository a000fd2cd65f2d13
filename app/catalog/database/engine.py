"""Connections to the database: opens short transactions for reads and writes, and translates errors of
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
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.util import greenlet_spawn

from app.catalog.database import postgres_engine, sqlite_engine, time_limits
from app.catalog.database.availability import AvailabilityMonitor
from app.catalog.database.connection_slots import ConnectionSlots
from app.catalog.database.error_translation import DATABASE_ERRORS, translate_database_error
from app.catalog.database.group_commit import GroupCommit, TakeTransactions
from app.catalog.database.locations import DatabaseLocation, PostgresLocation, SqliteLocation, describe_address
from app.catalog.database.outage import OutageLog
from app.catalog.database.sqlite_driver import Transaction, TransactionOutcome
from app.catalog.database.sqlite_file import SqliteFileGuard
from app.catalog.errors import (
    CatalogBusy,
    CatalogError,
    CatalogFileMoved,
    CatalogUnavailable,
    CatalogUnreachable,
)
from app.concurrency_limit import ConcurrencyLimit, LimitReached

T = TypeVar("T")

MAX_WAITING = 500


def now() -> datetime:
    """The time for rows: this process's clock, in UTC."""
    return datetime.now(UTC)


class Database:
    """Opens connections, each for one short transaction. All errors that leave it are `CatalogError`s."""

    def __init__(self, location: DatabaseLocation, max_waiting: int = MAX_WAITING) -> None:
        """`max_waiting`: how many calls may wait for a connection; one more is refused with `CatalogBusy`."""
        self.location = location
        bound = (max_waiting, "MEDIAVAULT_DATABASE_WAITING")
        self.waits = ConcurrencyLimit("calls wait for the database", limit=bound, account_limit=bound)
        """The calls that wait for a connection now."""
        self.outages = OutageLog(describe_address(location))
        self.last_write_at = float("-inf")
        """`time.monotonic()` of the last commit, unless a write has failed since."""
        if isinstance(location, SqliteLocation):
            self._file = file = SqliteFileGuard(location.path)
            self.availability = None
            self.writer = sqlite_engine.create_engine(location.path, file, connections=1, query_only=False)
            self._reader = sqlite_engine.create_engine(
                location.path, file, connections=sqlite_engine.READERS, query_only=True
            )
            self._transaction_seconds: float | None = (
                None  # no limit for SQLite: a thread that waits for a file cannot be cancelled
            )
            self._group_commit = GroupCommit(self._transact_together, self.waits.hold)
            self._write_slots = ConnectionSlots(1)
            self._read_slots = ConnectionSlots(sqlite_engine.READERS)
        else:
            self._file = None
            self.availability = AvailabilityMonitor(self._probe, self.outages)
            self.writer = postgres_engine.create_engine(location.url, self.availability)
            self._reader = self.writer
            self._transaction_seconds = time_limits.TRANSACTION_SECONDS
            self._write_slots = self._read_slots = ConnectionSlots(postgres_engine.CONNECTIONS)

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
                        await postgres_engine.set_execution_options(connection, isolation_level="AUTOCOMMIT")
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
                    result = await sqlite_engine.require_driver_connection(lent.dbapi_connection).query(function)
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
            async with asyncio.timeout(time_limits.POOL_TIMEOUT_SECONDS) as limit:
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
                driver_connection = sqlite_engine.require_driver_connection(lent.dbapi_connection)
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
            connection = await postgres_engine.create_unpooled_engine(self.location).connect()
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
            async with postgres_engine.create_unpooled_engine(self.location).connect() as connection:
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
                    async with self._reader.connect() as connection, sqlite_engine.hold_snapshot(connection):
                        yield connection
                else:
                    async with self.writer.connect() as connection, postgres_engine.hold_snapshot(connection) as view:
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
            async with asyncio.timeout(time_limits.POOL_TIMEOUT_SECONDS) as limit:
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
