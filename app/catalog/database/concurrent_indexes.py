"""Builds indexes of PostgreSQL beside the work of all others."""

from __future__ import annotations

import logging

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

BUILD_LOCK_SECONDS = 60
"""How long the build waits for older transactions. Meanwhile it locks out changes of the table's definition."""

_FIND = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
_log = logging.getLogger(__name__)


async def find_index_validity(connection: AsyncConnection, name: str) -> bool | None:
    """None: there is no such index. False: its build was broken off, or goes on."""
    return (await connection.execute(_FIND, {"name": name})).scalar_one_or_none()


async def build_index(connection: AsyncConnection, name: str, definition: str) -> None:
    """Build the index unless it is there. `connection` is in no transaction, and holds a lock against others that build the same.
    `definition`: the table, and what follows its name."""
    is_valid = await find_index_validity(connection, name)
    if is_valid:
        return
    await connection.execute(text("SET statement_timeout = 0"))
    await connection.execute(text(f"SET lock_timeout = '{BUILD_LOCK_SECONDS}s'"))
    if is_valid is False:
        await connection.execute(text(f"DROP INDEX CONCURRENTLY {name}"))
    await connection.execute(text(f"CREATE INDEX CONCURRENTLY {name} ON {definition}"))
    _log.info("an index for searches was made", extra={"index": name})
