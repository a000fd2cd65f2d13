"""Routes of single assets beside their fields: processing again, and what a client stored with the upload."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.locked_assets import check_visible
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.assets import AssetJobName, AssetJobRequest, MetadataItem
from app.api.routes.json_routes import LargeJsonRoute
from app.api.services import Services, get_services
from app.catalog.errors import NotFound
from app.catalog.schema.records import AssetType

router = APIRouter(prefix="/api/assets", tags=["assets"], route_class=LargeJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]
Reader = Annotated[Identity, Depends(require_permission(Permission.ASSET_READ))]


@router.post("/jobs", status_code=204)
async def process_assets(
    body: AssetJobRequest,
    caller: Annotated[Identity, Depends(require_permission(Permission.JOB_CREATE))],
    services: ServicesDependency,
) -> Response:
    """Have these assets processed again: metadata, thumbnails and playable video are made in one go, `transcode-video` does it for
    videos only. If one is not there or not yours: 404, and none is processed."""
    await check_visible(caller, services.catalog, body.asset_ids)
    assets = await services.catalog.assets.get_many_owned(caller.user.id, body.asset_ids)
    unknown = [asset_id for asset_id in body.asset_ids if asset_id not in assets]
    if unknown:
        raise NotFound("asset", unknown)
    videos_only = body.name is AssetJobName.TRANSCODE_VIDEO
    chosen = [asset.id for asset in assets.values() if asset.type is AssetType.VIDEO or not videos_only]
    await services.jobs.request_for(caller.user.id, chosen)
    return Response(status_code=204)


@router.get("/{id}/metadata")
async def get_asset_metadata(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    caller: Reader,
    services: ServicesDependency,
) -> list[MetadataItem]:
    """What the client sent as `metadata` with the upload."""
    return await _load_metadata(id, caller, services)


@router.get("/{id}/metadata/{key}")
async def get_asset_metadata_by_key(
    id: UUID,  # noqa: A002
    key: str,
    caller: Reader,
    services: ServicesDependency,
) -> MetadataItem:
    for item in await _load_metadata(id, caller, services):
        if item.key == key:
            return item
    raise ApiError(404, "Metadata not found")


async def _load_metadata(asset_id: UUID, caller: Identity, services: Services) -> list[MetadataItem]:
    await check_visible(caller, services.catalog, [asset_id])
    metadata = await services.catalog.client_metadata.get(caller.user.id, asset_id)
    if metadata is None:
        raise ApiError(404, "Asset not found")
    return MetadataItem.list_from_metadata(metadata)
