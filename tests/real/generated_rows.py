"""Fills a catalogue with assets by statements that the database runs alone: a million takes a minute. No file is stored.

Each asset has an original, a thumbnail and a task that is done. Dates are spread over twenty years, ids over their whole
range, as in a library that grew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.catalog import Catalog
from app.catalog.database.locations import PostgresLocation

BATCH = 100_000
MANY = 1_000_000
"""So many rows are inserted sooner without the indexes, which are made anew afterwards."""
FIRST_DAY = "2005-01-01"
SECONDS = 20 * 365 * 86_400
_PRIME = 2_654_435_761
"""Numbers times this, modulo 2^32, are in no order."""
RARE_EVERY = 1000
"""One of so many assets was taken by a camera of `RARE_MAKE`, all others by one of `COMMON_MAKE`."""
RARE_REMAINDER = 7
COMMON_MAKE, RARE_MAKE = "Canon", "Leica"
_EXIF = (
    f"""'{{"make": "' || CASE WHEN n % {RARE_EVERY} = {RARE_REMAINDER} THEN '{RARE_MAKE}' ELSE '{COMMON_MAKE}' END || """
    """'", "model": "EOS ' || (n % 50) || '", "lensModel": "Lens ' || (n % 20) || '", "city": "City ' || (n % 5000) || """
    """'", "state": "State ' || (n % 16) || '", "country": "Germany", "fNumber": 2.8, "rating": ' || (n % 6) || '}'"""
)
"""A SQL expression, as the dialects'."""


_FILLED = "'file', 'asset', 'derivative', 'task'"
_SQLITE_INDEXES = text(
    f"SELECT name, sql AS definition FROM sqlite_master WHERE type = 'index' AND sql <> '' AND tbl_name IN ({_FILLED})"
)
_POSTGRESQL_INDEXES = text(
    f"SELECT indexname AS name, indexdef AS definition FROM pg_indexes WHERE tablename IN ({_FILLED}) "
    "AND schemaname = current_schema() AND indexname NOT IN (SELECT conname FROM pg_constraint)"
)


@dataclass(frozen=True, slots=True)
class _Dialect:
    """SQL expressions of the number `n` of an asset. `seconds` is one of seconds after the first day."""

    numbers: str
    identifier: str
    checksum: str
    time: str
    scattered: str = f"((n * {_PRIME}) % 4294967296)"

    def id(self, kind: int) -> str:
        """The id of a row that belongs to asset `n`; `kind` tells the rows of one asset apart."""
        return self.identifier.format(scattered=self.scattered, kind=kind)

    def taken(self) -> str:
        return self.time.format(seconds=f"({self.scattered} % {SECONDS})")

    def uploaded(self) -> str:
        return self.time.format(seconds=f"({SECONDS} + n % 1000000)")


_SQLITE = _Dialect(
    numbers="(WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) "
    "SELECT n FROM numbers)",
    identifier="printf('%08x%02x%022x', {scattered}, {kind}, n)",
    checksum="CAST(printf('%020d', n) AS BLOB)",
    time=f"strftime('%Y-%m-%d %H\\:%M\\:%S', '{FIRST_DAY}', '+' || {{seconds}} || ' seconds') || '.000000'",
)
_POSTGRESQL = _Dialect(
    numbers="generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS numbers(n)",
    identifier="CAST(lpad(to_hex({scattered}), 8, '0') || lpad(to_hex({kind}), 2, '0') || lpad(to_hex(n), 22, '0')"
    " AS uuid)",
    checksum="convert_to(lpad(CAST(n AS text), 20, '0'), 'UTF8')",
    time=f"(TIMESTAMP WITH TIME ZONE '{FIRST_DAY} 00\\:00\\:00+00' + {{seconds}} * interval '1 second')",
)


async def insert_assets(catalog: Catalog, owner_id: UUID, count: int, *, media: str = "/media", first: int = 0) -> None:
    """Insert the assets with the numbers from `first`, and tell the database to look at them. `media`: the location of their files."""
    is_postgresql = isinstance(catalog.database.location, PostgresLocation)
    async with _without_indexes(catalog, is_postgresql=is_postgresql) if count >= MANY else nullcontext():
        for begin in range(first, first + count, BATCH):
            last = min(begin + BATCH, first + count) - 1
            async with catalog.database.long_write() as connection:
                if is_postgresql:
                    await connection.execute(text("SET LOCAL statement_timeout = 0"))
                    # No triggers and no checks of foreign keys: ten times as fast. The counts are corrected at the end.
                    await connection.execute(text("SET LOCAL session_replication_role = replica"))
                    await _insert_batch(connection, owner_id, media, begin, last, _POSTGRESQL)
                else:
                    async with _without_triggers(connection):
                        await _insert_batch(connection, owner_id, media, begin, last, _SQLITE)
    await catalog.kept_counts.correct()
    await catalog.name_index.update()
    await catalog.exif_indexes.update()
    async with catalog.engine.connect() as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text("SET statement_timeout = 0" if is_postgresql else "SELECT 1"))
        await connection.execute(text("VACUUM ANALYZE" if is_postgresql else "SELECT 1"))
        await connection.invalidate()


@asynccontextmanager
async def _without_indexes(catalog: Catalog, *, is_postgresql: bool) -> AsyncIterator[None]:
    """Those that no constraint needs."""
    async with catalog.database.long_write() as connection:
        indexes = (await connection.execute(_POSTGRESQL_INDEXES if is_postgresql else _SQLITE_INDEXES)).all()
        for index in indexes:
            await connection.exec_driver_sql(f"DROP INDEX {index.name}")
    yield
    for index in indexes:
        async with catalog.database.long_write() as connection:
            if is_postgresql:
                await connection.execute(text("SET LOCAL statement_timeout = 0"))
                await connection.execute(text("SET LOCAL maintenance_work_mem = '1GB'"))
            await connection.exec_driver_sql(index.definition)


@asynccontextmanager
async def _without_triggers(connection: AsyncConnection) -> AsyncIterator[None]:
    triggers = (await connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))).all()
    for trigger in triggers:
        await connection.exec_driver_sql(f"DROP TRIGGER {trigger.name}")
    yield
    for trigger in triggers:
        await connection.exec_driver_sql(trigger.sql)


def checksum_of(number: int) -> bytes:
    """Of the asset with this number."""
    return f"{number:020d}".encode()


def name_of(number: int) -> str:
    return f"IMG_{number}.JPG"


def exif_of(number: int) -> dict[str, str | int]:
    """What searches may be for, of the asset with this number."""
    return {
        "make": RARE_MAKE if number % RARE_EVERY == RARE_REMAINDER else COMMON_MAKE,
        "model": f"EOS {number % 50}",
        "lensModel": f"Lens {number % 20}",
        "city": f"City {number % 5000}",
        "state": f"State {number % 16}",
        "country": "Germany",
        "rating": number % 6,
    }


async def _insert_batch(
    connection: AsyncConnection, owner_id: UUID, media: str, first: int, last: int, dialect: _Dialect
) -> None:
    is_sqlite = dialect is _SQLITE
    owner = f"'{owner_id.hex if is_sqlite else owner_id}'"
    for statement in _build_statements(owner, media.replace(":", "\\:"), dialect):
        await connection.execute(text(statement), {"first": first, "last": last})


def _build_statements(owner: str, media: str, dialect: _Dialect) -> Iterator[str]:
    taken, uploaded, checksum = dialect.taken(), dialect.uploaded(), dialect.checksum
    asset, original, thumbnail, task = (dialect.id(kind) for kind in range(4))
    exif = f"CAST({_EXIF} AS json)".replace(":", "\\:") if dialect is _POSTGRESQL else _EXIF.replace(":", "\\:")
    numbers = dialect.numbers
    file_columns = "id, owner_id, kind, path, state, size, sha1, crc32, mime_type, created_at, not_before"
    for file_id, kind, folder, mime in (
        (original, "original", "upload", "image/jpeg"),
        (thumbnail, "thumbnail", "thumbs", "image/webp"),
    ):
        path = f"'{media}/{folder}/' || {file_id} || '.jpg'"
        yield (
            f"INSERT INTO file ({file_columns}) SELECT {file_id}, {owner}, '{kind}', {path}, 'live', "
            f"100000 + n % 5000000, {checksum}, n % 4294967296, '{mime}', {uploaded}, {uploaded} FROM {numbers}"
        )
    yield (
        "INSERT INTO asset (id, owner_id, type, file_id, checksum, original_file_name, folded_name, file_created_at, "
        "file_modified_at, local_date_time, created_at, updated_at, is_favorite, visibility, width, height, exif, "
        f"is_offline) SELECT {asset}, {owner}, CASE WHEN n % 10 = 0 THEN 'VIDEO' ELSE 'IMAGE' END, {original}, "
        f"{checksum}, 'IMG_' || n || '.JPG', 'img_' || n || '.jpg', {taken}, {taken}, {taken}, {uploaded}, {uploaded}, "
        f"n % 50 = 0, CASE WHEN n % 20 = 0 THEN 'archive' ELSE 'timeline' END, 4000, 3000, {exif}, false FROM {numbers}"
    )
    yield (f"INSERT INTO derivative (asset_id, kind, file_id) SELECT {asset}, 'thumbnail', {thumbnail} FROM {numbers}")
    yield (
        "INSERT INTO task (id, asset_id, kind, state, priority, attempts, deaths, not_before, requested_at, created_at, "
        f"updated_at) SELECT {task}, {asset}, CASE WHEN n % 10 = 0 THEN 'video' ELSE 'image' END, 'done', 0, 1, 0, "
        f"{uploaded}, {uploaded}, {uploaded}, {uploaded} FROM {numbers}"
    )
