"""A PostgreSQL that stops answering ends the calls that wait for it soon, and refuses others at once; one that is slow does not. The number of
calls that wait is bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import text

from app.catalog.catalog import open_catalog
from app.catalog.database import availability
from app.catalog.database.engine import Database
from app.catalog.database.locations import parse_url
from app.catalog.errors import CatalogBusy, CatalogUnreachable
from tests.catalog.rows import begin, make_user, upload
from tests.real.catalogues import Databases, locked_table
from tests.real.waiting import eventually_so

PATIENCE = 30.0
CONNECTIONS = 10


async def test_calls_end_when_the_server_stops_answering(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls in the middle of a statement, calls that connect, and calls that wait for a free connection."""
    monkeypatch.setattr(availability, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(availability, "PROBE_SECONDS", 0.5)
    monkeypatch.setattr(availability, "RETRY_SECONDS", 0.1)
    catalog = await open_catalog(databases.ready("postgresql"))
    monitor = catalog.database.availability
    assert monitor is not None
    try:
        user = await make_user(catalog)
        await asyncio.gather(
            *(catalog.ping() for _ in range(CONNECTIONS // 2))
        )  # the others of the pool are not open yet
        async with asyncio.timeout(PATIENCE):
            with databases.postgres.paused():
                began = time.monotonic()
                calls = (catalog.users.get(user.id) if number % 2 else begin(catalog, user.id) for number in range(30))
                failures = await asyncio.gather(*calls, return_exceptions=True)
                assert {type(failure) for failure in failures} == {CatalogUnreachable}
                assert time.monotonic() - began < PATIENCE / 3, "psycopg alone takes ten seconds to cancel a call"
                assert monitor.is_away
                with pytest.raises(CatalogUnreachable):
                    await catalog.ping()
            await eventually_so(lambda: _answers(catalog.ping), "the database is found to answer again")
            assert not monitor.is_away
            await upload(catalog, user.id)
            assert await catalog.users.get(user.id) is not None
    finally:
        await catalog.aclose()


async def test_a_slow_call_is_not_ended(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "SILENCE_SECONDS", 0.05)
    db_url = databases.ready("postgresql")
    catalog = await open_catalog(db_url)
    try:
        user = await make_user(catalog)
        async with asyncio.timeout(PATIENCE):
            async with locked_table(db_url, "user", "ACCESS EXCLUSIVE"):
                slow = asyncio.create_task(catalog.users.get(user.id))
                answered = catalog.database.outages.answered_at
                await eventually_so(lambda: _is_later(catalog.database, answered), "the database was probed")
                assert not slow.done()
            assert await slow == user
    finally:
        await catalog.aclose()


async def test_the_calls_that_wait_are_bounded(db_url: str) -> None:
    database = Database(parse_url(db_url), max_waiting=3)
    release = asyncio.Event()

    async def hold() -> None:
        async with database.write() as connection:
            await connection.execute(text("SELECT 1"))
            await release.wait()

    try:
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
            while not database.waits.in_use:
                group.create_task(hold())
                await asyncio.sleep(0.01)
            group.create_task(hold())
            group.create_task(hold())
            await eventually_so(lambda: _waits(database, 3), "three wait")
            with pytest.raises(CatalogBusy, match="MEDIAVAULT_DATABASE_WAITING"):
                await hold()
            assert (database.waits.in_use, database.waits.limit, database.waits.refused_total) == (3, 3, 1)
            release.set()
        assert database.waits.in_use == 0
    finally:
        await database.aclose()


async def _answers(ping: Callable[[], Awaitable[None]]) -> bool:
    try:
        await ping()
    except CatalogUnreachable:
        return False
    return True


async def _is_later(database: Database, answered: float) -> bool:
    return database.outages.answered_at > answered


async def _waits(database: Database, count: int) -> bool:
    return database.waits.in_use == count


async def test_the_server_notices_a_host_that_has_lost_power(databases: Databases) -> None:
    """Such a host sends no end of its connections, and as long as a session lives, its locks keep the single work from all others. The server
    here has a UNIX socket only, which needs none of this: so it is asked what the session has set."""
    asked = text(
        "SELECT name, reset_val::int AS reset_val FROM pg_settings WHERE name LIKE 'tcp%' AND source = 'client'"
    )
    catalog = await open_catalog(databases.ready("postgresql"))
    try:
        async with catalog.database.dedicated_connection() as session, catalog.database.read() as pooled:
            for connection in (session, pooled):
                told = {row.name: row.reset_val for row in await connection.execute(asked)}
                idle, interval = told["tcp_keepalives_idle"], told["tcp_keepalives_interval"]
                assert 0 < idle + interval * told["tcp_keepalives_count"] <= 15
                assert 0 < told["tcp_user_timeout"] <= 15_000
    finally:
        await catalog.aclose()
