"""What else knows unfinished uploads: verification, statistics, restored backups, removal of users, the sweep of leftovers, and a move to
another engine."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from app.catalog.backup.stale_rows import drop_restored_rows
from app.catalog.schema.records import FileState
from app.catalog.schema.upload_records import UploadState
from app.config import StorageEngine
from app.migration.consistency.consistency_check import ConsistencyCheck
from app.migration.consistency.findings import ConsistencyFinding, ConsistencySummary, FindingKind
from app.storage.path import is_s3_uri
from app.storage.resumable import ResumableWriteState
from app.uploads.sessions.errors import UploadGone, UploadNotFound
from tests.migration.verify.damaged_library import IgnoredProgress
from tests.real.stacks import Stacks
from tests.uploads.sessions.session_place import SessionPlace, make_photo, open_place

MIB = 1024 * 1024


async def verify(place: SessionPlace) -> tuple[ConsistencySummary, list[ConsistencyFinding]]:
    found: list[ConsistencyFinding] = []
    storage = place.processes[0].storage
    await storage.staging.open()
    check = ConsistencyCheck(place.catalog, storage, on_finding=found.append, progress=IgnoredProgress())
    return await check.run(), found


async def test_a_verification_reports_an_unfinished_upload_only_when_its_bytes_are_lost(place: SessionPlace) -> None:
    data = make_photo(9 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[: 8 * MIB + 100])
    summary, found = await verify(place)
    assert (summary.uploads, summary.unsettled, found) == (1, 1, [])

    row = await place.row(status.id)
    assert row.path is not None
    await place.processes[0].storage.resumable.abort(row.path, ResumableWriteState(row.storage_state or ""))
    _, found = await verify(place)
    assert [(each.problem, each.path, each.upload_id) for each in found] == [(FindingKind.MISSING, row.path, row.id)]
    with pytest.raises(UploadGone):
        await place.send(status.id, row.offset, data[row.offset :])
    assert (await place.row(status.id)).state is UploadState.FAILED


async def test_the_sweep_of_leftovers_spares_unfinished_uploads(place: SessionPlace) -> None:
    data = make_photo(9 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[: 8 * MIB + 100])
    storage = place.processes[0].storage
    await storage.sweep_leftovers(timedelta(0), place.catalog.uploads.find_paths_in_use)
    status = await place.send(status.id, 8 * MIB + 100, data[8 * MIB + 100 :])
    await place.assert_stored(status, data)


async def test_the_sweep_of_former_copies_spares_unfinished_uploads(place: SessionPlace) -> None:
    """Their rows are those of copies of foreign files but for `copy_of`: `writing`, with the same lease, and an id in the name."""
    data = make_photo(2 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[:MIB])
    assert await place.catalog.kept_copies.drop_ownerless(100) == 0
    await place.sweep(timedelta(hours=1))
    status = await place.send(status.id, MIB, data[MIB:])
    await place.assert_stored(status, data)


async def test_a_restored_backup_drops_unfinished_uploads_and_deletes_no_object(place: SessionPlace) -> None:
    """The upload was unfinished at the backup, and was completed after it."""
    data = make_photo(2 * MIB)
    answered = await place.send((await place.create(1000)).id, 0, make_photo(1000, seed=1))
    status = await place.create(len(data))
    await place.send(status.id, 0, data[:MIB])
    unfinished = await place.row(status.id)
    async with place.catalog.database.write() as connection:
        await drop_restored_rows(connection)
    with pytest.raises(UploadNotFound):
        await place.status(status.id)
    assert (await place.status(answered.id)).result == answered.result
    assert unfinished.path is not None
    storage = place.processes[0].storage
    async with storage.write(unfinished.path) as writer:  # the object of the asset that is in no catalogue
        await writer.write(data)
    for days in (2, 4):
        await place.sweep(timedelta(days=days))
    assert await storage.exists(unfinished.path)
    await storage.unlink(unfinished.path)
    await storage.sweep_leftovers(timedelta(0), place.catalog.uploads.find_paths_in_use)


async def test_the_uploads_of_a_removed_user_end(place: SessionPlace) -> None:
    data = make_photo(9 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[: 8 * MIB + 100])
    await place.catalog.user_removal.mark(place.user.id)
    with pytest.raises(UploadGone):
        await place.status(status.id)
    await place.sweep()
    assert await asyncio.to_thread(place.stack.leftovers) == []
    assert await place.catalog.users.get(place.user.id) is not None, "its file is cleared once more"
    await place.sweep(timedelta(hours=1))
    await place.sweep(timedelta(hours=2))
    assert await place.catalog.users.get(place.user.id) is None


async def test_statistics_count_bytes_resumptions_and_outcomes(place: SessionPlace) -> None:
    data = make_photo(3000)
    complete = await place.create(len(data))
    for end in (1000, 2000, 3000):
        await place.send(complete.id, end - 1000, data[end - 1000 : end])
    await place.send((await place.create(5000)).id, 0, data[:100])
    await place.send((await place.create(None)).id, 0, data[:200])
    await place.sessions.cancel(place.caller, (await place.create(7000)).id)
    found = await place.catalog.uploads.get_statistics()
    assert (found.unfinished, found.received_bytes, found.reserved_bytes, found.resumptions) == (2, 300, 5200, 2)
    assert found.by_state == {UploadState.COMPLETE: 1, UploadState.RECEIVING: 2, UploadState.CANCELLED: 1}


async def test_an_upload_that_began_before_the_engine_was_switched_ends_where_it_began(
    stacks: Stacks, tmp_path: Path
) -> None:
    async with open_place(stacks, "s3", tmp_path) as place:
        before = await place.add_process(storage_engine=StorageEngine.LOCAL)
        data = make_photo(2 * MIB)
        status = await place.create(len(data))
        await place.send(status.id, 0, data[:MIB], process=before)
        status = await place.send(status.id, MIB, data[MIB:])
        asset = await place.assert_stored(status, data)
        assert not is_s3_uri(asset.file.path)
        assert asset.file.state is FileState.LIVE
        await place.assert_consistent()
