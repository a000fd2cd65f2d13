"""The states of a file, and which caller may change them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.catalog.catalog import Catalog
from app.catalog.errors import ConstraintViolation
from app.catalog.files import CLAIM_DURATION, LATE_WRITE_GRACE
from app.catalog.schema.records import FileKind, FileState
from tests.catalog.rows import LEASE, begin, file_states, make_user, upload

LATER = timedelta(hours=1)


async def test_a_file_is_writing_from_before_its_first_byte(catalog: Catalog) -> None:
    user = await make_user(catalog)
    file = await catalog.files.begin_write(
        user.id, FileKind.SIDECAR, "s3://bucket/a b/ü#?%41.xmp", "application/xml", LEASE
    )
    assert file == await catalog.files.get(file.id) == await catalog.files.get_by_path("s3://bucket/a b/ü#?%41.xmp")
    assert (file.state, file.size, file.sha1, file.crc32) == (FileState.WRITING, None, None, None)
    assert file.not_before - file.created_at == LEASE


async def test_a_path_belongs_to_one_file(catalog: Catalog) -> None:
    user = await make_user(catalog)
    file = await begin(catalog, user.id)
    with pytest.raises(ConstraintViolation):
        await catalog.files.begin_write(user.id, FileKind.ORIGINAL, file.path, "image/png", LEASE)


async def test_only_a_file_that_is_being_written_can_be_given_up(catalog: Catalog) -> None:
    user = await make_user(catalog)
    live = (await upload(catalog, user.id)).file
    writing = await begin(catalog, user.id)
    assert await catalog.files.mark_many_for_deletion([live.id, writing.id, writing.id, uuid4()]) == 1
    assert not await catalog.files.mark_for_deletion(writing.id)
    assert await file_states(catalog) == {live.id: FileState.LIVE, writing.id: FileState.DOOMED}
    assert not await catalog.files.renew_lease(writing.id, LATER)


async def test_bytes_are_counted_by_owner_and_kind(catalog: Catalog) -> None:
    user, other, empty = await make_user(catalog), await make_user(catalog), await make_user(catalog)
    await upload(catalog, user.id, size=100, sidecar_size=9)
    await upload(catalog, user.id, size=2000)
    await upload(catalog, other.id, size=3)
    await begin(catalog, user.id)
    gone = await upload(catalog, user.id, size=70_000)
    await catalog.assets.delete(user.id, [gone.id])

    of_user = {FileKind.ORIGINAL: 2100, FileKind.SIDECAR: 9}
    assert await catalog.counts.sum_bytes_by_kind() == {user.id: of_user, other.id: {FileKind.ORIGINAL: 3}}
    assert await catalog.counts.sum_bytes_by_kind(user.id) == {user.id: of_user}
    assert await catalog.counts.sum_bytes_by_kind(empty.id) == {}
    assert await catalog.counts.sum_bytes_by_kind(only_remote=True) == {}


async def test_what_is_given_up_with_grace_is_swept_after_it(catalog: Catalog) -> None:
    user = await make_user(catalog)
    file = await begin(catalog, user.id)
    await catalog.files.mark_for_deletion(file.id, LATER)
    moment = datetime.now(UTC)
    assert await catalog.files.claim_sweepable(moment + timedelta(minutes=59), 10) == []
    assert [found.id for found in await catalog.files.claim_sweepable(moment + LATER * 2, 10)] == [file.id]


async def test_a_file_whose_lease_ran_out_is_doomed_and_swept_after_the_grace(catalog: Catalog) -> None:
    """A writer that began a put under the lease may still wait for the store, or may be dead while the store carries
    the put out."""
    user = await make_user(catalog)
    dead = await begin(catalog, user.id, lease=timedelta(minutes=1))
    alive = await begin(catalog, user.id, lease=LATER)
    live = (await upload(catalog, user.id)).file

    noticed = datetime.now(UTC) + timedelta(minutes=30)
    assert await catalog.files.claim_sweepable(noticed, 10) == []
    assert await file_states(catalog) == {
        dead.id: FileState.DOOMED,
        alive.id: FileState.WRITING,
        live.id: FileState.LIVE,
    }
    swept = noticed + LATE_WRITE_GRACE
    assert await catalog.files.claim_sweepable(swept - timedelta(seconds=1), 10) == []
    assert [file.id for file in await catalog.files.claim_sweepable(swept, 10)] == [dead.id]


async def test_a_late_upload_of_unknown_outcome_keeps_its_grace(catalog: Catalog) -> None:
    """The sweeper has doomed one of its files for a lapsed lease, or has removed the row; the put may still arrive."""
    user = await make_user(catalog)
    doomed, removed = await begin(catalog, user.id), await begin(catalog, user.id)
    await catalog.files.mark_many_for_deletion([doomed.id], LATE_WRITE_GRACE)
    await catalog.files.mark_for_deletion(removed.id)
    assert await catalog.files.delete_swept(await catalog.files.claim_sweepable(datetime.now(UTC), 10)) == 1

    for file in (doomed, removed):
        await catalog.files.mark_late_upload_for_deletion(file, LATE_WRITE_GRACE)

    assert await catalog.files.claim_sweepable(datetime.now(UTC) + LATE_WRITE_GRACE / 2, 10) == []
    later = await catalog.files.claim_sweepable(datetime.now(UTC) + LATE_WRITE_GRACE + timedelta(minutes=1), 10)
    assert {file.id for file in later} == {doomed.id, removed.id}


async def test_a_claim_is_exclusive_until_it_ends(catalog: Catalog) -> None:
    user = await make_user(catalog)
    file = await begin(catalog, user.id)
    await catalog.files.mark_for_deletion(file.id)
    moment = datetime.now(UTC) + LATER
    (first,) = await catalog.files.claim_sweepable(moment, 10)
    assert await catalog.files.claim_sweepable(moment + CLAIM_DURATION - timedelta(seconds=1), 10) == []
    (second,) = await catalog.files.claim_sweepable(moment + CLAIM_DURATION, 10)

    assert await catalog.files.delete_swept([first]) == 0, "somebody else has it now"
    assert await catalog.files.delete_swept([second]) == 1
    assert await file_states(catalog) == {}


async def test_many_sweepers_at_once_never_get_the_same_file(catalog: Catalog) -> None:
    user = await make_user(catalog)
    files = [await begin(catalog, user.id) for _ in range(60)]
    assert await catalog.files.mark_many_for_deletion(file.id for file in files) == 60
    moment = datetime.now(UTC) + timedelta(seconds=1)

    claims = await asyncio.gather(*(catalog.files.claim_sweepable(moment, 5) for _ in range(20)))

    claimed = [file.id for claim in claims for file in claim]
    assert len(claimed) == len(set(claimed))
    while left := await catalog.files.claim_sweepable(moment, 5):
        claimed += [file.id for file in left]
    assert sorted(claimed) == sorted(file.id for file in files)


async def test_a_live_file_is_never_forgotten(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    assert await catalog.files.delete_swept([asset.file]) == 0
    assert await catalog.assets.get(asset.id) == asset


@pytest.mark.parametrize("swept", [False, True])
async def test_an_object_stored_after_its_lease_ran_out_is_swept_again(catalog: Catalog, swept: bool) -> None:
    user = await make_user(catalog)
    file = await begin(catalog, user.id)
    assert await catalog.files.claim_sweepable(file.not_before, 10) == []
    (claimed,) = await catalog.files.claim_sweepable(file.not_before + LATE_WRITE_GRACE, 10)
    if swept:
        await catalog.files.delete_swept([claimed])

    await catalog.files.mark_late_upload_for_deletion(file)

    assert await catalog.files.delete_swept([claimed]) == 0, "the sweeper's deletion came before the object"
    (again,) = await catalog.files.claim_sweepable(datetime.now(UTC) + timedelta(seconds=1), 10)
    assert again.path == file.path


async def test_a_live_file_cannot_be_buried(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    await catalog.files.mark_late_upload_for_deletion(asset.file)
    assert await catalog.files.get(asset.file.id) == asset.file


async def test_all_lists_more_files_than_fit_one_batch(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    user = await make_user(catalog)
    made = {(await begin(catalog, user.id)).id for _ in range(25)}
    monkeypatch.setattr("app.catalog.files.ID_BATCH_SIZE", 10)
    assert set(await file_states(catalog)) == made
