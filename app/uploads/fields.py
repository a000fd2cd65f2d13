"""Parses the form fields of an upload, which have Immich's names, into typed values. No I/O.

Accepts the fields of Immich v2 (duration as text, device ids) and v3 (duration in milliseconds).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.catalog.schema.records import Visibility
from app.uploads.errors import InvalidChecksum, InvalidField
from app.uploads.file_names import build_display_name, replace_unstorable

MAX_DURATION_MS = 2**31 - 1
MAX_DEVICE_TEXT_CHARACTERS = 1000
MAX_METADATA_BYTES = 64 * 1024
MAX_METADATA_DEPTH = 64
_DURATION = re.compile(r"(\d{1,3}):([0-5]?\d):([0-5]?\d)(?:\.(\d{1,9}))?", re.ASCII)
_MILLISECONDS = re.compile(r"\d{1,10}(?:\.\d{1,9})?", re.ASCII)
_ESCAPED_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""PostgreSQL's `jsonb` refuses NUL."""
_JSON_STRUCTURE = re.compile(r'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""Matches strings (the last may be unterminated) and brackets."""
_SHA1_BYTES = 20


@dataclass(frozen=True, slots=True)
class UploadFields:
    """All fields of a complete upload. `filename` is cleaned for display, `duration` is in milliseconds."""

    file_created_at: datetime
    file_modified_at: datetime
    local_date_time: datetime
    filename: str | None
    is_favorite: bool
    visibility: Visibility
    duration: int | None
    live_photo_video_id: UUID | None
    metadata: dict[str, Any] | None
    device_asset_id: str | None
    device_id: str | None


class UploadFieldParser:
    """Accepts fields in any order and refuses an invalid one at once. The last of repeated fields counts; an empty field counts as
    missing; unknown fields are ignored."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def add(self, name: str, raw: bytes) -> None:
        """Raises `InvalidField`."""
        parse = _PARSERS.get(name)
        if parse is None:
            return
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidField(name, "is not UTF-8 text") from None
        self._values[name] = parse(name, text) if text else None

    @property
    def filename(self) -> str | None:
        """The file name; None where its field has not arrived yet."""
        return self._values.get("filename")

    def finish(self) -> UploadFields:
        """Raises `InvalidField` where a required field is missing."""
        created = self._required("fileCreatedAt")
        return UploadFields(
            file_created_at=created.astimezone(UTC),
            file_modified_at=self._required("fileModifiedAt").astimezone(UTC),
            local_date_time=created.replace(tzinfo=UTC),
            filename=self.filename,
            is_favorite=self._values.get("isFavorite") or False,
            visibility=self._values.get("visibility") or Visibility.TIMELINE,
            duration=self._values.get("duration"),
            live_photo_video_id=self._values.get("livePhotoVideoId"),
            metadata=self._values.get("metadata"),
            device_asset_id=self._values.get("deviceAssetId"),
            device_id=self._values.get("deviceId"),
        )

    def _required(self, name: str) -> datetime:
        value = self._values.get(name)
        if value is None:
            raise InvalidField(name, "is required")
        return value


def parse_fields(fields: Mapping[str, str]) -> UploadFields:
    """The fields of an upload that come all at once. Raises `InvalidField`."""
    parser = UploadFieldParser()
    for name, text in fields.items():
        parser.add(name, text.encode("utf-8", "surrogatepass"))
    return parser.finish()


def parse_checksum_header(header: str | None) -> bytes | None:
    """The SHA-1 that `x-immich-checksum` announces: base64 if 28 characters, else hex. Raises `InvalidChecksum`."""
    text = (header or "").strip()
    if not text:
        return None
    try:
        value = base64.b64decode(text, validate=True) if len(text) == 28 else binascii.unhexlify(text)
    except ValueError:
        raise InvalidChecksum from None
    if len(value) != _SHA1_BYTES:
        raise InvalidChecksum
    return value


def _parse_timestamp(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidField(name, "is no ISO 8601 date and time") from None
    return moment


def _parse_boolean(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise InvalidField(name, "is neither true nor false")
    return text == "true"


def _parse_visibility(name: str, text: str) -> Visibility:
    try:
        return Visibility(text)
    except ValueError:
        raise InvalidField(name, f"is none of {', '.join(Visibility)}") from None


def _parse_uuid(name: str, text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise InvalidField(name, "is no UUID") from None


def _parse_duration(name: str, text: str) -> int | None:
    if match := _DURATION.fullmatch(text):
        hours, minutes, seconds, fraction = match.groups()
        whole = (int(hours) * 60 + int(minutes)) * 60 + int(seconds)
        milliseconds = whole * 1000 + int(f"{fraction or '':0<3.3}")
    elif _MILLISECONDS.fullmatch(text):
        milliseconds = round(float(text))
    else:
        raise InvalidField(name, "is neither milliseconds nor hours:minutes:seconds")
    if milliseconds > MAX_DURATION_MS:
        raise InvalidField(name, "is too long")
    return milliseconds


def _parse_metadata(name: str, text: str) -> dict[str, Any]:
    """A JSON object, or Immich's list of `{key, value}`."""
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise InvalidField(name, f"is longer than {MAX_METADATA_BYTES} bytes")
    if measure_depth(text) > MAX_METADATA_DEPTH:
        raise InvalidField(name, f"is nested deeper than {MAX_METADATA_DEPTH}")
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8")
    except ValueError:
        raise InvalidField(name, "is no valid JSON") from None
    if _ESCAPED_NUL.search(text):
        raise InvalidField(name, "holds a NUL character")
    if isinstance(value, list):
        value = _pairs_to_dict(name, value)
    if not isinstance(value, dict):
        raise InvalidField(name, "is neither a JSON object nor a list of keys and values")
    return value


def measure_depth(text: str) -> int:
    """The nesting depth of JSON text, without parsing it: Python's parser recurses."""
    depth = deepest = 0
    for token in _JSON_STRUCTURE.finditer(text):
        if token.group() in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token.group() in "]}":
            depth -= 1
    return deepest


def _pairs_to_dict(name: str, items: list[Any]) -> dict[str, Any]:
    pairs = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("key"), str) or "value" not in item:
            raise InvalidField(name, "has an item without key and value")
        pairs[item["key"]] = item["value"]
    return pairs


def _parse_device_text(name: str, text: str) -> str:
    if len(text) > MAX_DEVICE_TEXT_CHARACTERS:
        raise InvalidField(name, f"is longer than {MAX_DEVICE_TEXT_CHARACTERS} characters")
    return replace_unstorable(text)


def _parse_filename(_name: str, text: str) -> str:
    return build_display_name(text)


_PARSERS = {
    "fileCreatedAt": _parse_timestamp,
    "fileModifiedAt": _parse_timestamp,
    "filename": _parse_filename,
    "isFavorite": _parse_boolean,
    "visibility": _parse_visibility,
    "livePhotoVideoId": _parse_uuid,
    "duration": _parse_duration,
    "metadata": _parse_metadata,
    "deviceAssetId": _parse_device_text,
    "deviceId": _parse_device_text,
}

FIELD_NAMES = frozenset(_PARSERS)
"""The names of the fields that are not ignored."""
