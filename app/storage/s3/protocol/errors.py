"""Translates S3 error codes and HTTP statuses to `StorageError`s, by one table. Pure: no I/O, no botocore.

An error's `detail` has the store's code and the operation. `error_hints` adds the store's message, without secrets.
"""

from __future__ import annotations

from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectNotFound,
    ObjectTooLarge,
    StorageError,
    StorageFull,
    StoragePermission,
    StorageRefused,
    StorageUnavailable,
)

BACKEND = "s3"

_ERRORS_BY_CODE: dict[str, type[StorageError]] = {
    "NoSuchKey": ObjectNotFound,
    "NotFound": ObjectNotFound,
    "NoSuchVersion": ObjectNotFound,
    "NoSuchUpload": ObjectNotFound,
    # Not ObjectNotFound: a missing bucket must never look like a lost photo.
    "NoSuchBucket": StorageUnavailable,
    "PreconditionFailed": ObjectChanged,
    "KeyTooLongError": InvalidKey,
    "InvalidObjectName": InvalidKey,
    "XMinioInvalidObjectName": InvalidKey,
    "EntityTooLarge": ObjectTooLarge,
    "QuotaExceeded": StorageFull,
    "XMinioStorageFull": StorageFull,
    "XMinioAdminBucketQuotaExceeded": StorageFull,
    "InsufficientStorage": StorageFull,
    "AccessDenied": StoragePermission,
    "AccountProblem": StoragePermission,
    "AllAccessDisabled": StoragePermission,
    "AuthorizationHeaderMalformed": StoragePermission,
    "ExpiredToken": StoragePermission,
    "ExpiredTokenException": StoragePermission,
    "Forbidden": StoragePermission,
    "IllegalLocationConstraintException": StoragePermission,
    "InvalidAccessKeyId": StoragePermission,
    "InvalidClientTokenId": StoragePermission,
    "InvalidToken": StoragePermission,
    "PermanentRedirect": StoragePermission,
    "RequestExpired": StoragePermission,
    "RequestInTheFuture": StoragePermission,
    "RequestTimeTooSkewed": StoragePermission,
    "SignatureDoesNotMatch": StoragePermission,
    "TokenRefreshRequired": StoragePermission,
    "Unauthorized": StoragePermission,
    "UnauthorizedAccess": StoragePermission,
    "UnrecognizedClientException": StoragePermission,
    # Damaged in transit: a retry may succeed.
    "BadDigest": StorageUnavailable,
    "IncompleteBody": StorageUnavailable,
    "InvalidDigest": StorageUnavailable,
    "XAmzContentChecksumMismatch": StorageUnavailable,
    "XAmzContentSHA256Mismatch": StorageUnavailable,
    "ConditionalRequestConflict": StorageUnavailable,
    "OperationAborted": StorageUnavailable,
    "InternalError": StorageUnavailable,
    "RequestTimeout": StorageUnavailable,
    "ServiceUnavailable": StorageUnavailable,
    "SlowDown": StorageUnavailable,
    "ThrottlingException": StorageUnavailable,
    "TooManyRequests": StorageUnavailable,
}

_ERRORS_BY_STATUS: dict[int, type[StorageError]] = {
    301: StoragePermission,
    307: StorageUnavailable,
    401: StoragePermission,
    403: StoragePermission,
    404: ObjectNotFound,
    408: StorageUnavailable,
    409: StorageUnavailable,
    412: ObjectChanged,
    413: ObjectTooLarge,
    429: StorageUnavailable,
    507: StorageFull,
}

_UNSUPPORTED_CODES = frozenset({"NotImplemented", "MethodNotAllowed", "UnsupportedOperation", "MissingContentMD5"})


class S3RequestRefused(StorageRefused):
    """The store refused a valid request; `detail` has its code."""


class MultipartUploadMissing(StorageUnavailable):
    """The multipart upload was aborted or completed, or never existed. A plain write may be repeated as a whole."""


def translate_s3_error(key: str, operation: str, code: str, status: int) -> StorageError:
    """The `StorageError` for an error response. `code` is S3's; for a HEAD it is the status as text."""
    kind = _ERRORS_BY_CODE.get(code) or _ERRORS_BY_STATUS.get(status)
    if kind is None:
        kind = StorageUnavailable if status >= 500 and not is_unsupported(code, status) else S3RequestRefused
    detail = "no such bucket" if code == "NoSuchBucket" else f"{operation}: {code or status}"
    return kind(key, BACKEND, detail)


def is_unsupported(code: str, status: int) -> bool:
    """True where the store does not implement the request, or its condition."""
    return code in _UNSUPPORTED_CODES or status == 501


def is_denied(code: str, status: int) -> bool:
    """True for the response to a missing object when the credentials may not list the bucket."""
    return status == 403 and code in ("", "403", "AccessDenied", "Forbidden")
