"""API keys: each user manages its own. A key itself is shown once, when it is made."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.api.auth import Identity, requires
from app.api.credentials import hash_secret, new_secret
from app.api.errors import ApiError
from app.api.models.accounts import ApiKeyCreate, ApiKeyCreated, ApiKeyResponse, ApiKeyUpdate
from app.api.permissions import Permission
from app.api.routes.bodies import KeyedJsonRoute
from app.api.services import Services, services

router = APIRouter(prefix="/api-keys", tags=["api keys"], route_class=KeyedJsonRoute)

Rooms = Annotated[Services, Depends(services)]


@router.get("")
async def list_api_keys(
    caller: Annotated[Identity, Depends(requires(Permission.API_KEY_READ))], rooms: Rooms
) -> list[ApiKeyResponse]:
    return [ApiKeyResponse.of(key) for key in await rooms.catalog.api_keys.list(caller.user.id)]


@router.post("", status_code=201)
async def create_api_key(
    wanted: ApiKeyCreate, caller: Annotated[Identity, Depends(requires(Permission.API_KEY_CREATE))], rooms: Rooms
) -> ApiKeyCreated:
    """A new key, with no more permissions than the caller has."""
    _refuse_more_than_own(caller, wanted.permissions)
    secret = new_secret()
    key = await rooms.catalog.api_keys.create(
        caller.user.id, wanted.name, tuple(wanted.permissions), hash_secret(secret)
    )
    return ApiKeyCreated.with_secret(key, secret)


@router.get("/me")
async def get_my_api_key(caller: Annotated[Identity, Depends(requires(None))]) -> ApiKeyResponse:
    """The key that this request was made with."""
    if caller.api_key is None:
        raise ApiError(403, "Not authenticated with an API key")
    return ApiKeyResponse.of(caller.api_key)


@router.get("/{id}")
async def get_api_key(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    caller: Annotated[Identity, Depends(requires(Permission.API_KEY_READ))],
    rooms: Rooms,
) -> ApiKeyResponse:
    key = await rooms.catalog.api_keys.get(caller.user.id, id)
    if key is None:
        raise _not_found()
    return ApiKeyResponse.of(key)


@router.put("/{id}")
async def update_api_key(
    id: UUID,  # noqa: A002
    changes: ApiKeyUpdate,
    caller: Annotated[Identity, Depends(requires(Permission.API_KEY_UPDATE))],
    rooms: Rooms,
) -> ApiKeyResponse:
    """Rename a key or change what it may do; never to more than the caller may."""
    key = await rooms.catalog.api_keys.get(caller.user.id, id)
    if key is None:
        raise _not_found()
    if changes.permissions is not None:
        _refuse_more_than_own(caller, changes.permissions)
    changed = await rooms.catalog.api_keys.update(
        caller.user.id,
        id,
        key.name if changes.name is None else changes.name,
        key.permissions if changes.permissions is None else tuple(changes.permissions),
    )
    if changed is None:
        raise _not_found()
    rooms.authenticator.forget_all()
    return ApiKeyResponse.of(changed)


@router.delete("/{id}", status_code=204)
async def delete_api_key(
    id: UUID,  # noqa: A002
    caller: Annotated[Identity, Depends(requires(Permission.API_KEY_DELETE))],
    rooms: Rooms,
) -> Response:
    """The key stops working at once (in other processes within five seconds)."""
    if not await rooms.catalog.api_keys.delete(caller.user.id, id):
        raise _not_found()
    rooms.authenticator.forget_all()
    return Response(status_code=204)


def _refuse_more_than_own(caller: Identity, permissions: list[str]) -> None:
    if Permission.ALL not in caller.permissions and not caller.permissions.issuperset(permissions):
        raise ApiError(400, "Cannot grant permissions you do not have")


def _not_found() -> ApiError:
    return ApiError(404, "API key not found")
