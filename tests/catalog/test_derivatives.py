"""Derivatives: a new file replaces the expected one, all or nothing; replaced and late files are marked for deletion."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from uuid import uuid4

import pytest

from app.catalog.assets.derivatives import ExtractedProperties, FileReplacement
from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound, WriteLeaseLost
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
