"""The user behind the key."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.auth import Identity, requires
from app.api.models.accounts import UserResponse
from app.api.permissions import Permission
from app.api.services import Services, services

router = APIRouter(prefix="/users", tags=["users"])


@router.get("/me")
async def get_my_user(
    caller: Annotated[Identity, Depends(requires(Permission.USER_READ))],
    rooms: Annotated[Services, Depends(services)],
) -> UserResponse:
    """The caller's user, with its quota and what it uses of it."""
    return UserResponse.of(await rooms.catalog.users.get(caller.user.id) or caller.user)
