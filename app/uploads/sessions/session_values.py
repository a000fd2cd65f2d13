"""The values that a protocol's front end exchanges with `UploadSessions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.catalog.schema.records import User
from app.catalog.schema.upload_records import UploadState
from app.uploads.upload_result import UploadResult


class UploadProtocol(StrEnum):
    """The protocol that a session was created with."""

    TUS = "tus"
    IETF = "ietf"


class DigestAlgorithm(StrEnum):
    """The algorithms of a chunk's digest, by their names in `Content-Digest`; tus calls the first one `sha1`."""

    SHA1 = "sha1"
    SHA256 = "sha-256"
    SHA512 = "sha-512"


@dataclass(frozen=True, slots=True)
class UploadCaller:
    """Who sends a request. `credential_id`: the id of the API key or login session; `permission`: the name of the permission that the
    request needed. Both are checked again at completion."""

    user: User
    credential_id: UUID | None
    permission: str


@dataclass(frozen=True, slots=True)
class NewUpload:
    """`length` in bytes, None if it is told later. `fields`: the form fields of `POST /assets` as text, by name. `raw_metadata`: the
    client's own text, which `UploadStatus` repeats. `declared_sha1`: the SHA-1 of the whole file, 20 bytes. `filename` (with its
    extension) and `content_type` tell the type, the file name first."""

    protocol: UploadProtocol
    length: int | None
    fields: Mapping[str, str]
    raw_metadata: str = ""
    declared_sha1: bytes | None = None
    filename: str | None = None
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class ChunkDigest:
    """The digest of one request's bytes; `value` is binary."""

    algorithm: DigestAlgorithm
    value: bytes


@dataclass(frozen=True, slots=True)
class UploadChunk:
    """One request's bytes, which begin at `offset` of the file.

    `content_length`: the body's length, None where the request does not tell it. `is_last`: the upload ends with this body; None: it
    ends where the length says. `length`: the length of the whole upload, if this request tells it. `on_progress` is called with each
    offset that has become durable, and must not block.
    """

    offset: int
    content_length: int | None = None
    is_last: bool | None = None
    length: int | None = None
    digest: ChunkDigest | None = None
    on_progress: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """`offset`: the durable bytes. `expires_at`: when the session, or the answer of a complete one, is forgotten. `result`: of a
    complete upload."""

    id: UUID
    state: UploadState
    offset: int
    length: int | None
    expires_at: datetime
    raw_metadata: str = ""
    result: UploadResult | None = None
