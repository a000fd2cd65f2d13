"""What the routes of both protocols have in common: the caller, the id in the path, the asset in the response, the form of errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError, to_api_error
from app.api.models.assets import UploadResponse, UploadStatus
from app.api.services import Services, get_services
from app.catalog.errors import CatalogError
from app.storage.errors import StorageError
from app.uploads.errors import UploadError
from app.uploads.protocols.errors import Refusal
from app.uploads.protocols.request_fields import RequestFields
from app.uploads.sessions.errors import UploadNotFound, UploadTakenOver
from app.uploads.sessions.session_values import UploadCaller, UploadChunk
from app.uploads.sessions.session_values import UploadStatus as UploadSessionStatus
from app.uploads.upload_result import UploadResult

COLLECTION_METHODS = "OPTIONS, POST"
UPLOAD_METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST"
STATUS_ATTEMPTS = 3
_NIL = UUID(int=0)

identify_uploader = require_permission(Permission.ASSET_UPLOAD)
Uploader = Annotated[Identity, Depends(identify_uploader)]
ServicesDependency = Annotated[Services, Depends(get_services)]
RefuseError = Callable[[Exception], Refusal | None]


def read_fields(request: Request) -> RequestFields:
    """The request's header fields."""
    return RequestFields(request.scope["headers"])


async def get_fields(request: Request) -> RequestFields:
    """Dependency, as `read_fields`. Async, since FastAPI calls other functions in a thread."""
    return read_fields(request)


Fields = Annotated[RequestFields, Depends(get_fields)]


def build_caller(identity: Identity) -> UploadCaller:
    return UploadCaller(identity.user, identity.credential_id, Permission.ASSET_UPLOAD)


def parse_upload_id(text: str) -> UUID:
    """Raises `UploadNotFound` for a text that is no id of ours."""
    try:
        upload_id = UUID(text)
    except ValueError:
        raise UploadNotFound(_NIL) from None
    if str(upload_id) != text.lower():
        raise UploadNotFound(_NIL)
    return upload_id


async def get_settled_status(services: Services, identity: Identity, upload_id: UUID) -> UploadSessionStatus:
    """The upload's status. A late request of a broken connection may take the upload over meanwhile: this request takes it back, since its
    client has sent it last. Raises `UploadTakenOver` after some attempts: then another client is at work."""
    for _ in range(STATUS_ATTEMPTS - 1):
        with suppress(UploadTakenOver):
            return await services.upload_sessions.get_status(build_caller(identity), upload_id)
    return await services.upload_sessions.get_status(build_caller(identity), upload_id)


def hold_upload(services: Services, identity: Identity, chunk: UploadChunk | None) -> AbstractContextManager[None]:
    """Counts the block as an upload of the caller's, if it brings bytes. Raises `LimitReached`."""
    return nullcontext() if chunk is None else services.limits.uploads.hold(identity.user.id)


async def append_first_bytes(
    request: Request,
    services: Services,
    caller: UploadCaller,
    upload_id: UUID,
    chunk: UploadChunk,
    *,
    is_location_known: bool,
) -> UploadSessionStatus:
    """Append the body of the request that began the upload. Where that fails and the client does not know the location, nobody can
    continue: the upload is cancelled."""
    try:
        return await services.upload_sessions.append(caller, upload_id, chunk, request.receive)
    except (UploadError, CatalogError, StorageError):
        if not is_location_known:
            with suppress(UploadError, CatalogError):
                await services.upload_sessions.cancel(caller, upload_id)
        raise


def build_location(services: Services, prefix: str, upload_id: UUID) -> str:
    return f"{services.settings.public_url or ''}{prefix}/{upload_id}"


def build_asset_response(result: UploadResult, headers: dict[str, str], status_code: int) -> Response:
    """The asset's JSON, as a plain upload has it."""
    asset = UploadResponse(
        id=result.asset_id,
        status=UploadStatus.CREATED if result.created else UploadStatus.DUPLICATE,
        added=list(result.added) or None,
    )
    return Response(
        asset.model_dump_json(by_alias=True, exclude_none=True),
        status_code=status_code,
        headers={"Cache-Control": "no-store"} | headers,
        media_type="application/json",
    )


def convert_error(error: Exception, refuse: RefuseError) -> ApiError:
    """The response by the protocol's table; by the general table for an error that is not in it."""
    general = to_api_error(error)
    refusal = refuse(error)
    if refusal is None:
        return general
    return ApiError(
        refusal.status,
        str(error),
        headers={**general.headers, **refusal.headers},
        problem_type=refusal.problem_type,
        members=refusal.members,
    )
