"""Transactions on SQLite that wait together share one commit, and each is still a transaction of its own."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import threading
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database import group_commit, time_limits
from app.catalog.database.prepared_statements import prepare
from app.catalog.database.sqlite_driver import Transaction
from app.catalog.database.sqlite_file import SqliteConnection
from app.catalog.errors import CatalogBusy, CatalogFull, CatalogUnavailable, ConstraintViolation
from app.catalog.schema import tables
from tests.catalog.rows import make_user
from tests.real.catalogues import Databases

PATIENCE = 20.0

_user = tables.user
_rename = prepare(update(_user).where(_user.c.id == bindparam("user_id")))


@pytest.fixture
async def catalog(databases: Databases) -> AsyncIterator[Catalog]:
    catalog = await open_catalog(databases.ready("sqlite"), max_waiting=10)
    try:
        yield catalog
    finally:
        await catalog.aclose()


class Commits:
    """Counts the commits, and runs `before` in each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.error: sqlite3.Error | None = None
        commit = SqliteConnection.commit

        def observed(connection: SqliteConnection) -> None:
            self.count += 1
            if self.error is not None:
                raise self.error
            commit(connection)

        monkeypatch.setattr(SqliteConnection, "commit", observed)


class Gate:
    """A transaction that holds the connection's thread until it is opened."""

    def __init__(self) -> None:
        self._begun, self._open = threading.Event(), threading.Event()

    async def __call__(self, connection: AsyncConnection) -> None:
        self._begun.set()
        self._open.wait(PATIENCE)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self._begun.wait, PATIENCE)

    def open(self) -> None:
        self._open.set()


def rename(user_id: object, name: str | None) -> Transaction[str]:
    async def function(connection: AsyncConnection) -> str:
        await connection.execute(_rename, {"user_id": user_id, "name": name})
        return f"renamed to {name}"

    return function


async def run_together(catalog: Catalog, *functions: Transaction[str]) -> list[str | BaseException]:
    gate = Gate()
    first = asyncio.create_task(catalog.database.transact(gate))
    async with asyncio.timeout(PATIENCE):
        await gate.wait()
        tasks = [asyncio.create_task(catalog.database.transact(function)) for function in functions]
        await asyncio.wait(tasks, timeout=0)
        gate.open()
        await first
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_those_that_wait_together_share_one_commit(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [await make_user(catalog) for _ in range(5)]
    commits = Commits(monkeypatch)

    results = await run_together(catalog, *(rename(user.id, f"name {n}") for n, user in enumerate(users)))

    assert results == [f"renamed to name {n}" for n in range(5)]
    assert [(await catalog.users.get(user.id)).name for user in users] == [f"name {n}" for n in range(5)]  # pyright: ignore[reportOptionalMemberAccess]
    assert commits.count == 2, "that of the first one, and one for all that came meanwhile"


async def test_one_that_fails_undoes_nothing_of_the_others(catalog: Catalog) -> None:
    one, two, three = [await make_user(catalog) for _ in range(3)]

    async def fail(connection: AsyncConnection) -> str:
        await rename(two.id, "half")(connection)
        await connection.execute(insert(_user).values(id=one.id))
        return "never"

    results = await run_together(catalog, rename(one.id, "Berta"), fail, rename(three.id, "Clara"))

    assert [type(result) for result in results] == [str, ConstraintViolation, str]
    assert await catalog.users.get(two.id) == two
    async with catalog.database.read() as connection:
        names = set((await connection.execute(select(_user.c.name))).scalars())
    assert {"Berta", "Clara", two.name} == names


async def test_where_the_commit_fails_all_of_them_fail_and_nothing_is_kept(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [await make_user(catalog) for _ in range(3)]
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL
    commits = Commits(monkeypatch)
    gate = Gate()

    async with asyncio.timeout(PATIENCE):
        first = asyncio.create_task(catalog.database.transact(gate))
        await gate.wait()
        commits.error = full
        tasks = [asyncio.create_task(catalog.database.transact(rename(user.id, "Berta"))) for user in users]
        tasks.append(asyncio.create_task(catalog.database.transact(rename(users[0].id, None))))
        await asyncio.wait(tasks, timeout=0)
        gate.open()
        results = await asyncio.gather(first, *tasks, return_exceptions=True)

    assert [type(result) for result in results] == [CatalogFull] * 5, "also the one that would have been refused"
    commits.error = None
    assert [await catalog.users.get(user.id) for user in users] == users
    assert await catalog.database.transact(rename(users[0].id, "Clara")), "the connection serves the next one"


async def test_a_caller_that_gave_up_before_its_turn_changes_nothing(catalog: Catalog) -> None:
    one, two = await make_user(catalog), await make_user(catalog)
    gate = Gate()

    async with asyncio.timeout(PATIENCE):
        first = asyncio.create_task(catalog.database.transact(gate))
        await gate.wait()
        cancelled = asyncio.create_task(catalog.database.transact(rename(one.id, "Berta")))
        stays = asyncio.create_task(catalog.database.transact(rename(two.id, "Clara")))
        await asyncio.wait([cancelled, stays], timeout=0)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        gate.open()
        await first
        await stays

    assert await catalog.users.get(one.id) == one


async def test_none_waits_without_end_for_a_disk_that_hangs(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "POOL_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(group_commit, "CLOSE_SECONDS", 0.2)
    user = await make_user(catalog)
    gate = Gate()

    async with asyncio.timeout(PATIENCE):
        hanging = asyncio.create_task(catalog.database.transact(gate))
        await gate.wait()
        with pytest.raises(CatalogUnavailable):
            await catalog.database.transact(rename(user.id, "Berta"))
        assert not hanging.done(), "what has begun is waited for"
        await catalog.aclose()
        gate.open()
        await hanging


async def test_too_many_that_wait_are_refused_at_once(catalog: Catalog) -> None:
    user = await make_user(catalog)

    results = await run_together(catalog, *(rename(user.id, "Berta") for _ in range(12)))

    assert [type(result) for result in results] == [str] * 10 + [CatalogBusy] * 2


async def test_callers_cancelled_at_any_moment_leave_the_connections_usable(
    catalog: Catalog, seed: int, soak: bool
) -> None:
    user = await make_user(catalog)
    choices = random.Random(seed)

    async def read_name(connection: AsyncConnection) -> str:
        return (await connection.execute(select(_user.c.name).where(_user.c.id == user.id))).scalar_one()

    async def read_apart() -> str:
        async with catalog.database.read() as connection:
            return await read_name(connection)

    calls = (
        lambda: catalog.database.query(read_name),
        lambda: catalog.database.transact(rename(user.id, "Berta")),
        read_apart,
    )
    for _ in range(2000 if soak else 100):
        tasks = [asyncio.create_task(choices.choice(calls)()) for _ in range(6)]
        await asyncio.wait(tasks, timeout=choices.random() * 0.002)
        for task in tasks:
            if choices.random() < 0.5:
                task.cancel()
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [each for each in results if isinstance(each, Exception)]

    async with asyncio.timeout(PATIENCE):
        assert await catalog.database.transact(rename(user.id, "Clara")) == "renamed to Clara"
        assert await catalog.database.query(read_name) == await read_apart() == "Clara"
    assert {pool.used for pool in catalog.database.pools.values()} == {0}
    assert catalog.database.waits.in_use == 0
