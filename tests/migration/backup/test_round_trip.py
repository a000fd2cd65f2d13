"""Backup and restore from SQLite to PostgreSQL and back keep every row of every table."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import pytest

from app.catalog.backup.dump import list_dumped_tables
from app.catalog.catalog import Catalog, open_catalog
from app.config import Settings
from app.migration.backups.backup_store import BackupInfo, BackupStore
from app.migration.backups.restore import read_file_chunks, restore_backup
from app.storage.opening import open_storage
from tests.migration.backup.conftest import MakeSettings
from tests.migration.backup.rows import FILLED_TABLES, ROWS, contents, fill
from tests.real.catalogues import Databases
from tests.real.databases import DatabaseKind

OTHER: dict[DatabaseKind, DatabaseKind] = {"sqlite": "postgresql", "postgresql": "sqlite"}


async def back_up(settings: Settings, catalog: Catalog) -> BackupInfo:
    storage = await open_storage(settings)
    try:
        return await BackupStore(catalog, storage, settings).create()
    finally:
        await storage.aclose()


async def brought_to(settings: Settings, backup: BackupInfo) -> Catalog:
    await restore_backup(settings, read_file_chunks(Path(backup.path)))
    return await open_catalog(settings.db_url.get_secret_value(), upgrade=False)


@pytest.fixture
async def filled(catalog: Catalog) -> Catalog:
    await fill(catalog)
    return catalog


async def test_every_row_comes_back_from_the_other_database(
    filled: Catalog, db_url: str, database: DatabaseKind, databases: Databases, make_settings: MakeSettings
) -> None:
    before = await contents(filled)
    assert {name for name, rows in before.items() if len(rows) >= ROWS} == {table.name for table in FILLED_TABLES}

    first = await back_up(make_settings(db_url), filled)
    there = make_settings(databases.empty(OTHER[database]))
    elsewhere = await brought_to(there, first)
    restored = before | {"sign_in_token": []}  # each works once, and may have been used since the backup
    assert await contents(elsewhere) == restored

    second = await back_up(there, elsewhere)
    await elsewhere.aclose()
    again = await brought_to(make_settings(databases.empty(database)), second)
    assert await contents(again) == restored
    await again.aclose()
    lost = Counter(rows_of(first))
    lost.subtract(rows_of(second))
    assert set(lost.values()) <= {0, 1}
    assert lost.total() == len(before["sign_in_token"]), "the two databases write the same"


def rows_of(backup: BackupInfo) -> list[str]:
    """The rows, sorted, because the databases sort text differently; without header and trailer, which differ between backups."""
    return sorted(gzip.decompress(Path(backup.path).read_bytes()).decode().splitlines()[1:-1])


def test_there_is_a_way_for_every_column() -> None:
    found = {table.name: [column.name for column in table.columns] for table in list_dumped_tables()}
    assert found == {table.name: [column.name for column in table.c] for table in FILLED_TABLES}
