"""The readiness check of the catalogue: it tries a write, unless another write has just succeeded, and never two at a time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from sqlalchemy import text

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database import time_limits
from app.catalog.errors import CatalogFileMoved, CatalogLocked
from app.health import catalog_check
from app.health.catalog_check import CatalogCheck
from tests.real.catalogues import Databases, locked_table
from tests.real.databases import sqlite_path

WITHIN = 20.0
ANY_STATEMENT = "SELECT 1"
"""Begins the transaction, which comes with its first statement."""


async def writes(catalog: Catalog) -> str | None:
    return await catalog.installation.get_flag("write-probe")


@pytest.mark.parametrize("seconds", [0.2, 30.0], ids=["at the check's patience", "at the database's"])
async def test_a_lock_that_is_not_let_go_is_told_and_passes(
    db_url: str, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(catalog_check, "PROBE_SECONDS", 0.0)
    monkeypatch.setattr(time_limits, "BUSY_SECONDS", 1)
    catalog = await open_catalog(db_url)
    async with asyncio.timeout(WITHIN), aclosing(catalog), aclosing(CatalogCheck(catalog)) as check:
        await check.check()  # before the patience is shortened: on a busy machine a write takes longer than that
        before = await writes(catalog)
        monkeypatch.setattr(catalog_check, "WRITE_TIMEOUT_SECONDS", seconds)
        async with locked_table(db_url, "installation", "SHARE"):
            for _ in range(2):
                with pytest.raises(CatalogLocked):
                    await check.check()
            assert await writes(catalog) == before, "reads go on"
        while True:
            try:
                await check.check()
                break
            except CatalogLocked:  # the write that was running
                await asyncio.sleep(0.02)
        assert await writes(catalog) != before


async def test_nothing_is_written_where_somebody_has_written_just_now(catalog: Catalog) -> None:
    async with aclosing(CatalogCheck(catalog)) as check:
        await catalog.installation.set_flag("somebody", "wrote")
        await check.check()
        assert await writes(catalog) is None


async def test_a_file_that_was_moved_shows_at_once_and_no_other_one_is_made(databases: Databases) -> None:
    """Also directly after a write, and on a connection that is opened only then."""
    db_url = databases.ready("sqlite")
    file = sqlite_path(db_url)
    catalog = await open_catalog(db_url)
    async with aclosing(catalog), aclosing(CatalogCheck(catalog)) as check:
        await check.check()
        file.rename(file.with_name("aside.db"))
        with pytest.raises(CatalogFileMoved):
            await check.check()
        await catalog.database.writer.dispose()
        with pytest.raises(CatalogFileMoved):
            await catalog.installation.set_flag("somebody", "writes")
        assert not file.exists()
        file.with_name("aside.db").rename(file)
        await check.check()
        await catalog.installation.set_flag("somebody", "writes")


async def test_a_file_that_is_moved_while_it_is_committed_to_acknowledges_nothing(databases: Databases) -> None:
    db_url = databases.ready("sqlite")
    file = sqlite_path(db_url)
    catalog = await open_catalog(db_url)
    async with aclosing(catalog):
        with pytest.raises(CatalogFileMoved):  # noqa: PT012 - the end of the block is what raises
            async with catalog.database.write() as connection:
                await connection.execute(text(ANY_STATEMENT))
                file.rename(file.with_name("aside.db"))
        file.with_name("aside.db").rename(file)


async def test_a_write_ahead_log_that_is_removed_or_replaced_is_noticed_by_the_next_write(databases: Databases) -> None:
    """Otherwise the next start would find nothing of what is written from then on."""
    db_url = databases.ready("sqlite")
    log = sqlite_path(db_url).with_name(f"{sqlite_path(db_url).name}-wal")
    catalog = await open_catalog(db_url)
    async with aclosing(catalog):
        await catalog.installation.set_flag("somebody", "writes")
        log.rename(aside := log.with_name("aside"))
        with pytest.raises(CatalogFileMoved, match="write-ahead log"):
            await catalog.installation.set_flag("somebody", "writes on")
        log.write_bytes(aside.read_bytes())
        with pytest.raises(CatalogFileMoved, match="write-ahead log"):
            await catalog.installation.set_flag("somebody", "writes on")
        aside.rename(log)
        await catalog.installation.set_flag("somebody", "writes again")
        with pytest.raises(CatalogFileMoved, match="write-ahead log"):  # noqa: PT012 - as above
            async with catalog.database.write() as connection:
                await connection.execute(text(ANY_STATEMENT))
                log.rename(aside)
        aside.rename(log)
    assert not log.exists(), "SQLite removes it itself when the last connection is closed"
    catalog = await open_catalog(db_url)
    async with aclosing(catalog):
        assert await catalog.installation.get_flag("somebody") == "writes again"


async def test_a_write_ahead_log_that_sqlite_makes_anew_is_none_that_was_replaced(databases: Databases) -> None:
    db_url = databases.ready("sqlite")
    log = sqlite_path(db_url).with_name(f"{sqlite_path(db_url).name}-wal")
    catalog = await open_catalog(db_url)
    async with aclosing(catalog):
        for number in range(3):
            await catalog.installation.set_flag("somebody", f"writes {number}")
            await catalog.database.writer.dispose()
            await catalog.database._reader.dispose()
            assert not log.exists()
            await catalog.installation.set_flag("somebody", f"writes on {number}")
