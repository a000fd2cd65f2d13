"""tus: the request's fields as a table of cases, and the status of every error."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from uuid import UUID

import pytest

from app.catalog.schema.upload_records import UploadState
from app.uploads.errors import InvalidChecksum, InvalidField, UploadTooLarge
from app.uploads.protocols import tus
from app.uploads.protocols.errors import (
    FieldTooLarge,
    InvalidDigest,
    ProtocolViolation,
    UnsupportedContentType,
    UnsupportedVersion,
)
from app.uploads.protocols.request_fields import MAX_OFFSET, RequestFields
from app.uploads.sessions import errors as sessions
from app.uploads.sessions.session_values import ChunkDigest, DigestAlgorithm, UploadStatus
from app.uploads.upload_result import UploadResult

ID = UUID("6f9f8f4e-58e3-4a63-9f0a-0f5b4b8f1c2d")
BAD_NUMBERS = ["", "-1", "+1", "1.0", "0x1", "1_0", "1 2", "1e3", "٣", "²", "1,1", str(2**63), "9" * 30]
BODY = {"Content-Type": tus.CONTENT_TYPE, "Content-Length": "5"}


def fields(*pairs: tuple[str, str], **named: str) -> RequestFields:
    every = [*pairs, *((name.replace("_", "-"), value) for name, value in named.items())]
    return RequestFields((name.encode("utf-8"), value.encode("utf-8")) for name, value in every)


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_creation_with_everything() -> None:
    metadata = f"filename {encode('ä b.jpg')},filetype {encode('image/jpeg')},isFavorite {encode('true')},empty,blank "
    sha1 = hashlib.sha1(b"whole").hexdigest()

    creation = tus.parse_creation(fields(Upload_Length="10", Upload_Metadata=metadata), sha1)

    assert creation.chunk is None
    assert creation.new.length == 10
    assert creation.new.filename == "ä b.jpg"
    assert creation.new.content_type == "image/jpeg"
    assert creation.new.raw_metadata == metadata.strip()
    assert creation.new.fields["isFavorite"] == "true"
    assert creation.new.fields["empty"] == creation.new.fields["blank"] == ""
    assert creation.new.declared_sha1 == bytes.fromhex(sha1)


@pytest.mark.parametrize("keys", [("filename", "filetype"), ("name", "type")])
def test_the_keys_that_clients_use_for_the_name_and_the_type(keys: tuple[str, str]) -> None:
    metadata = f"{keys[0]} {encode('a.png')},{keys[1]} {encode('image/png')}"
    new = tus.parse_creation(fields(Upload_Defer_Length="1", Upload_Metadata=metadata)).new
    assert (new.filename, new.content_type, new.length) == ("a.png", "image/png", None)


def test_a_creation_with_the_first_bytes() -> None:
    digest = hashlib.sha1(b"hello").digest()
    checksum = f"sha1 {base64.b64encode(digest).decode()}"
    chunk = tus.parse_creation(fields(*BODY.items(), Upload_Length="10", Upload_Checksum=checksum)).chunk
    assert chunk is not None
    assert (chunk.offset, chunk.content_length, chunk.is_last) == (0, 5, None)
    assert chunk.digest == ChunkDigest(DigestAlgorithm.SHA1, digest)


def test_a_chunked_body_has_no_length() -> None:
    chunk = tus.parse_append(fields(Content_Type=tus.CONTENT_TYPE, Transfer_Encoding="chunked", Upload_Offset="3"))
    assert (chunk.offset, chunk.content_length) == (3, None)


def test_an_append_that_tells_the_length() -> None:
    chunk = tus.parse_append(fields(*BODY.items(), Upload_Offset="0007", Upload_Length=str(MAX_OFFSET)))
    assert (chunk.offset, chunk.length) == (7, MAX_OFFSET)


@pytest.mark.parametrize("number", BAD_NUMBERS)
def test_numbers_that_are_none(number: str) -> None:
    with pytest.raises(ProtocolViolation):
        tus.parse_append(fields(*BODY.items(), Upload_Offset=number))
    with pytest.raises(ProtocolViolation):
        tus.parse_append(fields(*BODY.items(), Upload_Offset="1", Upload_Length=number))
    with pytest.raises(ProtocolViolation):
        tus.parse_creation(fields(Upload_Length=number))


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([], ProtocolViolation),
        ([("Upload-Length", "1"), ("Upload-Defer-Length", "1")], ProtocolViolation),
        ([("Upload-Length", "1"), ("Upload-Length", "2")], ProtocolViolation),
        ([("Upload-Defer-Length", "0")], ProtocolViolation),
        ([("Upload-Defer-Length", "")], ProtocolViolation),
        ([("Upload-Length", "1"), ("Upload-Concat", "partial")], ProtocolViolation),
        ([("Upload-Length", "1"), ("Content-Length", "1")], UnsupportedContentType),
        ([("Upload-Length", "1"), ("Content-Type", "image/jpeg"), ("Content-Length", "1")], UnsupportedContentType),
    ],
)
def test_creations_that_are_refused(pairs: list[tuple[str, str]], error: type[Exception]) -> None:
    with pytest.raises(error):
        tus.parse_creation(fields(*pairs))


def test_a_checksum_of_the_file_that_is_none() -> None:
    with pytest.raises(InvalidChecksum):
        tus.parse_creation(fields(Upload_Length="1"), "zz")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("filename !!!", ProtocolViolation),
        ("filename YQ", ProtocolViolation),
        ("filename YQ== YQ==", ProtocolViolation),
        ("filename YQ==,filename Yg==", ProtocolViolation),
        ("filename YQ==,", ProtocolViolation),
        (",", ProtocolViolation),
        (" YQ==,,", ProtocolViolation),
        ("näme YQ==", ProtocolViolation),
        ("a\tb YQ==", ProtocolViolation),
        (f"filename {base64.b64encode(bytes([255, 254])).decode()}", InvalidField),
        ("k " + "A" * tus.MAX_METADATA_CHARACTERS, FieldTooLarge),
        (",".join(f"k{number} YQ==" for number in range(tus.MAX_METADATA_PAIRS + 1)), FieldTooLarge),
    ],
)
def test_metadata_that_are_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        tus.parse_metadata(text)


def test_metadata_in_two_fields_are_refused() -> None:
    pairs = [("Upload-Length", "1"), ("Upload-Metadata", "a YQ=="), ("Upload-Metadata", "b YQ==")]
    with pytest.raises(ProtocolViolation):
        tus.parse_creation(fields(*pairs))


@pytest.mark.parametrize(
    ("checksum", "error"),
    [
        ("md5 1B2M2Y8AsgTpgAmY7PhCfg==", ProtocolViolation),
        ("SHA1 2jmj7l5rSw0yVb/vlWAYkK/YBwk=", ProtocolViolation),
        ("sha1", InvalidDigest),
        ("sha1 ", InvalidDigest),
        ("sha1 2jmj7l5rSw0yVb/vlWAYkK/YBw==", InvalidDigest),
        ("sha1 da39a3ee5e6b4b0d3255bfef95601890afd80709", InvalidDigest),
    ],
)
def test_checksums_that_are_refused(checksum: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        tus.parse_append(fields(*BODY.items(), Upload_Offset="0", Upload_Checksum=checksum))


@pytest.mark.parametrize("pairs", [[], [("Content-Type", "application/partial-upload")], [("Content-Type", "")]])
def test_an_append_of_another_type(pairs: list[tuple[str, str]]) -> None:
    with pytest.raises(UnsupportedContentType):
        tus.parse_append(fields(*pairs, Upload_Offset="0"))


@pytest.mark.parametrize("version", [None, "", "0.2.2", "1.0.1", "1.0.0,1.0.0"])
def test_other_versions(version: str | None) -> None:
    with pytest.raises(UnsupportedVersion):
        tus.check_version(fields(**({} if version is None else {"Tus_Resumable": version})))


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (UnsupportedVersion(), 412, {"Tus-Version": "1.0.0"}),
        (ProtocolViolation(), 400, {}),
        (InvalidDigest(), 400, {}),
        (UnsupportedContentType(), 415, {}),
        (FieldTooLarge(), 431, {}),
        (UploadTooLarge(1), 413, {}),
        (sessions.UploadNotFound(ID), 404, {}),
        (sessions.UploadGone(UploadState.EXPIRED), 410, {}),
        (sessions.OffsetMismatch(5, 7), 409, {"Upload-Offset": "5"}),
        (sessions.UploadTakenOver(), 423, {}),
        (sessions.InconsistentLength(1, 2), 400, {}),
        (sessions.ChunkDigestMismatch(), 460, {}),
        (sessions.TooManyUploads(1000, 60), 429, {"Retry-After": "60"}),
        (sessions.UploadForbidden("asset.upload"), 403, {}),
    ],
)
def test_the_status_of_each_error(error: Exception, status: int, headers: dict[str, str]) -> None:
    refusal = tus.refuse(error)
    assert refusal is not None
    assert (refusal.status, refusal.headers) == (status, headers)


def test_an_error_that_every_upload_may_have_is_left_to_the_general_table() -> None:
    assert tus.refuse(InvalidField("duration", "is too long")) is None


def test_the_fields_of_a_status() -> None:
    moment = datetime(2026, 11, 30, 8, 0, tzinfo=UTC)
    begun = UploadStatus(ID, UploadState.CREATED, 0, None, moment)
    complete = UploadStatus(ID, UploadState.COMPLETE, 9, 9, moment, "filename YQ==", UploadResult(True, ID))

    assert tus.build_status_fields(begun) == {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": "0",
        "Upload-Defer-Length": "1",
        "Upload-Expires": "Mon, 30 Nov 2026 08:00:00 GMT",
        "Cache-Control": "no-store",
    }
    assert tus.build_status_fields(complete).items() >= {
        ("Upload-Offset", "9"),
        ("Upload-Length", "9"),
        ("Upload-Metadata", "filename YQ=="),
        ("Mediavault-Asset-Id", str(ID)),
    }


@pytest.mark.parametrize(
    ("status", "of_head"), [(404, 404), (410, 410), (423, 423), (500, 423), (503, 423), (507, 423)]
)
def test_a_failure_of_head_that_passes_is_no_reason_to_begin_anew(status: int, of_head: int) -> None:
    assert tus.choose_status_of_head(status) == of_head
