"""Routes of tus 1.0. Bodies are streamed to `UploadSessions`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from app.api.authentication.authenticator import Identity
from app.api.errors import ERROR_CONVERSION, ApiError
from app.api.routes.uploads import descriptions as describe
from app.api.routes.uploads.upload_requests import (
    COLLECTION_METHODS,
    UPLOAD_METHODS,
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
    identify_uploader,
    parse_upload_id,
    read_fields,
)
from app.api.services import Services
from app.uploads.protocols import tus
from app.uploads.protocols.errors import ProtocolViolation
from app.uploads.protocols.request_fields import RequestFields

PREFIX = "/api/uploads"
_ASSET_MEDIA_TYPES = frozenset(("*/*", "application/*", "application/json"))


class TusRoute(APIRoute):
    """Checks the version before anything else, and gives every error the status and the fields that tus asks for. Calls the endpoint of PATCH
    itself, without FastAPI's dependencies: a large file is a hundred of these requests."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            fields = read_fields(request)
            request.scope[ERROR_CONVERSION] = _to_api_error
            method = tus.find_method(request.method, fields)
            if method in ("GET", "HEAD"):  # HEAD is routed as GET
                request.scope[ERROR_CONVERSION] = _to_api_error_of_head
            if method != "OPTIONS":
                tus.check_version(fields)
            if request.method == "PATCH":
                caller = await identify_uploader(request)
                upload_id: str = request.path_params["upload_id"]
                return await append_to_tus_upload(request, upload_id, fields, caller, request.app.state.services)
            return await handle(request)

        return answer


def find_error_conversion(path: str) -> Callable[[Exception], ApiError] | None:
    """For errors of requests that match no route."""
    return _to_api_error if path == PREFIX or path.startswith(f"{PREFIX}/") else None


router = APIRouter(prefix=PREFIX, tags=["uploads"], route_class=TusRoute)


@router.options("", status_code=204, responses=describe.TUS_CAPABILITIES, openapi_extra={"security": []})
async def describe_tus(services: ServicesDependency) -> Response:
    """The versions, extensions and limits of tus here."""
    return _describe(services, COLLECTION_METHODS)


@router.options("/{upload_id}", status_code=204, include_in_schema=False)
async def describe_tus_upload(services: ServicesDependency) -> Response:
    return _describe(services, UPLOAD_METHODS)


@router.post("", status_code=201, responses=describe.TUS_CREATED, openapi_extra=describe.TUS_CREATION)
async def create_tus_upload(
    request: Request, fields: Fields, identity: Uploader, services: ServicesDependency
) -> Response:
    """Begin an upload; with a body, its first bytes. tus 1.0: creation, creation-with-upload, creation-defer-length."""
    if tus.find_method("POST", fields) == "OPTIONS":
        return _describe(services, COLLECTION_METHODS)
    creation = tus.parse_creation(fields, request.headers.get("x-immich-checksum"))
    caller = build_caller(identity)
    with hold_upload(services, identity, creation.chunk):
        status = await services.upload_sessions.create(caller, creation.new)
        if creation.chunk is not None and status.result is None:
            status = await append_first_bytes(
                request, services, caller, status.id, creation.chunk, is_location_known=False
            )
    headers = {"Location": build_location(services, PREFIX, status.id), **tus.build_offset_fields(status)}
    if status.result is not None:
        return build_asset_response(status.result, headers, 201)
    return Response(status_code=201, headers=headers)


@router.head("/{upload_id}", responses=describe.TUS_STATUS, openapi_extra=describe.TUS_REQUEST)
@router.get("/{upload_id}", include_in_schema=False)
async def get_tus_status(upload_id: str, identity: Uploader, services: ServicesDependency) -> Response:
    """How many bytes have arrived. The next PATCH continues there, and a request that is still sending ends."""
    return await _get_status(upload_id, identity, services)


@router.patch("/{upload_id}", status_code=204, responses=describe.TUS_APPENDED, openapi_extra=describe.TUS_APPEND)
async def append_to_tus_upload(
    request: Request, upload_id: str, fields: Fields, identity: Uploader, services: ServicesDependency
) -> Response:
    """Append bytes. What arrived before the connection broke is kept, unless the request has an `Upload-Checksum`."""
    return await _append(request, upload_id, fields, identity, services)


@router.delete("/{upload_id}", status_code=204, responses=describe.TUS_CANCELLED, openapi_extra=describe.TUS_REQUEST)
async def cancel_tus_upload(upload_id: str, identity: Uploader, services: ServicesDependency) -> Response:
    """End an unfinished upload. What has arrived is deleted."""
    return await _cancel(upload_id, identity, services)


@router.post("/{upload_id}", include_in_schema=False)
async def call_overridden_method(
    request: Request, upload_id: str, fields: Fields, identity: Uploader, services: ServicesDependency
) -> Response:
    """For clients that cannot send PATCH, DELETE or HEAD: the method is that of `X-HTTP-Method-Override`."""
    method = tus.find_method("POST", fields)
    if method == "PATCH":
        return await _append(request, upload_id, fields, identity, services)
    if method == "HEAD":
        return await _get_status(upload_id, identity, services)
    if method == "DELETE":
        return await _cancel(upload_id, identity, services)
    if method == "OPTIONS":
        return _describe(services, UPLOAD_METHODS)
    raise ProtocolViolation("X-HTTP-Method-Override must be PATCH, HEAD, DELETE or OPTIONS")


def _describe(services: Services, methods: str) -> Response:
    capabilities = tus.build_capability_fields(services.settings.upload_limit)
    return Response(status_code=204, headers={"Allow": methods, **capabilities})


async def _get_status(upload_id: str, identity: Identity, services: Services) -> Response:
    status = await get_settled_status(services, identity, parse_upload_id(upload_id))
    return Response(status_code=200, headers=tus.build_status_fields(status))


async def _append(
    request: Request, upload_id: str, fields: RequestFields, identity: Identity, services: Services
) -> Response:
    chunk = tus.parse_append(fields)
    with hold_upload(services, identity, chunk):
        status = await services.upload_sessions.append(
            build_caller(identity), parse_upload_id(upload_id), chunk, request.receive
        )
    headers = tus.build_offset_fields(status)
    if status.result is not None and _accepts_asset(fields):
        return build_asset_response(status.result, headers, 200)
    return Response(status_code=204, headers=headers)


async def _cancel(upload_id: str, identity: Identity, services: Services) -> Response:
    await services.upload_sessions.cancel(build_caller(identity), parse_upload_id(upload_id))
    return Response(status_code=204, headers={"Tus-Resumable": tus.VERSION})


def _accepts_asset(fields: RequestFields) -> bool:
    """Whether the client asks for a body. Some that name no type accept nothing but 204, which the specification demands."""
    accepted = (fields.get_list("Accept") or "").lower().split(",")
    return any(each.partition(";")[0].strip() in _ASSET_MEDIA_TYPES for each in accepted)


def _to_api_error(error: Exception) -> ApiError:
    api_error = convert_error(error, tus.refuse)
    api_error.headers.setdefault("Tus-Resumable", tus.VERSION)
    return api_error


def _to_api_error_of_head(error: Exception) -> ApiError:
    api_error = _to_api_error(error)
    api_error.status = tus.choose_status_of_head(api_error.status)
    return api_error
