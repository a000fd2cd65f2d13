"""Databases that are locked, full, restarting or gone, and cancelled callers: typed errors, no partial changes, and the
next call works."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
from psycopg import waiting
from sqlalchemy import insert, text, update

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database import availability, sqlite_engine, time_limits
from app.catalog.database.engine import Database
from app.catalog.database.locations import parse_url
from app.catalog.database.sqlite_file import SqliteConnection, SqliteFileGuard
from app.catalog.errors import CatalogUnavailable, CatalogUnreachable, ConstraintViolation
from app.catalog.schema import tables
from app.catalog.schema.records import FileState
from tests.catalog.rows import begin, file_states, make_user, new_asset, stored, upload, used_bytes
from tests.real.catalogues import Databases, locked_table
from tests.real.databases import DatabaseKind
from tests.real.waiting import eventually_so

PATIENCE = 10.0


@asynccontextmanager
async def open_and_close(db_url: str) -> AsyncIterator[Catalog]:
    catalog = await open_catalog(db_url)
    try:
        yield catalog
    finally:
        await catalog.aclose()


async def check_files_and_quota(catalog: Catalog) -> None:
    """Check that the live files are exactly those of assets, and that each owner is charged for exactly those."""
    for usage in await catalog.counts.get_usage_by_user():
        assert usage.used == usage.usage
    async with catalog.engine.connect() as connection:
        referred = set(
            (await connection.execute(text("SELECT path FROM file JOIN asset ON file_id = file.id"))).scalars()
        )
    assert {file.path async for file in catalog.files.iterate_all() if file.state is FileState.LIVE} == referred


async def test_the_traceback_of_a_failed_statement_tells_no_values(catalog: Catalog) -> None:
    moment = datetime.now(UTC)
    values = {"id": uuid4(), "user_id": uuid4(), "token_hash": b"hash", "expires_at": moment, "created_at": moment}
    with pytest.raises(ConstraintViolation) as failed:
        async with catalog.database.write() as connection:
            await connection.execute(insert(tables.session).values(values))
    told = "".join(traceback.format_exception(failed.value))
    assert "INSERT INTO session" in told, "the statement itself is told"
    assert values["id"].hex not in told.replace("-", "")
    assert "hash'" not in told


async def test_a_lock_that_is_held_for_too_long_is_unavailable(
    database: DatabaseKind, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_limits, "BUSY_SECONDS", 1)
    async with open_and_close(db_url) as catalog:
        user = await make_user(catalog)
        file = stored(await begin(catalog, user.id))
        new = new_asset(user.id, file.sha1)
        async with locked_table(db_url, "user", "SHARE ROW EXCLUSIVE"):
            async with asyncio.timeout(20):
                with pytest.raises(CatalogUnavailable):
                    await catalog.assets.insert(new, file)
            assert await catalog.users.get(user.id) == user, "reads go on"
        assert await file_states(catalog) == {file.file_id: FileState.WRITING}
        assert await catalog.assets.insert(new, file), "the same call works later"


async def test_waiting_for_a_connection_is_bounded(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await make_user(catalog)
    monkeypatch.setattr(time_limits, "POOL_TIMEOUT_SECONDS", 0.2)
    async with asyncio.timeout(20), AsyncExitStack() as stack:
        taken = 0
        with suppress(CatalogUnavailable):
            while taken < 11:
                await stack.enter_async_context(catalog.database.write())
                taken += 1
        assert taken in (1, 10), "SQLite has one connection that writes, PostgreSQL ten"
    monkeypatch.undo()
    await upload(catalog, user.id)


async def test_a_full_disk_is_unavailable_and_keeps_nothing(databases: Databases) -> None:
    db_url = databases.ready("sqlite")
    async with open_and_close(db_url) as catalog:
        user = await make_user(catalog)
        kept = await upload(catalog, user.id)
        async with catalog.engine.connect() as connection:
            await connection.execute(text("PRAGMA max_page_count = 1"))  # the smallest possible: the file cannot grow

        async def fill() -> None:
            for _ in range(1000):
                await upload(catalog, user.id)

        with pytest.raises(CatalogUnavailable, match="full"):
            await fill()
        await check_files_and_quota(catalog)
        async with catalog.engine.connect() as connection:
            await connection.execute(text("PRAGMA max_page_count = 1000000"))
        await upload(catalog, user.id)
        assert await catalog.assets.get(kept.id) == kept


async def test_a_restart_of_the_server_is_survived(databases: Databases) -> None:
    db_url = databases.ready("postgresql")
    async with open_and_close(db_url) as catalog:
        user = await make_user(catalog)
        await asyncio.gather(*(catalog.ping() for _ in range(10)))
        assert await asyncio.to_thread(databases.postgres.terminate_connections, db_url) > 0
        assert await catalog.users.get(user.id) == user
        assert await asyncio.to_thread(databases.postgres.terminate_connections, db_url) > 0
        await upload(catalog, user.id)


async def test_a_server_that_stops_is_waited_for_only_so_long(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the limit of a transaction alone."""
    monkeypatch.setattr(time_limits, "TRANSACTION_SECONDS", 0.5)
    monkeypatch.setattr(availability, "SILENCE_SECONDS", 10 * PATIENCE)
    db_url = databases.ready("postgresql")
    async with open_and_close(db_url) as catalog:
        user = await make_user(catalog)
        await asyncio.gather(*(catalog.ping() for _ in range(10)))  # opens all connections of the pool
        with databases.postgres.paused():
            async with asyncio.timeout(30):
                failures = await asyncio.gather(
                    catalog.users.get(user.id), begin(catalog, user.id), return_exceptions=True
                )
        assert [(type(failure), str(failure)) for failure in failures] == [
            (CatalogUnreachable, "the database does not answer")
        ] * 2
        async with asyncio.timeout(30):
            assert await catalog.users.get(user.id) == user
            await upload(catalog, user.id)


async def test_a_connection_that_dies_in_a_transaction_undoes_it(databases: Databases) -> None:
    db_url = databases.ready("postgresql")
    async with open_and_close(db_url) as catalog:
        user = await make_user(catalog)
        file = stored(await begin(catalog, user.id))
        async with locked_table(db_url, "user", "SHARE ROW EXCLUSIVE"):
            inserting = asyncio.create_task(catalog.assets.insert(new_asset(user.id, file.sha1), file))
            await wait_until_blocked(db_url, then="pg_terminate_backend(pid)")
            async with asyncio.timeout(20):
                with pytest.raises(CatalogUnavailable):
                    await inserting
        assert await file_states(catalog) == {file.file_id: FileState.WRITING}
        assert await catalog.assets.insert(new_asset(user.id, file.sha1), file)


async def wait_until_blocked(db_url: str, then: LiteralString = "pid") -> None:
    """Wait until a connection waits for a lock; `then` is a SQL expression to apply to its `pid`."""
    query = f"SELECT {then} FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(20), await psycopg.AsyncConnection.connect(db_url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(query)).fetchone()
            if row:
                return
            await asyncio.sleep(0.02)


async def test_a_caller_that_is_cancelled_while_it_waits_for_a_lock_leaves_nothing(
    database: DatabaseKind, db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_limits, "BUSY_SECONDS", 3)
    async with open_and_close(db_url) as catalog:
        user = await make_user(catalog)
        files = [stored(await begin(catalog, user.id)) for _ in range(5)]
        async with locked_table(db_url, "user", "SHARE ROW EXCLUSIVE"):
            tasks = [asyncio.create_task(catalog.assets.insert(new_asset(user.id, file.sha1), file)) for file in files]
            if database == "postgresql":
                await wait_until_blocked(db_url)
            else:
                await asyncio.wait(tasks, timeout=0.3)
            for task in tasks:
                task.cancel()
            async with asyncio.timeout(30):
                results = await asyncio.gather(*tasks, return_exceptions=True)
            assert {type(result) for result in results} == {asyncio.CancelledError}
        assert set((await file_states(catalog)).values()) == {FileState.WRITING}
        async with asyncio.timeout(30):
            await asyncio.gather(*(catalog.assets.insert(new_asset(user.id, file.sha1), file) for file in files))
        await check_files_and_quota(catalog)


async def test_a_reader_that_is_cancelled_while_the_driver_lets_others_run_gives_its_connection_back_as_it_was(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """psycopg awaits between two settings of a connection, also when it has nothing to wait for."""
    monkeypatch.setattr(waiting, "MAX_BUSY_TIME", 0)  # psycopg awaits at every opportunity
    reading: asyncio.Task[None]
    pauses_left = -1

    async def pause(_: float) -> None:
        nonlocal pauses_left
        pauses_left -= 1
        if pauses_left == 0:
            reading.cancel()
        await asyncio.sleep(0)

    monkeypatch.setattr(waiting, "sleep", pause)
    async with open_and_close(databases.ready("postgresql")) as catalog, asyncio.timeout(120):
        user = await make_user(catalog)

        async def read() -> None:
            assert await catalog.users.get(user.id) == user
            async with catalog.database.snapshot_connection() as view:
                assert (await view.execute(text("SELECT 1"))).scalar() == 1

        cancelled = 0
        while True:
            pauses_left = cancelled + 1
            reading = asyncio.create_task(read())
            await asyncio.wait([reading])
            if not reading.cancelled():
                break
            cancelled += 1
            del reading
            await _check_all_returned(catalog)
            with suppress(_Undone):
                async with catalog.database.write() as connection:
                    await connection.execute(update(tables.user).values(name="Somebody else"))
                    raise _Undone
            assert await catalog.users.get(user.id) == user, "what was written is rolled back"
        await reading
        assert cancelled >= 8, "there are pauses in both kinds of reads"
        gc.collect()
        assert [record.getMessage() for record in caplog.records] == [], "none was left to the garbage collector"


class _Undone(Exception):
    pass


async def _check_all_returned(catalog: Catalog) -> None:
    while True:
        if catalog.engine.pool.status().endswith("Current Checked out connections: 0"):
            return
        await asyncio.sleep(0.01)


async def test_cancelled_anywhere_a_transaction_takes_place_whole_or_not_at_all(catalog: Catalog) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    user = await make_user(catalog)
    await upload(catalog, user.id)

    async def churn() -> None:
        asset = await upload(catalog, user.id, sidecar_size=None)
        await catalog.assets.trash(user.id, [asset.id])
        await catalog.assets.get_page(user.id)
        if chance.random() < 0.7:
            await catalog.assets.delete(user.id, [asset.id])

    async with asyncio.timeout(120):
        for _ in range(30):
            tasks = [asyncio.create_task(churn()) for _ in range(3)]
            await asyncio.wait(tasks, timeout=chance.random() * 0.06)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            failures = [task.exception() for task in tasks if not task.cancelled()]
            assert set(failures) <= {None}, failures

        await check_files_and_quota(catalog)
        await asyncio.gather(*(upload(catalog, user.id) for _ in range(20)))
        await check_files_and_quota(catalog)
    assert catalog.engine.pool.status().endswith("Current Checked out connections: 0"), catalog.engine.pool.status()
    assert await used_bytes(catalog, user.id) >= 2100


async def test_a_connection_whose_opening_was_cancelled_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left to the garbage collector, about which Python 3.13 warns."""
    made: list[Watched] = []
    closed: list[Watched] = []
    opening = threading.Event()

    class Watched(SqliteConnection):
        def __init__(self, *arguments: Any, file: SqliteFileGuard, **options: Any) -> None:
            super().__init__(*arguments, file=file, **options)
            made.append(self)
            opening.wait(PATIENCE)

        def close(self) -> None:
            super().close()
            closed.append(self)

    monkeypatch.setattr(sqlite_engine, "SqliteConnection", Watched)
    database = Database(parse_url(f"sqlite:///{tmp_path}/catalogue.db"))
    reading = asyncio.create_task(Catalog(database).ping())
    await eventually_so(lambda: _is_not_empty(made), "the connection is being opened")
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    opening.set()
    await eventually_so(lambda: _is_not_empty(closed), "it is closed")
    await database.aclose()
    assert closed == made


async def _is_not_empty(items: list[Any]) -> bool:
    return bool(items)
