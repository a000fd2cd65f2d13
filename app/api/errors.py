"""Maps every exception to an HTTP error response: one table for the status, one body format for all errors.

The body is valid for RFC 9457, Immich v2 (`message`, `error`, `statusCode`, `correlationId`) and Immich v3 (`message`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.archives import errors as archives
from app.catalog import errors as catalog
from app.concurrency_limit import LimitReached
from app.delivery import errors as delivery
from app.libraries import errors as libraries
from app.media import errors as media
from app.media import portraits
from app.storage import errors as storage
from app.uploads import errors as uploads
from app.uploads.sessions import errors as sessions

PROBLEM_JSON = "application/problem+json"
ERROR_CONVERSION = "convert_error"
"""Key of the scope under which a route puts the function that replaces `to_api_error` for its requests."""

_UNREGISTERED_STATUSES = {460: "Checksum Mismatch"}


class ApiError(Exception):
    """A response with an error status. `message` is read by people; `headers` are added to the response, and `members` to the problem
    details of type `problem_type` (RFC 9457 section 3.2)."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        detail: str | None = None,
        headers: Mapping[str, str] | None = None,
        problem_type: str = "about:blank",
        members: Mapping[str, int] | None = None,
    ) -> None:
        self.status = status
        self.message = message
        self.detail = detail or message
        self.headers = dict(headers or {})
        self.problem_type = problem_type
        self.members = dict(members or {})
        super().__init__(message)


def build_problem(error: ApiError, correlation_id: str) -> dict[str, Any]:
    title = _UNREGISTERED_STATUSES.get(error.status) or HTTPStatus(error.status).phrase
    return {
        **error.members,
        "type": error.problem_type,
        "title": title,
        "status": error.status,
        "detail": error.detail,
        "message": error.message,
        "error": title,
        "statusCode": error.status,
        "correlationId": correlation_id,
    }


def encode_problem(error: ApiError, correlation_id: str) -> bytes:
    return json.dumps(build_problem(error, correlation_id), ensure_ascii=False).encode("utf-8", "replace")


_MAX_NAMED_FIELDS = 20
_MAX_NAMED_CHARACTERS = 500
"""Bounds on the client's own field names that an error message repeats."""

_ErrorFactory = Callable[[Any], ApiError]


def _with_status(status: int, message: str | None = None, **headers: str) -> _ErrorFactory:
    """A factory of errors with this status. Without a `message` the exception's own text is used."""
    header_fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda error: ApiError(status, message or str(error), headers=header_fields)


def _decode_headers(headers: delivery.RawHeaders) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}


_ERROR_TABLE: dict[type[Exception], _ErrorFactory] = {
    # The first class in the exception's method resolution order that has an entry decides.
    storage.ObjectNotFound: _with_status(404, "Asset media not found"),
    storage.ObjectTooLarge: _with_status(413, "The file is larger than the store can hold"),
    storage.StorageFull: _with_status(507, "The storage is full"),
    storage.StoragePermission: _with_status(503, "The storage refuses access", retry_after="30"),
    storage.StorageRefused: _with_status(503, "The storage refuses the request", retry_after="30"),
    storage.StorageReadOnly: _with_status(503, "The storage can be read only", retry_after="30"),
    storage.StorageUnavailable: _with_status(503, "The storage does not answer", retry_after="5"),
    storage.InvalidKey: _with_status(500, "The storage can not hold a file of this name"),
    storage.ObjectIncomplete: _with_status(500, "The file did not reach the storage whole"),
    storage.StorageError: _with_status(500, "The storage is not as the catalogue says"),
    catalog.QuotaExceeded: lambda error: ApiError(400, "Quota has been exceeded!", detail=str(error)),
    catalog.NotFound: _with_status(404),
    catalog.InvalidCursor: _with_status(400),
    catalog.InvalidEmail: _with_status(400),
    catalog.NotAPhoto: _with_status(400),
    catalog.DateOutOfRange: _with_status(400),
    catalog.EmailTaken: _with_status(409),
    catalog.WriteLeaseLost: _with_status(503, "The upload was given up; send it again", retry_after="1"),
    catalog.CatalogDamaged: _with_status(503, "The catalogue is damaged", retry_after="30"),
    catalog.CatalogLocked: _with_status(503, "The catalogue is locked by another process", retry_after="5"),
    catalog.CatalogFull: _with_status(503, "The catalogue's disk is full", retry_after="30"),
    catalog.CatalogReadOnly: _with_status(503, "The catalogue can be read only", retry_after="30"),
    catalog.CatalogFileMoved: _with_status(503, "The catalogue's file was moved away or replaced", retry_after="30"),
    catalog.CatalogBusy: _with_status(503, "Too many requests wait for the catalogue, try later", retry_after="5"),
    catalog.CatalogUnavailable: _with_status(503, "The catalogue does not answer", retry_after="5"),
    uploads.UploadTooLarge: _with_status(413),
    uploads.UploadTooSlow: _with_status(408),
    uploads.LeaseLost: _with_status(503, retry_after="1"),
    sessions.UploadNotFound: _with_status(404),
    sessions.UploadGone: _with_status(410),
    sessions.OffsetMismatch: _with_status(409),
    sessions.UploadTakenOver: _with_status(409),
    sessions.UploadForbidden: _with_status(403),
    sessions.TooManyUploads: _with_status(429),
    uploads.UploadError: _with_status(400),
    delivery.PreconditionFailed: lambda error: ApiError(412, str(error), headers=_decode_headers(error.headers)),
    delivery.UnsatisfiableRange: lambda error: ApiError(416, str(error), headers=_decode_headers(error.headers)),
    libraries.InvalidLibrary: _with_status(400),
    libraries.ForeignLibrary: _with_status(400),
    libraries.UnknownLibrary: _with_status(404),
    libraries.ScanRunning: _with_status(409),
    archives.NotArchivable: _with_status(409),
    archives.MemberLost: _with_status(410),
    archives.ManifestUnreadable: _with_status(410, "The archive was planned by another version: make the link anew"),
    media.MissingTool: _with_status(501),
    media.MediaDiskFull: _with_status(507),
    media.ProcessingTimedOut: _with_status(503, retry_after="30"),
    media.WorkerCrashed: _with_status(503, retry_after="30"),
    media.SourceUnreadable: _with_status(503, retry_after="30"),
    media.MediaError: _with_status(400),
    portraits.PortraitSourceMissing: _with_status(409),
    portraits.PortraitConflict: _with_status(409, "Somebody changed it at the same moment; send it again"),
    LimitReached: lambda error: ApiError(
        429 if error.is_own else 503, str(error), headers={"retry-after": str(error.retry_after)}
    ),
    HTTPException: lambda error: ApiError(error.status_code, str(error.detail), headers=error.headers),
    RequestValidationError: lambda error: ApiError(400, _describe_validation_error(error)),
    ClientDisconnect: _with_status(400, "The client closed the connection"),
}


def to_api_error(error: Exception) -> ApiError:
    """Convert any exception. An exception without an entry becomes a 500 that discloses nothing."""
    if isinstance(error, ApiError):
        return error
    for kind in type(error).__mro__:
        if kind in _ERROR_TABLE:
            return _ERROR_TABLE[kind](error)
    return ApiError(500, "Internal server error")


def install_error_handlers(app: FastAPI) -> None:
    """Register handlers so that every failure inside FastAPI gets the error format.

    Starlette raises unexpected exceptions again after their response; `ApiApplication` logs them.
    """

    async def handle(request: Request, error: Exception) -> Response:
        return build_error_response(request, error)

    for kind in (HTTPException, RequestValidationError, ApiError, Exception):
        app.add_exception_handler(kind, handle)


def build_error_response(request: Request, error: Exception) -> Response:
    """The response to any exception, in the error format."""
    convert: Callable[[Exception], ApiError] = request.scope.get(ERROR_CONVERSION, to_api_error)
    api_error = convert(error)
    body = encode_problem(api_error, request.scope["correlation_id"])
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff", **api_error.headers}
    return Response(body, status_code=api_error.status, media_type=PROBLEM_JSON, headers=headers)


def _describe_validation_error(error: RequestValidationError) -> str:
    problems = error.errors()
    unknown = [".".join(map(str, problem["loc"][1:])) for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        return f"{', '.join(unknown[:_MAX_NAMED_FIELDS])[:_MAX_NAMED_CHARACTERS]}: not known here, and without it other assets would be meant"
    first = problems[0]
    path = [str(part) for part in first["loc"][1:]]
    field = ".".join(path) if path and not path[0].isdigit() else str(first["loc"][0])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{field}: {first['msg']}{more}"
