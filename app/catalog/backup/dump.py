"""Exports all rows of the catalogue from one snapshot and imports them into an empty catalogue, as plain values that
are the same for SQLite and PostgreSQL. It reads and writes no backup files.

The tables to export come from the definitions of the tables, so that none can be forgotten. A dump belongs to one
revision of the schema. It is loaded into tables of that revision and then upgraded by the same migrations as any
catalogue.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Uuid,
    func,
    insert,
    inspect,
    literal,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.backup.stale_rows import DroppedRows, drop_restored_rows
from app.catalog.database.engine import Database
from app.catalog.database.locations import PostgresLocation
from app.catalog.database.schema_upgrade import (
    OLDEST_PROGRAM_FLAG,
    apply_migrations,
    get_revision,
    lock_for_upgrade,
    open_upgrade_transaction,
)
from app.catalog.errors import CatalogError, CatalogNotEmpty, SchemaMismatch
from app.catalog.installation import ELECTED_FLAG
from app.catalog.migrations import HEAD
from app.catalog.schema import column_types, tables

_installation = tables.installation

JsonValue = Any
"""A JSON value: text, number, boolean, null, list or object."""

DATABASE_SPECIFIC_FLAGS = frozenset({"procrastinate", OLDEST_PROGRAM_FLAG})
"""Flags of `installation` that describe this database (its tables and those of other programs) and not the installation:
they are not exported, nor are those that begin with `ELECTED_FLAG`."""

_FOREIGN_TABLE_PREFIXES = ("alembic_", "procrastinate_")
"""Prefixes of the names of other programs' tables in the same database."""

_ROWS_PER_FETCH = 200
"""Rows fetched by one query."""
_LARGE_ROW_TABLES = frozenset({"archive"})
"""Tables whose rows may be megabytes each: fetched one row at a time."""


@dataclass(frozen=True, slots=True)
class DumpedColumn:
    """`kind`: uuid, text, integer, number, boolean, time, binary or json."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class DumpedTable:
    name: str
    columns: tuple[DumpedColumn, ...]


@dataclass(frozen=True, slots=True)
class _ColumnCodec:
    """How a kind of value is stored in the databases, and how it is converted to JSON and back."""

    stored: Any
    write: Callable[[Any], JsonValue]
    read: Callable[[JsonValue], Any]


def _keep_value(value: Any) -> Any:
    return value


def _write_time(value: datetime) -> str:
    return value.isoformat(timespec="microseconds")


def _write_binary(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _read_binary(value: str) -> bytes:
    return base64.b64decode(value, validate=True)


_COLUMN_CODECS = {
    "uuid": _ColumnCodec(Uuid, str, UUID),
    "text": _ColumnCodec(String, str, str),
    "integer": _ColumnCodec(BigInteger, int, int),
    "number": _ColumnCodec(Float, float, float),
    "boolean": _ColumnCodec(Boolean, bool, bool),
    "time": _ColumnCodec(column_types.UtcDateTime, _write_time, datetime.fromisoformat),
    "binary": _ColumnCodec(LargeBinary, _write_binary, _read_binary),
    "json": _ColumnCodec(JSON(none_as_null=True), _keep_value, _keep_value),
}
_KIND_OF_TYPE: tuple[tuple[type[Any], str], ...] = (
    (column_types.UtcDateTime, "time"),
    (column_types.Text, "text"),
    (column_types.StrEnumType, "text"),
    (Uuid, "uuid"),
    (Boolean, "boolean"),
    (Integer, "integer"),
    (Float, "number"),
    (LargeBinary, "binary"),
    (JSON, "json"),
    (String, "text"),
)


def list_dumped_tables() -> tuple[DumpedTable, ...]:
    """Every table of this program's schema but for those whose rows triggers derive from others, sorted by name."""
    return tuple(
        DumpedTable(table.name, tuple(DumpedColumn(column.name, _kind_of(column)) for column in table.c))
        for table in sorted(tables.metadata.tables.values(), key=lambda table: table.name)
        if tables.IS_DERIVED not in table.info
    )


def _kind_of(column: Column[Any]) -> str:
    for type_, kind in _KIND_OF_TYPE:
        if isinstance(column.type, type_):
            return kind
    raise TypeError(f"{column}: the type {column.type!r} cannot be exported")


class CatalogSnapshot:
    """The catalogue at one moment. `revision` is that of its schema."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.revision = HEAD
        self.tables = list_dumped_tables()

    async def iterate_rows(self, dumped: DumpedTable) -> AsyncGenerator[list[list[JsonValue]]]:
        """Yield the rows of a table in batches, in the order of the primary key."""
        table = tables.metadata.tables[dumped.name]
        key = list(table.primary_key.columns)
        writers = [_COLUMN_CODECS[column.kind].write for column in dumped.columns]
        at_once = 1 if dumped.name in _LARGE_ROW_TABLES else _ROWS_PER_FETCH
        page = select(table).order_by(*key).limit(at_once)
        if table is _installation:
            page = page.where(~_is_database_specific())
        statement = page
        while rows := (await self._connection.execute(statement)).all():
            yield await asyncio.to_thread(_encode_rows, rows, writers)
            last = [getattr(rows[-1], column.name) for column in key]
            statement = page.where(tuple_(*key) > tuple_(*(literal(v, c.type) for v, c in zip(last, key, strict=True))))


def _encode_rows(rows: Sequence[Any], writers: list[Callable[[Any], JsonValue]]) -> list[list[JsonValue]]:
    return [
        [None if value is None else write(value) for write, value in zip(writers, row, strict=True)] for row in rows
    ]


@asynccontextmanager
async def open_snapshot(database: Database) -> AsyncIterator[CatalogSnapshot]:
    """Raises `SchemaMismatch` when another program has upgraded the tables since the catalogue was opened."""
    async with database.snapshot_connection() as connection:
        revision = await get_revision(connection)
        if revision != HEAD:
            raise SchemaMismatch("the catalogue's tables are not those of this program any more")
        yield CatalogSnapshot(connection)


class CatalogRestore:
    """Inserts the rows of a dump, all in one transaction. `columns` are those of each existing table. `dropped_rows` is
    set when the restore ends."""

    def __init__(self, connection: AsyncConnection, columns: Mapping[str, frozenset[str]]) -> None:
        self._connection = connection
        self._columns = columns
        self.dropped_rows = DroppedRows()

    async def load_rows(self, dumped: DumpedTable, rows: Sequence[Sequence[JsonValue]]) -> None:
        """Raises `CatalogError` when the rows do not fit the table, or there is no such table."""
        names = [column.name for column in dumped.columns]
        if len(set(names)) < len(names) or not self._columns.get(dumped.name, frozenset()).issuperset(names):
            raise CatalogError(
                f"the backup's table {dumped.name!r} or one of its columns does not exist in that revision"
            )
        try:
            kinds = [_COLUMN_CODECS[column.kind] for column in dumped.columns]
            values = await asyncio.to_thread(_decode_rows, dumped, kinds, rows)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CatalogError(f"rows of table {dumped.name!r} do not fit its columns") from error
        table = Table(
            dumped.name,
            MetaData(),
            *(Column(column.name, kind.stored) for column, kind in zip(dumped.columns, kinds, strict=True)),
        )
        await self._connection.execute(insert(table), values)

    async def count_rows(self, dumped: DumpedTable) -> int:
        """How many rows the table has, without rows that are not exported."""
        counted = select(func.count()).select_from(Table(dumped.name, MetaData()))
        if dumped.name == _installation.name:
            counted = select(func.count()).where(~_is_database_specific())
        return (await self._connection.execute(counted)).scalar_one()


def _is_database_specific() -> ColumnElement[bool]:
    name = _installation.c.name
    return or_(name.in_(DATABASE_SPECIFIC_FLAGS), name.startswith(ELECTED_FLAG, autoescape=True))


def _decode_rows(
    dumped: DumpedTable, kinds: list[_ColumnCodec], rows: Sequence[Sequence[JsonValue]]
) -> list[dict[str, Any]]:
    return [
        {
            column.name: None if cell is None else kind.read(cell)
            for column, kind, cell in zip(dumped.columns, kinds, row, strict=True)
        }
        for row in rows
    ]


@asynccontextmanager
async def open_restore(database: Database, revision: str) -> AsyncIterator[CatalogRestore]:
    """Restore into tables of `revision`, then upgrade the tables and drop rows that must not be acted on (see
    `restored_rows`). A clean exit commits; any other exit changes nothing.

    Raises `CatalogNotEmpty` when the catalogue has rows already, and `SchemaMismatch` for an unknown revision. No other
    process can write meanwhile, so the caller may await other things than the database inside the block.
    """
    async with lock_for_upgrade(database), open_upgrade_transaction(database) as connection:
        is_postgres = isinstance(database.location, PostgresLocation)
        if is_postgres:
            await connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        await _prepare_tables(connection, revision)
        async with _deferred_foreign_keys(connection, is_postgres=is_postgres):
            restore = CatalogRestore(connection, await connection.run_sync(_read_column_names))
            yield restore
        await apply_migrations(connection, "head")
        restore.dropped_rows = await drop_restored_rows(connection)


async def _prepare_tables(connection: AsyncConnection, revision: str) -> None:
    present = await connection.run_sync(lambda sync: set(inspect(sync).get_table_names()))
    ours = [table for table in tables.metadata.tables.values() if table.name in present]
    current = await get_revision(connection) if "alembic_version" in present else None
    if ours and current != HEAD:
        raise SchemaMismatch("the catalogue's tables are not those of this program: run `mediavault db upgrade`")
    for table in ours:
        # A service that was started once has created an installation id and nothing else: the backup's id replaces it.
        is_free = table is _installation or tables.IS_DERIVED in table.info
        if not is_free and (await connection.execute(select(1).select_from(table).limit(1))).all():
            raise CatalogNotEmpty(table.name)
    if current == revision:
        await connection.execute(_installation.delete().where(~_is_database_specific()))
        return
    kept_flags: list[dict[str, Any]] = []
    if current is not None:
        flags = await connection.execute(select(_installation).where(_is_database_specific()))
        kept_flags = [dict(flag) for flag in flags.mappings()]
        await _drop_tables(connection, [*(table.name for table in reversed(ours)), "alembic_version"])
    await apply_migrations(connection, revision)
    if kept_flags:
        await connection.execute(insert(_installation), kept_flags)


def _read_column_names(connection: Connection) -> dict[str, frozenset[str]]:
    """The columns of our tables as they are now, without those of other programs and of Alembic."""
    inspector = inspect(connection)
    names = [name for name in inspector.get_table_names() if not name.startswith(_FOREIGN_TABLE_PREFIXES)]
    return {name: frozenset(column["name"] for column in inspector.get_columns(name)) for name in names}


async def _drop_tables(connection: AsyncConnection, names: list[str]) -> None:
    """Drop empty tables, which are then created again at another revision."""
    quoted = [connection.dialect.identifier_preparer.quote(name) for name in names]
    # PostgreSQL drops all in one statement, as some refer to each other; SQLite drops one by one, referring tables
    # first.
    for table_names in [", ".join(quoted)] if connection.dialect.name == "postgresql" else quoted:
        await connection.execute(text(f"DROP TABLE {table_names}"))


@asynccontextmanager
async def _deferred_foreign_keys(connection: AsyncConnection, *, is_postgres: bool) -> AsyncIterator[None]:
    """Check foreign keys at the end of the block, so that rows may be inserted in any order."""
    if not is_postgres:
        await connection.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        yield
        broken = (await connection.exec_driver_sql("PRAGMA foreign_key_check")).all()
        if broken:
            raise CatalogError(f"a row of table {broken[0][0]!r} refers to a row that does not exist")
        return
    constraints = await connection.run_sync(lambda sync: list(_alter_foreign_keys(sync)))
    for alter in constraints:
        await connection.execute(text(f"{alter} DEFERRABLE"))
    await connection.execute(text("SET CONSTRAINTS ALL DEFERRED"))
    yield
    await connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
    for alter in constraints:
        await connection.execute(text(f"{alter} NOT DEFERRABLE"))


def _alter_foreign_keys(connection: Connection) -> Iterator[str]:
    quoted = connection.dialect.identifier_preparer.quote
    inspector = inspect(connection)
    for name in inspector.get_table_names():
        for key in inspector.get_foreign_keys(name):
            if key["name"] is not None and not key.get("options", {}).get("deferrable"):
                yield f"ALTER TABLE {quoted(name)} ALTER CONSTRAINT {quoted(key['name'])}"
