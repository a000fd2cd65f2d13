"""Routes of Immich's features that this service has not: lists are empty, what has an id is not there, and writing is refused.

Clients ask for albums, people or tags before they come to photos, and give up at a 404. What they would create is refused by 400: they
show its message to their user, and do not try again as they do after 5xx. These routes are not part of the OpenAPI description.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from app.api.authentication.authenticator import require_permission
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError


@dataclass(frozen=True, slots=True)
class EmptyAnswer:
    """The `content` of a GET of an installation where nobody has used the feature."""

    path: str
    permission: Permission
    content: object


_EMPTY_ANSWERS = (
    EmptyAnswer("/albums", Permission.ALBUM_READ, []),
    EmptyAnswer("/albums/statistics", Permission.ALBUM_STATISTICS, {"owned": 0, "shared": 0, "notShared": 0}),
    EmptyAnswer("/people", Permission.PERSON_READ, {"people": [], "total": 0, "hidden": 0, "hasNextPage": False}),
    EmptyAnswer("/faces", Permission.FACE_READ, []),
    EmptyAnswer("/memories", Permission.MEMORY_READ, []),
    EmptyAnswer("/memories/statistics", Permission.MEMORY_STATISTICS, {"total": 0}),
    EmptyAnswer("/tags", Permission.TAG_READ, []),
    EmptyAnswer("/stacks", Permission.STACK_READ, []),
    EmptyAnswer("/shared-links", Permission.SHARED_LINK_READ, []),
    EmptyAnswer("/partners", Permission.PARTNER_READ, []),
    EmptyAnswer("/notifications", Permission.NOTIFICATION_READ, []),
    EmptyAnswer("/activities", Permission.ACTIVITY_READ, []),
    EmptyAnswer("/activities/statistics", Permission.ACTIVITY_STATISTICS, {"comments": 0, "likes": 0}),
    EmptyAnswer("/duplicates", Permission.DUPLICATE_READ, []),
    EmptyAnswer("/map/markers", Permission.MAP_READ, []),
    EmptyAnswer("/map/reverse-geocode", Permission.MAP_SEARCH, []),
    EmptyAnswer("/search/person", Permission.PERSON_READ, []),
    EmptyAnswer("/search/places", Permission.ASSET_READ, []),
    EmptyAnswer("/search/cities", Permission.ASSET_READ, []),
    EmptyAnswer("/search/explore", Permission.ASSET_READ, []),
    EmptyAnswer("/search/suggestions", Permission.ASSET_READ, []),
)
_ITEM_NAMES = {
    "albums": "Album",
    "people": "Person",
    "faces": "Face",
    "memories": "Memory",
    "tags": "Tag",
    "stacks": "Stack",
    "shared-links": "Shared link",
    "partners": "Partner",
    "notifications": "Notification",
    "activities": "Activity",
    "duplicates": "Duplicate",
}
_WRITING = ["POST", "PUT", "PATCH", "DELETE"]


def _answer_empty(content: object) -> Callable[[], Awaitable[JSONResponse]]:
    async def answer() -> JSONResponse:
        return JSONResponse(content)

    return answer


def _refuse(status: int, message: str) -> Callable[[], Awaitable[None]]:
    async def refuse() -> None:
        raise ApiError(status, message)

    return refuse


def _build_router() -> APIRouter:
    built = APIRouter(prefix="/api", include_in_schema=False)
    for empty in _EMPTY_ANSWERS:
        allowed = [Depends(require_permission(empty.permission))]
        built.add_api_route(empty.path, _answer_empty(empty.content), methods=["GET"], dependencies=allowed)
    known = [Depends(require_permission(None))]
    for folder, name in _ITEM_NAMES.items():
        absent = _refuse(404, f"{name} not found")
        refused = _refuse(400, f"There are no {folder.replace('-', ' ')} here")
        built.add_api_route(f"/{folder}/{{rest:path}}", absent, methods=["GET"], dependencies=known)
        for path in (f"/{folder}", f"/{folder}/{{rest:path}}"):
            built.add_api_route(path, refused, methods=_WRITING, dependencies=known)
    smart_search = _refuse(400, "Smart search is not enabled")
    built.add_api_route("/search/smart", smart_search, methods=["POST"], dependencies=known)
    return built


router = _build_router()
