"""Brings a backup back into an empty catalogue, of either database: all of it, or nothing.

The rows go into tables of the revision that they came from, which are then brought up to date as any older catalogue is. The
installation's id and what it remembers of its markers come along, so the same media location is known again. What would have objects
removed that may be somebody's by now does not come along (see `app.catalog.stale_claims`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from app.catalog.catalog import restore_into
from app.catalog.dump import DumpedTable, Restoration
from app.catalog.stale_claims import Withdrawn
from app.config import Settings
from app.migration.backup_file import BackupDamaged, Header, Rows, Trailer, read
from app.migration.relocation import Relocation
from app.storage.backend import MAX_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back: rows by table, as the file had them, how many paths lead to another place now, and what was withdrawn."""

    header: Header
    rows: dict[str, int]
    relocated: int
    withdrawn: Withdrawn


async def restore(settings: Settings, chunks: AsyncIterable[bytes], *, relocate: bool = False) -> Restored:
    """`chunks` are a backup's bytes. Raises `BackupDamaged`, `MediaLocationDiffers` or a `CatalogError` (`CatalogNotEmpty`, `SchemaMismatch` for
    one of a newer program, …); then the catalogue is as it was. Nothing may use the catalogue meanwhile."""
    async with aclosing(read(chunks)) as parts:
        header = await anext(parts)
        if not isinstance(header, Header):
            raise BackupDamaged("it has no rows")
        moved = Relocation(settings, header.media_location, header.bucket_location, allowed=relocate)
        async with restore_into(settings.db_url.get_secret_value(), header.revision) as restoration:
            counts = await _load(parts, restoration, moved)
        return Restored(header, counts, moved.count, restoration.withdrawn)


async def _load(
    parts: AsyncIterator[Header | Rows | Trailer], restoration: Restoration, moved: Relocation
) -> dict[str, int]:
    tables: dict[str, DumpedTable] = {}
    trailer: Trailer | None = None
    async for part in parts:
        if isinstance(part, Rows):
            tables[part.table.name] = part.table
            moved.apply(part.table, part.rows)
            await restoration.load(part.table, part.rows)
        elif isinstance(part, Trailer):
            trailer = part
    if trailer is None:
        raise BackupDamaged("it ends too early")
    for table in tables.values():
        if await restoration.count(table) != trailer.rows[table.name]:
            raise BackupDamaged(f"table {table.name!r} has not as many rows as it should")
    return trailer.rows


async def file_chunks(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a local file. Raises OSError."""
    with await asyncio.to_thread(path.open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, MAX_CHUNK_BYTES):
            yield chunk
