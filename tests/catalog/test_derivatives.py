"""Derivatives: a new file replaces the expected one, all or nothing; replaced and late files are marked for deletion."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest
from sqlalchemy import update

from app.catalog.assets.derivatives import ExtractedProperties, FileReplacement
from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound, WriteLeaseLost
from app.catalog.schema import tables
from app.catalog.schema.records import AssetChanges, FileKind, FileState
from tests.catalog.rows import begin, file_states, make, make_user, stored, upload, used_bytes

PREVIEW, THUMBNAIL = FileKind.PREVIEW, FileKind.THUMBNAIL
TAKEN = datetime(2019, 8, 7, 12, 30, tzinfo=timezone(timedelta(hours=2)))


async def test_derivatives_and_findings_are_there_together(catalog: Catalog) -> None:
    user = await make_user(catalog, quota=100)
    asset = await upload(catalog, user.id, size=100)

    swapped, files = await make(
        catalog, asset, PREVIEW, THUMBNAIL, width=4000, height=3000, thumbhash=b"hash", exif={"make": "Ricoh"}
    )

    assert swapped
    found = await catalog.derivatives.get_for_asset(asset.id)
    assert {kind: made.file.id for kind, made in found.items()} == files
    assert {made.file.state for made in found.values()} == {FileState.LIVE}
    changed = await catalog.assets.get(asset.id)
    assert changed is not None
    assert (changed.width, changed.height, changed.thumbhash, changed.exif) == (4000, 3000, b"hash", {"make": "Ricoh"})
    assert await used_bytes(catalog, user.id) == 100, "what is made does not count"


async def test_what_is_replaced_is_doomed(catalog: Catalog) -> None:
    asset = await upload(catalog, (await make_user(catalog)).id)
    _, old = await make(catalog, asset, PREVIEW, THUMBNAIL)

    swapped, new = await make(catalog, asset, PREVIEW, seen=old)

    assert swapped
    found = {kind: made.file.id for kind, made in (await catalog.derivatives.get_for_asset(asset.id)).items()}
    assert found == {PREVIEW: new[PREVIEW], THUMBNAIL: old[THUMBNAIL]}
    assert (await file_states(catalog))[old[PREVIEW]] is FileState.DOOMED


@pytest.mark.parametrize("late", ["after the first", "after a second", "after it went"])
async def test_who_comes_late_changes_nothing(catalog: Catalog, late: str) -> None:
    asset = await upload(catalog, (await make_user(catalog)).id)
    seen = None
    if late != "after the first":
        _, seen = await make(catalog, asset, PREVIEW)
    _, winner = await make(catalog, asset, PREVIEW, seen=seen)
    if late == "after it went":
        gone = [FileReplacement(PREVIEW, winner[PREVIEW], None)]
        assert await catalog.derivatives.swap_files(asset.owner_id, asset.id, gone)

    swapped, loser = await make(catalog, asset, PREVIEW, THUMBNAIL, seen=seen, width=1)

    assert not swapped
    found = {kind: made.file.id for kind, made in (await catalog.derivatives.get_for_asset(asset.id)).items()}
    assert found == ({} if late == "after it went" else winner)
    after = await file_states(catalog)
    assert {after[file_id] for file_id in loser.values()} == {FileState.DOOMED}
    left = await catalog.assets.get(asset.id)
    assert left is not None
    assert left.width is None


async def test_of_many_that_are_made_at_once_one_set_stays(catalog: Catalog) -> None:
    asset = await upload(catalog, (await make_user(catalog)).id)

    results = await asyncio.gather(*(make(catalog, asset, PREVIEW, THUMBNAIL) for _ in range(8)))

    (winner,) = [files for swapped, files in results if swapped]
    found = {kind: made.file.id for kind, made in (await catalog.derivatives.get_for_asset(asset.id)).items()}
    assert found == winner
    live = {file_id for file_id, state in (await file_states(catalog)).items() if state is FileState.LIVE}
    assert live == {asset.file.id, *winner.values()}


async def test_a_lease_that_ran_out_makes_nothing_live(catalog: Catalog) -> None:
    asset = await upload(catalog, (await make_user(catalog)).id)
    lapsed = await begin(catalog, asset.owner_id, PREVIEW)
    kept = await begin(catalog, asset.owner_id, THUMBNAIL)
    await catalog.files.mark_for_deletion(lapsed.id)

    with pytest.raises(WriteLeaseLost):
        await catalog.derivatives.swap_files(
            asset.owner_id,
            asset.id,
            [FileReplacement(THUMBNAIL, None, stored(kept)), FileReplacement(PREVIEW, None, stored(lapsed))],
        )

    assert await catalog.derivatives.get_for_asset(asset.id) == {}
    assert (await file_states(catalog))[kept.id] is FileState.DOOMED


async def test_an_asset_that_is_deleted_meanwhile_dooms_what_was_made_and_what_comes_late(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    await make(catalog, asset, PREVIEW)

    await catalog.assets.delete(user.id, [asset.id])
    with pytest.raises(NotFound):
        await make(catalog, asset, THUMBNAIL)

    assert set((await file_states(catalog)).values()) == {FileState.DOOMED}
    assert await used_bytes(catalog, user.id) == 0


async def test_deletions_and_swaps_at_once_leave_no_file_behind(catalog: Catalog) -> None:
    user = await make_user(catalog)
    assets = [await upload(catalog, user.id) for _ in range(12)]

    async with asyncio.timeout(60):
        results = await asyncio.gather(
            *(make(catalog, asset, PREVIEW) for asset in assets),
            *(catalog.assets.delete(user.id, [asset.id]) for asset in assets),
            return_exceptions=True,
        )

    assert {type(result) for result in results if isinstance(result, BaseException)} <= {NotFound}
    assert set((await file_states(catalog)).values()) == {FileState.DOOMED}


async def test_another_owner_cannot_be_given_a_derivative(catalog: Catalog) -> None:
    asset = await upload(catalog, (await make_user(catalog)).id)
    other = await make_user(catalog)
    file = await begin(catalog, other.id, PREVIEW)
    with pytest.raises(NotFound):
        await catalog.derivatives.swap_files(other.id, asset.id, [FileReplacement(PREVIEW, None, stored(file))])
    assert await catalog.derivatives.get_for_assets([asset.id, uuid4()]) == {}


async def test_what_a_user_said_is_kept_when_the_file_is_read(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    said = AssetChanges(exif={"description": "Grandma", "rating": 5})
    await catalog.assets.update(user.id, asset.id, said)

    await make(
        catalog,
        asset,
        PREVIEW,
        exif={"description": "OLYMPUS DIGITAL CAMERA", "make": "Olympus"},
        taken_at=TAKEN,
        taken_at_local=TAKEN.replace(tzinfo=UTC),
    )
    await catalog.assets.update(user.id, asset.id, AssetChanges(exif={"rating": 4}))

    found = await catalog.assets.get(asset.id)
    assert found is not None
    assert found.exif == {"description": "Grandma", "rating": 4, "make": "Olympus"}
    assert (found.file_created_at, found.local_date_time) == (TAKEN.astimezone(UTC), TAKEN.replace(tzinfo=UTC))


async def test_a_date_that_a_user_gave_stays(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    await catalog.assets.update(user.id, asset.id, AssetChanges(exif={"dateTimeOriginal": "2001-01-01T00:00:00Z"}))
    findings = ExtractedProperties(exif={"dateTimeOriginal": "2019"}, taken_at=TAKEN, taken_at_local=TAKEN)

    assert await catalog.derivatives.swap_files(user.id, asset.id, [], findings)

    found = await catalog.assets.get(asset.id)
    assert found is not None
    assert found.exif == {"dateTimeOriginal": "2001-01-01T00:00:00Z"}
    assert found.file_created_at == asset.file_created_at


async def test_what_nobody_edited_changes_with_the_file(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    first: dict[str, object] = {
        "description": "of the file",
        "rating": 2,
        "latitude": 1.5,
        "longitude": 2.5,
        "timeZone": "UTC+2",
    }
    assert await catalog.derivatives.swap_files(user.id, asset.id, [], ExtractedProperties(exif=first))
    await catalog.assets.update(user.id, asset.id, AssetChanges(exif={"rating": 5, "description": None}))

    assert await catalog.derivatives.swap_files(
        user.id, asset.id, [], ExtractedProperties(exif={"description": "of the sidecar", "rating": 1, "latitude": 9.5})
    )

    found = await catalog.assets.get(asset.id)
    assert found is not None
    assert found.exif == {"description": None, "rating": 5, "latitude": 9.5}


async def test_edits_that_an_older_version_did_not_record_are_those_that_differ_from_the_file(catalog: Catalog) -> None:
    user = await make_user(catalog)
    untouched, edited = await upload(catalog, user.id), await upload(catalog, user.id)
    known: dict[str, object] = {
        "description": "words",
        "rating": 3,
        "dateTimeOriginal": "2019-08-07T10:30:00",
        "timeZone": "UTC",
    }
    async with catalog.database.write() as connection:
        await connection.execute(update(tables.asset).values(exif=known))
        changed = update(tables.asset).where(tables.asset.c.id == edited.id)
        await connection.execute(changed.values(exif=known | {"rating": 4, "dateTimeOriginal": "2001-01-01T00:00:00Z"}))
    read = known | {"dateTimeOriginal": "2019-08-07T12:30:00+02:00", "timeZone": "Europe/Berlin"}

    for values in (read, {"description": "of the sidecar", "rating": 1}):
        for asset in (untouched, edited):
            await catalog.derivatives.swap_files(user.id, asset.id, [], ExtractedProperties(exif=values))

    found = await catalog.assets.get_many_owned(user.id, [untouched.id, edited.id])
    assert found[untouched.id].exif == {"description": "of the sidecar", "rating": 1}
    assert found[edited.id].exif == {
        "description": "of the sidecar",
        "rating": 4,
        "dateTimeOriginal": "2001-01-01T00:00:00Z",
        "timeZone": "UTC",
    }


async def test_after_an_edit_nothing_that_an_older_version_stored_is_replaced(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    async with catalog.database.write() as connection:
        await connection.execute(update(tables.asset).values(exif={"description": "perhaps edited", "make": "Ricoh"}))
    await catalog.assets.update(user.id, asset.id, AssetChanges(exif={"rating": 5}))

    read = ExtractedProperties(exif={"description": "of the file", "make": "Pentax"})
    await catalog.derivatives.swap_files(user.id, asset.id, [], read)

    found = await catalog.assets.get(asset.id)
    assert found is not None
    assert found.exif == {"description": "perhaps edited", "rating": 5, "make": "Pentax"}
