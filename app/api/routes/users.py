"""The user behind the key, and the profile image. That is fetched at `/users/{id}/profile-image`, by the hot path."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from app.api.auth import Identity, requires
from app.api.models.accounts import ProfileImageResponse, UserResponse
from app.api.permissions import Permission
from app.api.renditions import PROFILE
from app.api.services import Services, services
from app.catalog.records import User
from app.config import Settings
from app.formats import Kind, supported
from app.media.portraits import MAX_PROFILE_BYTES
from app.uploads.body import BodyLimits, body_chunks
from app.uploads.errors import InvalidField, UnsupportedType
from app.uploads.multipart import MAX_OVERHEAD_BYTES, FilePart, MultipartReader
from app.uploads.names import extension

router = APIRouter(prefix="/users", tags=["users"])

FILE_PART = "file"

_BODY: dict[str, Any] = {
    "type": "object",
    "required": [FILE_PART],
    "properties": {FILE_PART: {"type": "string", "format": "binary", "description": "A photo of any kind."}},
}

Rooms = Annotated[Services, Depends(services)]


@router.get("/me")
async def get_my_user(
    caller: Annotated[Identity, Depends(requires(Permission.USER_READ))], rooms: Rooms
) -> UserResponse:
    """The caller's user, with its quota and what it uses of it."""
    user, path = await _fresh(caller.user, rooms)
    return UserResponse.of(user, path)


@router.post(
    "/profile-image",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _BODY}}}},
)
async def create_profile_image(
    request: Request,
    caller: Annotated[Identity, Depends(requires(Permission.USER_PROFILE_IMAGE_UPDATE))],
    rooms: Rooms,
) -> ProfileImageResponse:
    """Send a photo; the middle of it becomes your profile image, a square JPEG, in place of the one before."""
    async with aclosing(_file_parts(request, rooms.settings)) as parts:
        async for part in parts:
            format = supported(part.filename or "")
            if format is None or format.kind is not Kind.IMAGE:
                raise UnsupportedType(extension(part.filename or ""))
            await rooms.portraits.show_user(caller.user.id, format, part.chunks)
            break
        else:
            raise InvalidField(FILE_PART, "is required")
    rooms.cache.forget(caller.user.id, PROFILE)
    user, path = await _fresh(caller.user, rooms)
    return ProfileImageResponse(
        user_id=user.id, profile_image_path=path, profile_changed_at=user.profile_changed_at or user.created_at
    )


@router.delete("/profile-image", status_code=204)
async def delete_profile_image(
    caller: Annotated[Identity, Depends(requires(Permission.USER_PROFILE_IMAGE_DELETE))], rooms: Rooms
) -> Response:
    """There is none afterwards, whether there was one or not."""
    await rooms.portraits.remove_user(caller.user.id)
    rooms.cache.forget(caller.user.id, PROFILE)
    rooms.sweeper.wake()
    return Response(status_code=204)


async def _file_parts(request: Request, settings: Settings) -> AsyncGenerator[FilePart]:
    length = request.headers.get("content-length")
    limits = BodyLimits(
        size=MAX_PROFILE_BYTES + MAX_OVERHEAD_BYTES,
        idle_seconds=settings.upload_idle_seconds,
        minimum_rate=settings.upload_minimum_rate,
    )
    async with aclosing(body_chunks(request.receive, None if length is None else int(length), limits)) as body:
        reader = MultipartReader(request.headers.get("content-type"), body, files=frozenset({FILE_PART}))
        async with aclosing(reader.parts()) as parts:
            async for part in parts:
                if isinstance(part, FilePart) and part.name == FILE_PART:
                    yield part


async def _fresh(user: User, rooms: Services) -> tuple[User, str]:
    """As the catalogue has the user now, and where the profile image is; empty without one."""
    portrait = await rooms.catalog.pictures.of_user(user.id)
    return await rooms.catalog.users.get(user.id) or user, portrait.file.path if portrait else ""
