"""Route of an upload. The body is streamed to `UploadIngest`; no form parser reads it first."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from app.api.models.assets import UploadResponse
from app.api.routes.uploads.upload_requests import ServicesDependency, Uploader, build_asset_response, identify_uploader


class _UploadRoute(APIRoute):
    """Calls the endpoint itself: for so many small requests, FastAPI's resolving of dependencies and its validation of the response take longer
    than all else on the event loop."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        async def handle(request: Request) -> Response:
            caller = await identify_uploader(request)
            return await upload_asset(request, caller, request.app.state.services)

        return handle


router = APIRouter(prefix="/api/assets", tags=["assets"], route_class=_UploadRoute)

_MOMENT = {"type": "string", "format": "date-time"}
_OPTIONAL_TEXT = {"type": "string", "default": ""}
_BODY: dict[str, Any] = {
    "type": "object",
    "required": ["assetData", "fileCreatedAt", "fileModifiedAt"],
    "properties": {
        "assetData": {"type": "string", "format": "binary", "description": "The photo or video."},
        "fileCreatedAt": {**_MOMENT, "example": "2026-05-01T10:00:00.000Z"},
        "fileModifiedAt": {**_MOMENT, "example": "2026-05-01T10:00:00.000Z"},
        "filename": {**_OPTIONAL_TEXT, "description": "The name to show; without it, that of the file part."},
        "isFavorite": {"type": "string", "enum": ["true", "false"], "default": "false"},
        "visibility": {
            "type": "string",
            "enum": ["timeline", "archive", "hidden", "locked"],
            "default": "timeline",
        },
        "duration": {**_OPTIONAL_TEXT, "description": "Of a video: milliseconds, or hours:minutes:seconds."},
        "livePhotoVideoId": {**_OPTIONAL_TEXT, "description": "The uploaded video that belongs to this photo."},
        "metadata": {**_OPTIONAL_TEXT, "description": "JSON text."},
        "deviceAssetId": {**_OPTIONAL_TEXT, "description": "Immich v2."},
        "deviceId": {**_OPTIONAL_TEXT, "description": "Immich v2."},
        "sidecarData": {"type": "string", "format": "binary", "description": "An XMP file that goes with it."},
    },
}


@router.post(
    "",
    status_code=201,
    response_model=UploadResponse,
    responses={
        200: {
            "model": UploadResponse,
            "description": "You have this content already: the asset that holds it."
            " A sidecar that it lacks, and `isFavorite`, are added to it.",
        },
        201: {"description": "Stored: it survives a power loss from now on."},
        400: {
            "description": "Refused, and nothing is kept: the file is empty, its type is not supported, a field is wrong, …"
        },
        413: {"description": "Larger than MEDIAVAULT_UPLOAD_LIMIT."},
        507: {"description": "The disk is full."},
        429: {"description": "Too many uploads of yours at once; try again after Retry-After seconds."},
        503: {
            "description": "The storage does not answer, or uploads are too many; try again after Retry-After seconds."
        },
    },
    openapi_extra={
        "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _BODY}}},
        "parameters": [
            {
                "name": "x-immich-checksum",
                "in": "header",
                "required": False,
                "description": "SHA-1 of the file in base64 (28 characters) or hex. One that you have already is answered"
                " before the body is read, so that nothing is added to that asset; one that does not match the body is refused.",
                "schema": {"type": "string"},
            }
        ],
    },
)
async def upload_asset(
    request: Request,
    caller: Uploader,
    services: ServicesDependency,
) -> Response:
    """Upload one photo or video. Fields may come before or after the file; unknown ones are ignored."""
    length = request.headers.get("content-length")
    with services.limits.uploads.hold(caller.user.id):
        outcome = await services.ingest.upload(
            caller.user,
            request.headers.get("content-type"),
            None if length is None else int(length),
            request.headers.get("x-immich-checksum"),
            request.receive,
        )
    return build_asset_response(outcome, {}, 201 if outcome.created else 200)
