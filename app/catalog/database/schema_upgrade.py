"""Upgrades the tables to the newest revision, once, however many processes start at the same time.

PostgreSQL: an advisory lock that ends with the transaction. SQLite: `flock` on a file beside the catalogue. If the
revision is current, Alembic is not imported, which keeps a start short.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, select, table, text
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import column

from app.catalog.database.engine import Database, PostgresLocation, SqliteLocation
from app.catalog.errors import CatalogError, CatalogUnavailable, SchemaMismatch
from app.catalog.migrations import HEAD

LOCK_SECONDS = 120
"""How long a start waits while another process upgrades."""

_ADVISORY_LOCK = 0x6D656469_61766175
_MIGRATIONS = Path(__file__).parents[1] / "migrations"


async def ensure_current(database: Database, *, upgrade: bool) -> bool:
    """Returns True when an upgrade was necessary. Raises `SchemaMismatch`, `CatalogUnavailable`."""
    async with lock_for_upgrade(database):
        if await _is_current(database):
            return False
        if not upgrade:
            raise SchemaMismatch("the catalogue's tables are not those of this program: run `mediavault db upgrade`")
        async with open_upgrade_transaction(database) as connection:
            await apply_migrations(connection, "head")
        return True


@asynccontextmanager
async def open_upgrade_transaction(database: Database) -> AsyncIterator[AsyncConnection]:
    """A transaction that may change tables. On PostgreSQL only one process at a time has such a transaction."""
    async with database.long_write() as connection:
        if isinstance(database.location, PostgresLocation):
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
            await connection.execute(text("SET LOCAL statement_timeout = 0"))
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        yield connection


async def _is_current(database: Database) -> bool:
    async with database.read() as connection:
        if not await connection.run_sync(lambda sync: inspect(sync).has_table("alembic_version")):
            return False
        return await get_revision(connection) == HEAD


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
