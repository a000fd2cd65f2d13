"""Tasks: only one run works on each at a time, a run that lost its lease cannot record an outcome, and no task is lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.records import Asset, AssetType, FileKind, Task, TaskCounts, TaskKind, TaskState
from app.catalog.tasks import MAX_DEATHS
from tests.catalog.rows import make, make_user, task_of, upload

LEASE = timedelta(minutes=1)
PAST = timedelta(seconds=-1)
BOTH = (TaskKind.IMAGE, TaskKind.VIDEO)


async def add_asset_with_task(catalog: Catalog, type_: AssetType = AssetType.IMAGE) -> tuple[Asset, Task]:
    """A new asset and its task."""
    asset = await upload(catalog, (await make_user(catalog)).id, type=type_)
    return asset, await task_of(catalog, asset)


async def claim_task(catalog: Catalog, task: Task, lease: timedelta = LEASE) -> Task:
    found = await catalog.tasks.claim(task.id, uuid4(), lease)
    assert found is not None
    return found


def get_run(task: Task) -> tuple[UUID, UUID]:
    assert task.run_id is not None
    return task.id, task.run_id


@pytest.mark.parametrize(("type_", "kind"), [(AssetType.IMAGE, TaskKind.IMAGE), (AssetType.VIDEO, TaskKind.VIDEO)])
async def test_an_asset_comes_with_its_task(catalog: Catalog, type_: AssetType, kind: TaskKind) -> None:
    asset, task = await add_asset_with_task(catalog, type_=type_)
    assert (task.asset_id, task.kind, task.state) == (asset.id, kind, TaskState.PENDING)
    assert (task.attempts, task.deaths, task.error, task.run_id) == (0, 0, None, None)
    await catalog.assets.delete(asset.owner_id, [asset.id])
    assert await catalog.tasks.get(task.id) is None


async def test_one_attempt_from_begin_to_end(catalog: Catalog) -> None:
    _, task = await add_asset_with_task(catalog)
    run = uuid4()

    begun = await catalog.tasks.claim(task.id, run, LEASE)

    assert begun is not None
    assert (begun.state, begun.attempts, begun.run_id) == (TaskState.RUNNING, 1, run)
    assert await catalog.tasks.claim(task.id, uuid4(), LEASE) is None
    assert await catalog.tasks.renew_lease(task.id, run, 2 * LEASE)
    assert not await catalog.tasks.renew_lease(task.id, uuid4(), LEASE)
    assert await catalog.tasks.finish(task.id, run)
    assert not await catalog.tasks.finish(task.id, run)
    ended = await catalog.tasks.get(task.id)
    assert ended is not None
    assert (ended.state, ended.run_id, ended.error) == (TaskState.DONE, None, None)


async def test_a_failure_is_kept_and_the_next_attempt_waits(catalog: Catalog) -> None:
    _, task = await add_asset_with_task(catalog)
    later = datetime.now(UTC) + timedelta(hours=1)
    first = await claim_task(catalog, task)
    assert await catalog.tasks.fail(*get_run(first), "broken", later)

    paused = await catalog.tasks.get(task.id)
    assert paused is not None
    assert (paused.state, paused.error, paused.attempts) == (TaskState.PENDING, "broken", 1)
    assert paused.not_before == later
    assert await catalog.tasks.get_next_due(TaskKind.IMAGE) == later
    assert await catalog.tasks.get_next_due(TaskKind.VIDEO) is None
    assert await catalog.tasks.claim(task.id, uuid4(), LEASE) is None
    assert (await catalog.tasks.count_by_kind())[TaskKind.IMAGE] == TaskCounts(pending=1, delayed=1)


async def test_the_last_failure_shows(catalog: Catalog) -> None:
    _, one = await add_asset_with_task(catalog)
    _, two = await add_asset_with_task(catalog)
    for task, error in ((one, "first\0"), (two, "second")):
        await catalog.tasks.fail(*get_run(await claim_task(catalog, task)), error, None)

    assert [(task.id, task.error) for task in await catalog.tasks.get_failures()] == [
        (two.id, "second"),
        (one.id, "first\ufffd"),
    ]
    assert (await catalog.tasks.count_by_kind())[TaskKind.IMAGE] == TaskCounts(failed=2)
    assert [task.id for task in await catalog.tasks.get_failures(limit=1)] == [two.id]


async def test_what_is_given_back_costs_no_attempt(catalog: Catalog) -> None:
    _, task = await add_asset_with_task(catalog)
    begun = await claim_task(catalog, task)
    assert await catalog.tasks.release(*get_run(begun))
    again = await claim_task(catalog, task)
    assert again.attempts == 1
    later = datetime.now(UTC) + LEASE
    assert await catalog.tasks.release(*get_run(again), reason="the store is away", retry_at=later)
    put_off = await catalog.tasks.get(task.id)
    assert put_off is not None
    assert (put_off.attempts, put_off.error, put_off.not_before) == (0, "the store is away", later)


async def test_the_most_urgent_goes_first(catalog: Catalog) -> None:
    _, old = await add_asset_with_task(catalog)
    _, video = await add_asset_with_task(catalog, type_=AssetType.VIDEO)
    await catalog.tasks.request([TaskKind.IMAGE], remake=True)
    _, new = await add_asset_with_task(catalog)

    order = [await catalog.tasks.claim_next(TaskKind.IMAGE, uuid4(), LEASE) for _ in range(3)]

    assert [task.id if task else None for task in order] == [new.id, old.id, None]
    taken = await catalog.tasks.claim_next(TaskKind.VIDEO, uuid4(), LEASE)
    assert taken is not None
    assert taken.id == video.id


async def test_of_many_who_want_a_task_one_gets_it(catalog: Catalog) -> None:
    made = [await add_asset_with_task(catalog) for _ in range(4)]

    results = await asyncio.gather(*(catalog.tasks.claim_next(TaskKind.IMAGE, uuid4(), LEASE) for _ in range(12)))

    taken = [task.id for task in results if task]
    assert len(taken) == len(set(taken))
    while task := await catalog.tasks.claim_next(
        TaskKind.IMAGE, uuid4(), LEASE
    ):  # tasks that were skipped while locked
        taken.append(task.id)
    assert sorted(taken) == sorted(task.id for _, task in made)


async def test_the_work_of_the_dead_is_taken_back(catalog: Catalog) -> None:
    _, task = await add_asset_with_task(catalog)
    _, other = await add_asset_with_task(catalog)
    dead = await claim_task(catalog, task, PAST)
    alive = await claim_task(catalog, other)

    recovered = await catalog.tasks.recover_lapsed(datetime.now(UTC))

    assert [each.id for each in recovered] == [task.id]
    assert (recovered[0].state, recovered[0].attempts, recovered[0].deaths) == (TaskState.PENDING, 0, 1)
    assert not await catalog.tasks.finish(*get_run(dead)), "it was thought dead"
    assert await catalog.tasks.finish(*get_run(alive))


async def test_a_start_takes_back_everything_and_gives_up_what_kills_everybody(catalog: Catalog) -> None:
    _, task = await add_asset_with_task(catalog)
    for _ in range(MAX_DEATHS - 1):
        await claim_task(catalog, task)
        assert [each.id for each in await catalog.tasks.recover_lapsed()] == [task.id]
    await claim_task(catalog, task)

    assert await catalog.tasks.recover_lapsed() == []

    given_up = await catalog.tasks.get(task.id)
    assert given_up is not None
    assert (given_up.state, given_up.deaths) == (TaskState.FAILED, MAX_DEATHS)
    assert str(MAX_DEATHS) in (given_up.error or "")


async def test_what_lacks_something_is_requested_again(catalog: Catalog) -> None:
    complete, half, failed, running, untouched = [await add_asset_with_task(catalog) for _ in range(5)]
    await make(catalog, complete[0], FileKind.THUMBNAIL, FileKind.PREVIEW)
    await make(catalog, half[0], FileKind.THUMBNAIL)
    for _, task in (complete, half):
        await catalog.tasks.finish(*get_run(await claim_task(catalog, task)))
    await catalog.tasks.fail(*get_run(await claim_task(catalog, failed[1])), "broken", None)
    await claim_task(catalog, running[1])

    requested, following = await catalog.tasks.request(BOTH, remake=False)

    assert following is None
    assert {task.asset_id for task in requested} == {half[0].id, failed[0].id}
    assert {(task.state, task.attempts, task.error) for task in requested} == {(TaskState.PENDING, 0, None)}
    assert {task.requested_at for task in requested} == {half[1].requested_at, failed[1].requested_at}
    assert await catalog.tasks.get_for_asset(untouched[0].id) == untouched[1]


async def test_what_waits_for_another_attempt_is_requested_at_once(catalog: Catalog) -> None:
    _, task = await add_asset_with_task(catalog)
    later = datetime.now(UTC) + timedelta(minutes=10)
    await catalog.tasks.release(*get_run(await claim_task(catalog, task)), reason="no room", retry_at=later)

    (requested,), _ = await catalog.tasks.request(BOTH, remake=False)

    assert requested.not_before <= datetime.now(UTC)
    assert await catalog.tasks.claim(task.id, uuid4(), LEASE) is not None


async def test_everything_is_requested_in_pages(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.catalog.tasks._REQUEST_BATCH", 2)
    made = [await add_asset_with_task(catalog) for _ in range(5)]
    _, video = await add_asset_with_task(catalog, type_=AssetType.VIDEO)
    found: list[Task] = []
    after = None
    while True:
        tasks, after = await catalog.tasks.request([TaskKind.IMAGE], remake=True, after=after)
        found += tasks
        if after is None:
            break
    assert sorted(task.id for task in found) == sorted(task.id for _, task in made)
    assert all(task.requested_at > video.requested_at for task in found)


async def test_one_owners_assets_are_requested(catalog: Catalog) -> None:
    mine, task = await add_asset_with_task(catalog)
    theirs, _ = await add_asset_with_task(catalog)
    await catalog.tasks.finish(*get_run(await claim_task(catalog, task)))
    requested = await catalog.tasks.request_for(mine.owner_id, [mine.id, theirs.id, uuid4()])
    assert [(each.id, each.state) for each in requested] == [(task.id, TaskState.PENDING)]


async def test_tasks_are_neglected_while_they_are_due_and_nobody_works(catalog: Catalog) -> None:
    _, first = await add_asset_with_task(catalog)
    _, second = await add_asset_with_task(catalog)
    soon, long_ago = datetime.now(UTC) + LEASE, datetime.now(UTC) - LEASE

    assert await catalog.tasks.has_neglected(soon)
    assert not await catalog.tasks.has_neglected(long_ago)
    working = await claim_task(catalog, first)
    assert not await catalog.tasks.has_neglected(soon)
    await catalog.tasks.finish(*get_run(working))
    assert await catalog.tasks.has_neglected(soon)
    await claim_task(catalog, second)
    assert not await catalog.tasks.has_neglected(soon)


async def test_a_paused_queue_starts_nothing(catalog: Catalog) -> None:
    _, photo_task = await add_asset_with_task(catalog)
    _, video_task = await add_asset_with_task(catalog, AssetType.VIDEO)
    soon = datetime.now(UTC) + timedelta(seconds=1)

    await catalog.task_queues.pause(TaskKind.IMAGE)
    await catalog.task_queues.pause(TaskKind.IMAGE)

    assert await catalog.task_queues.list_paused() == {TaskKind.IMAGE}
    assert await catalog.tasks.claim(photo_task.id, uuid4(), LEASE) is None
    assert await catalog.tasks.claim_next(TaskKind.IMAGE, uuid4(), LEASE) is None
    assert await catalog.tasks.get_next_due(TaskKind.IMAGE) is None
    assert await catalog.tasks.has_neglected(soon), "the video's"
    video_run = get_run(await claim_task(catalog, video_task))
    assert await catalog.tasks.finish(*video_run)
    assert not await catalog.tasks.has_neglected(soon)

    await catalog.task_queues.resume(TaskKind.IMAGE)

    assert await catalog.task_queues.list_paused() == frozenset()
    assert [task.id for task in await catalog.task_queues.list_due(TaskKind.IMAGE, 10)] == [photo_task.id]
    assert await catalog.tasks.claim_next(TaskKind.IMAGE, uuid4(), LEASE)


async def test_what_was_removed_from_a_queue_is_found_again(catalog: Catalog) -> None:
    asset, task = await add_asset_with_task(catalog)
    _, running = await add_asset_with_task(catalog)
    await claim_task(catalog, running)

    assert await catalog.task_queues.remove_tasks(TaskKind.IMAGE, [TaskState.PENDING]) == 1

    assert await catalog.tasks.get(task.id) is None
    assert await catalog.tasks.get(running.id) is not None
    requested, _ = await catalog.tasks.request(BOTH, remake=False)
    assert [each.asset_id for each in requested] == [asset.id]
