"""The IETF draft: the request's fields by version as a table of cases, and the status and problem type of every error."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.catalog.schema.upload_records import UploadState
from app.uploads.errors import ChecksumMismatch, InvalidField, UploadTooLarge
from app.uploads.protocols import ietf
from app.uploads.protocols.errors import FieldTooLarge, InvalidDigest, ProtocolViolation, UnsupportedContentType
from app.uploads.protocols.ietf import InteropVersion
from app.uploads.protocols.request_fields import RequestFields
from app.uploads.sessions import errors as sessions
from app.uploads.sessions.session_values import ChunkDigest, DigestAlgorithm, UploadStatus
from app.uploads.upload_result import UploadResult

ID = UUID("6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d")
SHA1 = hashlib.sha1(b"whole").digest()
REPR_DIGEST = f"sha=:{base64.b64encode(SHA1).decode()}:"
ASSET = {"filename": "a.jpg", "fileCreatedAt": "2026-01-01T00:00:00Z", "fileModifiedAt": "2026-01-01T00:00:00Z"}
VERSIONS = [version for version in InteropVersion if version is not InteropVersion.LATEST]
PARTIAL = ("Content-Type", ietf.PARTIAL_UPLOAD)
TYPES = ietf.PROBLEM_TYPES


def fields(*pairs: tuple[str, str], **named: str) -> RequestFields:
    every = [*pairs, *((name.replace("_", "-"), value) for name, value in named.items())]
    return RequestFields((name.encode(), value.encode("utf-8")) for name, value in every)


def encode(data: Any) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return base64.b64encode(text.encode()).decode()


def creation_fields(
    *pairs: tuple[str, str], data: Any = ASSET, digest: str = REPR_DIGEST, **named: str
) -> RequestFields:
    return fields((ietf.ASSET_DATA_FIELD, encode(data)), ("Repr-Digest", digest), *pairs, **named)


@pytest.mark.parametrize(("text", "version"), [(str(version.value), version) for version in VERSIONS])
def test_known_versions(text: str, version: InteropVersion) -> None:
    assert ietf.find_version(fields(Upload_Draft_Interop_Version=text)) is version


@pytest.mark.parametrize("text", ["", "4", "9", "None", "6;a", "06", "6, 6"])
def test_other_versions_are_served_as_the_newest(text: str) -> None:
    assert ietf.find_version(fields(Upload_Draft_Interop_Version=text)) is InteropVersion.LATEST
    assert ietf.find_version(fields()) is InteropVersion.LATEST


@pytest.mark.parametrize("version", list(InteropVersion))
def test_a_whole_file_in_one_request(version: InteropVersion) -> None:
    complete = "?0" if version is InteropVersion.V3 else "?1"
    request = creation_fields((version.completeness_field, complete), Content_Length="5", Content_Type="image/jpeg")

    creation = ietf.parse_creation(request, version)

    assert (creation.new.length, creation.new.declared_sha1) == (5, SHA1)
    assert (creation.new.filename, creation.new.content_type) == ("a.jpg", "image/jpeg")
    assert creation.chunk is not None
    assert (creation.chunk.offset, creation.chunk.content_length, creation.chunk.is_last) == (0, 5, True)


def test_a_whole_file_of_unknown_length() -> None:
    creation = ietf.parse_creation(
        creation_fields(Upload_Complete="?1", Transfer_Encoding="chunked"), InteropVersion.V8
    )
    assert creation.new.length is None
    assert creation.chunk is not None
    assert (creation.chunk.content_length, creation.chunk.is_last) == (None, True)


def test_a_creation_without_bytes() -> None:
    creation = ietf.parse_creation(creation_fields(Upload_Complete="?0", Upload_Length="100"), InteropVersion.V6)
    assert (creation.new.length, creation.chunk) == (100, None)


def test_an_empty_file_is_given_to_the_core() -> None:
    creation = ietf.parse_creation(creation_fields(Upload_Complete="?1", Content_Length="0"), InteropVersion.V6)
    assert creation.new.length == 0


def test_asset_data_become_the_fields_of_a_form() -> None:
    data = {
        **ASSET,
        "filename": "ä 🎞.mov",
        "isFavorite": True,
        "duration": 1500,
        "deviceId": "d",
        "livePhotoVideoId": None,
        "metadata": [{"key": "k", "value": {"n": 1}}],
        "stranger": {"deep": []},
    }
    parsed = ietf.parse_creation(creation_fields(data=data, Upload_Complete="?0"), InteropVersion.V8).new.fields
    assert parsed["filename"] == "ä 🎞.mov"
    assert (parsed["isFavorite"], parsed["duration"], parsed["deviceId"]) == ("true", "1500", "d")
    assert json.loads(parsed["metadata"]) == data["metadata"]
    assert "livePhotoVideoId" not in parsed


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("no json", ProtocolViolation),
        ("[]", ProtocolViolation),
        ('{"filename": "a.jpg"', ProtocolViolation),
        ('{"a":' * 70 + "1" + "}" * 70, ProtocolViolation),
        ({}, InvalidField),
        ({"filename": ""}, InvalidField),
        ({"filename": 5}, InvalidField),
        ({"filename": ["a.jpg"]}, InvalidField),
        ({**ASSET, "deviceId": {"a": 1}}, InvalidField),
        ('{"filename": "\\ud800.jpg"}', InvalidField),
        ({**ASSET, "deviceId": "x" * ietf.MAX_ASSET_DATA_CHARACTERS}, FieldTooLarge),
    ],
)
def test_asset_data_that_are_refused(data: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        ietf.parse_creation(creation_fields(data=data, Upload_Complete="?0"), InteropVersion.V8)


@pytest.mark.parametrize(
    "pairs",
    [
        [("Repr-Digest", REPR_DIGEST)],
        [(ietf.ASSET_DATA_FIELD, encode(ASSET))],
        [(ietf.ASSET_DATA_FIELD, "!!!"), ("Repr-Digest", REPR_DIGEST)],
        [(ietf.ASSET_DATA_FIELD, encode(ASSET)), (ietf.ASSET_DATA_FIELD, encode(ASSET)), ("Repr-Digest", REPR_DIGEST)],
    ],
)
def test_a_creation_needs_asset_data_and_digest(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(ProtocolViolation):
        ietf.parse_creation(fields(*pairs, Upload_Complete="?0"), InteropVersion.V8)


@pytest.mark.parametrize("digest", ["sha=:AAAA:", "sha=AAAA", "sha", "sha=:!:", "nonsense here"])
def test_digests_that_are_refused(digest: str) -> None:
    with pytest.raises(ProtocolViolation):
        ietf.parse_creation(creation_fields(digest=digest, Upload_Complete="?0"), InteropVersion.V8)


@pytest.mark.parametrize("value", [None, "", "1", "true", "?2", "?1, ?0"])
@pytest.mark.parametrize("version", list(InteropVersion))
def test_completeness_is_required(version: InteropVersion, value: str | None) -> None:
    told = [] if value is None else [(version.completeness_field, value)]
    with pytest.raises(ProtocolViolation):
        ietf.parse_creation(creation_fields(*told), version)
    with pytest.raises(ProtocolViolation):
        ietf.parse_append(fields(PARTIAL, *told, Upload_Offset="0"), version)


def test_two_lengths_that_disagree() -> None:
    request = creation_fields(Upload_Complete="?1", Content_Length="5", Upload_Length="6")
    with pytest.raises(sessions.InconsistentLength):
        ietf.parse_creation(request, InteropVersion.V8)


@pytest.mark.parametrize("number", ["", "-1", "1.0", "1e3", "٣", "1, 1", str(2**63), str(10**15)])
def test_numbers_that_are_none(number: str) -> None:
    with pytest.raises(ProtocolViolation):
        ietf.parse_append(fields(PARTIAL, Upload_Offset=number, Upload_Complete="?1"), InteropVersion.V8)
    with pytest.raises(ProtocolViolation):
        ietf.parse_append(
            fields(PARTIAL, Upload_Offset="0", Upload_Length=number, Upload_Complete="?1"), InteropVersion.V8
        )


def test_an_append_needs_an_offset() -> None:
    with pytest.raises(ProtocolViolation):
        ietf.parse_append(fields(PARTIAL, Upload_Complete="?1"), InteropVersion.V8)


@pytest.mark.parametrize("version", list(InteropVersion))
def test_the_content_type_of_an_append(version: InteropVersion) -> None:
    complete = "?0" if version is InteropVersion.V3 else "?1"
    request = fields((version.completeness_field, complete), Upload_Offset="3", Content_Length="2")
    if version in (InteropVersion.V3, InteropVersion.V5):
        chunk = ietf.parse_append(request, version)
        assert (chunk.offset, chunk.content_length, chunk.is_last) == (3, 2, True)
    else:
        with pytest.raises(UnsupportedContentType):
            ietf.parse_append(request, version)


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        (f"sha-256=:{base64.b64encode(bytes(32)).decode()}:", ChunkDigest(DigestAlgorithm.SHA256, bytes(32))),
        (
            f"{REPR_DIGEST}, sha-512=:{base64.b64encode(bytes(64)).decode()}:",
            ChunkDigest(DigestAlgorithm.SHA512, bytes(64)),
        ),
        (REPR_DIGEST, ChunkDigest(DigestAlgorithm.SHA1, SHA1)),
        ("crc32c=:AAAAAA==:", None),
    ],
)
def test_the_strongest_known_digest_counts(digest: str, expected: ChunkDigest | None) -> None:
    request = fields(PARTIAL, Upload_Offset="0", Upload_Complete="?0", Content_Digest=digest)
    assert ietf.parse_append(request, InteropVersion.V8).digest == expected


@pytest.mark.parametrize("digest", ["sha-256=:AAAA:", "sha-256=AAAA=", "garbage ="])
def test_content_digests_that_are_refused(digest: str) -> None:
    request = fields(PARTIAL, Upload_Offset="0", Upload_Complete="?0", Content_Digest=digest)
    with pytest.raises(InvalidDigest):
        ietf.parse_append(request, InteropVersion.V8)


@pytest.mark.parametrize(
    ("error", "status", "headers", "problem_type"),
    [
        (ProtocolViolation(), 400, {}, "about:blank"),
        (InvalidDigest(), 400, {}, f"{TYPES}digest-invalid-values"),
        (UnsupportedContentType(), 415, {}, "about:blank"),
        (FieldTooLarge(), 431, {}, "about:blank"),
        (UploadTooLarge(1), 413, {"Upload-Limit": "max-size=99"}, "about:blank"),
        (ChecksumMismatch(), 400, {}, f"{TYPES}digest-mismatching-values"),
        (sessions.UploadNotFound(ID), 404, {}, "about:blank"),
        (sessions.UploadGone(UploadState.CANCELLED), 410, {}, "about:blank"),
        (sessions.OffsetMismatch(5, 7), 409, {"Upload-Offset": "5"}, f"{TYPES}mismatching-upload-offset"),
        (sessions.UploadTakenOver(), 409, {}, "about:blank"),
        (sessions.InconsistentLength(1, 2), 400, {}, f"{TYPES}inconsistent-upload-length"),
        (sessions.ChunkDigestMismatch(), 400, {}, f"{TYPES}digest-mismatching-values"),
        (sessions.TooManyUploads(1000, 60), 429, {"Retry-After": "60"}, "about:blank"),
        (sessions.UploadForbidden("asset.upload"), 403, {}, "about:blank"),
    ],
)
def test_the_status_of_each_error(error: Exception, status: int, headers: dict[str, str], problem_type: str) -> None:
    refusal = ietf.refuse(error, InteropVersion.V8, 99)
    assert refusal is not None
    assert (refusal.status, refusal.problem_type) == (status, problem_type)
    assert refusal.headers == {**headers, "Upload-Draft-Interop-Version": "8"}


def test_a_wrong_offset_tells_both() -> None:
    refusal = ietf.refuse(sessions.OffsetMismatch(5, 7), InteropVersion.V8, 99)
    assert refusal is not None
    assert refusal.members == {"expected-offset": 5, "provided-offset": 7}


@pytest.mark.parametrize("version", list(InteropVersion))
@pytest.mark.parametrize("is_complete", [False, True])
def test_the_fields_of_a_status(version: InteropVersion, *, is_complete: bool) -> None:
    expires_at = datetime.now(UTC) + timedelta(hours=1, seconds=0.9)
    status = UploadStatus(ID, UploadState.RECEIVING, 5, None, expires_at)
    if is_complete:
        status = UploadStatus(ID, UploadState.COMPLETE, 9, 9, expires_at, result=UploadResult(True, ID))

    sent = ietf.build_status_fields(version, status, 99)

    assert sent["Upload-Offset"] == ("9" if is_complete else "5")
    assert sent.get("Upload-Length") == ("9" if is_complete else None)
    assert sent["Cache-Control"] == "no-store"
    if version is InteropVersion.V3:
        assert sent["Upload-Incomplete"] == ("?0" if is_complete else "?1")
    else:
        assert sent["Upload-Complete"] == ("?1" if is_complete else "?0")
    if version.age_parameter is None:
        assert "Upload-Limit" not in sent
    else:
        assert sent["Upload-Limit"] == f"max-size=99, {version.age_parameter}=3600"
    known = None if version is InteropVersion.LATEST else str(version.value)
    assert sent.get("Upload-Draft-Interop-Version") == known
