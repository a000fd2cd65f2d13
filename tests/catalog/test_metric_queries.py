"""The figures for `/metrics`: what waits, and for how long; bounded statements that read indexes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import update

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, TaskKind
from app.catalog.verify_results import VerifyResult
from tests.catalog.rows import make_user, task_of, upload

HOUR = timedelta(hours=1)


async def test_what_waits_and_for_how_long(catalog: Catalog) -> None:
    user = await make_user(catalog)
    assets = [await upload(catalog, user.id, type=AssetType.IMAGE) for _ in range(4)]
    tasks = [await task_of(catalog, asset) for asset in assets]
    moment = datetime.now(UTC)
    task = tables.task
    async with catalog.database.write() as connection:
        for each, due in zip(tasks, (moment - HOUR, moment - HOUR, moment + HOUR, moment - 2 * HOUR), strict=True):
            await connection.execute(update(task).where(task.c.id == each.id).values(not_before=due))
        # One that is less urgent, and has waited for longer.
        await connection.execute(update(task).where(task.c.id == tasks[3].id).values(priority=1))
    claimed = await catalog.tasks.claim(tasks[0].id, uuid4(), HOUR)
    assert claimed is not None

    image = (await catalog.metrics.read_queues())[TaskKind.IMAGE]
    assert (image.pending, image.delayed, image.running, image.failed) == (2, 1, 1, 0)
    assert HOUR <= image.overdue < 2 * HOUR, "the head of the queue is the most urgent task"
    await catalog.task_queues.pause(TaskKind.IMAGE)
    queues = await catalog.metrics.read_queues()
    assert queues[TaskKind.IMAGE].overdue == queues[TaskKind.VIDEO].overdue == timedelta(0)
    assert queues[TaskKind.VIDEO].pending == 0


async def test_the_sweepers_backlog(catalog: Catalog) -> None:
    user = await make_user(catalog)
    assets = [await upload(catalog, user.id) for _ in range(3)]
    assert (await catalog.metrics.read_sweep_backlog()).files == 0
    for asset, grace in zip(assets, (timedelta(0), timedelta(0), HOUR), strict=True):
        await catalog.assets.delete(user.id, [asset.id])
        async with catalog.database.write() as connection:
            due = datetime.now(UTC) - HOUR + 2 * grace
            await connection.execute(
                update(tables.file).where(tables.file.c.id == asset.file.id).values(not_before=due)
            )
    backlog = await catalog.metrics.read_sweep_backlog()
    assert backlog.files == 2
    assert HOUR <= backlog.overdue < 2 * HOUR


async def test_the_last_result_of_verify_is_kept(catalog: Catalog) -> None:
    assert await catalog.verify_results.get_last() is None
    for number in (3, 1):
        result = VerifyResult(datetime.now(UTC), True, {"missing": number, "orphan": 0}, number)
        await catalog.verify_results.save(result)
        assert await catalog.verify_results.get_last() == result
