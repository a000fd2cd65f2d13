"""Routes of the IETF draft "Resumable Uploads for HTTP". Bodies are streamed to `UploadSessions`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from app.api.errors import ERROR_CONVERSION, ApiError
from app.api.http.responses.interim_responses import find_interim_responder
from app.api.routes.uploads import descriptions as describe
from app.api.routes.uploads.upload_requests import (
    COLLECTION_METHODS,
    Fields,
    ServicesDependency,
    Uploader,
    append_first_bytes,
    build_asset_response,
    build_caller,
    build_location,
    convert_error,
    get_settled_status,
    hold_upload,
    parse_upload_id,
    read_fields,
)
from app.api.services import Services
from app.uploads.protocols import ietf
from app.uploads.protocols.ietf import InteropVersion
from app.uploads.sessions.session_values import UploadStatus

PREFIX = "/api/upload"


class IetfRoute(APIRoute):
    """Gives every error the status, the fields and the problem type that the draft asks for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            max_size = request.app.state.services.settings.upload_limit

            def to_api_error(error: Exception) -> ApiError:
                version = ietf.find_version(read_fields(request))
                return convert_error(error, lambda error: ietf.refuse(error, version, max_size))

            request.scope[ERROR_CONVERSION] = to_api_error
            return await handle(request)

        return answer


router = APIRouter(prefix=PREFIX, tags=["uploads"], route_class=IetfRoute)


@router.options("", status_code=204, responses=describe.IETF_CAPABILITIES, openapi_extra={"security": []})
async def describe_ietf(services: ServicesDependency) -> Response:
    """The limits of the draft here."""
    return _describe(services, COLLECTION_METHODS)


@router.options("/{upload_id}", status_code=204, include_in_schema=False)
async def describe_ietf_upload(services: ServicesDependency) -> Response:
    return _describe(services, "DELETE, GET, HEAD, OPTIONS, PATCH")


@router.post("", status_code=201, responses=describe.IETF_CREATED, openapi_extra=describe.IETF_CREATION)
async def create_ietf_upload(
    request: Request, fields: Fields, identity: Uploader, services: ServicesDependency
) -> Response:
    """Begin an upload, with all of the file (`Upload-Complete: ?1`), its first bytes, or nothing (`?0`)."""
    version = ietf.find_version(fields)
    creation = ietf.parse_creation(fields, version)
    caller = build_caller(identity)
    with hold_upload(services, identity, creation.chunk):
        status = await services.upload_sessions.create(caller, creation.new)
        location = {"Location": build_location(services, PREFIX, status.id)}
        if creation.chunk is not None and status.result is None:
            interim = _Interim(request, version, services)
            is_told = interim.send(location | ietf.build_limit_fields(version, interim.max_size, status.expires_at))
            chunk = ietf.with_progress(creation.chunk, interim.on_progress)
            status = await append_first_bytes(request, services, caller, status.id, chunk, is_location_known=is_told)
    return _respond(version, status, services, unfinished_status=201, headers=location)


@router.head("/{upload_id}", status_code=204, responses=describe.IETF_STATUS, openapi_extra=describe.IETF_REQUEST)
@router.get("/{upload_id}", status_code=204, include_in_schema=False)
async def get_ietf_status(upload_id: str, fields: Fields, identity: Uploader, services: ServicesDependency) -> Response:
    """How many bytes have arrived. The next PATCH continues there, and a request that is still sending ends."""
    status = await get_settled_status(services, identity, parse_upload_id(upload_id))
    headers = ietf.build_status_fields(ietf.find_version(fields), status, services.settings.upload_limit)
    return Response(status_code=204, headers=headers)


@router.patch("/{upload_id}", status_code=204, responses=describe.IETF_APPENDED, openapi_extra=describe.IETF_APPEND)
async def append_to_ietf_upload(
    request: Request, upload_id: str, fields: Fields, identity: Uploader, services: ServicesDependency
) -> Response:
    """Append bytes; with `Upload-Complete: ?1` the last ones, and the response is that of the whole upload."""
    version = ietf.find_version(fields)
    chunk = ietf.with_progress(ietf.parse_append(fields, version), _Interim(request, version, services).on_progress)
    with hold_upload(services, identity, chunk):
        status = await services.upload_sessions.append(
            build_caller(identity), parse_upload_id(upload_id), chunk, request.receive
        )
    return _respond(version, status, services, unfinished_status=204, headers={})


@router.delete("/{upload_id}", status_code=204, responses=describe.IETF_CANCELLED, openapi_extra=describe.IETF_REQUEST)
async def cancel_ietf_upload(upload_id: str, identity: Uploader, services: ServicesDependency) -> Response:
    """End an unfinished upload. What has arrived is deleted."""
    await services.upload_sessions.cancel(build_caller(identity), parse_upload_id(upload_id))
    return Response(status_code=204)


class _Interim:
    """The interim responses of one request: none for a client that does not tell its version."""

    def __init__(self, request: Request, version: InteropVersion, services: Services) -> None:
        self.max_size = services.settings.upload_limit
        self._version = version
        self._responder = None if version is InteropVersion.LATEST else find_interim_responder(request.scope)

    def send(self, headers: dict[str, str]) -> bool:
        """Returns whether it was sent."""
        if self._responder is None:
            return False
        return self._responder.send(ietf.INTERIM_STATUS, ietf.build_version_fields(self._version) | headers)

    def on_progress(self, offset: int) -> None:
        self.send({"Upload-Offset": str(offset)})


def _describe(services: Services, methods: str) -> Response:
    limits = ietf.build_limit_fields(InteropVersion.LATEST, services.settings.upload_limit)
    return Response(status_code=204, headers={"Allow": methods, "Accept-Patch": ietf.PARTIAL_UPLOAD, **limits})


def _respond(
    version: InteropVersion,
    status: UploadStatus,
    services: Services,
    *,
    unfinished_status: int,
    headers: dict[str, str],
) -> Response:
    headers = headers | ietf.build_status_fields(version, status, services.settings.upload_limit)
    if status.result is None:
        return Response(status_code=unfinished_status, headers=headers)
    return build_asset_response(status.result, headers, 201 if status.result.created else 200)
