"""Uploads interrupted at each stage, by a cancellation, the store, the catalogue or the sweeper."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from app.catalog.errors import CatalogUnavailable
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.schema.records import Asset, FileState, NewAsset, StoredFile
from app.storage.errors import StorageError, StorageFull, StorageUnavailable
from app.uploads import ingest
from app.uploads.errors import ClientDisconnected, LeaseLost
from app.uploads.ingest import UPLOAD_LEASE
from app.uploads.upload_result import UploadResult
from tests.uploads.forms import DATES, body, split_at
from tests.uploads.hooked_storage import WAIT_SECONDS, UploadSender, UploadTarget, nothing
from tests.uploads.test_ingest import PHOTO, SIDECAR, random_photo


class Stage:
    """A point where an upload pauses until the test lets it continue."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self, _path: str = "") -> None:
        self.reached.set()
        await self.release.wait()

    async def wait(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            await self.reached.wait()


async def cancelled(upload: asyncio.Task[UploadResult]) -> None:
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload


async def test_cancelled_while_the_body_arrives(place: UploadTarget) -> None:
    whole = body([*DATES, random_photo(3_000_000)])
    sender = UploadSender(split_at(whole[:2_000_000], range(0, 2_000_000, 65536)), complete=False, stays=True)
    upload = asyncio.create_task(place.receive(sender, len(whole)))
    async with asyncio.timeout(WAIT_SECONDS):
        await sender.stalled.wait()
    await cancelled(upload)
    await place.assert_kept()


async def test_cancelled_while_the_store_takes_bytes(place: UploadTarget) -> None:
    place.storage.on_write = stage = Stage()
    upload = asyncio.create_task(place.send([*DATES, random_photo(3_000_000)], length=False))
    await stage.wait()
    await cancelled(upload)
    await place.assert_kept()


async def test_a_client_that_vanishes_while_the_store_is_busy(place: UploadTarget) -> None:
    """The write is aborted at once, and nothing runs on in the background."""
    holding: list[asyncio.Task[None] | None] = []
    stage = Stage()

    async def hold(_path: str) -> None:
        holding.append(asyncio.current_task())
        await stage()

    place.storage.on_write = hold
    whole = body([*DATES, random_photo(3_000_000)])[:1_500_000]
    sender = UploadSender(split_at(whole, range(0, len(whole), 65536)), complete=False)

    async def receive() -> dict[str, Any]:
        message = await sender()
        if message["type"] == "http.disconnect":
            await stage.wait()
        return message

    with pytest.raises(ClientDisconnected):
        await place.receive(receive)
    assert [task.cancelled() for task in holding if task] == [True]
    await place.assert_kept()


@pytest.mark.parametrize("moment", ["on_commit", "after_commit"])
async def test_cancelled_once_the_commit_has_begun_it_is_carried_to_its_end(place: UploadTarget, moment: str) -> None:
    stage = Stage()
    setattr(place.storage, moment, stage)
    upload = asyncio.create_task(place.send([*DATES, PHOTO, SIDECAR]))
    await stage.wait()
    upload.cancel()
    await asyncio.sleep(0)
    upload.cancel()
    stage.release.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await place.assert_kept(PHOTO, SIDECAR)
    assert not (await place.send([*DATES, PHOTO])).created


async def test_a_file_that_was_held_is_written_to_the_end_when_it_is_cancelled(place: UploadTarget) -> None:
    place.storage.on_write = stage = Stage()
    photo = random_photo(3_000_000)
    upload = asyncio.create_task(place.send([*DATES, photo]))
    await stage.wait()
    upload.cancel()
    await asyncio.sleep(0)
    upload.cancel()
    stage.release.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await place.assert_kept(photo)


async def test_cancelled_during_the_insert_it_is_carried_to_its_end(
    place: UploadTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage()
    insert = place.catalog.assets.insert

    async def slow(new: NewAsset, original: StoredFile, sidecar: StoredFile | None, **options: Any) -> Asset:
        await stage()
        return await insert(new, original, sidecar, **options)

    monkeypatch.setattr(place.catalog.assets, "insert", slow)
    upload = asyncio.create_task(place.send([*DATES, PHOTO]))
    await stage.wait()
    upload.cancel()
    stage.release.set()
    with pytest.raises(asyncio.CancelledError):
        await upload
    await place.assert_kept(PHOTO)


@pytest.mark.parametrize("moment", ["on_write", "on_commit", "after_commit", "add", "added"])
@pytest.mark.parametrize("end", ["cancelled", "fails"])
async def test_a_duplicate_with_a_sidecar_interrupted_at_each_stage(
    place: UploadTarget, monkeypatch: pytest.MonkeyPatch, moment: str, end: str
) -> None:
    """The sidecar is added wholly or not at all, and the asset stays as it is."""
    first = await place.send([*DATES, PHOTO])
    stage = Stage()
    complete = place.catalog.duplicate_uploads.complete_asset

    async def interrupt(path: str = "") -> None:
        if not path.endswith(".jpg"):
            await stage()
            if end == "fails":
                raise StorageUnavailable(path, "test") if path else CatalogUnavailable("away")

    async def complete_with_interruption(*arguments: Any, **options: Any) -> Any:
        if moment == "add":
            await interrupt()
        added = await complete(*arguments, **options)
        if moment == "added":
            await interrupt()
        return added

    if moment.startswith("add"):
        monkeypatch.setattr(place.catalog.duplicate_uploads, "complete_asset", complete_with_interruption)
    else:
        setattr(place.storage, moment, interrupt)
    upload = asyncio.create_task(place.send([*DATES, PHOTO, SIDECAR, ("isFavorite", "true")]))
    await stage.wait()
    if end == "cancelled":
        upload.cancel()
        await asyncio.sleep(0)
    stage.release.set()
    with pytest.raises(asyncio.CancelledError if end == "cancelled" else (StorageUnavailable, CatalogUnavailable)):
        await upload

    asset = await place.asset(first)
    done = moment == "added" if end == "fails" else moment != "on_write"
    assert (asset.sidecar_id is not None, asset.is_favorite) == (done, done)
    await place.assert_kept(PHOTO, *([SIDECAR] if done else []), after=LATE_WRITE_GRACE)
    monkeypatch.undo()
    place.storage.on_write = place.storage.on_commit = place.storage.after_commit = nothing
    again = await place.send([*DATES, PHOTO, SIDECAR, ("isFavorite", "true")])
    assert bool(again.added) is not done
    await place.assert_kept(PHOTO, SIDECAR)


async def test_a_duplicate_whose_asset_is_deleted_meanwhile_leaves_nothing(place: UploadTarget) -> None:
    first = await place.send([*DATES, PHOTO])

    async def delete(_path: str) -> None:
        await place.catalog.assets.delete(place.user.id, [first.asset_id])

    place.storage.after_commit = delete
    again = await place.send([*DATES, PHOTO, SIDECAR, ("isFavorite", "true")])
    assert (again.created, again.added) == (False, ())
    await place.assert_kept()


async def test_of_two_sidecars_at_once_one_is_added(place: UploadTarget) -> None:
    first = await place.send([*DATES, PHOTO])
    meeting = asyncio.Barrier(2)

    async def meet(_path: str) -> None:
        await meeting.wait()

    place.storage.on_commit = meet
    both = await asyncio.gather(*(place.send([*DATES, PHOTO, SIDECAR]) for _ in range(2)))
    assert {each.asset_id for each in both} == {first.asset_id}
    assert sorted(len(each.added) for each in both) == [0, 1]
    await place.assert_kept(PHOTO, SIDECAR)


async def test_a_lease_of_a_sidecar_that_ran_out_during_its_commit(place: UploadTarget) -> None:
    first = await place.send([*DATES, PHOTO])

    async def sweep(_path: str) -> None:
        await place.sweep(UPLOAD_LEASE * 2)
        await place.sweep(UPLOAD_LEASE * 2 + LATE_WRITE_GRACE)

    place.storage.after_commit = sweep
    with pytest.raises(LeaseLost):
        await place.send([*DATES, PHOTO, SIDECAR])
    assert (await place.asset(first)).sidecar_id is None
    await place.assert_kept(PHOTO)


@pytest.mark.parametrize("error", [StorageFull, StorageUnavailable])
@pytest.mark.parametrize("moment", ["on_write", "on_commit"])
async def test_a_store_that_fails(place: UploadTarget, moment: str, error: type[StorageError]) -> None:
    async def fail(path: str) -> None:
        raise error(path, "test")

    setattr(place.storage, moment, fail)
    with pytest.raises(error):
        await place.send([*DATES, random_photo(3_000_000)])
    await place.assert_kept(after=LATE_WRITE_GRACE)


async def test_a_store_whose_answer_is_lost_is_swept_only_after_it_can_have_no_late_effect(place: UploadTarget) -> None:
    async def lose(path: str) -> None:
        raise StorageUnavailable(path, "test", "stored, but the answer was lost")

    place.storage.after_commit = lose
    with pytest.raises(StorageUnavailable):
        await place.send([*DATES, PHOTO])
    await place.sweep(LATE_WRITE_GRACE / 2)
    assert [row.state for row in await place.rows()] == [FileState.DOOMED]
    assert len(place.objects()) == 1
    await place.assert_kept(after=LATE_WRITE_GRACE)


async def test_one_of_two_objects_fails(place: UploadTarget) -> None:
    """The other one is already committed, and is removed, too."""

    async def fail(path: str) -> None:
        if path.endswith(".jpg"):
            raise StorageFull(path, "test")

    place.storage.on_commit = fail
    with pytest.raises(StorageFull):
        await place.send([*DATES, PHOTO, SIDECAR])
    await place.assert_kept(after=LATE_WRITE_GRACE)


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
async def test_an_insert_of_unknown_outcome(place: UploadTarget, monkeypatch: pytest.MonkeyPatch, done: bool) -> None:
    insert = place.catalog.assets.insert

    async def lost(new: NewAsset, original: StoredFile, sidecar: StoredFile | None, **options: Any) -> Asset:
        if done:
            await insert(new, original, sidecar, **options)
        raise CatalogUnavailable("the answer was lost")

    monkeypatch.setattr(place.catalog.assets, "insert", lost)
    with pytest.raises(CatalogUnavailable):
        await place.send([*DATES, PHOTO])
    monkeypatch.undo()

    again = await place.send([*DATES, PHOTO])

    assert again.created is not done
    await place.assert_kept(PHOTO, after=LATE_WRITE_GRACE)


async def test_a_catalogue_that_is_away_while_an_upload_fails(
    place: UploadTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload's own error is raised, and the sweeper takes the file when its lease expires."""

    async def away(*_arguments: object) -> int:
        raise CatalogUnavailable("away")

    monkeypatch.setattr(place.catalog.files, "mark_many_for_deletion", away)
    place.storage.on_write = fail = Stage()
    upload = asyncio.create_task(place.send([*DATES, random_photo(3_000_000)], length=False))
    await fail.wait()
    await cancelled(upload)
    assert [row.state for row in await place.rows()] == [FileState.WRITING]
    await place.sweep(UPLOAD_LEASE)
    await place.assert_kept(after=UPLOAD_LEASE + LATE_WRITE_GRACE)


async def test_a_lease_that_ran_out_while_bytes_flowed(place: UploadTarget) -> None:
    async def sweep(_path: str) -> None:
        await place.sweep(UPLOAD_LEASE * 2)

    place.storage.on_write = sweep
    with pytest.raises(LeaseLost):
        await place.send([*DATES, PHOTO], length=False)
    assert place.objects() == {}
    await place.assert_kept(after=UPLOAD_LEASE * 2 + LATE_WRITE_GRACE)


async def test_an_upload_whose_lease_is_lost_ends_before_its_body_does(
    place: UploadTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "RENEW_SECONDS", 0.01)
    first, *_ = split_at(body([*DATES, random_photo(2_000_000)]), [1_500_000])
    sent = 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        if sent == 3:
            await place.sweep(UPLOAD_LEASE * 2)
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": first if sent == 1 else b"-" * 100, "more_body": True}

    before = asyncio.all_tasks()
    async with asyncio.timeout(WAIT_SECONDS):
        with pytest.raises(LeaseLost):
            await place.receive(receive, None)
    assert asyncio.all_tasks() == before
    await place.assert_kept(after=UPLOAD_LEASE * 2 + LATE_WRITE_GRACE)


async def test_a_catalogue_that_is_away_for_one_renewal_loses_nothing(
    place: UploadTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "RENEW_SECONDS", 0.01)
    renew = place.catalog.files.renew_lease
    committing = stumbled = False
    again = asyncio.Event()

    async def stumble(file_id: UUID, lease: timedelta) -> bool:
        nonlocal stumbled
        if committing and not stumbled:
            stumbled = True
            raise CatalogUnavailable("away")
        renewed = await renew(file_id, lease)
        if stumbled:
            again.set()
        return renewed

    async def wait(_path: str) -> None:
        nonlocal committing
        committing = True
        await asyncio.wait_for(again.wait(), WAIT_SECONDS)

    monkeypatch.setattr(place.catalog.files, "renew_lease", stumble)
    place.storage.on_commit = wait
    assert (await place.send([*DATES, PHOTO])).created
    await place.assert_kept(PHOTO)


@pytest.mark.parametrize("moment", ["on_write", "on_commit", "after_commit"])
async def test_a_lease_that_ran_out_during_the_commit(place: UploadTarget, moment: str) -> None:
    """The object may be stored after the sweeper deleted its row: the row is inserted again, and both are removed."""

    async def sweep(_path: str) -> None:
        await place.sweep(UPLOAD_LEASE * 2)
        await place.sweep(UPLOAD_LEASE * 2 + LATE_WRITE_GRACE)

    setattr(place.storage, moment, sweep)
    with pytest.raises(LeaseLost):
        await place.send([*DATES, PHOTO, SIDECAR])
    await place.assert_kept()


async def test_uploads_cancelled_at_many_moments(place: UploadTarget) -> None:
    """The upload is atomic: the asset exists completely or not at all."""
    photos = [random_photo(2_000_000, seed) for seed in range(10)]
    for number, photo in enumerate(photos):
        upload = asyncio.create_task(place.send([*DATES, photo]))
        await asyncio.wait([upload], timeout=number * 0.004)
        upload.cancel()
        await asyncio.wait([upload])
    checksums = {hashlib.sha1(photo.data).digest(): photo for photo in photos}
    there = await place.catalog.assets.find_holders(place.user.id, checksums)
    await place.sweep(UPLOAD_LEASE)
    await place.assert_kept(*(checksums[checksum] for checksum in there), after=UPLOAD_LEASE + LATE_WRITE_GRACE)
