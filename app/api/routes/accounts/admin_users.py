"""Routes of all users, for administrators: list, create, change and delete."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query

from app.api.authentication.authenticator import Identity, require_administrator
from app.api.authentication.locked_assets import asks_in_vain
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.accounts import UserResponse
from app.api.models.assets import StatisticsResponse
from app.api.models.users import SessionResponse, UserCreate, UserDelete, UserUpdate, build_preferences
from app.api.routes.accounts.user_profiles import collect_changes, find_profile_image, update_user
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services
from app.catalog.schema.records import User, Visibility

router = APIRouter(prefix="/api/admin/users", tags=["users"], route_class=AuthenticatedJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]
Reading = Annotated[Identity, Depends(require_administrator(Permission.ADMIN_USER_READ))]


@router.get("")
async def list_all_users(
    _: Reading,
    services: ServicesDependency,
    id: Annotated[UUID | None, Query()] = None,  # noqa: A002 -- the parameter's name in the address
    with_deleted: Annotated[
        bool, Query(alias="withDeleted", description="With those whose files are being deleted.")
    ] = False,
) -> list[UserResponse]:
    """Oldest first."""
    removed = await services.catalog.user_removal.list_marked()
    users = [
        user
        for user in await services.catalog.users.list()
        if id in (None, user.id) and (with_deleted or user.id not in removed)
    ]
    return [
        UserResponse.from_user(user, await find_profile_image(user, services), removed.get(user.id)) for user in users
    ]


@router.post("", status_code=201, dependencies=[Depends(require_administrator(Permission.ADMIN_USER_CREATE))])
async def create_user(body: UserCreate, services: ServicesDependency) -> UserResponse:
    user = await services.catalog.users.create(
        body.email,
        body.name,
        is_admin=body.is_admin,
        quota=body.quota_size_in_bytes,
        password_hash=await services.authenticator.hash_password(body.password),
    )
    return UserResponse.from_user(user, "")


@router.get("/{id}")
async def get_any_user(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    _: Reading,
    services: ServicesDependency,
) -> UserResponse:
    user = await _load_user(id, services)
    removed = await services.catalog.user_removal.list_marked()
    return UserResponse.from_user(user, await find_profile_image(user, services), removed.get(user.id))


@router.put("/{id}")
async def update_any_user(
    id: UUID,  # noqa: A002
    body: UserUpdate,
    caller: Annotated[Identity, Depends(require_administrator(Permission.ADMIN_USER_UPDATE))],
    services: ServicesDependency,
) -> UserResponse:
    if id in await services.catalog.user_removal.list_marked():
        raise ApiError(404, "User not found")
    if body.is_admin is False and id == caller.user.id:
        raise ApiError(400, "Admin status can only be changed by another admin")
    changes = await collect_changes(body, services)
    if body.is_admin is not None:
        changes["is_admin"] = body.is_admin
    if "quota_size_in_bytes" in body.model_fields_set:
        changes["quota"] = body.quota_size_in_bytes
    return await update_user(id, changes, services)


@router.delete("/{id}")
async def delete_user(
    id: UUID,  # noqa: A002
    caller: Annotated[Identity, Depends(require_administrator(Permission.ADMIN_USER_DELETE))],
    services: ServicesDependency,
    body: Annotated[UserDelete | None, Body()] = None,
) -> UserResponse:
    """The user's keys, logins and links end at once (in other processes within five seconds); assets, files and then the user are removed in the
    background, for good. Files of libraries stay where they are."""
    user = await _load_user(id, services)
    if id == caller.user.id:
        raise ApiError(403, "Cannot delete your own account")
    if not (body is not None and body.force) and await services.catalog.user_removal.has_assets(id):
        raise ApiError(400, "The user has assets: only with `force` they are deleted for good")
    services.archive_links.drop_revoked(await services.catalog.user_removal.mark(id))
    services.authenticator.clear_cache()
    services.sweeper.wake()
    removed = await services.catalog.user_removal.list_marked()
    return UserResponse.from_user(user, "", removed.get(id))


@router.get("/{id}/preferences")
async def get_any_preferences(
    id: UUID,  # noqa: A002
    _: Reading,
    services: ServicesDependency,
) -> dict[str, Any]:
    await _load_user(id, services)
    return build_preferences()


@router.get("/{id}/statistics")
async def get_any_statistics(
    id: UUID,  # noqa: A002
    caller: Reading,
    services: ServicesDependency,
    is_favorite: Annotated[bool | None, Query(alias="isFavorite")] = None,
    is_trashed: Annotated[bool, Query(alias="isTrashed")] = False,
    visibility: Annotated[Visibility | None, Query()] = None,
) -> StatisticsResponse:
    await _load_user(id, services)
    if asks_in_vain(caller, visibility):
        return StatisticsResponse(images=0, videos=0, total=0)
    statistics = await services.catalog.counts.get_statistics(
        id, trashed=is_trashed, visibility=visibility, is_favorite=is_favorite
    )
    return StatisticsResponse(images=statistics.images, videos=statistics.videos, total=statistics.total)


@router.get("/{id}/sessions")
async def list_any_sessions(
    id: UUID,  # noqa: A002
    caller: Annotated[Identity, Depends(require_administrator(Permission.ADMIN_SESSION_READ))],
    services: ServicesDependency,
) -> list[SessionResponse]:
    await _load_user(id, services)
    sessions = await services.catalog.sessions.list(id)
    return [SessionResponse.from_session(session, current=session.id == caller.credential_id) for session in sessions]


async def _load_user(user_id: UUID, services: Services) -> User:
    """Raises `ApiError` 404."""
    user = await services.catalog.users.get(user_id)
    if user is None:
        raise ApiError(404, "User not found")
    return user
