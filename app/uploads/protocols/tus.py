"""tus 1.0 (https://tus.io/protocols/resumable-upload): parses the request's fields, formats the response's, and has the table of
errors. Extensions: creation, creation-with-upload, creation-defer-length, checksum, expiration, termination. No I/O."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from email.utils import format_datetime

from app.uploads.errors import InvalidField, UploadTooLarge
from app.uploads.fields import parse_checksum_header
from app.uploads.protocols.errors import (
    FieldTooLarge,
    ProtocolViolation,
    Refusal,
    UnsupportedContentType,
    UnsupportedVersion,
)
from app.uploads.protocols.request_fields import RequestFields, decode_digest
from app.uploads.sessions import errors as sessions
from app.uploads.sessions.session_values import (
    ChunkDigest,
    DigestAlgorithm,
    NewUpload,
    UploadChunk,
    UploadProtocol,
    UploadStatus,
)

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,checksum,expiration,termination"
CONTENT_TYPE = "application/offset+octet-stream"
CHECKSUM_MISMATCH = 460
LOCKED = 423
MAX_METADATA_CHARACTERS = 48 * 1024
MAX_METADATA_PAIRS = 100

_KEY = re.compile(r"[!-+\--~]+")
"""ASCII without space and comma."""
_FILE_NAME_KEYS = ("filename", "name")
_FILE_TYPE_KEYS = ("filetype", "type")

_STATUSES: dict[type[Exception], int] = {
    UnsupportedVersion: 412,
    UnsupportedContentType: 415,
    FieldTooLarge: 431,
    ProtocolViolation: 400,
    sessions.UploadNotFound: 404,
    sessions.UploadGone: 410,
    sessions.OffsetMismatch: 409,
    sessions.UploadTakenOver: LOCKED,
    sessions.InconsistentLength: 400,
    sessions.ChunkDigestMismatch: CHECKSUM_MISMATCH,
    sessions.TooManyUploads: 429,
    sessions.UploadForbidden: 403,
    UploadTooLarge: 413,
}
"""Clients try again after 409, 423 and every 5xx. Other errors have the statuses of a plain upload."""


@dataclass(frozen=True, slots=True)
class TusCreation:
    """`chunk`: the request's body, where it is the beginning of the file."""

    new: NewUpload
    chunk: UploadChunk | None


def check_version(fields: RequestFields) -> None:
    """Raises `UnsupportedVersion` unless the request speaks `VERSION`."""
    if fields.get("Tus-Resumable") != VERSION:
        raise UnsupportedVersion(f"Tus-Resumable must be {VERSION}")


def find_method(method: str, fields: RequestFields) -> str:
    """The method that the request means: `X-HTTP-Method-Override` is for clients that cannot send PATCH and DELETE."""
    return (fields.get("X-HTTP-Method-Override") or method).upper()


def parse_creation(fields: RequestFields, checksum: str | None = None) -> TusCreation:
    """`checksum`: the header `x-immich-checksum`. Raises `ProtocolViolation`, `InvalidField` and `InvalidChecksum`."""
    if fields.get("Upload-Concat") is not None:
        raise ProtocolViolation("Upload-Concat: the extension concatenation is not offered")
    raw_metadata = fields.get("Upload-Metadata") or ""
    metadata = parse_metadata(raw_metadata)
    new = NewUpload(
        protocol=UploadProtocol.TUS,
        length=_parse_length(fields),
        fields=metadata,
        raw_metadata=raw_metadata,
        declared_sha1=parse_checksum_header(checksum),
        filename=_first_of(metadata, _FILE_NAME_KEYS),
        content_type=_first_of(metadata, _FILE_TYPE_KEYS),
    )
    length = fields.content_length
    if length == 0:
        return TusCreation(new, None)
    _check_content_type(fields)
    return TusCreation(new, UploadChunk(0, content_length=length, digest=_parse_checksum(fields)))


def parse_append(fields: RequestFields) -> UploadChunk:
    """Raises `ProtocolViolation`."""
    _check_content_type(fields)
    return UploadChunk(
        offset=fields.require_number("Upload-Offset"),
        content_length=fields.content_length,
        length=fields.get_number("Upload-Length"),
        digest=_parse_checksum(fields),
    )


def parse_metadata(text: str) -> dict[str, str]:
    """The pairs of `Upload-Metadata`, decoded. Raises `ProtocolViolation`, `FieldTooLarge`, and `InvalidField` for a value that is no text."""
    if len(text) > MAX_METADATA_CHARACTERS:
        raise FieldTooLarge(f"Upload-Metadata is longer than {MAX_METADATA_CHARACTERS} characters")
    if not text:
        return {}
    pairs = text.split(",")
    if len(pairs) > MAX_METADATA_PAIRS:
        raise FieldTooLarge(f"Upload-Metadata has more than {MAX_METADATA_PAIRS} keys")
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, _, encoded = pair.strip(" ").partition(" ")
        if not _KEY.fullmatch(key):
            raise ProtocolViolation("Upload-Metadata has a key that is empty or not ASCII")
        if key in metadata:
            raise ProtocolViolation(f"Upload-Metadata has the key {key[:100]} more than once")
        metadata[key] = _decode_value(key, encoded)
    return metadata


def build_status_fields(status: UploadStatus) -> dict[str, str]:
    """The fields of the response to HEAD."""
    fields = build_offset_fields(status) | {"Cache-Control": "no-store"}
    if status.length is None:
        fields["Upload-Defer-Length"] = "1"
    else:
        fields["Upload-Length"] = str(status.length)
    if status.raw_metadata:
        fields["Upload-Metadata"] = status.raw_metadata
    return fields


def build_offset_fields(status: UploadStatus) -> dict[str, str]:
    """The fields of every response that tells an offset."""
    fields = {
        "Tus-Resumable": VERSION,
        "Upload-Offset": str(status.offset),
        "Upload-Expires": format_datetime(status.expires_at, usegmt=True),
    }
    if status.result is not None:
        fields["Mediavault-Asset-Id"] = str(status.result.asset_id)
    return fields


def build_capability_fields(max_size: int) -> dict[str, str]:
    """The fields of the response to OPTIONS; `max_size` in bytes."""
    return {
        "Tus-Resumable": VERSION,
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max_size),
        "Tus-Checksum-Algorithm": "sha1",
    }


def refuse(error: Exception) -> Refusal | None:
    """The response to an error of this protocol; None for one that every upload may have."""
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), None)
    if status is None:
        return None
    headers = {}
    if isinstance(error, UnsupportedVersion):
        headers["Tus-Version"] = VERSION
    if isinstance(error, sessions.OffsetMismatch):
        headers["Upload-Offset"] = str(error.expected)
    if isinstance(error, sessions.TooManyUploads):
        headers["Retry-After"] = str(error.retry_after)
    return Refusal(status, headers)


def choose_status_of_head(status: int) -> int:
    """The status of a failed HEAD. tus-js-client begins a new upload after any status but 423, also after one that passes."""
    return LOCKED if status >= 500 else status


def _parse_length(fields: RequestFields) -> int | None:
    length = fields.get_number("Upload-Length")
    deferred = fields.get("Upload-Defer-Length")
    if deferred not in (None, "1"):
        raise ProtocolViolation("Upload-Defer-Length must be 1")
    if (length is None) == (deferred is None):
        raise ProtocolViolation("Exactly one of Upload-Length and Upload-Defer-Length is required")
    return length


def _parse_checksum(fields: RequestFields) -> ChunkDigest | None:
    text = fields.get("Upload-Checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    if algorithm != "sha1":
        raise ProtocolViolation("Upload-Checksum: the algorithm must be sha1")
    return ChunkDigest(DigestAlgorithm.SHA1, decode_digest("Upload-Checksum", DigestAlgorithm.SHA1, encoded))


def _check_content_type(fields: RequestFields) -> None:
    if fields.media_type != CONTENT_TYPE:
        raise UnsupportedContentType(f"Content-Type must be {CONTENT_TYPE}")


def _decode_value(key: str, encoded: str) -> str:
    try:
        raw = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise ProtocolViolation(f"Upload-Metadata: the value of {key[:100]} is no base64") from None
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidField(key[:100], "is not UTF-8 text") from None


def _first_of(metadata: dict[str, str], keys: tuple[str, ...]) -> str | None:
    return next((metadata[key] for key in keys if metadata.get(key)), None)
