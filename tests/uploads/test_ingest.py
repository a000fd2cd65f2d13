"""Accepted uploads: asset, files and quota; and duplicates, which store nothing."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import os
import random
import re
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from app.catalog.assets.duplicate_uploads import DuplicateAddition
from app.catalog.errors import QuotaExceeded
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, FileKind, FileState, Visibility
from app.uploads import ingest
from app.uploads.errors import ClientDisconnected, InvalidField
from app.uploads.file_receiver import ReceivedFile
from app.uploads.held_files import MAX_HELD_BODY_BYTES, HeldBytes, hold_file
from tests.real.waiting import eventually_so
from tests.uploads.forms import BOUNDARY, CONTENT_TYPE, DATES, FormPart, Upload, body, encode_part, split_at
from tests.uploads.hooked_storage import WAIT_SECONDS, Hook, UploadSender, UploadTarget

PHOTO = Upload("assetData", "IMG_0001.JPG", b"a photo " * 100)
VIDEO = Upload("assetData", "MOV_0001.mp4", b"a video " * 100)
SIDECAR = Upload("sidecarData", "IMG_0001.xmp", b"<x:xmpmeta/>")


def random_photo(size: int, seed: int = 20240506) -> Upload:
    return Upload("assetData", "random.jpg", random.Random(seed).randbytes(size))


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
@pytest.mark.parametrize("parts", [[*DATES, PHOTO], [PHOTO, *DATES]], ids=["fields first", "file first"])
async def test_a_photo(place: UploadTarget, parts: list[Any], length: bool) -> None:
    outcome = await place.send(parts, length=length)

    asset = await place.asset(outcome)
    assert outcome.created
    assert (asset.owner_id, asset.type, asset.original_file_name) == (place.user.id, AssetType.IMAGE, "IMG_0001.JPG")
    assert asset.checksum == hashlib.sha1(PHOTO.data).digest()
    assert asset.file_created_at == datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
    assert (asset.file.kind, asset.file.mime_type) == (FileKind.ORIGINAL, "image/jpeg")
    below = asset.file.path.removeprefix(f"{place.media}/")
    assert re.fullmatch(rf"upload/{place.user.id}/(..)/(..)/\1\2[0-9a-f-]{{32}}\.jpg", below)
    await place.assert_kept(PHOTO)


@pytest.mark.parametrize("size", [1, 2**20 - 1, 2**20, 2**20 + 1, 5 * 2**20 + 17])
async def test_every_size_is_kept_whole(place: UploadTarget, size: int) -> None:
    photo = random_photo(size)
    assert (await place.send([*DATES, photo])).created
    await place.assert_kept(photo)


async def test_all_fields_reach_the_asset(place: UploadTarget) -> None:
    fields = [
        ("fileCreatedAt", "2024-07-01T12:30:00+02:00"),
        ("fileModifiedAt", "2024-07-02T00:00:00Z"),
        ("filename", "../holiday/Größe 写真.png"),
        ("isFavorite", "true"),
        ("visibility", "archive"),
        ("duration", "0:00:05.12300"),
        ("deviceAssetId", "web-1"),
        ("deviceId", "WEB"),
        ("metadata", '[{"key": "mobile-app", "value": {"a": 1}}]'),
        ("fileSize", "800"),
    ]
    asset = await place.asset(await place.send([VIDEO, *fields]))
    assert (asset.type, asset.file.mime_type, asset.original_file_name) == (
        AssetType.VIDEO,
        "video/mp4",
        "Größe 写真.png.mp4",
    )
    assert asset.file_created_at == datetime(2024, 7, 1, 10, 30, tzinfo=UTC)
    assert asset.local_date_time == datetime(2024, 7, 1, 12, 30, tzinfo=UTC)
    assert (asset.is_favorite, asset.visibility, asset.duration) == (True, Visibility.ARCHIVE, 5123)
    assert (asset.device_asset_id, asset.device_id) == ("web-1", "WEB")


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("nul\0byte.jpg", "nul_byte.jpg"),
        ("x" * 5000 + ".jpg", "x" * 251 + ".jpg"),
        ("photo\u202egpj.jpg", "photo\u202egpj.jpg"),
        ("..\\..\\windows.jpg", "windows.jpg"),
    ],
)
async def test_tricks_in_names_end_up_only_as_display_names(place: UploadTarget, filename: str, shown: str) -> None:
    photo = Upload("assetData", filename, b"photo")
    asset = await place.asset(await place.send([*DATES, photo]))
    assert asset.original_file_name == shown
    assert re.fullmatch(r"[0-9a-f-]{36}\.jpg", asset.file.path.rpartition("/")[2])
    await place.assert_kept(photo)


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ("evil.html", "evil.html.jpg"),
        ("evil.svg", "evil.svg.jpg"),
        ("note.xmp", "note.xmp.jpg"),
        ("clip.mp4", "clip.mp4.jpg"),
        ("no extension", "no extension.jpg"),
        ("x.jpg .", "x.jpg ..jpg"),
        ("a" * 300 + ".html", "a" * 250 + "..jpg"),
        ("holiday.HEIC", "holiday.HEIC"),
        ("holiday.Jpeg", "holiday.Jpeg"),
    ],
)
async def test_a_display_name_never_says_another_type_than_the_one_it_is_sent_as(
    place: UploadTarget, wanted: str, shown: str
) -> None:
    sent = Upload("assetData", "IMG_1.jpg", b"photo")
    asset = await place.asset(await place.send([*DATES, sent, ("filename", wanted)]))
    assert asset.original_file_name == shown
    assert asset.file.mime_type == "image/jpeg"


async def test_a_part_without_an_extension_has_the_type_of_the_filename_before_it(place: UploadTarget) -> None:
    blob = Upload("assetData", "blob", b"photo")
    asset = await place.asset(await place.send([*DATES, ("filename", "from a browser.png"), blob]))
    assert (asset.original_file_name, asset.file.mime_type) == ("from a browser.png", "image/png")


@pytest.mark.parametrize("parts", [[SIDECAR, PHOTO], [PHOTO, SIDECAR]], ids=["sidecar first", "sidecar last"])
async def test_a_sidecar_belongs_to_its_asset(place: UploadTarget, parts: list[Upload]) -> None:
    asset = await place.asset(await place.send([*parts, *DATES]))
    assert asset.sidecar_id is not None
    sidecar = await place.catalog.files.get(asset.sidecar_id)
    assert sidecar is not None
    assert (sidecar.kind, sidecar.mime_type) == (FileKind.SIDECAR, "application/xml")
    assert sidecar.path == asset.file.path.removesuffix(".jpg") + ".xmp"
    await place.assert_kept(PHOTO, SIDECAR)


@pytest.mark.parametrize(
    "empty", [Upload("sidecarData", "", b""), ("sidecarData", "")], ids=["no file", "no file name"]
)
async def test_a_file_input_left_alone_is_no_sidecar(place: UploadTarget, empty: FormPart) -> None:
    asset = await place.asset(await place.send([*DATES, empty, PHOTO]))
    assert asset.sidecar_id is None
    await place.assert_kept(PHOTO)


async def test_unknown_parts_are_ignored(place: UploadTarget) -> None:
    parts = [Upload("other", "evil.exe", b"x" * 200_000), *DATES, ("unknown", "x"), PHOTO]
    assert (await place.send(parts)).created
    await place.assert_kept(PHOTO)


async def test_the_motion_part_of_a_live_photo_is_hidden(place: UploadTarget) -> None:
    video = await place.send([*DATES, VIDEO])
    photo = await place.asset(await place.send([PHOTO, *DATES, ("livePhotoVideoId", str(video.asset_id))]))
    assert photo.live_photo_video_id == video.asset_id
    assert (await place.asset(video)).visibility is Visibility.HIDDEN


async def test_the_same_content_again_is_a_duplicate_and_never_becomes_an_object(place: UploadTarget) -> None:
    async def fail(path: str) -> None:
        pytest.fail(f"{path} is about to be committed")

    first = await place.send([*DATES, PHOTO, SIDECAR, ("isFavorite", "true")])
    place.storage.on_commit = fail
    other_sidecar = Upload("sidecarData", "other.xmp", b"<other/>")
    again = await place.send([other_sidecar, Upload("assetData", "other.png", PHOTO.data), *DATES])
    assert again == ingest.UploadResult(created=False, asset_id=first.asset_id)
    assert (await place.send([*DATES, PHOTO, SIDECAR, ("isFavorite", "true")])).added == ()
    await place.assert_kept(PHOTO, SIDECAR)


@pytest.mark.parametrize("parts", [[SIDECAR, PHOTO, *DATES], [*DATES, PHOTO, SIDECAR]], ids=["first", "last"])
@pytest.mark.parametrize("favorite", [False, True], ids=["sidecar", "both"])
async def test_a_duplicate_adds_what_the_asset_lacks(place: UploadTarget, parts: list[Any], favorite: bool) -> None:
    first = await place.send([*DATES, PHOTO])
    committed: list[str] = []

    async def commit(path: str) -> None:
        committed.append(path)

    place.storage.on_commit = commit
    woken: list[UUID] = []
    place.on_asset_added = woken.append
    again = await place.send([*parts, ("isFavorite", str(favorite).lower())])

    added = (DuplicateAddition.SIDECAR, DuplicateAddition.FAVORITE)
    assert again == ingest.UploadResult(False, first.asset_id, added if favorite else added[:1])
    asset = await place.asset(again)
    assert asset.sidecar_id is not None
    sidecar = await place.catalog.files.get(asset.sidecar_id)
    assert sidecar is not None
    assert committed == [sidecar.path], "the original is there already"
    assert asset.is_favorite is favorite
    assert woken == [first.asset_id]
    await place.assert_kept(PHOTO, SIDECAR)


async def test_a_duplicate_that_is_a_favourite_makes_the_asset_one(place: UploadTarget) -> None:
    first = await place.send([*DATES, PHOTO])
    again = await place.send([PHOTO, *DATES, ("isFavorite", "true")])
    assert again.added == (DuplicateAddition.FAVORITE,)
    assert (await place.asset(first)).is_favorite
    assert (await place.send([PHOTO, *DATES])).added == ()
    assert (await place.asset(first)).is_favorite, "a duplicate takes nothing away"
    await place.assert_kept(PHOTO)


async def test_a_sidecar_beyond_the_quota_is_not_added(place: UploadTarget) -> None:
    """Found by the sidecar's size as it arrives, or only when it is added, as other uploads used up the quota."""
    place.user = await place.catalog.users.create("q@example.org", "Q", quota=len(PHOTO.data) * 2)
    first = await place.send([*DATES, PHOTO])
    with pytest.raises(QuotaExceeded):
        await place.send([*DATES, PHOTO, Upload("sidecarData", "a.xmp", b"x" * (len(PHOTO.data) + 1))])

    async def use_up(_path: str) -> None:
        async with place.catalog.database.write() as connection:
            await connection.execute(update(tables.user).values(used=tables.user.c.used + len(PHOTO.data)))

    place.storage.on_commit = use_up
    with pytest.raises(QuotaExceeded):
        await place.send([*DATES, PHOTO, SIDECAR, ("isFavorite", "true")])
    asset = await place.asset(first)
    assert (asset.sidecar_id, asset.is_favorite) == (None, False)
    async with place.catalog.database.write() as connection:
        await connection.execute(update(tables.user).values(used=len(PHOTO.data)))
    await place.assert_kept(PHOTO, after=LATE_WRITE_GRACE)


async def test_what_is_in_the_trash_is_a_duplicate_too(place: UploadTarget) -> None:
    first = await place.send([*DATES, PHOTO])
    await place.catalog.assets.trash(place.user.id, [first.asset_id])
    assert await place.send([*DATES, PHOTO]) == ingest.UploadResult(created=False, asset_id=first.asset_id)


async def test_another_user_may_have_the_same(place: UploadTarget) -> None:
    first = await place.send([*DATES, PHOTO])
    place.user = await place.catalog.users.create("other@example.org", "Other")
    second = await place.send([*DATES, PHOTO])
    assert second.created
    assert second.asset_id != first.asset_id


@pytest.mark.parametrize("form", ["hex", "base64"])
async def test_a_known_checksum_is_answered_before_the_body_is_read(place: UploadTarget, form: str) -> None:
    """So nothing of the body is added to the asset."""
    first = await place.send([*DATES, PHOTO])
    digest = hashlib.sha1(PHOTO.data).digest()
    sender = UploadSender([b"never read"])
    checksum = digest.hex() if form == "hex" else base64.b64encode(digest).decode()
    assert await place.receive(sender, 10, checksum=checksum) == ingest.UploadResult(False, first.asset_id)
    assert sender.calls == 0


async def test_a_checksum_that_matches(place: UploadTarget) -> None:
    assert (await place.send([*DATES, PHOTO], checksum=hashlib.sha1(PHOTO.data).hexdigest())).created
    await place.assert_kept(PHOTO)


async def test_two_uploads_of_the_same_file_at_once(place: UploadTarget) -> None:
    """Both have passed the check for duplicates when the first one commits."""
    meeting = asyncio.Barrier(2)

    async def meet(path: str) -> None:
        if path.endswith(".jpg"):
            await meeting.wait()

    place.storage.on_commit = meet
    outcomes = await asyncio.gather(
        place.send([*DATES, PHOTO]), place.send([*DATES, PHOTO, SIDECAR, ("isFavorite", "true")])
    )
    assert sorted(outcome.created for outcome in outcomes) == [False, True]
    assert outcomes[0].asset_id == outcomes[1].asset_id
    assert outcomes[0].added == ()
    if outcomes[0].created:
        assert outcomes[1].added == (DuplicateAddition.SIDECAR, DuplicateAddition.FAVORITE)
    assert (await place.asset(outcomes[0])).is_favorite
    await place.assert_kept(PHOTO, SIDECAR)


async def test_many_uploads_at_once(place: UploadTarget) -> None:
    photos = [random_photo(100_000, seed) for seed in range(8)]
    outcomes = await asyncio.gather(*(place.send([*DATES, photo]) for photo in photos * 2))
    assert sum(outcome.created for outcome in outcomes) == 8
    await place.assert_kept(*photos)


async def test_nothing_is_live_before_the_object_is_committed(place: UploadTarget) -> None:
    """The order of durability: row, object, then file and asset in one step."""
    seen: list[tuple[FileState, bool]] = []

    async def look(path: str) -> None:
        row = await place.catalog.files.get_by_path(path)
        assert row is not None
        seen.append((row.state, path in place.objects()))

    place.storage.on_write = place.storage.on_commit = place.storage.after_commit = look
    await place.send([*DATES, PHOTO])
    assert seen == [(FileState.WRITING, False), (FileState.WRITING, False), (FileState.WRITING, True)]
    await place.assert_kept(PHOTO)


async def test_leases_are_renewed_while_bytes_flow(place: UploadTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the store is slow, until the insert has ended."""
    monkeypatch.setattr(ingest, "RENEW_SECONDS", 0.01)
    moments: list[str] = []

    def until_renewed(moment: str) -> Hook:
        async def wait(path: str) -> None:
            ends: set[datetime] = set()
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    row = await place.catalog.files.get_by_path(path)
                    assert row is not None
                    ends.add(row.not_before)
                    if len(ends) > 1:
                        moments.append(moment)
                        return
                    await asyncio.sleep(0.005)

        return wait

    place.storage.on_write = until_renewed("write")
    place.storage.on_commit = until_renewed("commit")
    place.storage.after_commit = until_renewed("committed")
    before = asyncio.all_tasks()
    async with asyncio.timeout(WAIT_SECONDS):
        await place.send([*DATES, random_photo(3 * 2**20)], length=False)
    assert moments == ["write"] * 3 + ["commit", "committed"]

    async def is_all_over() -> bool:
        return asyncio.all_tasks() == before

    await eventually_so(is_all_over, "nothing renews any more")  # a last renewal may be under way


async def test_a_small_file_is_stored_by_one_call_when_all_has_arrived(place: UploadTarget) -> None:
    """Until then nothing is kept, so that a refused upload leaves nothing to clean up."""
    seen: list[str] = []

    async def note(path: str) -> None:
        seen.append(path)

    place.storage.on_write = note
    with pytest.raises(InvalidField):
        await place.send([random_photo(3_000_000), ("fileCreatedAt", "never")])
    assert (seen, await place.rows()) == ([], [])
    photo = random_photo(3_000_000)
    assert (await place.send([photo, *DATES])).created
    assert not (await place.send([photo, *DATES])).created
    assert len(set(seen)) == 1, "the duplicate was not stored"
    await place.assert_kept(photo)


async def test_bodies_that_are_held_in_memory_are_bounded_together() -> None:
    held = HeldBytes(limit=10_000_000)
    with held.reserve(6_000_000) as first, held.reserve(6_000_000) as second, held.reserve(4_000_000) as third:
        assert (first, second, third) == (True, False, True)
    with held.reserve(None) as unknown, held.reserve(9_000_000) as large, held.reserve(8_000_000) as again:
        assert (unknown, large, again) == (False, False, True)


@pytest.mark.parametrize("lengths", [(1,), (3, 70_000), (70_000, 1, 4095, 4096), (4096,), (200_000,)])
async def test_what_is_held_in_small_pieces_takes_little_more_than_its_bytes(lengths: tuple[int, ...]) -> None:
    """A client that sends single bytes must not have an object for each of them kept."""
    data = random.Random(5).randbytes(300_000)

    async def chunks() -> AsyncIterator[memoryview]:
        position = 0
        for length in itertools.cycle(lengths):
            if position >= len(data):
                return
            yield memoryview(data[position : position + length])
            position += length

    held = await hold_file(chunks(), lambda _: None)

    assert b"".join(held.pieces) == data
    assert held.received == ReceivedFile(len(data), hashlib.sha1(data).digest(), zlib.crc32(data))
    assert len(held.pieces) <= 2 * (len(data) // 4096 + 1)


async def test_what_is_held_is_given_back_when_the_upload_ends(place: UploadTarget) -> None:
    """Also when it fails: else all later ones would be streamed."""
    ingest = place.ingest()
    whole = body([*DATES, random_photo(6_000_000)])
    for complete in (True, False) * 8:
        sender = UploadSender(split_at(whole, range(0, len(whole), 65536)) if complete else [whole[:100_000]], complete)
        with suppress(ClientDisconnected):
            await ingest.upload(place.user, CONTENT_TYPE, len(whole), None, sender)
    with ingest._held_bytes.reserve(MAX_HELD_BODY_BYTES) as held:
        assert held


async def test_half_a_gibibyte_takes_constant_memory(place: UploadTarget) -> None:
    head = body([*DATES])[: -len(f"--{BOUNDARY}--\r\n")] + encode_part(Upload("assetData", "large.mp4", b""))
    block = os.urandom(65536)

    async def messages() -> AsyncIterator[bytes]:
        yield head
        for number in range(8192):
            yield number.to_bytes(8) + block[8:]
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    left = messages()

    async def receive() -> dict[str, Any]:
        chunk = await anext(left, None)
        return {"type": "http.request", "body": chunk or b"", "more_body": chunk is not None}

    await place.send([*DATES, PHOTO])  # warm-up
    tracemalloc.start()
    try:
        outcome = await place.receive(receive)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (await place.asset(outcome)).file.size == 8192 * 65536
    assert peak < 16 * 2**20


async def test_a_slow_store_slows_the_sender_down(place: UploadTarget) -> None:
    """While the store blocks on one buffer, at most one more buffer and the current chunk are read from the client."""
    held = asyncio.Event()
    release = asyncio.Event()

    async def hold(_path: str) -> None:
        held.set()
        await release.wait()

    place.storage.on_write = hold
    photo = random_photo(9 * 2**20)
    whole = body([*DATES, photo])
    sender = UploadSender(split_at(whole, range(0, len(whole), 65536)))
    upload = asyncio.create_task(place.receive(sender, len(whole)))
    await held.wait()
    calls = -1
    while calls != sender.calls:
        calls = sender.calls
        await asyncio.sleep(0.05)
    assert calls * 65536 <= 2 * 2**20 + 3 * 65536
    release.set()
    assert (await upload).created
    await place.assert_kept(photo)
