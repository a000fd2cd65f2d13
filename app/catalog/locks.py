"""Work that only one process may do at a time, of all that share a catalogue: a named lock, which ends with whoever holds it.

PostgreSQL: an advisory lock of a connection. SQLite: `flock` on a file beside the catalogue.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.engine import Database, SqliteFile
from app.catalog.errors import CatalogError


@asynccontextmanager
async def exclusively(database: Database, name: str) -> AsyncIterator[bool]:
    """Held until the block ends. False, at once, where another process (or another block of this one) holds it. `name`: letters and
    hyphens."""
    if isinstance(database.place, SqliteFile):
        path = database.place.path
        descriptor = await asyncio.to_thread(_try_file, path.with_name(f"{path.name}.{name}.lock"))
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)
    else:
        async with database.held() as connection:
            key = int.from_bytes(hashlib.sha256(f"mediavault {name}".encode()).digest()[:8], signed=True)
            held = (await _ask(connection, "SELECT pg_try_advisory_lock(:key)", key)) is True
            try:
                yield held
            finally:
                if held:
                    await _ask(connection, "SELECT pg_advisory_unlock(:key)", key)


def _try_file(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CatalogError(f"cannot use {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


async def _ask(connection: AsyncConnection, question: str, key: int) -> object:
    return (await connection.execute(text(question), {"key": key})).scalar_one()
