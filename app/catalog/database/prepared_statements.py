"""Statements of SQLite that are compiled once: their SQL, and what SQLAlchemy does to their values and rows.

SQLAlchemy takes ten times as long for a small statement as SQLite, even where it finds the compiled one in its cache. The statements of every
upload are marked by `prepare`; in transactions that are one call of a thread they are executed without SQLAlchemy. On PostgreSQL the mark means
nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from sqlalchemy import Dialect
from sqlalchemy.exc import MultipleResultsFound, NoResultFound, StatementError
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler

_MARK = "prepared"

ExecutableT = TypeVar("ExecutableT", bound=Executable)
_Process = Callable[[Any], Any]


def prepare(statement: ExecutableT) -> ExecutableT:
    """Marks a statement that exists once in the process. Its rows are plain tuples in SQLite: read them by position. All values are given at
    the execution; a column's default is not computed."""
    return cast("ExecutableT", statement.execution_options(**{_MARK: True}))


def is_prepared(statement: Executable) -> bool:
    return _MARK in statement.get_execution_options()


class PreparedResult:
    """The rows of one statement, with those methods of SQLAlchemy's `CursorResult` that transactions use."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[tuple[Any, ...]], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self._rows)

    def all(self) -> Sequence[tuple[Any, ...]]:
        return self._rows

    def one_or_none(self) -> tuple[Any, ...] | None:
        if len(self._rows) > 1:
            raise MultipleResultsFound("more than one row was found")
        return self._rows[0] if self._rows else None

    def one(self) -> tuple[Any, ...]:
        row = self.one_or_none()
        if row is None:
            raise NoResultFound("no row was found")
        return row

    def scalar_one_or_none(self) -> Any:
        row = self.one_or_none()
        return None if row is None else row[0]

    def scalar_one(self) -> Any:
        return self.one()[0]


class _Parameter(NamedTuple):
    """A place in the SQL: the value that is given under `name`, or `constant` where there is no name."""

    name: str | None
    process: _Process | None
    constant: Any


class PreparedStatements:
    """Compiles marked statements at their first execution."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._compiled: dict[tuple[Executable, tuple[str, ...]], _PreparedStatement] = {}

    def execute(
        self, connection: sqlite3.Connection, statement: Executable, values: Mapping[str, Any]
    ) -> PreparedResult:
        key = (statement, tuple(values))
        prepared = self._compiled.get(key)
        if prepared is None:
            prepared = self._compiled[key] = _PreparedStatement(statement, key[1], self._dialect)
        return prepared.execute(connection, values)


class _PreparedStatement:
    def __init__(self, statement: Executable, names: tuple[str, ...], dialect: Dialect) -> None:
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect, column_keys=list(names)))  # pyright: ignore[reportAttributeAccessIssue]
        if compiled.insert_prefetch or compiled.update_prefetch:
            raise TypeError(f"a column's default is no value of a prepared statement: {compiled.string}")
        # Lists that belong to the statement are expanded now. Values are given later: here they are None.
        expanded = compiled.construct_expanded_state(dict.fromkeys(names), escape_names=False)
        self._sql = expanded.statement
        processors: dict[str, Any] = {**compiled._bind_processors, **expanded.processors}  # noqa: SLF001 - as SQLAlchemy's own execution
        self._parameters = tuple(
            _build_parameter(name, names, processors.get(name), expanded.parameters)
            for name in expanded.positiontup or ()
        )
        columns = cast("Sequence[Any]", compiled._result_columns)  # noqa: SLF001 - see above
        row_processors = [column[3].dialect_impl(dialect).result_processor(dialect, None) for column in columns]
        self._row_processors = [(index, process) for index, process in enumerate(row_processors) if process is not None]

    def execute(self, connection: sqlite3.Connection, values: Mapping[str, Any]) -> PreparedResult:
        try:
            arguments = [
                constant if name is None else values[name] if process is None else process(values[name])
                for name, process, constant in self._parameters
            ]
        except Exception as error:
            raise StatementError(str(error), self._sql, None, error, hide_parameters=True) from error
        cursor = connection.execute(self._sql, arguments)
        try:
            rows = cursor.fetchall() if cursor.description else ()
            return PreparedResult(
                [self._convert(row) for row in rows] if self._row_processors else rows, cursor.rowcount
            )
        finally:
            cursor.close()

    def _convert(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for index, process in self._row_processors:
            values[index] = process(values[index])
        return tuple(values)


def _build_parameter(
    name: str, given: Sequence[str], process: _Process | None, constants: Mapping[str, Any]
) -> _Parameter:
    if name in given:
        return _Parameter(name, process, None)
    constant = constants[name]
    return _Parameter(None, None, constant if process is None else process(constant))
