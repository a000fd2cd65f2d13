"""Restores a backup into an empty catalogue, SQLite or PostgreSQL, atomically.

The rows are inserted into tables of the backup's schema revision, which are then migrated as those of any older catalogue. The
installation's id and the record of its markers are restored too, so that the same media location is recognised. Rows that would make the
sweeper delete objects which may be in use again are dropped (see `app.catalog.backup.stale_rows`).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from app.catalog.backup.dump import CatalogRestore, DumpedTable
from app.catalog.backup.stale_rows import DroppedRows
from app.catalog.catalog import restore_into
from app.config import Settings
from app.migration.backups.backup_format import BackupDamaged, BackupHeader, BackupTrailer, TableRows, read_backup
from app.migration.backups.path_relocation import PathRelocation
from app.storage.backend import MAX_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class RestoreResult:
    """Row counts by table as in the backup, the number of rewritten paths, and the rows that were dropped."""

    header: BackupHeader
    row_counts: dict[str, int]
    relocated_paths: int
    dropped_rows: DroppedRows


async def restore_backup(settings: Settings, chunks: AsyncIterable[bytes], *, relocate: bool = False) -> RestoreResult:
    """`chunks` are the bytes of a backup. Raises `BackupDamaged`, `MediaLocationDiffers` or a `CatalogError` (`CatalogNotEmpty`,
    `SchemaMismatch` for a backup of a newer program, …), and then leaves the catalogue unchanged. Nothing else may use the catalogue
    meanwhile."""
    async with aclosing(read_backup(chunks)) as parts:
        header = await anext(parts)
        if not isinstance(header, BackupHeader):
            raise BackupDamaged("it has no rows")
        path_relocation = PathRelocation(settings, header.media_location, header.bucket_location, is_allowed=relocate)
        async with restore_into(settings.db_url.get_secret_value(), header.revision) as restoration:
            counts = await _load_rows(parts, restoration, path_relocation)
        return RestoreResult(header, counts, path_relocation.relocated_paths, restoration.dropped_rows)


async def _load_rows(
    parts: AsyncIterator[BackupHeader | TableRows | BackupTrailer],
    restoration: CatalogRestore,
    relocation: PathRelocation,
) -> dict[str, int]:
    tables: dict[str, DumpedTable] = {}
    trailer: BackupTrailer | None = None
    async for part in parts:
        if isinstance(part, TableRows):
            tables[part.table.name] = part.table
            relocation.rewrite_paths(part.table, part.rows)
            await restoration.load_rows(part.table, part.rows)
        elif isinstance(part, BackupTrailer):
            trailer = part
    if trailer is None:
        raise BackupDamaged("it ends too early")
    for table in tables.values():
        if await restoration.count_rows(table) != trailer.row_counts[table.name]:
            raise BackupDamaged(f"table {table.name!r} has not as many rows as it should")
    return trailer.row_counts


async def read_file_chunks(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a local file. Raises OSError."""
    async with aiofiles.open(path, "rb") as file:
        while chunk := await file.read(MAX_CHUNK_BYTES):
            yield chunk
