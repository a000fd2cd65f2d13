"""Statements with many rows or values. PostgreSQL takes them as `COPY` and as arrays: parsing a placeholder for each value takes longer than
the statement itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import ARRAY, Column, ColumnElement, Table, any_, insert, literal
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

_POSTGRES = "postgresql"


async def insert_rows(connection: AsyncConnection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """All rows have the same columns; defaults that SQLAlchemy computes are not filled in. Raises `SQLAlchemyError`."""
    if not rows:
        return
    if connection.dialect.name != _POSTGRES:
        await connection.execute(insert(table), list(rows))
        return
    names = list(rows[0])
    processors = [
        table.c[name].type.dialect_impl(connection.dialect).bind_processor(connection.dialect) for name in names
    ]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
    driver: Any = (await connection.get_raw_connection()).driver_connection
    try:
        async with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                values = zip(processors, row.values(), strict=True)
                await copy.write_row([value if process is None else process(value) for process, value in values])
    except psycopg.Error as error:
        text = f"COPY {table.name}"
        raise DBAPIError.instance(text, None, error, psycopg.Error, True, dialect=connection.dialect) from error


def is_any(connection: AsyncConnection, column: Column[Any], values: Collection[Any]) -> ColumnElement[bool]:
    """Whether the column has one of the values: as many as fit a statement of SQLite, at most."""
    if connection.dialect.name != _POSTGRES:
        return column.in_(values)
    return column == any_(literal(list(values), ARRAY(column.type)))
