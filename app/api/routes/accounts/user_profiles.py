"""Routes of users: names and passwords, changed by the user, and the list of other users, which administrators see."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.accounts import UserResponse
from app.api.models.users import MyUserUpdate, PasswordChange, UserSummary, build_preferences
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services
from app.catalog.accounts.users import UserChanges
from app.catalog.schema.records import User

router = APIRouter(prefix="/api", tags=["users"], route_class=AuthenticatedJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]
Reader = Annotated[Identity, Depends(require_permission(Permission.USER_READ))]


@router.get("/users")
async def list_users(caller: Reader, services: ServicesDependency) -> list[UserSummary]:
    """All users, for administrators; others see themselves only."""
    if not caller.user.is_admin:
        return [await _build_summary(caller.user, services)]
    removed = await services.catalog.user_removal.list_marked()
    users = [user for user in await services.catalog.users.list() if user.id not in removed]
    return [await _build_summary(user, services) for user in users]


@router.put("/users/me")
async def update_my_user(
    body: MyUserUpdate,
    caller: Annotated[Identity, Depends(require_permission(Permission.USER_UPDATE))],
    services: ServicesDependency,
) -> UserResponse:
    return await update_user(caller.user.id, await collect_changes(body, services), services)


@router.get("/users/me/preferences")
async def get_my_preferences(
    _: Annotated[Identity, Depends(require_permission(Permission.USER_PREFERENCE_READ))],
) -> dict[str, Any]:
    """The same for everybody: changes are not kept here, and refused."""
    return build_preferences()


@router.put("/users/me/preferences", include_in_schema=False)
async def update_my_preferences(
    _: Annotated[Identity, Depends(require_permission(Permission.USER_PREFERENCE_UPDATE))],
) -> None:
    raise ApiError(400, "Preferences are not kept here")


@router.get("/users/{id}")
async def get_user(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    caller: Reader,
    services: ServicesDependency,
) -> UserSummary:
    """Of another user: for administrators."""
    user = await services.catalog.users.get(id) if caller.user.is_admin or id == caller.user.id else None
    if user is None:
        raise ApiError(404, "User not found")
    return await _build_summary(user, services)


@router.post("/auth/change-password")
async def change_password(
    body: PasswordChange,
    request: Request,
    caller: Annotated[Identity, Depends(require_permission(Permission.AUTH_CHANGE_PASSWORD))],
    services: ServicesDependency,
) -> UserResponse:
    """Wrong passwords count as failed logins do."""
    user = await services.catalog.users.get(caller.user.id)
    if user is None or not await services.authenticator.verify_password(user.email, body.password, request.scope):
        raise ApiError(400, "Wrong password")
    hashed = await services.authenticator.hash_password(body.new_password)
    response = await update_user(user.id, UserChanges(password_hash=hashed), services)
    if body.invalidate_sessions:
        await services.catalog.sessions.delete_others(user.id, caller.credential_id)
        services.authenticator.clear_cache()
    return response


async def collect_changes(body: MyUserUpdate, services: Services) -> UserChanges:
    """Raises `ApiError` 400 for a password that is too short or too long."""
    changes = UserChanges()
    if body.email is not None:
        changes["email"] = body.email
    if body.name is not None:
        changes["name"] = body.name
    if body.password is not None:
        changes["password_hash"] = await services.authenticator.hash_password(body.password)
    return changes


async def update_user(user_id: UUID, changes: UserChanges, services: Services) -> UserResponse:
    """Raises `ApiError` 404, `EmailTaken` and `InvalidEmail`."""
    user = await services.catalog.users.update(user_id, **changes)
    if user is None:
        raise ApiError(404, "User not found")
    services.authenticator.clear_cache()
    return UserResponse.from_user(user, await find_profile_image(user, services))


async def find_profile_image(user: User, services: Services) -> str:
    """The path of the user's profile image; empty without one."""
    portrait = await services.catalog.renditions.get_for_user(user.id) if user.profile_file_id else None
    return "" if portrait is None else portrait.file.path


async def _build_summary(user: User, services: Services) -> UserSummary:
    return UserSummary.from_user(user, await find_profile_image(user, services))
