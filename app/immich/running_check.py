"""Tells whether Immich still runs, by the connections to its database."""

from __future__ import annotations

import asyncio

from app.immich.errors import ImmichError
from app.immich.source.connection import open_source

_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
# Workers of PostgreSQL itself have no client. A role that may not see more of the others sees no backend's type.
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND (backend_type IS NULL OR backend_type = 'client backend')"""


class ImmichRunning(ImmichError):
    """Others are connected to Immich's database."""


async def require_stopped(database_url: str) -> None:
    """Raises `ImmichRunning` where others are connected to the database, at `_ATTEMPTS` looks in a row: a connection that is just closed
    does not count. Raises `ImmichError` where the database cannot be opened."""
    others = 0
    for attempt in range(_ATTEMPTS):
        async with open_source(database_url) as connection:
            ((others,),) = await connection.fetch(_OTHERS)
        if not others:
            return
        if attempt < _ATTEMPTS - 1:
            await asyncio.sleep(_PAUSE_SECONDS)
    raise ImmichRunning(f"{others} other connections to Immich's database: stop Immich and all that follows it first")
