"""The adapter of SQLite's driver: how often it calls the connection's thread, and what a transaction locks."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import text

from app.catalog.database import time_limits
from app.catalog.database.engine import Database
from app.catalog.database.locations import parse_url
from app.catalog.errors import CatalogLocked, ConstraintViolation


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(time_limits, "BUSY_SECONDS", 0)
    database = Database(parse_url(f"sqlite:///{tmp_path}/catalogue.db"))
    try:
        async with database.write() as connection:
            await connection.execute(text("CREATE TABLE photo (id INTEGER PRIMARY KEY, name TEXT)"))
        yield database
    finally:
        await database.aclose()


async def test_each_statement_is_one_call_of_the_connections_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    execute = aiosqlite.Connection._execute

    async def count(self: aiosqlite.Connection, fn: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return await execute(self, fn, *arguments, **options)

    monkeypatch.setattr(aiosqlite.Connection, "_execute", count)

    async with database.write() as connection:
        await connection.execute(text("INSERT INTO photo (name) VALUES ('sea')"))
        found = (await connection.execute(text("SELECT name FROM photo"))).scalars().all()

    assert found == ["sea"]
    assert calls == 3, "two statements and the commit; the begin goes with the first"


async def test_a_transaction_is_refused_at_its_first_statement_even_if_that_only_reads(
    database: Database, tmp_path: Path
) -> None:
    other = sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(CatalogLocked):
            async with database.write() as connection:
                await connection.execute(text("SELECT name FROM photo"))
        other.execute("ROLLBACK")
    finally:
        other.close()

    async with database.write() as connection:
        await connection.execute(text("INSERT INTO photo (name) VALUES ('sea')"))


@pytest.mark.parametrize("fails", [False, True])
async def test_a_transaction_without_a_statement_locks_nothing(database: Database, tmp_path: Path, fails: bool) -> None:
    try:
        async with database.write():
            if fails:
                raise LookupError
    except LookupError:
        pass

    other = sqlite3.connect(tmp_path / "catalogue.db", isolation_level=None, timeout=0)
    try:
        other.execute("BEGIN IMMEDIATE")
    finally:
        other.close()
    async with database.write() as connection:  # the begin that was not used is not used twice
        await connection.execute(text("INSERT INTO photo (name) VALUES ('sea')"))


async def test_a_failed_statement_undoes_the_ones_before_it(database: Database) -> None:
    try:
        async with database.write() as connection:
            await connection.execute(text("INSERT INTO photo (name) VALUES ('sea')"))
            await connection.execute(text("INSERT INTO photo (id, name) VALUES (1, 'coast')"))
    except ConstraintViolation:
        pass
    else:
        pytest.fail("the second row has the first one's id")

    async with database.read() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM photo"))).scalar_one() == 0
