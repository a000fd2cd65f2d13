"""Statements with many rows or values. PostgreSQL takes them as `COPY` and as arrays: parsing a placeholder for each value takes longer than
the statement itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import ARRAY, Column, ColumnElement, Row, Select, Table, any_, insert, literal
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

_POSTGRES = "postgresql"
_POSTGRES_VALUES = 5000
_SQLITE_VALUES = 500
"""Of one statement. SQLite takes each value as a parameter of its own."""


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows have the same columns; defaults that SQLAlchemy computes are not filled in. Raises `SQLAlchemyError`."""
    if not rows:
        return
    if connection.dialect.name != _POSTGRES:
        await connection.execute(insert(table), list(rows))
        return
    names = list(rows[0])
    processors = {
        name: table.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect) for name in names
    }
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        async with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                if len(row) != len(names):
                    raise ValueError("rows of different columns")
                await copy.write_row(
                    [row[name] if process is None else process(row[name]) for name, process in processors.items()]
                )
    except psycopg.Error as error:
        text = f"COPY {table.name}"
        raise DBAPIError.instance(text, None, error, psycopg.Error, True, dialect=connection.dialect) from error


async def fetch_any(
    connection: AsyncConnection, statement: Select[*tuple[Any, ...]], column: Column[Any], values: Iterable[Any]
) -> list[Row[*tuple[Any, ...]]]:
    """The rows of the statement in which the column has one of the values. Raises `SQLAlchemyError`."""
    distinct = list(dict.fromkeys(values))
    size = _POSTGRES_VALUES if connection.dialect.name == _POSTGRES else _SQLITE_VALUES
    rows: list[Row[*tuple[Any, ...]]] = []
    for start in range(0, len(distinct), size):
        rows += await connection.execute(statement.where(_is_any(connection, column, distinct[start : start + size])))
    return rows


def _is_any(connection: AsyncConnection, column: Column[Any], values: list[Any]) -> ColumnElement[bool]:
    if connection.dialect.name != _POSTGRES:
        return column.in_(values)
    return column == any_(literal(values, ARRAY(column.type)))
