"""Refused uploads: the reason, how early, and that nothing of them is kept."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import pytest

from app.catalog.errors import QuotaExceeded
from app.catalog.files import LATE_WRITE_GRACE
from app.uploads import ingest
from app.uploads.errors import (
    ChecksumMismatch,
    ClientDisconnected,
    EmptyFile,
    IncompleteBody,
    InvalidChecksum,
    InvalidField,
    MalformedBody,
    UnsupportedType,
    UploadTooLarge,
    UploadTooSlow,
)
from tests.uploads.forms import DATES, FormPart, Upload, body, split_at
from tests.uploads.hooked_storage import UploadSender, UploadTarget
from tests.uploads.test_ingest import PHOTO, SIDECAR, VIDEO, random_photo

UNKNOWN_ID = "0b9f6c5e-3a3f-4c46-8f24-6f3a9a0f7a11"
OTHER_PHOTO = Upload("assetData", "other.jpg", b"another photo")
EMPTY = Upload("assetData", "failed.jpg", b"")


@pytest.mark.parametrize(
    ("parts", "refusal", "text"),
    [
        ([*DATES], InvalidField, "assetData is required"),
        ([PHOTO], InvalidField, "fileCreatedAt is required"),
        ([PHOTO, DATES[0]], InvalidField, "fileModifiedAt is required"),
        ([PHOTO, *DATES, ("isFavorite", "perhaps")], InvalidField, "isFavorite is neither true nor false"),
        ([PHOTO, *DATES, ("livePhotoVideoId", UNKNOWN_ID)], InvalidField, "livePhotoVideoId is no video of yours"),
        ([*DATES, PHOTO, OTHER_PHOTO], MalformedBody, "more than one assetData"),
        ([*DATES, SIDECAR, SIDECAR, PHOTO], MalformedBody, "more than one sidecarData"),
        ([*DATES, Upload("assetData", "notes.txt", b"x")], UnsupportedType, "Unsupported file type .txt"),
        ([*DATES, Upload("assetData", "noname", b"x")], UnsupportedType, "Unsupported file type"),
        ([*DATES, Upload("assetData", "a.xmp", b"x")], UnsupportedType, "Unsupported file type .xmp"),
        ([*DATES, ("filename", "a.jpg"), Upload("assetData", "a.exe", b"x")], UnsupportedType, ".exe"),
        ([*DATES, PHOTO, Upload("sidecarData", "a.jpg", b"x")], UnsupportedType, "Unsupported file type .jpg"),
    ],
)
async def test_forms_that_are_refused(
    place: UploadTarget, parts: list[FormPart], refusal: type[Exception], text: str
) -> None:
    with pytest.raises(refusal, match=text):
        await place.send(parts)
    await place.assert_kept()
    assert (await place.send([*DATES, PHOTO])).created


async def test_a_photo_is_no_motion_part_nor_is_another_users_video(place: UploadTarget) -> None:
    photo = await place.send([*DATES, OTHER_PHOTO])
    owner, place.user = place.user, await place.catalog.users.create("other@example.org", "Other")
    video = await place.send([*DATES, VIDEO])
    place.user = owner
    for other in (photo, video):
        with pytest.raises(InvalidField, match="no video of yours"):
            await place.send([PHOTO, *DATES, ("livePhotoVideoId", str(other.asset_id))])
    await place.sweep(LATE_WRITE_GRACE)
    assert sorted(place.objects().values()) == sorted([OTHER_PHOTO.data, VIDEO.data])


async def test_an_unsupported_type_is_refused_before_its_bytes_are_read(place: UploadTarget) -> None:
    whole = body([*DATES, Upload("assetData", "disk.iso", b"x" * 10_000_000)])
    sender = UploadSender(split_at(whole, range(0, len(whole), 65536)))
    with pytest.raises(UnsupportedType):
        await place.receive(sender, len(whole))
    assert sender.calls == 1
    assert await place.rows() == []


@pytest.mark.parametrize("checksum", ["nonsense", "0" * 39, "=" * 28])
async def test_a_checksum_header_that_is_none_is_refused_before_the_body(place: UploadTarget, checksum: str) -> None:
    sender = UploadSender([])
    with pytest.raises(InvalidChecksum):
        await place.receive(sender, 10, checksum=checksum)
    assert sender.calls == 0


async def test_a_body_that_is_not_what_its_checksum_says(place: UploadTarget) -> None:
    with pytest.raises(ChecksumMismatch):
        await place.send([*DATES, PHOTO, SIDECAR], checksum=hashlib.sha1(b"other").hexdigest())
    await place.assert_kept()


@pytest.mark.parametrize("parts", [[*DATES, EMPTY], [EMPTY, SIDECAR, *DATES], [*DATES, SIDECAR, EMPTY]])
@pytest.mark.parametrize("checksum", [None, hashlib.sha1(b"photo").hexdigest()], ids=["plain", "announced"])
async def test_an_empty_file(place: UploadTarget, parts: list[FormPart], checksum: str | None) -> None:
    with pytest.raises(EmptyFile, match=r"^The file is empty$"):
        await place.send(parts, checksum=checksum)
    await place.assert_kept()


async def test_an_empty_sidecar_is_another_thing(place: UploadTarget) -> None:
    sidecar = Upload("sidecarData", "photo.xmp", b"")
    assert (await place.send([*DATES, PHOTO, sidecar])).created
    await place.assert_kept(PHOTO, sidecar)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
async def test_a_client_that_vanishes(place: UploadTarget, share: float) -> None:
    whole = body([*DATES, random_photo(3_000_000)])
    sent = whole[: int(len(whole) * share)]
    with pytest.raises(ClientDisconnected):
        await place.receive(UploadSender(split_at(sent, range(0, len(sent), 65536)), complete=False), len(whole))
    await place.assert_kept()


@pytest.mark.parametrize("cut", [1, 3, 100, 2_000_000])
async def test_a_body_cut_off(place: UploadTarget, cut: int) -> None:
    whole = body([*DATES, random_photo(3_000_000)])
    sent = whole[:-cut]
    with pytest.raises(IncompleteBody):
        await place.receive(UploadSender(split_at(sent, range(0, len(sent), 65536))), len(whole))
    await place.assert_kept()


async def test_a_sender_that_falls_silent(place: UploadTarget) -> None:
    whole = body([*DATES, random_photo(3_000_000)])[:2_000_000]
    with pytest.raises(UploadTooSlow):
        await place.receive(UploadSender([whole], complete=False, stays=True), 3_000_500, upload_idle_seconds=0.05)
    await place.assert_kept()


async def test_a_file_over_the_limit(place: UploadTarget) -> None:
    assert (await place.send([*DATES, random_photo(1000)], upload_limit=1000)).created
    with pytest.raises(UploadTooLarge) as refusal:
        await place.send([*DATES, random_photo(1001, seed=2)], upload_limit=1000)
    assert refusal.value.limit == 1000
    await place.assert_kept(random_photo(1000))


async def test_a_length_far_over_the_limit_is_refused_before_the_body(place: UploadTarget) -> None:
    sender = UploadSender([])
    with pytest.raises(UploadTooLarge):
        await place.receive(sender, 10**9, upload_limit=1000)
    assert sender.calls == 0


async def test_a_sidecar_over_its_limit(place: UploadTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "MAX_SIDECAR_BYTES", 10)
    with pytest.raises(UploadTooLarge):
        await place.send([*DATES, PHOTO, SIDECAR])
    await place.assert_kept()


async def _limited(place: UploadTarget, quota: int) -> None:
    place.user = await place.catalog.users.create("limited@example.org", "Limited", quota=quota)


async def test_a_length_over_the_quota_is_refused_before_the_body(place: UploadTarget) -> None:
    await _limited(place, 1000)
    sender = UploadSender([])
    with pytest.raises(QuotaExceeded):
        await place.receive(sender, 10**9)
    assert sender.calls == 0


async def test_a_file_over_the_quota_is_refused_while_it_arrives(place: UploadTarget) -> None:
    await _limited(place, 1_000_000)
    photo = random_photo(2_000_000)
    whole = body([*DATES, photo])
    sender = UploadSender(split_at(whole, range(0, len(whole), 65536)))
    with pytest.raises(QuotaExceeded):
        await place.receive(sender, len(whole))
    assert sender.calls < 20
    await place.assert_kept()


async def test_the_quota_counts_what_is_there(place: UploadTarget) -> None:
    await _limited(place, 1000)
    photo = random_photo(600)
    assert (await place.send([*DATES, photo])).created
    with pytest.raises(QuotaExceeded):
        await place.send([*DATES, random_photo(401, seed=2)])
    await place.assert_kept(photo)


async def test_two_uploads_that_fit_only_one_by_one(place: UploadTarget) -> None:
    await _limited(place, 1000)
    meeting = asyncio.Barrier(2)

    async def meet(_path: str) -> None:
        await meeting.wait()

    place.storage.on_commit = meet
    photos = [random_photo(600, seed) for seed in (1, 2)]
    outcomes: list[Any] = await asyncio.gather(
        *(place.send([*DATES, photo]) for photo in photos), return_exceptions=True
    )
    refused = [isinstance(outcome, QuotaExceeded) for outcome in outcomes]
    assert sorted(refused) == [False, True]
    await place.assert_kept(photos[refused.index(False)])


async def test_a_sidecar_counts_too(place: UploadTarget) -> None:
    await _limited(place, len(PHOTO.data) + len(SIDECAR.data) - 1)
    with pytest.raises(QuotaExceeded):
        await place.send([*DATES, PHOTO, SIDECAR])
    await place.assert_kept()
