"""The IETF draft "Resumable Uploads for HTTP" (draft-ietf-httpbis-resumable-upload) in the shape that Immich's clients speak: parses the
request's fields, formats the response's, and has the table of errors. No I/O.

Serves the interop versions 3 (draft -01), 5 (-03), 6 (-04 and -05), 7 (-06 to -08) and 8 (-09 to -11). A request without a version, or
with an unknown one, is served as the newest, but gets no interim response.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from app.uploads.errors import ChecksumMismatch, InvalidField, UploadTooLarge
from app.uploads.fields import measure_depth
from app.uploads.protocols.errors import (
    ABOUT_BLANK,
    FieldTooLarge,
    InvalidDigest,
    ProtocolViolation,
    Refusal,
    UnsupportedContentType,
)
from app.uploads.protocols.request_fields import RequestFields, decode_digest
from app.uploads.protocols.structured_fields import (
    format_boolean,
    parse_boolean,
    parse_byte_sequences,
    parse_integer,
)
from app.uploads.sessions import errors as sessions
from app.uploads.sessions.session_values import (
    ChunkDigest,
    DigestAlgorithm,
    NewUpload,
    UploadChunk,
    UploadProtocol,
    UploadStatus,
)

INTERIM_STATUS = 104
VERSION_FIELD = "Upload-Draft-Interop-Version"
ASSET_DATA_FIELD = "x-immich-asset-data"
PARTIAL_UPLOAD = "application/partial-upload"
MAX_ASSET_DATA_CHARACTERS = 48 * 1024
MAX_ASSET_DATA_DEPTH = 64
PROBLEM_TYPES = "https://iana.org/assignments/http-problem-types#"

_ALGORITHMS = {
    "sha-512": DigestAlgorithm.SHA512,
    "sha-256": DigestAlgorithm.SHA256,
    "sha": DigestAlgorithm.SHA1,
}
"""By their names in digest fields (RFC 9530), the strongest first."""
_TEXT_FIELDS = frozenset(
    ("deviceAssetId", "deviceId", "fileCreatedAt", "fileModifiedAt", "filename", "livePhotoVideoId", "visibility")
)

_STATUSES: dict[type[Exception], tuple[int, str]] = {
    UnsupportedContentType: (415, ABOUT_BLANK),
    FieldTooLarge: (431, ABOUT_BLANK),
    InvalidDigest: (400, f"{PROBLEM_TYPES}digest-invalid-values"),
    ProtocolViolation: (400, ABOUT_BLANK),
    sessions.UploadNotFound: (404, ABOUT_BLANK),
    sessions.UploadGone: (410, ABOUT_BLANK),
    sessions.OffsetMismatch: (409, f"{PROBLEM_TYPES}mismatching-upload-offset"),
    sessions.UploadTakenOver: (409, ABOUT_BLANK),
    sessions.InconsistentLength: (400, f"{PROBLEM_TYPES}inconsistent-upload-length"),
    sessions.ChunkDigestMismatch: (400, f"{PROBLEM_TYPES}digest-mismatching-values"),
    ChecksumMismatch: (400, f"{PROBLEM_TYPES}digest-mismatching-values"),
    sessions.TooManyUploads: (429, ABOUT_BLANK),
    sessions.UploadForbidden: (403, ABOUT_BLANK),
    UploadTooLarge: (413, ABOUT_BLANK),
}
"""Status and problem type. Other errors have the statuses of a plain upload."""


class InteropVersion(Enum):
    """The value is the number in `Upload-Draft-Interop-Version`; `LATEST` stands for a client that sends none that is known."""

    V3 = 3
    V5 = 5
    V6 = 6
    V7 = 7
    V8 = 8
    LATEST = None

    @property
    def completeness_field(self) -> str:
        return "Upload-Incomplete" if self is InteropVersion.V3 else "Upload-Complete"

    @property
    def needs_partial_upload(self) -> bool:
        """Whether an append must have the content type `application/partial-upload`."""
        return self not in (InteropVersion.V3, InteropVersion.V5)

    @property
    def age_parameter(self) -> str | None:
        """The name of the remaining lifetime in `Upload-Limit`; None where the version has no such field."""
        if self in (InteropVersion.V3, InteropVersion.V5):
            return None
        return "expires" if self is InteropVersion.V6 else "max-age"


@dataclass(frozen=True, slots=True)
class IetfCreation:
    """`chunk`: the request's body; None where nothing comes with this request."""

    new: NewUpload
    chunk: UploadChunk | None


def find_version(fields: RequestFields) -> InteropVersion:
    text = fields.get_list(VERSION_FIELD) or ""
    return next((version for version in InteropVersion if str(version.value) == text), InteropVersion.LATEST)


def parse_creation(fields: RequestFields, version: InteropVersion) -> IetfCreation:
    """Raises `ProtocolViolation`, `InvalidField` and `InconsistentLength`."""
    is_last = _parse_completeness(fields, version)
    content_length = fields.content_length
    length = _parse_number(fields, "Upload-Length")
    if is_last and content_length is not None:
        if length not in (None, content_length):
            raise sessions.InconsistentLength(length, content_length)
        length = content_length
    asset_data = _parse_asset_data(fields)
    new = NewUpload(
        protocol=UploadProtocol.IETF,
        length=length,
        fields=asset_data,
        declared_sha1=_parse_representation_digest(fields),
        filename=asset_data.get("filename"),
        content_type=None if fields.media_type == PARTIAL_UPLOAD else fields.media_type or None,
    )
    if content_length == 0 and not is_last:
        return IetfCreation(new, None)
    return IetfCreation(
        new, UploadChunk(0, content_length=content_length, is_last=is_last, digest=_parse_content_digest(fields))
    )


def parse_append(fields: RequestFields, version: InteropVersion) -> UploadChunk:
    """Raises `ProtocolViolation`."""
    if version.needs_partial_upload and fields.media_type != PARTIAL_UPLOAD:
        raise UnsupportedContentType(f"Content-Type must be {PARTIAL_UPLOAD}")
    offset = _parse_number(fields, "Upload-Offset")
    if offset is None:
        raise ProtocolViolation("Upload-Offset is required")
    return UploadChunk(
        offset,
        content_length=fields.content_length,
        is_last=_parse_completeness(fields, version),
        length=_parse_number(fields, "Upload-Length"),
        digest=_parse_content_digest(fields),
    )


def with_progress(chunk: UploadChunk, on_progress: Callable[[int], None] | None) -> UploadChunk:
    return replace(chunk, on_progress=on_progress)


def build_limit_fields(version: InteropVersion, max_size: int, expires_at: datetime | None = None) -> dict[str, str]:
    """`Upload-Limit`, in the versions that have it. `max_size` in bytes."""
    if version.age_parameter is None:
        return {}
    limit = f"max-size={max_size}"
    if expires_at is not None:
        seconds = max(0, int((expires_at - datetime.now(UTC)).total_seconds()))
        limit += f", {version.age_parameter}={seconds}"
    return {"Upload-Limit": limit}


def build_status_fields(version: InteropVersion, status: UploadStatus, max_size: int) -> dict[str, str]:
    """The fields of every response about an upload."""
    is_complete = status.result is not None
    fields = {
        "Upload-Offset": str(status.offset),
        version.completeness_field: format_boolean(is_complete is not (version is InteropVersion.V3)),
        "Cache-Control": "no-store",
        **build_limit_fields(version, max_size, status.expires_at),
    }
    if status.length is not None:
        fields["Upload-Length"] = str(status.length)
    if status.result is not None:
        fields["Mediavault-Asset-Id"] = str(status.result.asset_id)
    return fields | build_version_fields(version)


def build_version_fields(version: InteropVersion) -> dict[str, str]:
    return {} if version is InteropVersion.LATEST else {VERSION_FIELD: str(version.value)}


def refuse(error: Exception, version: InteropVersion, max_size: int) -> Refusal | None:
    """The response to an error of this protocol; None for one that every upload may have."""
    entry = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), None)
    if entry is None:
        return None
    status, problem_type = entry
    headers = build_version_fields(version)
    members: dict[str, int] = {}
    if isinstance(error, sessions.OffsetMismatch):
        headers["Upload-Offset"] = str(error.expected)
        members = {"expected-offset": error.expected, "provided-offset": error.provided}
    if isinstance(error, sessions.TooManyUploads):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, UploadTooLarge):
        headers |= build_limit_fields(version, max_size)
    return Refusal(status, headers, problem_type, members)


def _parse_completeness(fields: RequestFields, version: InteropVersion) -> bool:
    """Whether the upload ends with this request's body."""
    name = version.completeness_field
    value = parse_boolean(fields.get(name) or "")
    if value is None:
        raise ProtocolViolation(f"{name} is required, and must be ?1 or ?0")
    return value is not (version is InteropVersion.V3)


def _parse_number(fields: RequestFields, name: str) -> int | None:
    text = fields.get(name)
    if text is None:
        return None
    number = parse_integer(text)
    if number is None or number < 0:
        raise ProtocolViolation(f"{name} is no whole number from 0 to 999999999999999")
    return number


def _parse_digests(fields: RequestFields, name: str) -> dict[str, str]:
    text = fields.get_list(name)
    if text is None:
        return {}
    digests = parse_byte_sequences(text)
    if digests is None:
        raise InvalidDigest(f"{name} is no dictionary of byte sequences")
    return digests


def _parse_content_digest(fields: RequestFields) -> ChunkDigest | None:
    """The strongest digest whose algorithm is known; others are ignored (RFC 9530 section 5)."""
    digests = _parse_digests(fields, "Content-Digest")
    for name, algorithm in _ALGORITHMS.items():
        if name in digests:
            return ChunkDigest(algorithm, decode_digest("Content-Digest", algorithm, digests[name]))
    return None


def _parse_representation_digest(fields: RequestFields) -> bytes:
    digests = _parse_digests(fields, "Repr-Digest")
    if "sha" not in digests:
        raise ProtocolViolation("Repr-Digest with the file's SHA-1 (sha=:…:) is required")
    return decode_digest("Repr-Digest", DigestAlgorithm.SHA1, digests["sha"])


def _parse_asset_data(fields: RequestFields) -> dict[str, str]:
    """The form fields of a plain upload, from Immich's header. Raises `ProtocolViolation` and `InvalidField`."""
    text = fields.get(ASSET_DATA_FIELD)
    if text is None:
        raise ProtocolViolation(f"{ASSET_DATA_FIELD} is required")
    if len(text) > MAX_ASSET_DATA_CHARACTERS:
        raise FieldTooLarge(f"{ASSET_DATA_FIELD} is longer than {MAX_ASSET_DATA_CHARACTERS} characters")
    try:
        decoded = base64.b64decode(text, validate=True).decode("utf-8")
        data: Any = json.loads(decoded) if measure_depth(decoded) <= MAX_ASSET_DATA_DEPTH else None
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise ProtocolViolation(f"{ASSET_DATA_FIELD} is no JSON object in base64")
    texts = {name: _to_text(name, value) for name, value in data.items() if value is not None}
    for name, value in texts.items():
        if not _is_encodable(value):
            raise InvalidField(name[:100], "is not UTF-8 text")
    if not texts.get("filename"):
        raise InvalidField("filename", "is required")
    return texts


def _is_encodable(text: str) -> bool:
    """False for lone surrogates, which JSON can escape."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _to_text(name: str, value: object) -> str:
    """A field's value as a form would carry it."""
    if name == "metadata" and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if name not in _TEXT_FIELDS and isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return value
    if name not in _TEXT_FIELDS:
        return ""  # unknown here
    raise InvalidField(name, "is no text")
