"""Routes of the caller's user and profile image. The fast path (`handlers`) serves GET of `/users/{id}/profile-image`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.files.renditions import PROFILE_IMAGE
from app.api.models.accounts import ProfileImageResponse, UserResponse
from app.api.services import Services, get_services
from app.catalog.schema.records import User
from app.config import Settings
from app.formats import MediaKind, find_format
from app.media.portraits import MAX_PROFILE_BYTES
from app.uploads.body_stream import BodyLimits, stream_body
from app.uploads.errors import InvalidField, UnsupportedType
from app.uploads.file_names import extract_extension
from app.uploads.multipart_reader import MAX_OVERHEAD_BYTES, FilePart, MultipartReader

router = APIRouter(prefix="/api/users", tags=["users"])

FILE_PART = "file"

_BODY: dict[str, Any] = {
    "type": "object",
    "required": [FILE_PART],
    "properties": {FILE_PART: {"type": "string", "format": "binary", "description": "A photo of any kind."}},
}

ServicesDependency = Annotated[Services, Depends(get_services)]


@router.get("/me")
async def get_my_user(
    caller: Annotated[Identity, Depends(require_permission(Permission.USER_READ))], services: ServicesDependency
) -> UserResponse:
    """The caller's user, with its quota and what it uses of it."""
    user, path = await _load_user(caller.user, services)
    return UserResponse.from_user(user, path)


@router.post(
    "/profile-image",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _BODY}}}},
)
async def create_profile_image(
    request: Request,
    caller: Annotated[Identity, Depends(require_permission(Permission.USER_PROFILE_IMAGE_UPDATE))],
    services: ServicesDependency,
) -> ProfileImageResponse:
    """Send a photo; the middle of it becomes your profile image, a square JPEG, in place of the one before."""
    async with aclosing(_iter_file_parts(request, services.settings)) as parts:
        async for part in parts:
            format = find_format(part.filename or "")
            if format is None or format.kind is not MediaKind.IMAGE:
                raise UnsupportedType(extract_extension(part.filename or ""))
            await services.portraits.set_profile_image(caller.user.id, format, part.chunks)
            break
        else:
            raise InvalidField(FILE_PART, "is required")
    services.rendition_cache.invalidate(caller.user.id, PROFILE_IMAGE)
    user, path = await _load_user(caller.user, services)
    return ProfileImageResponse(
        user_id=user.id, profile_image_path=path, profile_changed_at=user.profile_changed_at or user.created_at
    )


@router.delete("/profile-image", status_code=204)
async def delete_profile_image(
    caller: Annotated[Identity, Depends(require_permission(Permission.USER_PROFILE_IMAGE_DELETE))],
    services: ServicesDependency,
) -> Response:
    """There is none afterwards, whether there was one or not."""
    await services.portraits.remove_profile_image(caller.user.id)
    services.rendition_cache.invalidate(caller.user.id, PROFILE_IMAGE)
    services.sweeper.wake()
    return Response(status_code=204)


async def _iter_file_parts(request: Request, settings: Settings) -> AsyncGenerator[FilePart]:
    length = request.headers.get("content-length")
    limits = BodyLimits(
        size=MAX_PROFILE_BYTES + MAX_OVERHEAD_BYTES,
        idle_seconds=settings.upload_idle_seconds,
        minimum_rate=settings.upload_minimum_rate,
    )
    async with aclosing(stream_body(request.receive, None if length is None else int(length), limits)) as body:
        reader = MultipartReader(request.headers.get("content-type"), body, file_fields=frozenset({FILE_PART}))
        async with aclosing(reader.iter_parts()) as parts:
            async for part in parts:
                if isinstance(part, FilePart) and part.name == FILE_PART:
                    yield part


async def _load_user(user: User, services: Services) -> tuple[User, str]:
    """The user's current row, and the path of the profile image (empty without one)."""
    portrait = await services.catalog.renditions.get_for_user(user.id)
    return await services.catalog.users.get(user.id) or user, portrait.file.path if portrait else ""
