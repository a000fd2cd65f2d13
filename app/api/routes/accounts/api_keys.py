"""Routes of API keys: each user manages their own. The secret of a key is shown only once, when the key is created."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.credentials import generate_secret, hash_secret
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.accounts import ApiKeyCreate, ApiKeyCreated, ApiKeyResponse, ApiKeyUpdate
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services

router = APIRouter(prefix="/api/api-keys", tags=["api keys"], route_class=AuthenticatedJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]


@router.get("")
async def list_api_keys(
    caller: Annotated[Identity, Depends(require_permission(Permission.API_KEY_READ))], services: ServicesDependency
) -> list[ApiKeyResponse]:
    return [ApiKeyResponse.from_api_key(key) for key in await services.catalog.api_keys.list(caller.user.id)]


@router.post("", status_code=201)
async def create_api_key(
    body: ApiKeyCreate,
    caller: Annotated[Identity, Depends(require_permission(Permission.API_KEY_CREATE))],
    services: ServicesDependency,
) -> ApiKeyCreated:
    """A new key, with no more permissions than the caller has. A key of Immich makes none: it sees no locked assets, a new one would."""
    if not caller.sees_locked:
        raise ApiError(403, "A key that was made at Immich makes no keys here: log in")
    _check_grantable(caller, body.permissions)
    secret = generate_secret()
    key = await services.catalog.api_keys.create(
        caller.user.id, body.name, tuple(body.permissions), hash_secret(secret)
    )
    return ApiKeyCreated.with_secret(key, secret)


@router.get("/me")
async def get_my_api_key(caller: Annotated[Identity, Depends(require_permission(None))]) -> ApiKeyResponse:
    """The key that this request was made with."""
    if caller.api_key is None:
        raise ApiError(403, "Not authenticated with an API key")
    return ApiKeyResponse.from_api_key(caller.api_key)


@router.get("/{id}")
async def get_api_key(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    caller: Annotated[Identity, Depends(require_permission(Permission.API_KEY_READ))],
    services: ServicesDependency,
) -> ApiKeyResponse:
    key = await services.catalog.api_keys.get(caller.user.id, id)
    if key is None:
        raise _build_not_found_error()
    return ApiKeyResponse.from_api_key(key)


@router.put("/{id}")
async def update_api_key(
    id: UUID,  # noqa: A002
    changes: ApiKeyUpdate,
    caller: Annotated[Identity, Depends(require_permission(Permission.API_KEY_UPDATE))],
    services: ServicesDependency,
) -> ApiKeyResponse:
    """Rename a key or change what it may do; never to more than the caller may."""
    key = await services.catalog.api_keys.get(caller.user.id, id)
    if key is None:
        raise _build_not_found_error()
    if changes.permissions is not None:
        _check_grantable(caller, changes.permissions)
    changed = await services.catalog.api_keys.update(
        caller.user.id,
        id,
        key.name if changes.name is None else changes.name,
        key.permissions if changes.permissions is None else tuple(changes.permissions),
    )
    if changed is None:
        raise _build_not_found_error()
    services.authenticator.clear_cache()
    return ApiKeyResponse.from_api_key(changed)


@router.delete("/{id}", status_code=204)
async def delete_api_key(
    id: UUID,  # noqa: A002
    caller: Annotated[Identity, Depends(require_permission(Permission.API_KEY_DELETE))],
    services: ServicesDependency,
) -> Response:
    """The key stops working at once (in other processes within five seconds)."""
    if not await services.catalog.api_keys.delete(caller.user.id, id):
        raise _build_not_found_error()
    services.authenticator.clear_cache()
    return Response(status_code=204)


def _check_grantable(caller: Identity, permissions: list[str]) -> None:
    if Permission.ALL not in caller.permissions and not caller.permissions.issuperset(permissions):
        raise ApiError(400, "Cannot grant permissions you do not have")


def _build_not_found_error() -> ApiError:
    return ApiError(404, "API key not found")
