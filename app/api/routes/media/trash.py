"""Routes that restore assets from the trash, and empty it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.locked_assets import check_visible
from app.api.authentication.permissions import Permission
from app.api.models.assets import BulkIds, TrashResponse
from app.api.models.base_model import Selection
from app.api.routes.json_routes import LargeJsonRoute
from app.api.services import Services, get_services

router = APIRouter(prefix="/api/trash", tags=["trash"], route_class=LargeJsonRoute)

Caller = Annotated[Identity, Depends(require_permission(Permission.ASSET_DELETE))]
ServicesDependency = Annotated[Services, Depends(get_services)]


@router.post("/restore/assets")
async def restore_assets(body: BulkIds, caller: Caller, services: ServicesDependency) -> TrashResponse:
    """Take these assets out of the trash. If one is not there or not yours: 404, and none is restored. What a library's folder no longer
    holds stays, and comes out when its file is there again."""
    await check_visible(caller, services.catalog, body.ids)
    count = await services.catalog.assets.restore(caller.user.id, body.ids)
    for asset_id in body.ids:
        services.rendition_cache.invalidate_asset(asset_id)
    return TrashResponse(count=count)


@router.post("/restore")
async def restore_trash(caller: Caller, services: ServicesDependency, wanted: Selection | None = None) -> TrashResponse:
    """Without a body, or with an empty one: take everything out of the trash but what a library's folder no longer holds; that comes out when its file is there again."""
    restored = await services.catalog.assets.restore(caller.user.id, None, with_locked=caller.sees_locked)
    return TrashResponse(count=restored)


@router.post("/empty")
async def empty_trash(caller: Caller, services: ServicesDependency, wanted: Selection | None = None) -> TrashResponse:
    """Without a body, or with an empty one: remove what is in the trash now, for good; if the request breaks off, what is left stays in
    the trash. Assets of libraries stay there: their files are yours, and a scan would bring them back."""
    before, count = datetime.now(UTC), 0
    removing = services.catalog.bulk_updates.remove_trashed(caller.user.id, before, with_locked=caller.sees_locked)
    async for removed in removing:
        count += len(removed)
        for asset_id in removed:
            services.rendition_cache.invalidate_asset(asset_id)
        services.sweeper.wake()
    return TrashResponse(count=count)
