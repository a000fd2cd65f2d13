"""Upgrades the tables to the newest revision, once, however many processes start at the same time.

PostgreSQL: an advisory lock that ends with the transaction. SQLite: `flock` on a file beside the catalogue. If the
revision is current, Alembic is not imported, which keeps a start short.

Schema changes expand first and contract in a later version, so that processes of the former version go on working. Each
upgrade stores the oldest revision whose program works with the new tables (`OLDEST_PROGRAM`). A program that starts on
tables newer than its own reads it, and works with them or refuses.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, delete, insert, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import column

from app.catalog.database.engine import Database
from app.catalog.database.locations import PostgresLocation, SqliteLocation
from app.catalog.errors import CatalogError, CatalogLocked, CatalogUnavailable, SchemaMismatch
from app.catalog.migrations import HEAD, OLDEST_PROGRAM
from app.catalog.schema import tables

_log = logging.getLogger(__name__)

LOCK_SECONDS = 120
"""How long a start waits while another process upgrades, and how long an upgrade tries to lock tables that are in use."""
TABLE_LOCK_SECONDS = 0.5
"""How long one statement of an upgrade waits for the lock of a table in PostgreSQL. All later queries of that table wait
behind it. Shorter than `deadlock_timeout`, so that in a deadlock it is the upgrade that gives in."""

OLDEST_PROGRAM_FLAG = "schema.oldest_program"
"""Name in `installation` of the stored `OLDEST_PROGRAM`."""

_RETRY_SECONDS = 0.5
_ADVISORY_LOCK = 0x6D656469_61766175
_MIGRATIONS = Path(__file__).parents[1] / "migrations"


async def ensure_current(database: Database, *, upgrade: bool) -> bool:
    """Returns True when an upgrade was necessary. Tables that are newer are current if this program works with them.
    Raises `SchemaMismatch`, `CatalogUnavailable`."""
    async with lock_for_upgrade(database):
        if await _is_usable(database):
            return False
        if not upgrade:
            raise SchemaMismatch("the catalogue's tables are not those of this program: run `mediavault db upgrade`")
        await _upgrade(database)
        return True


async def _upgrade(database: Database) -> None:
    """Apply all migrations in one transaction. Where a table cannot be locked at once, the transaction is rolled back and
    begun again, so that the queries that wait behind it are answered meanwhile."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            async with open_upgrade_transaction(database) as connection:
                if isinstance(database.location, PostgresLocation):
                    await connection.execute(text(f"SET LOCAL lock_timeout = '{TABLE_LOCK_SECONDS * 1000:.0f}ms'"))
                await apply_migrations(connection, "head")
        except CatalogLocked:
            if time.monotonic() > deadline:
                raise
            _log.info("a table is in use: the upgrade of the tables begins again")
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


@asynccontextmanager
async def open_upgrade_transaction(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction that may change tables. On PostgreSQL only one process at a time has such a transaction."""
    async with database.long_write() as connection:
        if isinstance(database.location, PostgresLocation):
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        yield connection


async def _is_usable(database: Database) -> bool:
    """Raises `SchemaMismatch` when the tables are too new for this program."""
    async with database.read() as connection:
        if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            return False
        revision = await get_revision(connection)
        if revision == HEAD or not is_newer(revision):
            return revision == HEAD
        oldest = await _get_oldest_program(connection)
    if oldest is None or is_newer(oldest):
        raise SchemaMismatch(
            f"the catalogue is newer than this program (revision {revision}, this program has {HEAD}): install the newer version"
        )
    _log.warning(
        "the catalogue's tables are newer than this program, which works with them", extra={"revision": revision}
    )
    return True


def is_newer(revision: str | None) -> bool:
    """Whether this numbered revision comes after this program's."""
    return revision is not None and revision.isdecimal() and int(revision) > int(HEAD)


async def _get_oldest_program(connection: AsyncConnection) -> str | None:
    flag = select(tables.installation.c.value).where(tables.installation.c.name == OLDEST_PROGRAM_FLAG)
    return (await connection.execute(flag)).scalar_one_or_none()


async def get_revision(connection: AsyncConnection) -> str | None:
    """The revision of the tables; None when there are none yet. Alembic's table must exist."""
    versions = await connection.execute(select(column("version_num")).select_from(table("alembic_version")))
    return versions.scalar_one_or_none()


async def apply_migrations(connection: AsyncConnection, revision: str) -> None:
    """Upgrade the tables to `revision` (`head`: the newest) in the connection's transaction. Raises `SchemaMismatch`
    when the tables or the revision are unknown."""
    from alembic.util import CommandError  # noqa: PLC0415 - slow to import and rarely needed

    try:
        await connection.run_sync(_run_alembic, revision)
    except CommandError as error:
        raise SchemaMismatch(f"the catalogue is newer than this program, or not ours: {error}") from error
    if revision == "head":
        await connection.execute(delete(tables.installation).where(tables.installation.c.name == OLDEST_PROGRAM_FLAG))
        await connection.execute(insert(tables.installation).values(name=OLDEST_PROGRAM_FLAG, value=OLDEST_PROGRAM))


def _run_alembic(connection: Connection, revision: str) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


@asynccontextmanager
async def lock_for_upgrade(database: Database) -> AsyncIterator[None]:
    """Hold the upgrade lock of a SQLite catalogue, and create its folder. Even switching a new file to WAL mode must
    not run in two processes at once. Does nothing for PostgreSQL."""
    if not isinstance(database.location, SqliteLocation):
        yield
        return
    path = database.location.path
    try:
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CatalogError(f"cannot use the folder of {path}: {error.strerror}") from error
    try:
        await _acquire_file_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


async def _acquire_file_lock(descriptor: int) -> None:
    try:
        async with asyncio.timeout(LOCK_SECONDS):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(0.02)
                else:
                    return
    except TimeoutError:
        raise CatalogUnavailable("another process has been upgrading the catalogue for too long") from None
