"""SQLAlchemy's adapter of aiosqlite, with one call of the connection's thread for each statement, or for several whole transactions.

The adapter that SQLAlchemy has makes four calls for a statement: new cursor, statement, rows, end of the cursor. Each wakes a thread and
then the event loop, which takes longer than a small statement. The begin of a transaction goes with its first statement.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import aiosqlite
from sqlalchemy import Connection, CursorResult, Executable, create_engine
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import StaticPool
from sqlalchemy.util.concurrency import await_

from app.catalog.database.prepared_statements import PreparedResult, PreparedStatements, is_prepared

BEGIN = "BEGIN IMMEDIATE"
_DIALECT = SQLiteDialect_pysqlite()

_T = TypeVar("_T")

Transaction = Callable[[AsyncConnection], Coroutine[Any, Any, _T]]
"""Makes the statements of one transaction by `execute`, and awaits nothing else."""


class TransactionOutcome(NamedTuple):
    """The function's result, or its error."""

    result: Any
    error: Exception | None


class _Outcome(NamedTuple):
    rows: Sequence[Any]
    description: Any
    rowcount: int
    lastrowid: int | None


class SqliteCursor(AsyncAdapt_aiosqlite_cursor):
    """Holds the outcome of one statement. The driver's own cursor ends in the call that made it."""

    __slots__ = ("_driver_connection", "_outcome", "arraysize")

    def __init__(self, adapt_connection: SqliteDriverConnection) -> None:  # pyright: ignore[reportMissingSuperCall]
        self._driver_connection = adapt_connection
        self._rows: deque[Any] = deque()
        self._outcome = _Outcome((), None, -1, None)
        self.arraysize = 1  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def description(self) -> Any:
        return self._outcome.description

    @property
    def rowcount(self) -> int:
        return self._outcome.rowcount

    @property
    def lastrowid(self) -> int | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._outcome.lastrowid

    async def _async_soft_close(self) -> None:
        pass

    def close(self) -> None:
        self._rows.clear()

    def execute(self, operation: Any, parameters: Any = None) -> None:
        self._run(sqlite3.Cursor.execute, operation, () if parameters is None else parameters)

    def executemany(self, operation: Any, seq_of_parameters: Any) -> None:
        self._run(sqlite3.Cursor.executemany, operation, seq_of_parameters)

    def _run(self, execute: Callable[..., Any], operation: Any, parameters: Any) -> None:
        self._outcome = self._driver_connection.run(_execute, execute, operation, parameters)
        self._rows = deque(self._outcome.rows)


class SqliteDriverConnection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ("_begins", "_is_idle", "_statements")

    _cursor_cls = SqliteCursor
    _connection: aiosqlite.Connection  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, dbapi: Any, connection: aiosqlite.Connection) -> None:
        super().__init__(dbapi, connection)  # pyright: ignore[reportArgumentType]
        self._begins = False
        self._statements: BlockingStatements | None = None
        self._is_idle = True
        """Whether nothing has run since the last commit or rollback. SQLAlchemy's pool rolls back after each commit once more."""

    def begin_at_next_statement(self) -> None:
        """Begin a transaction with the next statement, which also raises what refuses the begin."""
        self._begins = True

    async def transact(self, functions: Sequence[Transaction[Any]]) -> list[TransactionOutcome]:
        """Several transactions in one call of the thread, with one commit: all survive a crash, or none. An error of a function undoes what
        that function did, and is its outcome. Raises what fails all of them, such as the error of the commit."""
        call = self._connection._execute(_call, self._connection, self._transact, (functions,))  # noqa: SLF001
        return await call

    async def query(self, function: Transaction[_T]) -> _T:
        """All queries of a function in one call of the thread, outside of a transaction."""
        return await self._connection._execute(_call, self._connection, self._query, (function,))  # noqa: SLF001

    def _query(self, connection: sqlite3.Connection, function: Transaction[_T]) -> _T:
        statements = self._statements = self._statements or BlockingStatements(connection)
        return statements.query(function)

    def _transact(
        self, connection: sqlite3.Connection, functions: Sequence[Transaction[Any]]
    ) -> list[TransactionOutcome]:
        statements = self._statements = self._statements or BlockingStatements(connection)
        connection.execute(BEGIN).close()
        try:
            outcomes = [statements.run(function) for function in functions]
            if any(outcome.error is None for outcome in outcomes):
                connection.commit()
        finally:
            if connection.in_transaction:
                connection.rollback()
        return outcomes

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function` in the connection's thread, with its connection as first argument."""
        if self._begins:
            function, arguments = _begin_and_call, (function, *arguments)
            self._begins = False
        self._is_idle = False
        try:
            return await_(self._connection._execute(_call, self._connection, function, arguments))  # noqa: SLF001
        except Exception as error:  # noqa: BLE001 - as the methods of the base class
            self._handle_exception(error)

    def rollback(self) -> None:
        self._begins = False
        if not self._is_idle:
            super().rollback()
            self._is_idle = True

    def commit(self) -> None:
        self._begins = False
        if not self._is_idle:
            super().commit()
            self._is_idle = True


class BlockingStatements:
    """Runs transactions in the connection's thread. It stands in for an `AsyncConnection`; its methods block."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._prepared = PreparedStatements(_DIALECT)
        self._sqlalchemy = _connect(connection)

    def run(self, function: Transaction[Any]) -> TransactionOutcome:
        """A function within the transaction that has begun. Raises an error that has ended the transaction itself."""
        self._connection.execute("SAVEPOINT one").close()
        try:
            result = _run_without_waiting(function(cast("AsyncConnection", self)))
        except Exception as error:
            if not self._connection.in_transaction:  # SQLite rolls it back where the disk is full or fails
                raise
            self._connection.execute("ROLLBACK TO one").close()
            self._connection.execute("RELEASE one").close()
            return TransactionOutcome(None, error)
        self._connection.execute("RELEASE one").close()
        return TransactionOutcome(result, None)

    def query(self, function: Transaction[_T]) -> _T:
        return _run_without_waiting(function(cast("AsyncConnection", self)))

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any] | PreparedResult:
        if is_prepared(statement):
            return self._prepared.execute(self._connection, statement, parameters or {})
        return self._sqlalchemy.execute(statement, parameters)


class SqliteDriver(AsyncAdapt_aiosqlite_dbapi):
    """The `module` of an engine."""

    def __init__(self) -> None:
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arg: Any, **kw: Any) -> SqliteDriverConnection:
        creator: Callable[..., Any] = kw.pop("async_creator_fn")
        return SqliteDriverConnection(self, await_(creator(*arg, **kw)))


def _connect(connection: sqlite3.Connection) -> Connection:
    """SQLAlchemy over this connection, for calls in its thread. It neither begins nor ends transactions."""
    engine = create_engine(
        "sqlite://",
        creator=lambda: connection,
        poolclass=StaticPool,
        pool_reset_on_return=None,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        hide_parameters=True,
    )
    return engine.connect()


def _run_without_waiting(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that awaits nothing but `BlockingStatements`."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    coroutine.close()
    raise RuntimeError("a transaction awaits something else than its statements")


def _call(connection: aiosqlite.Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    return function(connection._conn, *arguments)  # noqa: SLF001


def _begin_and_call(connection: sqlite3.Connection, function: Callable[..., Any], *arguments: Any) -> Any:
    connection.execute(BEGIN).close()
    return function(connection, *arguments)


def _execute(connection: sqlite3.Connection, execute: Callable[..., Any], operation: str, parameters: Any) -> _Outcome:
    cursor = connection.cursor()
    try:
        execute(cursor, operation, parameters)
        rows = cursor.fetchall() if cursor.description else ()
        return _Outcome(rows, cursor.description, cursor.rowcount, cursor.lastrowid)
    finally:
        cursor.close()
