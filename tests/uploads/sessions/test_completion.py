"""How a session ends: the asset and its answer, what refuses it, and what is asked again."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from app.catalog.errors import QuotaExceeded
from app.catalog.schema.upload_records import UploadState
from app.uploads.errors import (
    ChecksumMismatch,
    EmptyFile,
    IncompleteBody,
    InvalidField,
    UnsupportedType,
    UploadTooLarge,
)
from app.uploads.sessions.errors import (
    ChunkDigestMismatch,
    OffsetMismatch,
    TooManyUploads,
    UploadForbidden,
    UploadGone,
    UploadNotFound,
)
from app.uploads.sessions.session_values import ChunkDigest, DigestAlgorithm, NewUpload, UploadCaller, UploadProtocol
from tests.uploads.sessions.session_place import DATES, PERMISSION, SessionPlace, make_photo

MIB = 1024 * 1024


class Death(Exception):
    """What is left is that of a process that died here."""


async def die(*_args: object, **_options: object) -> None:
    raise Death


async def test_a_lost_last_answer_is_given_again(place: SessionPlace) -> None:
    data = make_photo(3 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[:MIB])
    answer = await place.send(status.id, MIB, data[MIB:])
    again = await place.send(status.id, MIB, data[MIB:])
    assert again.result == answer.result == (await place.status(status.id)).result
    with pytest.raises(OffsetMismatch):
        await place.send(status.id, 0, data[:MIB])
    await place.assert_stored(again, data)


async def test_an_upload_whose_process_died_before_the_insert_is_completed_by_a_status(place: SessionPlace) -> None:
    data = make_photo(9 * MIB)
    status = await place.create(len(data))

    for step in ("uploads.has_credential", "assets.get_by_checksum", "assets.insert"):
        offset = (await place.row(status.id)).offset
        dying = await place.add_process()
        repository, _, method = step.partition(".")
        setattr(getattr(dying.catalog, repository), method, die)
        with pytest.raises(Death):
            await place.send(status.id, offset, data[offset:], process=dying)
        row = await place.row(status.id)
        assert (row.offset, row.all_received, row.state) == (len(data), True, UploadState.RECEIVING)
    answer = await place.status(status.id)
    assert answer.state is UploadState.COMPLETE
    await place.assert_stored(answer, data)


async def test_no_upload_waits_behind_others_that_cannot_be_completed(place: SessionPlace) -> None:
    dying = await place.add_process()
    dying.catalog.assets.insert = die  # pyright: ignore[reportAttributeAccessIssue]
    waiting: list[UUID] = []
    for seed in range(3):
        data = make_photo(1000, seed=seed)
        waiting.append((await place.create(len(data))).id)
        with pytest.raises(Death):
            await place.send(waiting[-1], 0, data, process=dying)
    for upload_id in waiting * 2:
        (chosen,) = await place.catalog.uploads.find_unfinished(datetime.now(UTC), 1)
        assert chosen.id == upload_id
        await place.catalog.uploads.take_over(place.user.id, chosen.id)
    for upload_id in waiting:
        assert (await place.status(upload_id)).state is UploadState.COMPLETE


async def test_the_sweeper_completes_what_no_client_asks_for(place: SessionPlace) -> None:
    data = make_photo(2 * MIB)
    status = await place.create(len(data))
    dying = await place.add_process()
    dying.catalog.assets.insert = die  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(Death):
        await place.send(status.id, 0, data, process=dying)
    assert (await place.row(status.id)).state is UploadState.RECEIVING
    await place.sweep(timedelta(minutes=10), completes=True)
    row = await place.row(status.id)
    assert (row.state, row.result_created) == (UploadState.COMPLETE, True)


async def test_a_duplicate_is_answered_and_nothing_is_stored(place: SessionPlace) -> None:
    data = make_photo(2 * MIB)
    first = await place.send((await place.create(len(data))).id, 0, data)
    again = await place.send((await place.create(len(data))).id, 0, data)
    assert first.result is not None
    assert again.result is not None
    assert (again.result.asset_id, again.result.created) == (first.result.asset_id, False)
    known = await place.create(len(data), sha1=hashlib.sha1(data).digest())
    assert (known.state, known.result) == (UploadState.COMPLETE, again.result)


async def test_a_checksum_that_was_declared_must_match(local_place: SessionPlace) -> None:
    place = local_place
    data = make_photo(MIB)
    status = await place.create(len(data), sha1=hashlib.sha1(b"other").digest())
    with pytest.raises(ChecksumMismatch):
        await place.send(status.id, 0, data)
    with pytest.raises(UploadGone) as gone:
        await place.status(status.id)
    assert gone.value.state is UploadState.FAILED
    assert "x-immich-checksum" in gone.value.reason


@pytest.mark.parametrize("algorithm", DigestAlgorithm)
async def test_each_algorithm_of_a_digest(local_place: SessionPlace, algorithm: DigestAlgorithm) -> None:
    data = make_photo(1000)
    status = await local_place.create(len(data))
    value = hashlib.new(algorithm.replace("-", ""), data).digest()
    with pytest.raises(ChunkDigestMismatch):
        await local_place.send(status.id, 0, data, digest=ChunkDigest(algorithm, value[::-1]))
    status = await local_place.send(status.id, 0, data, digest=ChunkDigest(algorithm, value))
    await local_place.assert_stored(status, data)


async def test_a_chunk_whose_digest_does_not_match_is_not_appended(place: SessionPlace) -> None:
    data = make_photo(10 * MIB)
    status = await place.create(len(data))

    def digest_of(chunk: bytes) -> ChunkDigest:
        return ChunkDigest(DigestAlgorithm.SHA1, hashlib.sha1(chunk).digest())

    for start, end in ((0, 100), (100, 9 * MIB), (9 * MIB, len(data))):
        with pytest.raises(ChunkDigestMismatch):
            await place.send(status.id, start, bytes(end - start), digest=digest_of(data[start:end]))
        with pytest.raises(IncompleteBody):
            await place.send(status.id, start, data[start:end], breaks_after=50, digest=digest_of(data[start:end]))
        assert (await place.status(status.id)).offset == start
        status = await place.send(status.id, start, data[start:end], digest=digest_of(data[start:end]))
        assert status.offset == end
    await place.assert_stored(status, data)


async def test_a_key_that_was_revoked_is_refused_and_another_one_completes(place: SessionPlace) -> None:
    data = make_photo(MIB)
    status = await place.create(len(data))
    credential = place.caller.credential_id
    assert credential is not None
    await place.send(status.id, 0, data[:-1])
    await place.catalog.api_keys.delete(place.user.id, credential)
    with pytest.raises(UploadForbidden):
        await place.send(status.id, len(data) - 1, data[-1:])
    key = await place.catalog.api_keys.create(place.user.id, "weak", ["asset.read"], uuid4().bytes)
    place.caller = UploadCaller(place.user, key.id, PERMISSION)
    with pytest.raises(UploadForbidden):
        await place.status(status.id)
    key = await place.catalog.api_keys.create(place.user.id, "new", ["all"], uuid4().bytes)
    place.caller = UploadCaller(place.user, key.id, PERMISSION)
    await place.assert_stored(await place.status(status.id), data)


async def test_a_session_of_a_key_may_complete_what_the_key_may(place: SessionPlace) -> None:
    data = make_photo(MIB)
    key = await place.catalog.api_keys.create(place.user.id, "phone", ["asset.upload"], uuid4().bytes)
    expires_at = datetime.now(UTC) + timedelta(hours=1)
    session = await place.catalog.sessions.create(place.user.id, uuid4().bytes, expires_at, key.id)
    place.caller = UploadCaller(place.user, session.id, PERMISSION)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[:-1])
    await place.catalog.api_keys.update(place.user.id, key.id, "phone", ["asset.read"])
    with pytest.raises(UploadForbidden):
        await place.send(status.id, len(data) - 1, data[-1:])
    await place.catalog.api_keys.update(place.user.id, key.id, "phone", ["asset.upload"])
    await place.assert_stored(await place.status(status.id), data)


async def test_unfinished_sessions_reserve_bytes_of_the_quota(place: SessionPlace) -> None:
    data = make_photo(1000)
    await place.catalog.users.update(place.user.id, quota=2500)
    first = await place.create(1000)
    await place.create(1000)
    with pytest.raises(QuotaExceeded):
        await place.create(501)
    with pytest.raises(QuotaExceeded):
        await place.send((await place.create(None)).id, 0, make_photo(501, seed=2))
    await place.catalog.users.update(place.user.id, quota=1999)
    with pytest.raises(QuotaExceeded):
        await place.send(first.id, 0, data)
    assert (await place.row(first.id)).all_received, "the bytes are kept: room may be made for them"
    await place.catalog.users.update(place.user.id, quota=2500)
    await place.assert_stored(await place.status(first.id), data)


async def test_a_length_that_is_told_last(place: SessionPlace) -> None:
    data = make_photo(2 * MIB)
    status = await place.create(None)
    status = await place.send(status.id, 0, data[:MIB], is_last=False)
    assert (status.offset, status.length) == (MIB, None)
    status = await place.send(status.id, MIB, data[MIB:])
    assert status.state is UploadState.RECEIVING
    status = await place.send(status.id, len(data), b"", length=len(data))
    await place.assert_stored(status, data)


async def test_all_bytes_are_no_complete_upload_before_the_client_says_so(local_place: SessionPlace) -> None:
    place = local_place
    data = make_photo(1000)
    status = await place.create(len(data))
    status = await place.send(status.id, 0, data, is_last=False)
    assert (status.state, status.offset) == (UploadState.RECEIVING, 1000)
    assert (await place.status(status.id)).state is UploadState.RECEIVING
    await place.assert_stored(await place.send(status.id, 1000, b"", is_last=True), data)


async def test_what_is_refused_at_creation(local_place: SessionPlace) -> None:
    place = local_place

    async def create(length: int | None = 10, filename: str = "a.jpg", **fields: str) -> None:
        new = NewUpload(UploadProtocol.TUS, length, {**DATES, **fields}, filename=filename)
        await place.sessions.create(place.caller, new)

    with pytest.raises(UploadTooLarge):
        await create(10 * 1024**4)
    with pytest.raises(EmptyFile):
        await create(0)
    with pytest.raises(UnsupportedType):
        await create(filename="a.exe")
    with pytest.raises(InvalidField):
        await create(fileCreatedAt="yesterday")
    with pytest.raises(InvalidField):
        await create(fileCreatedAt="")
    assert (await place.catalog.uploads.get_statistics()).by_state == {}


async def test_an_empty_file_fails(local_place: SessionPlace) -> None:
    status = await local_place.create(None)
    with pytest.raises(EmptyFile):
        await local_place.send(status.id, 0, b"", length=0)
    with pytest.raises(UploadGone):
        await local_place.status(status.id)


async def test_too_many_unfinished_sessions_of_one_user(local_place: SessionPlace) -> None:
    place = local_place
    sessions = (await place.add_process(upload_sessions=2)).sessions
    new = NewUpload(UploadProtocol.TUS, 10, DATES, filename="a.jpg")
    statuses = [await sessions.create(place.caller, new) for _ in range(2)]
    with pytest.raises(TooManyUploads) as refused:
        await sessions.create(place.caller, new)
    assert refused.value.retry_after > 0
    await sessions.cancel(place.caller, statuses[0].id)
    await sessions.create(place.caller, new)


async def test_sessions_of_others_and_ended_ones(place: SessionPlace) -> None:
    data = make_photo(9 * MIB)
    status = await place.create(len(data))
    await place.send(status.id, 0, data[: 8 * MIB + 5])
    other = await place.catalog.users.create("other@example.org", "Other")
    mine, place.caller = place.caller, UploadCaller(other, None, PERMISSION)
    for attempt in (
        place.status(status.id),
        place.send(status.id, 0, data),
        place.sessions.cancel(place.caller, status.id),
    ):
        with pytest.raises(UploadNotFound):
            await attempt
    place.caller = mine
    await place.sessions.cancel(place.caller, status.id)
    for attempt in (
        place.status(status.id),
        place.send(status.id, 0, data),
        place.sessions.cancel(place.caller, status.id),
    ):
        with pytest.raises(UploadGone):
            await attempt
    await place.sweep()
    assert await asyncio.to_thread(place.stack.leftovers) == [], "a cancelled session's bytes go at once"
    expired = await place.create(len(data))
    await place.send(expired.id, 0, data[:MIB])
    await place.sweep(timedelta(hours=23))
    assert (await place.status(expired.id)).offset == MIB
    await place.sweep(timedelta(hours=25))
    with pytest.raises(UploadGone) as gone:
        await place.status(expired.id)
    assert gone.value.state is UploadState.EXPIRED


async def test_who_begins_and_cancels_for_ever_fills_no_table(place: SessionPlace) -> None:
    data = make_photo(1000)
    ids: list[UUID] = []
    for _ in range(5):
        status = await place.create(len(data))
        await place.send(status.id, 0, data[:500])
        await place.sessions.cancel(place.caller, status.id)
        ids.append(status.id)
    assert (await place.row(ids[0])).raw_metadata == "", "what no answer needs is not kept"
    kept = await place.send((await place.create(len(data))).id, 0, data)
    await place.sweep(max_ended=3)
    for upload_id in ids[:3]:
        with pytest.raises(UploadNotFound):
            await place.status(upload_id)
    for upload_id in ids[3:]:
        with pytest.raises(UploadGone):
            await place.status(upload_id)
    assert (await place.status(kept.id)).result == kept.result
