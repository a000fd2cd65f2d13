"""The way back out of the trash."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.auth import Identity, requires
from app.api.models.assets import BulkIds, TrashResponse
from app.api.models.shape import Selection
from app.api.permissions import Permission
from app.api.routes.bodies import LargeJsonRoute
from app.api.services import Services, services

router = APIRouter(prefix="/trash", tags=["trash"], route_class=LargeJsonRoute)

Caller = Annotated[Identity, Depends(requires(Permission.ASSET_DELETE))]
Rooms = Annotated[Services, Depends(services)]


@router.post("/restore/assets")
async def restore_assets(wanted: BulkIds, caller: Caller, rooms: Rooms) -> TrashResponse:
    """Take these assets out of the trash. If one is not there or not yours: 404, and none is restored. What a library's folder no longer
    holds stays, and comes out when its file is there again."""
    count = await rooms.catalog.assets.restore(caller.user.id, wanted.ids)
    for asset_id in wanted.ids:
        rooms.cache.forget_asset(asset_id)
    return TrashResponse(count=count)


@router.post("/restore")
async def restore_trash(caller: Caller, rooms: Rooms, wanted: Selection | None = None) -> TrashResponse:
    """Without a body, or with an empty one: take everything out of the trash but what a library's folder no longer holds; that comes out when its file is there again."""
    return TrashResponse(count=await rooms.catalog.assets.restore(caller.user.id, None))
