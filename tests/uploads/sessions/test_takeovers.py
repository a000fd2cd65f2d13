"""Two requests for one session: the newer one takes it over at once, and the older one acknowledges nothing more."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from uuid import UUID

import pytest

from app.catalog.schema.upload_records import Upload
from app.storage.local import resumable
from app.uploads.sessions import active_requests
from app.uploads.sessions.errors import OffsetMismatch, UploadNotFound, UploadTakenOver
from tests.uploads.sessions.session_place import WAIT_SECONDS, Client, SessionPlace, make_photo, make_user

MIB = 1024 * 1024


async def test_a_status_ends_a_stalled_request_and_tells_what_it_received(place: SessionPlace) -> None:
    data = make_photo(9 * MIB)
    status = await place.create(len(data))
    client = Client()
    older = place.begin(status.id, 0, client)
    client.send(data[: 6 * MIB])
    await client.wait()
    status = await place.status(status.id)
    assert status.offset == 6 * MIB, "what had arrived is durable, and told"
    with pytest.raises(UploadTakenOver):
        await older
    status = await place.send(status.id, status.offset, data[status.offset :])
    await place.assert_stored(status, data)


async def test_bytes_that_have_arrived_when_a_status_ends_the_request_are_kept(local_place: SessionPlace) -> None:
    place = local_place
    data = make_photo(2 * MIB)
    status = await place.create(len(data))
    client = Client()
    older = place.begin(status.id, 0, client)
    client.send(data[: MIB // 2])
    await client.wait()
    for start in range(MIB // 2, MIB, 64 * 1024):
        client.send(data[start : start + 64 * 1024])
    assert (await place.status(status.id)).offset == MIB
    with pytest.raises(UploadTakenOver):
        await older


async def test_a_request_in_another_process_takes_the_session_over(place: SessionPlace) -> None:
    data = make_photo(12 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[: 3 * MIB])
    client = Client()
    older = place.begin(status.id, 3 * MIB, client)
    client.send(data[3 * MIB : 8 * MIB])
    await client.wait()
    other = await place.add_process()
    status = await place.status(status.id, other)
    assert status.offset == 3 * MIB, "no more was acknowledged to anybody"
    newer = asyncio.create_task(place.send(status.id, status.offset, data[status.offset :], process=other))
    with pytest.raises(UploadTakenOver):
        async with asyncio.timeout(WAIT_SECONDS):
            await older
    status = await newer
    await place.assert_stored(status, data)


async def test_a_dead_writer_leaves_no_byte_that_was_not_acknowledged(place: SessionPlace) -> None:
    """The older process never notices that it was taken over: it writes on, and then tries to save."""
    data = make_photo(12 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[: 3 * MIB])
    client = Client()
    older = place.begin(status.id, 3 * MIB, client)
    client.send(data[3 * MIB : 4 * MIB])
    await client.wait()
    other = await place.add_process()
    await place.status(status.id, other)
    newer = asyncio.create_task(place.send(status.id, 3 * MIB, data[3 * MIB : 10 * MIB], process=other))
    client.send(bytes(8 * MIB), is_last=True)  # other bytes than the newer request sends
    with pytest.raises(UploadTakenOver):
        async with asyncio.timeout(WAIT_SECONDS):
            await older
    status = await newer
    assert status.offset == 10 * MIB
    status = await place.send(status.id, 10 * MIB, data[10 * MIB :])
    await place.assert_stored(status, data)


async def test_a_writer_that_was_stopped_before_its_first_byte_removes_nothing_of_a_newer_one(
    place: SessionPlace,
) -> None:
    """The older process is stopped right after it has begun the file's row, and wakes up when the newer one has acknowledged bytes."""
    data = make_photo(12 * MIB)
    status = await place.create(len(data))
    other = await place.add_process()
    begin_file, is_stopped, wakes_up = other.catalog.uploads.begin_file, asyncio.Event(), asyncio.Event()

    async def begin_file_and_stop(upload: Upload, path: str, mime_type: str) -> UUID | None:
        file_id = await begin_file(upload, path, mime_type)
        is_stopped.set()
        await wakes_up.wait()
        return file_id

    other.catalog.uploads.begin_file = begin_file_and_stop
    older = asyncio.create_task(place.send(status.id, 0, data[:MIB], process=other))
    async with asyncio.timeout(WAIT_SECONDS):
        await is_stopped.wait()
    status = await place.send(status.id, 0, data[: 8 * MIB])
    wakes_up.set()
    with pytest.raises(UploadTakenOver):
        async with asyncio.timeout(WAIT_SECONDS):
            await older
    status = await place.send(status.id, status.offset, data[status.offset :])
    await place.assert_stored(status, data)


async def test_a_writer_whose_file_a_newer_one_has_replaced_is_told_so(
    local_place: SessionPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older process holds the file's lock and is stopped, so that the newer one goes on with a copy. The upload is not lost, and the
    older client must not take it for lost."""
    monkeypatch.setattr(resumable, "LOCK_SECONDS", 0.1)
    monkeypatch.setattr(active_requests, "POLL_SECONDS", 3600.0)
    place = local_place
    data = make_photo(8 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[:MIB])
    other, client = await place.add_process(), Client()
    older = place.begin(status.id, MIB, client, other)
    client.send(data[MIB : MIB + 100_000])
    await client.wait()
    status = await place.send(status.id, MIB, data[MIB : 4 * MIB])
    client.send(bytes(3 * MIB), is_last=True)
    with pytest.raises(UploadTakenOver):
        async with asyncio.timeout(WAIT_SECONDS):
            await older
    status = await place.send(status.id, status.offset, data[status.offset :])
    await place.assert_stored(status, data)


async def test_of_many_requests_at_once_the_offset_never_goes_back(local_place: SessionPlace) -> None:
    place = local_place
    data = make_photo(2 * MIB)
    status = await place.create(len(data))
    results = await asyncio.gather(
        *(place.send(status.id, 0, data[: MIB + n]) for n in range(8)), return_exceptions=True
    )
    accepted = [result.offset for result in results if not isinstance(result, BaseException)]
    assert all(
        isinstance(each, UploadTakenOver | OffsetMismatch) for each in results if isinstance(each, BaseException)
    )
    assert len(accepted) <= 1
    status = await place.status(status.id)
    assert not accepted or status.offset == accepted[0]
    status = await place.send(status.id, status.offset, data[status.offset :])
    await place.assert_stored(status, data)


async def test_a_stranger_who_knows_the_id_ends_no_request(local_place: SessionPlace) -> None:
    place = local_place
    data = make_photo(2 * MIB)
    status = await place.create(len(data))
    client = Client()
    upload = place.begin(status.id, 0, client)
    client.send(data[:MIB])
    await client.wait()
    stranger = replace(place.caller, user=make_user())
    for attempt in (place.sessions.get_status, place.sessions.cancel):
        with pytest.raises(UploadNotFound):
            await attempt(stranger, status.id)
    client.send(data[MIB:], is_last=True)
    await place.assert_stored(await upload, data)
