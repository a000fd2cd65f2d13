"""Creates and upgrades the tables of procrastinate, the task queue that is used on PostgreSQL, to the version of the installed package.

procrastinate ships one script that creates all tables, and migrations to run by hand. The catalogue stores the newest
migration that was applied, so that the first process that starts after an upgrade runs the missing ones, under the lock
of our own migrations.
"""

from __future__ import annotations

from importlib import resources
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.database.engine import Database
from app.catalog.database.schema_upgrade import open_upgrade_transaction
from app.catalog.schema import tables

_FLAG = "procrastinate"
_installation = tables.installation
_scripts = resources.files("procrastinate.sql")


async def ensure_delivery_schema(database: Database) -> bool:
    """Returns True when the tables had to be changed. Raises `CatalogError`."""
    newest = list_migrations()[-1]
    async with database.read() as connection:
        if await _read_applied_version(connection) == newest:
            return False
    async with open_upgrade_transaction(database) as connection:
        applied = await _read_applied_version(connection)
        if applied is None:
            await _execute_script(connection, _scripts.joinpath("schema.sql").read_text(encoding="utf-8"))
            await connection.execute(insert(_installation).values(name=_FLAG, value=newest))
            return True
        for name in list_migrations():
            if name > applied:
                await _execute_script(connection, _scripts.joinpath("migrations", name).read_text(encoding="utf-8"))
        statement = update(_installation).where(_installation.c.name == _FLAG)
        await connection.execute(statement.values(value=max(newest, applied)))
    return True


def list_migrations() -> list[str]:
    """The names of the package's migrations in their order: each begins with a version of fixed width, so the order of
    text is right."""
    return sorted(each.name for each in _scripts.joinpath("migrations").iterdir() if each.name.endswith(".sql"))


async def _read_applied_version(connection: AsyncConnection) -> str | None:
    statement = select(_installation.c.value).where(_installation.c.name == _FLAG)
    return (await connection.execute(statement)).scalar_one_or_none()


async def _execute_script(connection: AsyncConnection, script: str) -> None:
    """Execute a script of many statements, which the driver accepts only without parameters."""
    await connection.execute(text("SET LOCAL statement_timeout = 0"))
    driver: Any = (await connection.get_raw_connection()).driver_connection
    await driver.execute(script)
