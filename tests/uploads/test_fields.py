"""Fields of an upload as Immich's clients of either generation send them, and the checksum header."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.catalog.schema.records import Visibility
from app.uploads.errors import InvalidChecksum, InvalidField
from app.uploads.fields import UploadFieldParser, UploadFields, parse_checksum_header
from tests.uploads.forms import DATES

SHA1 = hashlib.sha1(b"photo").digest()


def finished(*fields: tuple[str, str | bytes]) -> UploadFields:
    reader = UploadFieldParser()
    for name, value in [*DATES, *fields]:
        reader.add(name, value.encode() if isinstance(value, str) else value)
    return reader.finish()


def test_only_the_dates_are_required() -> None:
    fields = finished()
    assert fields.file_created_at == datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
    assert fields.file_modified_at == datetime(2024, 5, 6, 7, 8, 10, tzinfo=UTC)
    assert (fields.filename, fields.is_favorite, fields.visibility) == (None, False, Visibility.TIMELINE)
    assert (fields.duration, fields.live_photo_video_id, fields.metadata) == (None, None, None)
    assert (fields.device_asset_id, fields.device_id) == (None, None)


@pytest.mark.parametrize("missing", [0, 1])
def test_a_missing_date_is_named(missing: int) -> None:
    reader = UploadFieldParser()
    name, value = DATES[1 - missing]
    reader.add(name, value.encode())
    with pytest.raises(InvalidField, match=f"{DATES[missing][0]} is required"):
        reader.finish()


@pytest.mark.parametrize(
    ("text", "created", "wall_time"),
    [
        ("2024-07-01T12:30:00.000Z", (2024, 7, 1, 12, 30), (2024, 7, 1, 12, 30)),
        ("2024-07-01T12:30:00+02:00", (2024, 7, 1, 10, 30), (2024, 7, 1, 12, 30)),
        ("2024-07-01T12:30:00", (2024, 7, 1, 12, 30), (2024, 7, 1, 12, 30)),
        ("2024-07-01T00:10:00.123456789+09:00", (2024, 6, 30, 15, 10, 0, 123456), (2024, 7, 1, 0, 10, 0, 123456)),
        ("1969-12-31T23:59:59Z", (1969, 12, 31, 23, 59, 59), (1969, 12, 31, 23, 59, 59)),
    ],
)
def test_dates(text: str, created: tuple[int, ...], wall_time: tuple[int, ...]) -> None:
    fields = finished(("fileCreatedAt", text))
    assert fields.file_created_at == _utc(created)
    assert fields.local_date_time == _utc(wall_time)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0:00:00.00000", 0),
        ("0:00:05.12300", 5123),
        ("1:02:03.5", 3723500),
        ("00:00:07", 7000),
        ("0", 0),
        ("5123", 5123),
        ("5123.4", 5123),
        ("", None),
    ],
)
def test_durations_of_both_generations(text: str, milliseconds: int | None) -> None:
    assert finished(("duration", text)).duration == milliseconds


def test_all_fields() -> None:
    fields = finished(
        ("filename", "../IMG 1.jpg"),
        ("isFavorite", "true"),
        ("visibility", "archive"),
        ("livePhotoVideoId", "0b9f6c5e-3a3f-4c46-8f24-6f3a9a0f7a11"),
        ("metadata", '[{"key":"mobile-app","value":{"iCloudId":"x"}}]'),
        ("deviceAssetId", "web-\0IMG"),
        ("deviceId", "WEB"),
        ("fileSize", "ignored"),
    )
    assert fields.filename == "IMG 1.jpg"
    assert (fields.is_favorite, fields.visibility) == (True, Visibility.ARCHIVE)
    assert fields.live_photo_video_id == UUID("0b9f6c5e-3a3f-4c46-8f24-6f3a9a0f7a11")
    assert fields.metadata == {"mobile-app": {"iCloudId": "x"}}
    assert (fields.device_asset_id, fields.device_id) == ("web-_IMG", "WEB")


def test_metadata_may_be_an_object_and_the_last_of_a_repeated_field_counts() -> None:
    assert finished(("metadata", "{}"), ("metadata", '{"a": [1, "\\\\u0000"]}')).metadata == {"a": [1, "\\u0000"]}


def test_metadata_may_be_as_deep_as_allowed_and_brackets_in_text_do_not_count() -> None:
    deep = '{"a":' * 64 + '"' + "[{" * 1000 + '\\"[\\\\"' + "}" * 64
    fields = finished(("metadata", deep))
    assert json.dumps(fields.metadata, separators=(",", ":")) == deep


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fileCreatedAt", "yesterday"),
        ("fileCreatedAt", "2024-13-01T00:00:00Z"),
        ("fileModifiedAt", "0001-01-01T00:00:00+14:00"),
        ("fileModifiedAt", b"\xff"),
        ("isFavorite", "maybe"),
        ("visibility", "public"),
        ("livePhotoVideoId", "1"),
        ("duration", "long"),
        ("duration", "-5"),
        ("duration", "99999999999"),
        ("duration", "0:99:00"),
        ("metadata", "{"),
        ("metadata", '"text"'),
        ("metadata", "[1]"),
        ("metadata", '{"a": NaN}'),
        ("metadata", '{"a": 1e999}'),
        ("metadata", '{"a": "\\u0000"}'),
        ("metadata", '{"a": "\\ud800"}'),
        ("metadata", "[" * 100_000),
        ("metadata", '{"a":' * 65 + "1" + "}" * 65),
        ("metadata", '[{"key": "a", "value": ' + "[" * 63 + "]" * 63 + "}]"),
        ("metadata", '{"a": "' + "ä" * 32 * 1024 + '"}'),
        ("metadata", '"' + '\\"' * 30_000),
        ("deviceAssetId", "x" * 1001),
        ("filename", b"\xff.jpg"),
    ],
)
def test_wrong_values_name_their_field(name: str, value: str | bytes) -> None:
    with pytest.raises(InvalidField) as refusal:
        finished((name, value))
    assert refusal.value.field == name
    assert str(refusal.value).startswith(name)


@pytest.mark.parametrize(
    ("header", "checksum"),
    [
        (None, None),
        ("", None),
        (SHA1.hex(), SHA1),
        (SHA1.hex().upper(), SHA1),
        (base64.b64encode(SHA1).decode(), SHA1),
        (f" {SHA1.hex()} ", SHA1),
    ],
)
def test_the_checksum_header(header: str | None, checksum: bytes | None) -> None:
    assert parse_checksum_header(header) == checksum


@pytest.mark.parametrize("header", ["x", "0" * 39, "0" * 28, "g" * 40, "ä" * 28, "0" * 64, "=" * 28, SHA1.hex()[:-2]])
def test_a_checksum_header_that_is_none(header: str) -> None:
    with pytest.raises(InvalidChecksum):
        parse_checksum_header(header)


def _utc(parts: tuple[int, ...]) -> datetime:
    year, month, day, *rest = parts
    return datetime(year, month, day, *rest, tzinfo=UTC)
