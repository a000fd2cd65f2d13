"""The last step of an upload: it is carried out whole or not at all, alone and in races."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import tasks
from app.catalog.assets import live_photo_links
from app.catalog.catalog import Catalog, open_catalog
from app.catalog.errors import (
    CatalogError,
    ConstraintViolation,
    DuplicateAsset,
    NotFound,
    QuotaExceeded,
    WriteLeaseLost,
)
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, ChecksumHolder, FileKind, FileState, Visibility
from tests.catalog.rows import begin, file_states, make_user, new_asset, stored, upload, used_bytes
from tests.real.catalogues import Databases
from tests.real.waiting import eventually_so


async def test_an_upload_makes_its_files_live_and_is_charged(catalog: Catalog) -> None:
    user = await make_user(catalog, quota=150)
    original = stored(await begin(catalog, user.id), size=100)
    sidecar = stored(await begin(catalog, user.id, FileKind.SIDECAR), size=50)
    new = new_asset(user.id, original.sha1, duration=7, metadata={"source": "phone"}, device_id="cli", is_favorite=True)

    asset = await catalog.assets.insert(new, original, sidecar)

    assert asset == await catalog.assets.get(new.id)
    shown = asdict(new)
    kept = shown.pop("metadata")
    assert shown.items() <= asdict(asset).items()
    async with catalog.engine.connect() as connection:
        assert (await connection.execute(select(tables.asset.c.metadata))).scalar_one() == kept
    assert (asset.file.id, asset.file.state, asset.sidecar_id) == (original.file_id, FileState.LIVE, sidecar.file_id)
    assert (asset.file.size, asset.file.sha1, asset.file.crc32) == (100, original.sha1, original.crc32)
    assert set((await file_states(catalog)).values()) == {FileState.LIVE}
    assert await used_bytes(catalog, user.id) == 150


async def test_one_byte_over_the_quota_keeps_nothing(catalog: Catalog) -> None:
    user = await make_user(catalog, quota=149)
    original = stored(await begin(catalog, user.id), size=100)
    sidecar = stored(await begin(catalog, user.id, FileKind.SIDECAR), size=50)

    with pytest.raises(QuotaExceeded) as refused:
        await catalog.assets.insert(new_asset(user.id, original.sha1), original, sidecar)

    assert (refused.value.quota, refused.value.used, refused.value.size) == (149, 0, 150)
    assert await file_states(catalog) == dict.fromkeys((original.file_id, sidecar.file_id), FileState.DOOMED)
    assert await used_bytes(catalog, user.id) == 0
    assert await catalog.assets.get_page(user.id) == ([], None)


@pytest.mark.parametrize("trashed", [False, True])
async def test_a_duplicate_names_the_winner_and_only_its_sidecar_may_still_be_added(
    catalog: Catalog, trashed: bool
) -> None:
    user = await make_user(catalog)
    winner = await upload(catalog, user.id, content=b"same")
    if trashed:
        await catalog.assets.trash(user.id, [winner.id])

    with pytest.raises(DuplicateAsset) as refused:
        await upload(catalog, user.id, content=b"same", sidecar_size=3)

    assert (refused.value.asset_id, refused.value.is_trashed) == (winner.id, trashed)
    found = await file_states(catalog)
    assert found.pop(winner.file.id) is FileState.LIVE
    assert sorted(found.values()) == [FileState.DOOMED, FileState.WRITING]
    assert await used_bytes(catalog, user.id) == 4


async def test_two_users_may_keep_the_same_content(catalog: Catalog) -> None:
    one, two = await make_user(catalog), await make_user(catalog)
    first = await upload(catalog, one.id, content=b"same")
    second = await upload(catalog, two.id, content=b"same")
    assert first.checksum == second.checksum
    assert await catalog.assets.get_by_checksum(one.id, b"x" * 20) is None
    assert await catalog.assets.get_by_checksum(two.id, second.file.sha1 or b"") == second
    assert await catalog.assets.find_holders(two.id, [b"x" * 20, second.file.sha1 or b""]) == {
        second.checksum: ChecksumHolder(second.id, is_trashed=False)
    }


@pytest.mark.parametrize("count", [1, 50, 51, 1000, 1049, 2001])
async def test_holders_are_found_wherever_they_stand_among_thousands(catalog: Catalog, count: int) -> None:
    """Statements are made for some numbers of checksums only, and the last one is filled up."""
    user = await make_user(catalog)
    assets = [await upload(catalog, user.id, content=content) for content in (b"first", b"last")]
    unknown = [number.to_bytes(20) for number in range(count)]
    first, last = (asset.checksum or b"" for asset in assets)

    found = await catalog.assets.find_holders(user.id, [first, *unknown, last])

    assert found == {
        first: ChecksumHolder(assets[0].id, is_trashed=False),
        last: ChecksumHolder(assets[1].id, is_trashed=False),
    }
    assert await catalog.assets.find_holders(user.id, []) == {}


@pytest.mark.parametrize("fate", ["doomed", "swept", "expired", "live", "another's"])
async def test_only_a_file_that_is_being_written_becomes_live(catalog: Catalog, fate: str) -> None:
    user = await make_user(catalog)
    original = await begin(catalog, user.id)
    sidecar = stored(await begin(catalog, user.id, FileKind.SIDECAR))
    owner = user.id
    if fate == "doomed":
        assert await catalog.files.mark_for_deletion(original.id)
    elif fate == "swept":
        await catalog.files.mark_for_deletion(original.id)
        await catalog.files.delete_swept(await catalog.files.claim_sweepable(original.not_before, 1))
    elif fate == "expired":
        assert await catalog.files.claim_sweepable(original.not_before, 1) == []
    elif fate == "live":
        await catalog.assets.insert(new_asset(user.id, b"a" * 20), stored(original))
    else:
        owner = (await make_user(catalog)).id
    before = await file_states(catalog)
    charged = await used_bytes(catalog, user.id)

    with pytest.raises(WriteLeaseLost) as refused:
        await catalog.assets.insert(new_asset(owner, b"b" * 20), stored(original), sidecar)

    assert refused.value.file_id == original.id
    after = await file_states(catalog)
    assert await used_bytes(catalog, user.id) == charged
    assert after.get(original.id) is (FileState.DOOMED if fate == "another's" else before.get(original.id))
    assert after[sidecar.file_id] is FileState.DOOMED


async def test_an_unknown_owner_is_refused(catalog: Catalog) -> None:
    with pytest.raises(ConstraintViolation):
        await begin(catalog, uuid4())


async def test_a_live_photos_video_is_hidden(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO)
    photo = await upload(catalog, user.id, live_photo_video_id=video.id)
    assert photo.live_photo_video_id == video.id
    hidden = await catalog.assets.get(video.id)
    assert hidden is not None
    assert hidden.visibility is Visibility.HIDDEN


@pytest.mark.parametrize("wrong", ["unknown", "a photo", "another's"])
async def test_a_live_photo_needs_a_video_of_its_owner(catalog: Catalog, wrong: str) -> None:
    user = await make_user(catalog)
    video_id = uuid4()
    if wrong == "a photo":
        video_id = (await upload(catalog, user.id)).id
    elif wrong == "another's":
        video_id = (await upload(catalog, (await make_user(catalog)).id, type=AssetType.VIDEO)).id
    file = await begin(catalog, user.id)

    with pytest.raises(NotFound) as refused:
        await catalog.assets.insert(new_asset(user.id, b"x" * 20, live_photo_video_id=video_id), stored(file))

    assert refused.value.ids == (video_id,)
    assert (await file_states(catalog))[file.id] is FileState.DOOMED


async def test_uploads_of_one_owner_do_not_wait_for_the_middle_of_each_other(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In PostgreSQL, where several processes insert at once, only the last statement of an upload locks the owner's row."""
    add_tasks = tasks.add_tasks
    reached, released = asyncio.Event(), asyncio.Event()

    async def pause_first(connection: AsyncConnection, *arguments: Any) -> None:
        if not reached.is_set():
            reached.set()
            await released.wait()
        await add_tasks(connection, *arguments)

    monkeypatch.setattr(tasks, "add_tasks", pause_first)
    catalog = await open_catalog(databases.ready("postgresql"))
    try:
        user = await make_user(catalog)
        async with asyncio.timeout(60):
            first = asyncio.create_task(upload(catalog, user.id))
            await reached.wait()
            try:
                await asyncio.wait_for(upload(catalog, user.id), 20)
            finally:
                released.set()
            await first
        assert await used_bytes(catalog, user.id) == 200
    finally:
        await catalog.aclose()


async def test_a_plain_upload_and_one_that_locks_its_owner_first_do_not_deadlock(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both bring the same content. In PostgreSQL, the second to enter the checksum into the index waits for the first to end."""
    hide_video = live_photo_links.hide_video
    reached, released = asyncio.Event(), asyncio.Event()

    async def pause(connection: AsyncConnection, *arguments: Any) -> None:
        reached.set()
        await released.wait()
        await hide_video(connection, *arguments)

    monkeypatch.setattr(live_photo_links, "hide_video", pause)
    catalog = await open_catalog(databases.ready("postgresql"))
    try:
        user = await make_user(catalog)
        video = await upload(catalog, user.id, type=AssetType.VIDEO)
        files = [await begin(catalog, user.id) for _ in range(2)]
        live = new_asset(user.id, b"x" * 20, live_photo_video_id=video.id)
        async with asyncio.timeout(60):
            locking = asyncio.create_task(catalog.assets.insert(live, stored(files[0])))
            await reached.wait()
            plain = asyncio.create_task(catalog.assets.insert(new_asset(user.id, b"x" * 20), stored(files[1])))

            async def is_waiting() -> bool:
                async with catalog.database.read() as connection:
                    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
                    return bool((await connection.execute(waiting)).scalar_one())

            await eventually_so(is_waiting, "the plain upload waits")
            released.set()
            kept = await locking
            with pytest.raises(DuplicateAsset) as refused:
                await plain
        assert refused.value.asset_id == kept.id
    finally:
        await catalog.aclose()


async def test_fifty_uploads_at_the_edge_of_the_quota_never_exceed_it(catalog: Catalog) -> None:
    user = await make_user(catalog, quota=1000)

    results = await asyncio.gather(
        *(upload(catalog, user.id, size=90) for _ in range(50)),
        return_exceptions=True,
    )

    refused = [result for result in results if isinstance(result, BaseException)]
    assert {type(error) for error in refused} == {QuotaExceeded}
    assert len(refused) == 39
    assert await used_bytes(catalog, user.id) == 11 * 90
    found = list((await file_states(catalog)).values())
    assert (found.count(FileState.LIVE), found.count(FileState.DOOMED)) == (11, 39)


async def test_of_twenty_uploads_of_one_file_one_wins(catalog: Catalog) -> None:
    user = await make_user(catalog)

    results = await asyncio.gather(
        *(upload(catalog, user.id, content=b"same") for _ in range(20)),
        return_exceptions=True,
    )

    (winner,) = [result for result in results if not isinstance(result, BaseException)]
    losers = [result for result in results if isinstance(result, DuplicateAsset)]
    assert [loser.asset_id for loser in losers] == [winner.id] * 19
    found = list((await file_states(catalog)).values())
    assert (found.count(FileState.LIVE), found.count(FileState.DOOMED)) == (1, 19)
    assert await used_bytes(catalog, user.id) == 4


async def test_uploading_and_deleting_one_file_over_and_over_stays_consistent(catalog: Catalog) -> None:
    user = await make_user(catalog)

    async def turn() -> None:
        try:
            asset = await upload(catalog, user.id, content=b"same")
        except DuplicateAsset as duplicate:
            await catalog.assets.delete(user.id, [duplicate.asset_id])
        else:
            if asset.id.int % 2:
                await catalog.assets.trash(user.id, [asset.id])

    async def turns() -> None:
        for _ in range(5):
            with suppress(NotFound):  # another task deleted it first
                await turn()

    async with asyncio.timeout(60):
        await asyncio.gather(*(turns() for _ in range(8)))

    live = [file async for file in catalog.files.iterate_all() if file.state is FileState.LIVE]
    remaining = await catalog.assets.get_by_checksum(user.id, stored(await begin(catalog, user.id), b"same").sha1)
    assert len(live) == (1 if remaining else 0)
    assert await used_bytes(catalog, user.id) == 4 * len(live)


async def test_two_hundred_writes_at_once_all_succeed(catalog: Catalog) -> None:
    user = await make_user(catalog)
    async with asyncio.timeout(60):
        files = await asyncio.gather(*(begin(catalog, user.id) for _ in range(200)))
    assert await file_states(catalog) == {file.id: FileState.WRITING for file in files}


async def test_a_value_that_fits_no_column_is_an_error_of_the_catalogue(catalog: Catalog) -> None:
    user = await make_user(catalog)
    with pytest.raises(CatalogError):
        await upload(catalog, user.id, size=2**70)
    with pytest.raises(CatalogError):
        await upload(catalog, user.id, file_created_at=(await make_user(catalog)).created_at.replace(tzinfo=None))
    assert await used_bytes(catalog, user.id) == 0
    await upload(catalog, user.id, size=1)


async def test_any_name_can_be_kept(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id, original_file_name="a\0b\udcffc 'é%_\u202e.jpg", device_id="\0")
    assert asset.original_file_name == "a\ufffdb\ufffdc 'é%_\u202e.jpg"
    assert asset.device_id == "\ufffd"


async def test_a_lease_that_is_renewed_keeps_the_sweeper_away(catalog: Catalog) -> None:
    user = await make_user(catalog)
    file = await begin(catalog, user.id, lease=timedelta(seconds=-1))
    assert await catalog.files.renew_lease(file.id, timedelta(hours=1))
    assert await catalog.files.claim_sweepable(file.not_before + timedelta(minutes=30), 10) == []
    asset = await catalog.assets.insert(new_asset(user.id, b"c" * 20), stored(file))
    assert asset.file.state is FileState.LIVE
    assert not await catalog.files.renew_lease(file.id, timedelta(hours=1))
