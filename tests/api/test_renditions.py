"""`select_file` as a table, without service and files."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.api.errors import ApiError
from app.api.files.renditions import (
    FULLSIZE,
    ORIGINAL,
    PLAYBACK,
    PREVIEW,
    THUMBNAIL,
    Rendition,
    RenditionMissing,
    RenditionRedirect,
    ServedFile,
    parse_thumbnail_size,
    select_file,
)
from app.catalog.assets.rendition_lookup import AssetRenditions, ProcessingState
from app.catalog.schema.records import Asset, AssetType, File, FileKind, FileState, TaskState, Visibility
from app.formats import find_format

MOMENT = datetime(2026, 5, 1, 12, tzinfo=UTC)
OWNER = uuid4()


def file(kind: FileKind, path: str) -> File:
    format = find_format(path)
    assert format is not None
    created = MOMENT - timedelta(hours=1)
    return File(uuid4(), OWNER, kind, path, FileState.LIVE, 10, b"s" * 20, 1, format.mime_type, created, MOMENT)


def asset(name: str, type_: AssetType) -> Asset:
    extension = name[name.rfind(".") :]
    return Asset(
        id=uuid4(),
        owner_id=OWNER,
        type=type_,
        file=file(FileKind.ORIGINAL, f"/media/upload/one{extension}"),
        sidecar_id=None,
        checksum=b"s" * 20,
        original_file_name=name,
        file_created_at=MOMENT,
        file_modified_at=MOMENT,
        local_date_time=MOMENT,
        created_at=MOMENT,
        updated_at=MOMENT,
        is_favorite=False,
        visibility=Visibility.TIMELINE,
        duration=None,
        width=None,
        height=None,
        thumbhash=None,
        exif=None,
        live_photo_video_id=None,
        library_id=None,
        is_offline=False,
        deleted_at=None,
        device_asset_id=None,
        device_id=None,
    )


EXTENSIONS = {
    FileKind.THUMBNAIL: ".webp",
    FileKind.PREVIEW: ".jpeg",
    FileKind.FULLSIZE: ".jpeg",
    FileKind.ENCODED_VIDEO: ".mp4",
}


def pictures(name: str, *made: FileKind, state: TaskState | None = TaskState.DONE, wait: float = 0) -> AssetRenditions:
    known = asset(name, AssetType.VIDEO if name.endswith((".mp4", ".avi")) else AssetType.IMAGE)
    files = {kind: file(kind, f"/media/thumbs/one_{kind}_0a1b2c3d{EXTENSIONS[kind]}") for kind in made}
    error = "it is torn" if state is TaskState.FAILED else None
    return AssetRenditions(
        known, files, ProcessingState(state, MOMENT + timedelta(seconds=wait), error) if state else None
    )


def describe(found: ServedFile | RenditionRedirect) -> tuple[str, str]:
    assert isinstance(found, ServedFile)
    assert found.owner_id == OWNER
    return found.file.path, found.filename


THUMB, PREV, FULL, ENCODED = FileKind.THUMBNAIL, FileKind.PREVIEW, FileKind.FULLSIZE, FileKind.ENCODED_VIDEO


@pytest.mark.parametrize(
    ("name", "made", "wanted", "path", "filename"),
    [
        ("a.b.jpg", [THUMB, PREV], THUMBNAIL, "/media/thumbs/one_thumbnail_0a1b2c3d.webp", "a.b_thumbnail.webp"),
        ("a.b.jpg", [THUMB, PREV], PREVIEW, "/media/thumbs/one_preview_0a1b2c3d.jpeg", "a.b_preview.jpeg"),
        ("a.heic", [THUMB, PREV, FULL], FULLSIZE, "/media/thumbs/one_fullsize_0a1b2c3d.jpeg", "a_fullsize.jpeg"),
        ("a.heic", [THUMB, PREV, FULL], ORIGINAL, "/media/upload/one.heic", "a.heic"),
        (".jpg", [THUMB], THUMBNAIL, "/media/thumbs/one_thumbnail_0a1b2c3d.webp", ".jpg_thumbnail.webp"),
        ("v.mp4", [THUMB, PREV], PREVIEW, "/media/thumbs/one_preview_0a1b2c3d.jpeg", "v_preview.jpeg"),
        ("v.avi", [ENCODED], PLAYBACK, "/media/thumbs/one_encoded_video_0a1b2c3d.mp4", "v.mp4"),
        ("v.mp4", [ENCODED], PLAYBACK, "/media/thumbs/one_encoded_video_0a1b2c3d.mp4", "v.mp4"),
        ("v.mp4", [], PLAYBACK, "/media/upload/one.mp4", "v.mp4"),
    ],
)
def test_the_file_that_is_sent_and_its_name(
    name: str, made: list[FileKind], wanted: Rendition, path: str, filename: str
) -> None:
    assert describe(select_file(pictures(name, *made), wanted, MOMENT)) == (path, filename)


@pytest.mark.parametrize(
    ("name", "made", "address", "size"),
    [
        ("a.jpg", [THUMB, PREV], "original", None),
        ("a.jpg", [], "original", None),
        ("a.heic", [THUMB, PREV], "thumbnail", "preview"),
        ("a.svg", [], "thumbnail", "preview"),
        ("v.mp4", [THUMB, PREV], "thumbnail", "preview"),
    ],
)
def test_full_size_is_elsewhere(name: str, made: list[FileKind], address: str, size: str | None) -> None:
    assert select_file(pictures(name, *made), FULLSIZE, MOMENT) == RenditionRedirect(OWNER, address, size)


def test_full_size_follows_from_the_type_of_the_content() -> None:
    """A file of a library keeps its name, and processing stores what it is."""
    named = pictures("a.jpg", THUMB, PREV)
    heic = replace(named, asset=replace(named.asset, file=replace(named.asset.file, mime_type="image/heic")))
    assert select_file(heic, FULLSIZE, MOMENT) == RenditionRedirect(OWNER, "thumbnail", "preview")
    assert describe(select_file(pictures("a.jpg", FULL), FULLSIZE, MOMENT))[1] == "a_fullsize.jpeg"


@pytest.mark.parametrize("state", [TaskState.PENDING, TaskState.RUNNING, TaskState.FAILED, TaskState.DONE])
def test_a_video_that_browsers_play_by_its_name_is_played_at_once(state: TaskState) -> None:
    assert describe(select_file(pictures("v.mp4", state=state), PLAYBACK, MOMENT))[0] == "/media/upload/one.mp4"


def test_another_video_is_played_once_it_was_found_to_be_fine_as_it_is() -> None:
    assert describe(select_file(pictures("v.avi"), PLAYBACK, MOMENT))[0] == "/media/upload/one.avi"


@pytest.mark.parametrize(
    ("found", "wanted", "retry_after", "detail"),
    [
        (pictures("a.jpg", state=TaskState.PENDING), THUMBNAIL, "2", "It is being made"),
        (pictures("a.jpg", state=TaskState.PENDING, wait=20.5), PREVIEW, "21", "It is being made"),
        (pictures("a.jpg", state=TaskState.PENDING, wait=4000), PREVIEW, "60", "It is being made"),
        (pictures("a.jpg", state=TaskState.RUNNING, wait=900), PREVIEW, "2", "It is being made"),
        (pictures("v.avi", state=TaskState.RUNNING), PLAYBACK, "2", "It is being made"),
        (pictures("v.avi", state=TaskState.FAILED), PLAYBACK, None, "It could not be made: it is torn"),
        (pictures("a.jpg", state=TaskState.FAILED), PREVIEW, None, "It could not be made: it is torn"),
        (pictures("a.jpg"), THUMBNAIL, None, "Asset media not found"),
        (pictures("a.jpg", state=None), THUMBNAIL, None, "Asset media not found"),
        (pictures("a.jpg"), PLAYBACK, None, "Asset media not found"),
        (pictures("a.jpg", state=TaskState.RUNNING), PLAYBACK, None, "Asset media not found"),
    ],
)
def test_what_is_not_made(found: AssetRenditions, wanted: Rendition, retry_after: str | None, detail: str) -> None:
    with pytest.raises(RenditionMissing) as missing:
        select_file(found, wanted, MOMENT)
    refusal = missing.value.refusal
    assert missing.value.owner_id == OWNER
    assert (refusal.status, refusal.message, refusal.detail) == (404, "Asset media not found", detail)
    assert refusal.headers.get("retry-after") == retry_after


def test_the_moment_of_an_original_is_not_later_than_its_arrival() -> None:
    found = select_file(pictures("a.jpg"), ORIGINAL, MOMENT)
    assert isinstance(found, ServedFile)
    assert found.last_modified == MOMENT - timedelta(hours=1)


@pytest.mark.parametrize(
    ("size", "rendition"), [(None, THUMBNAIL), ("thumbnail", THUMBNAIL), ("preview", PREVIEW), ("fullsize", FULLSIZE)]
)
def test_sizes(size: str | None, rendition: Rendition) -> None:
    assert parse_thumbnail_size(size) is rendition


@pytest.mark.parametrize("size", ["original", "", "Preview", "huge"])
def test_other_sizes_are_refused(size: str) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_thumbnail_size(size)
    assert refusal.value.status == 400
