"""Work that one process does: never two at once, and another one takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager

import pytest
from sqlalchemy import text

from app.catalog.catalog import open_catalog
from app.jobs import elected_work
from app.jobs.elected_work import ElectedWork
from tests.real.catalogues import Databases
from tests.real.waiting import eventually_so

PROCESSES = 3
LOSSES = 8
TURNS = 50
END_LOCK_HOLDERS = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Work:
    """Records who works, and whether it was ever more than one."""

    def __init__(self) -> None:
        self.at_work: list[int] = []
        self.begun = 0
        self.most = 0

    def of(self, number: int) -> Callable[[], AbstractAsyncContextManager[None]]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[None]:
            self.at_work.append(number)
            self.begun += 1
            self.most = max(self.most, len(self.at_work))
            try:
                yield
            finally:
                for _turn in range(TURNS):  # the end takes its time
                    await asyncio.sleep(0)
                self.at_work.remove(number)

        return opened

    async def has_begun(self, times: int) -> bool:
        """Whether work was begun so often."""
        return self.begun >= times

    async def is_somebody_at_work(self) -> bool:
        return len(self.at_work) == 1


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elected_work, "ELECTION_SECONDS", 0.05)
    monkeypatch.setattr(elected_work, "FORMER_HOLDER_SECONDS", 0.25)


async def test_one_works_and_another_takes_over(db_url: str) -> None:
    work = Work()
    async with AsyncExitStack() as catalogs:
        elections: list[AsyncExitStack] = []
        for number in range(PROCESSES):
            catalog = await open_catalog(db_url)
            catalogs.push_async_callback(catalog.aclose)
            elections.append(await catalogs.enter_async_context(AsyncExitStack()))
            await elections[-1].enter_async_context(ElectedWork(catalog, "test", work.of(number)).running())
        for _ in range(PROCESSES):
            await eventually_so(work.is_somebody_at_work, "one is at work")
            (number,) = work.at_work
            await elections[number].aclose()
            assert number not in work.at_work
    assert work.at_work == []
    assert work.most == 1


async def test_a_lost_lock_ends_the_work_until_it_is_held_again(databases: Databases) -> None:
    """The connection that holds it is gone, as after a restart of PostgreSQL."""
    work = Work()
    catalog = await open_catalog(databases.ready("postgresql"))
    async with aclosing(catalog), ElectedWork(catalog, "test", work.of(0)).running():
        await eventually_so(work.is_somebody_at_work, "it is at work")
        async with catalog.database.write() as connection:
            await connection.execute(text(END_LOCK_HOLDERS))

        async def is_nobody_at_work() -> bool:
            return not work.at_work

        await eventually_so(is_nobody_at_work, "it has noticed")
        await eventually_so(work.is_somebody_at_work, "it is at work again")


async def test_never_two_work_when_locks_are_lost(databases: Databases) -> None:
    """The former holder notices the loss later than another one gets the lock."""
    url, work = databases.ready("postgresql"), Work()
    async with AsyncExitStack() as stack:
        disturber = await stack.enter_async_context(aclosing(await open_catalog(url)))
        for number in range(PROCESSES):
            catalog = await open_catalog(url)
            stack.push_async_callback(catalog.aclose)
            await stack.enter_async_context(ElectedWork(catalog, "test", work.of(number)).running())
        for loss in range(LOSSES):
            await eventually_so(lambda begun=loss + 1: work.has_begun(begun), "one is at work")
            async with disturber.database.write() as connection:
                await connection.execute(text(END_LOCK_HOLDERS))
        await eventually_so(lambda: work.has_begun(LOSSES + 1), "one is at work")
        assert work.most == 1


async def test_another_takes_over_at_once_after_an_orderly_end(databases: Databases) -> None:
    work = Work()
    catalog = await open_catalog(databases.ready("postgresql"))
    async with aclosing(catalog):
        for number in range(2):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(elected_work, "FORMER_HOLDER_SECONDS", 3600.0)
                async with ElectedWork(catalog, "test", work.of(number)).running():
                    await eventually_so(work.is_somebody_at_work, "it is at work")


async def test_work_that_fails_is_opened_again(db_url: str) -> None:
    opened = 0

    @asynccontextmanager
    async def fail_once() -> AsyncIterator[None]:
        nonlocal opened
        opened += 1
        if opened == 1:
            raise RuntimeError("at first")
        yield

    async def is_opened_again() -> bool:
        return opened == 2

    catalog = await open_catalog(db_url)
    try:
        async with ElectedWork(catalog, "test", fail_once).running():
            await eventually_so(is_opened_again, "it is tried again")
    finally:
        await catalog.aclose()
