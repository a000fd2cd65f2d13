"""The ledger of moves: which row accounts for which object, which steps may change a path, and the lock of the ledger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database.engine import now
from app.catalog.errors import MigrationBusy
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.moves.path_switches import FileLocation, SwitchDecision, decide_switch
from app.catalog.schema import tables
from app.catalog.schema.move_records import CopyOutcome, MoveState, StorageMigration
from app.catalog.schema.records import Asset, FileKind, FileState
from app.config import StorageEngine
from tests.catalog.rows import file_states, make_user, upload

AGES = timedelta(days=36_500)
GRACE = timedelta(minutes=2)
LIVE, TWIN = FileLocation(FileState.LIVE, "/a"), FileLocation(FileState.WRITING, "s3://a")


@pytest.mark.parametrize(
    ("file", "twin", "fate"),
    [
        (LIVE, TWIN, SwitchDecision.READY),
        (None, TWIN, SwitchDecision.FILE_DELETED),
        (FileLocation(FileState.DOOMED, "/a"), TWIN, SwitchDecision.FILE_DELETED),
        (FileLocation(FileState.WRITING, "/a"), TWIN, SwitchDecision.FILE_DELETED),
        (FileLocation(FileState.LIVE, "/b"), TWIN, SwitchDecision.CHANGED),
        (LIVE, None, SwitchDecision.CHANGED),
        (LIVE, FileLocation(FileState.WRITING, "s3://b"), SwitchDecision.CHANGED),
        (LIVE, FileLocation(FileState.DOOMED, "s3://a"), SwitchDecision.CHANGED),
    ],
)
def test_what_is_done_goes_by_both_rows(
    file: FileLocation | None, twin: FileLocation | None, fate: SwitchDecision
) -> None:
    assert decide_switch(file, twin, "/a", "s3://a") is fate


def target_path(path: str) -> str:
    return f"s3://bucket{path}"


async def plan_uploads(catalog: Catalog, owner: UUID, count: int) -> tuple[StorageMigration, list[Asset]]:
    assets = [await upload(catalog, owner) for _ in range(count)]
    migration = await catalog.moves.begin_migration(StorageEngine.S3)
    files = [each.file for each in await catalog.moves.get_candidates("/media/", migration.id, after=None, limit=100)]
    assert {file.id for file in files} == {asset.file.id for asset in assets}
    assert await catalog.moves.plan_moves(migration.id, [(file, target_path(file.path)) for file in files]) == set()
    return migration, assets


async def verify_uploads(catalog: Catalog, owner: UUID, count: int) -> tuple[StorageMigration, list[Asset]]:
    migration, assets = await plan_uploads(catalog, owner, count)
    outcomes = [CopyOutcome(asset.file.id, MoveState.VERIFIED) for asset in assets]
    await catalog.moves.record_outcomes(migration.id, outcomes)
    return migration, assets


async def test_no_sweeper_touches_what_the_ledger_holds(catalog: Catalog) -> None:
    user = await make_user(catalog)
    migration, assets = await verify_uploads(catalog, user.id, 3)
    assert await catalog.files.claim_sweepable(datetime.now(UTC) + AGES, 100) == []

    await catalog.path_switches.switch(migration.id, [asset.file.id for asset in assets])

    assert await catalog.files.claim_sweepable(datetime.now(UTC) + AGES, 100) == []
    assert await catalog.files.get_by_path(assets[0].file.path) is not None, "the source is accounted for"


async def test_paths_are_exchanged_and_exchanged_back(catalog: Catalog) -> None:
    user = await make_user(catalog)
    migration, (one, two) = await verify_uploads(catalog, user.id, 2)

    settled = await catalog.path_switches.switch(migration.id, [one.file.id, two.file.id, uuid4()])

    assert settled.done == {one.file.id, two.file.id}
    assert not settled.dropped | settled.changed
    moved = await catalog.files.get(one.file.id)
    assert moved is not None
    assert moved.path == target_path(one.file.path)
    assert (await catalog.path_switches.switch(migration.id, [one.file.id])).done == set(), "only once"

    assert (await catalog.path_switches.switch_back(migration.id, [one.file.id], grace=GRACE)).done == {one.file.id}

    assert (await catalog.assets.get(one.id)) == one
    assert await catalog.files.claim_sweepable(now(), 10) == [], "whoever has just read the path goes on reading"
    copies = await catalog.files.claim_sweepable(now() + GRACE, 10)
    assert [copy.path for copy in copies] == [target_path(one.file.path)]
    assert not await catalog.moves.finish_migration(migration.id), "the other one is switched"


@pytest.mark.parametrize("way", ["given up", "deleted", "deleted and swept"])
@pytest.mark.parametrize(
    ("state", "grace"),
    [
        (MoveState.PLANNED, None),
        (MoveState.COPYING, LATE_WRITE_GRACE),
        (MoveState.COPIED, timedelta(0)),
        (MoveState.VERIFIED, timedelta(0)),
    ],
)
async def test_what_may_be_half_copied_is_not_swept_before_late_effects_are_over(
    catalog: Catalog, way: str, state: MoveState, grace: timedelta | None
) -> None:
    """If no copy was begun, no object at the target is ours; a finished copy has no late effects."""
    user = await make_user(catalog)
    migration, (asset,) = await plan_uploads(catalog, user.id, 1)
    await catalog.moves.record_outcomes(migration.id, [CopyOutcome(asset.file.id, state)])
    begun = now()

    if way == "given up":
        assert (await catalog.path_switches.cancel_moves(migration.id, [asset.file.id])).done == {asset.file.id}
    else:
        await catalog.assets.delete(user.id, [asset.id])
        if way == "deleted":
            assert await catalog.path_switches.drop_deleted_items(migration.id, [asset.file.id]) == {asset.file.id}
        else:
            assert await catalog.path_switches.drop_deleted_for_sweeper([asset.file.id]) == frozenset()

    twin = target_path(asset.file.path)
    if grace is None:
        assert await catalog.files.get_by_path(twin) is None
        return
    if grace:
        too_early = await catalog.files.claim_sweepable(begun + grace - timedelta(seconds=1), 10)
        assert twin not in {file.path for file in too_early}
    due = await catalog.files.claim_sweepable(now() + grace, 10)
    assert twin in {file.path for file in due}


async def test_a_path_that_changed_meanwhile_is_left(catalog: Catalog) -> None:
    user = await make_user(catalog)
    migration, (asset,) = await verify_uploads(catalog, user.id, 1)
    async with catalog.engine.begin() as connection:
        await connection.exec_driver_sql("UPDATE file SET path = '/media/renamed' WHERE state = 'live'")

    settled = await catalog.path_switches.switch(migration.id, [asset.file.id])

    assert settled.changed == {asset.file.id}
    left = await catalog.files.get(asset.file.id)
    assert left is not None
    assert left.path == "/media/renamed"
    assert (await catalog.path_switches.cancel_moves(migration.id, [asset.file.id])).changed == {asset.file.id}


async def test_a_path_with_a_row_is_not_planned(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset, other = await upload(catalog, user.id), await upload(catalog, user.id)
    migration = await catalog.moves.begin_migration(StorageEngine.S3)

    taken = await catalog.moves.plan_moves(migration.id, [(asset.file, other.file.path)])

    assert taken == {other.file.path}
    assert await catalog.moves.count_by_state(migration.id) == []


@pytest.mark.parametrize("round_", range(3))
async def test_deleting_and_switching_at_once_lose_nothing(catalog: Catalog, round_: int) -> None:
    user = await make_user(catalog)
    migration, assets = await verify_uploads(catalog, user.id, 30)
    ids = [asset.file.id for asset in assets]

    async def delete(part: list[Asset]) -> None:
        await catalog.assets.delete(user.id, [asset.id for asset in part])

    async def switch(part: list[UUID]) -> None:
        await catalog.path_switches.switch(migration.id, part)

    async with asyncio.timeout(60):
        await asyncio.gather(
            *(delete(assets[start : start + 3]) for start in range(0, 15, 3)),
            *(switch(ids[start : start + 10]) for start in range(0, 30, 10)),
        )
        await catalog.path_switches.drop_deleted_items(migration.id, ids)

    rows = [file async for file in catalog.files.iterate_all()]
    assert len(rows) == 60
    paths = {file.path for file in rows}
    assert paths == {path for asset in assets for path in (asset.file.path, target_path(asset.file.path))}
    states = await file_states(catalog)
    twins = {
        move.item.file_id: move.item
        for move in await catalog.moves.get_moves(migration.id, tuple(MoveState), limit=100)
    }
    for asset in assets[:15]:
        assert states[asset.file.id] is FileState.DOOMED
        assert states[twins[asset.file.id].twin_id] is FileState.DOOMED
    for asset in assets[15:]:
        moved = await catalog.files.get(asset.file.id)
        assert moved is not None
        assert (moved.state, moved.path) == (FileState.LIVE, target_path(asset.file.path))
        assert states[twins[asset.file.id].twin_id] is FileState.WRITING


async def test_what_is_an_external_librarys_is_never_a_candidate(catalog: Catalog) -> None:
    """Even if the media location is a parent folder of the library."""
    user = await make_user(catalog)
    external, ours = await upload(catalog, user.id), await upload(catalog, user.id)
    statement = update(tables.file).where(tables.file.c.id == external.file.id)
    async with catalog.engine.begin() as connection:
        await connection.execute(statement.values(kind=FileKind.EXTERNAL))
    found = await catalog.moves.get_candidates("/media/", None, after=None, limit=100)
    assert [each.file.id for each in found] == [ours.file.id]


async def test_one_at_a_time_in_all_processes(catalog: Catalog, db_url: str) -> None:
    other = await open_catalog(db_url)
    try:
        async with catalog.moves.lock_ledger() as still_held:
            await still_held()
            with pytest.raises(MigrationBusy):
                async with other.moves.lock_ledger():
                    pass
        async with other.moves.lock_ledger():
            pass
    finally:
        await other.aclose()


async def test_stray_paths_are_those_below_no_base(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    assert await catalog.files.find_path_outside(["s3://bucket/", "/media/"]) is None
    assert await catalog.files.find_path_outside(["/Media/", "/medi/"]) == asset.file.path
    await catalog.assets.delete(user.id, [asset.id])
    assert await catalog.files.find_path_outside([]) is None
