"""Generates rows for every table of the catalogue, from its definitions: difficult text, bytes, JSON and times, and NULLs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import JSON, Boolean, Column, Float, Integer, LargeBinary, Table, Uuid, insert, select, text

from app.catalog.catalog import Catalog
from app.catalog.database.schema_upgrade import OLDEST_PROGRAM_FLAG
from app.catalog.schema import column_types, tables
from app.catalog.schema.move_records import MoveState
from app.catalog.schema.records import FileState
from app.catalog.schema.upload_records import UploadState

ROWS = 4
"""Rows per table; the last one has NULL in every nullable column."""

FILLED_TABLES = tuple(table for table in tables.metadata.tables.values() if tables.IS_DERIVED not in table.info)

_LASTING = {
    tables.file.c.state: (FileState.LIVE,),
    tables.migration_item.c.state: (MoveState.REMOVED, MoveState.REVERTED),
    tables.upload.c.state: (UploadState.COMPLETE,),
    **dict.fromkeys(
        (tables.upload.c.cleanup_at, tables.upload.c.path, tables.upload.c.file_id, tables.upload.c.storage_state),
        (None,),
    ),
}
"""The values whose rows are restored unchanged (see `app.catalog.backup.stale_rows`)."""

_TEXTS = (
    "plain",
    "ümläut, 漢字 and \U0001f600, NFC é and NFD e\u0301",
    "quotes ' \" ` \\ and\nlines\r\n\ttabs \x01\x1f\x7f \u2028",
    "  %s {0} ?; DROP TABLE x; --  \ufeff" + "long" * 2000,
)
_TIMES = (
    datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
    datetime(1, 1, 2, 0, 0, 0, 1, tzinfo=UTC),
    datetime(9000, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
)
_JSON = (
    {"nested": {"list": [1, 2.5, -0.1, 1e300, None, True, "\ud800 lone, \0 NUL"], "big": 2**60}, "": "empty key"},
    [],
    "text",
    {"Δ": [[[]]]},
)
_BYTES = (bytes(range(256)), b"", b"\0", b"\xff" * 1000)


async def fill(catalog: Catalog) -> None:
    """Insert `ROWS` rows into each table; some references point to later rows."""
    async with catalog.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            await connection.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            await connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for table in FILLED_TABLES:
            await connection.execute(table.delete())
            for number in range(ROWS):
                values = {column.name: _value(table, column, number) for column in table.c}
                await connection.execute(insert(table).values(values))
        await connection.commit()
    await catalog.installation.get_id()


async def contents(catalog: Catalog) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, and Alembic's revision; without the flag that describes this database's tables and is never exported."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    async with catalog.engine.connect() as connection:
        for table in FILLED_TABLES:
            rows = [tuple(row) for row in await connection.execute(select(table)) if OLDEST_PROGRAM_FLAG not in row]
            found[table.name] = sorted(rows, key=repr)
        found["alembic_version"] = [
            tuple(row) for row in await connection.execute(text("SELECT * FROM alembic_version"))
        ]
    return found


def _value(table: Table, column: Column[Any], number: int) -> Any:
    if column.nullable and (number == ROWS - 1 or _LASTING.get(column) == (None,)):
        return None
    if column.foreign_keys:
        target = next(iter(column.foreign_keys)).column.table
        step = 1 if target is table else 0  # a reference to the same table: the next row
        return _id(target.name, (number + step) % ROWS)
    if isinstance(column.type, Uuid):
        return _id(table.name if column.primary_key else f"{table.name}.{column.name}", number)
    return _plain(column, number)


def _plain(column: Column[Any], number: int) -> Any:
    kind = column.type
    if isinstance(kind, column_types.UtcDateTime):
        return _TIMES[number] + timedelta(microseconds=number)
    if isinstance(kind, column_types.StrEnumType):
        choices = _LASTING.get(column) or list(kind.choices)
        return choices[number % len(choices)]
    if isinstance(kind, Boolean):
        return bool(number % 2)
    if isinstance(kind, Float):
        return (0.1, -1e-300, 2.0, 1e300)[number]
    if isinstance(kind, Integer):
        largest = 2**31 - 1 if type(kind) is Integer else 2**63 - 1
        return (largest, -largest, 0, 1)[number]
    if isinstance(kind, LargeBinary):
        return _BYTES[number] + (bytes([number]) if column.unique or column.name == "checksum" else b"")
    if isinstance(kind, JSON):
        return _JSON[number]
    return f"{_TEXTS[number]}{number}"


def _id(name: str, number: int) -> UUID:
    """A UUID that is determined by table and row number."""
    return UUID(bytes=(name.encode() * 16)[:15] + bytes([number]))
