"""Files deleted by their owner during a move are removed from source and target, with or without a further command of the move."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from app.catalog.database.engine import now
from app.jobs.sweeper import sweep
from app.migration.bandwidth_limit import BandwidthLimit
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from tests.migration.library import Library
from tests.migration.test_undoing import killed_at

SECONDS = 60


async def test_the_sweeper_alone_removes_both(library: Library) -> None:
    """For a file that could not be copied, a verified one, and a switched one."""
    planned, switched = await library.fill([10_000, 20_000])
    await library.storage.unlink(planned.path)
    await run_move(library.work())
    await switch_move(library.work())
    (verified,) = await library.fill([30_000], seed=2)
    await run_move(library.work())

    for kept in (planned, verified, switched):
        await library.delete(kept)
    await library.sweep()

    assert not library.at_source()
    assert not library.at_target()
    await library.check_exact(at=library.target_base)


async def test_a_copy_that_a_dead_run_left_goes_too(library: Library) -> None:
    (kept,) = await library.fill([10_000])
    with killed_at("record_outcomes"):
        await run_move(library.work())
    assert library.at_target()

    await library.delete(kept)
    await library.sweep()

    assert not library.at_target()
    await library.check_exact(at=library.target_base)


async def test_what_is_being_copied_stays_accounted_for_until_it_is_gone(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = await library.fill([10_000])
    reading, go_on = asyncio.Event(), asyncio.Event()

    async def hold(*_: object) -> None:
        reading.set()
        await go_on.wait()

    monkeypatch.setattr(BandwidthLimit, "acquire", hold)
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(run_move(library.work()))
        await reading.wait()
        await library.delete(kept)
        for later in (timedelta(0), timedelta(hours=1)):
            await sweep(library.catalog, library.storage, now=now() + later)
        assert not library.at_source()
        target = library.work().route.target_path(kept.path)
        assert await library.catalog.files.get_by_path(target), "nothing may be written without a row"
        go_on.set()

    await library.sweep()

    assert not library.at_target()
    await library.check_exact(at=library.target_base)
