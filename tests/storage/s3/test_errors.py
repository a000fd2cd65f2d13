"""The table from S3's codes to typed errors."""

from __future__ import annotations

import pytest

from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectNotFound,
    ObjectTooLarge,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.s3.protocol.errors import S3RequestRefused, is_denied, is_unsupported, translate_s3_error


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("NoSuchKey", 404, ObjectNotFound),
        ("404", 404, ObjectNotFound),
        ("NoSuchBucket", 404, StorageUnavailable),
        ("PreconditionFailed", 412, ObjectChanged),
        ("AccessDenied", 403, StoragePermission),
        ("403", 403, StoragePermission),
        ("InvalidAccessKeyId", 403, StoragePermission),
        ("SignatureDoesNotMatch", 403, StoragePermission),
        ("ExpiredToken", 400, StoragePermission),
        ("SlowDown", 503, StorageUnavailable),
        ("InternalError", 500, StorageUnavailable),
        ("WhoKnows", 502, StorageUnavailable),
        ("BadDigest", 400, StorageUnavailable),
        ("QuotaExceeded", 403, StorageFull),
        ("", 507, StorageFull),
        ("EntityTooLarge", 400, ObjectTooLarge),
        ("KeyTooLongError", 400, InvalidKey),
        ("WhoKnows", 400, S3RequestRefused),
    ],
)
def test_codes_become_typed_errors(code: str, status: int, kind: type[StorageError]) -> None:
    error = translate_s3_error("a/b.jpg", "get", code, status)
    assert type(error) is kind
    assert (error.key, error.backend) == ("a/b.jpg", "s3")
    assert error.retryable is (kind is StorageUnavailable)


def test_a_missing_bucket_never_looks_like_a_missing_object() -> None:
    assert "no such bucket" in str(translate_s3_error("a", "get", "NoSuchBucket", 404))


def test_what_a_store_has_not_and_what_it_forbids() -> None:
    assert is_unsupported("NotImplemented", 501)
    assert not is_unsupported("AccessDenied", 403)
    assert is_denied("", 403)
    assert is_denied("AccessDenied", 403)
    assert not is_denied("SignatureDoesNotMatch", 403)
