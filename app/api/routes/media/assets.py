"""Routes of assets: list, read, update, delete, count, and check for duplicates before an upload."""

from __future__ import annotations

import json
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.locked_assets import asks_in_vain, check_visible
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.asset_updates import AssetUpdate, BulkUpdate
from app.api.models.assets import (
    AssetPage,
    AssetResponse,
    BulkDelete,
    StatisticsResponse,
    UploadAction,
    UploadCheckRequest,
    UploadCheckResponse,
)
from app.api.routes.json_routes import LargeJsonRoute, refuse_unknown_parameters
from app.api.services import Services, get_services
from app.catalog.schema.records import Asset, AssetType, ChecksumHolder, Visibility
from app.uploads.ingest import EMPTY_SHA1

router = APIRouter(prefix="/api/assets", tags=["assets"], route_class=LargeJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]
Reader = Annotated[Identity, Depends(require_permission(Permission.ASSET_READ))]


@router.post("/bulk-upload-check", response_model=UploadCheckResponse)
async def check_bulk_upload(
    body: UploadCheckRequest,
    caller: Annotated[Identity, Depends(require_permission(Permission.ASSET_UPLOAD))],
    services: ServicesDependency,
) -> Response:
    """Which of these files you have already, by their checksums. The answer keeps the order. An empty file is never one that you have:
    its upload is refused, while a client takes each reject for a duplicate and may delete its own."""
    digests = list({item.checksum for item in body.assets} - {EMPTY_SHA1})
    known = await services.catalog.assets.find_holders(caller.user.id, digests)
    results = [_build_check_result(item.id, known.get(item.checksum)) for item in body.assets]
    # Thousands of them: to make models of them would take ten times as long as to write them.
    return Response(json.dumps({"results": results}, ensure_ascii=False), media_type="application/json")


@router.get("", dependencies=[Depends(refuse_unknown_parameters)])
async def list_assets(
    caller: Reader,
    services: ServicesDependency,
    cursor: Annotated[str | None, Query(max_length=1000, description="`nextCursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most assets on the page.")] = 100,
    type: Annotated[AssetType | None, Query()] = None,  # noqa: A002 -- the parameter's name in the address
    library: Annotated[UUID | None, Query(description="Only those of this external library.")] = None,
    trashed: Annotated[bool, Query(description="What is in the trash, in place of what is not.")] = False,
    visibility: Annotated[Visibility | None, Query()] = None,
) -> AssetPage:
    """Your assets, newest first."""
    if asks_in_vain(caller, visibility):
        return AssetPage(items=[], next_cursor=None)
    assets, next_cursor = await services.catalog.assets.get_page(
        caller.user.id,
        cursor=cursor,
        limit=limit,
        type=type,
        trashed=trashed,
        visibility=visibility,
        library_id=library,
    )
    failures = await services.catalog.renditions.get_failure_reasons(asset.id for asset in assets)
    items = [AssetResponse.from_asset(asset, failure=failures.get(asset.id)) for asset in assets]
    return AssetPage(items=items, next_cursor=next_cursor)


@router.get("/statistics")
async def get_asset_statistics(
    caller: Annotated[Identity, Depends(require_permission(Permission.ASSET_STATISTICS))],
    services: ServicesDependency,
    is_favorite: Annotated[bool | None, Query(alias="isFavorite")] = None,
    is_trashed: Annotated[bool, Query(alias="isTrashed")] = False,
    visibility: Annotated[Visibility | None, Query()] = None,
) -> StatisticsResponse:
    """How many photos and videos you have."""
    if asks_in_vain(caller, visibility):
        return StatisticsResponse(images=0, videos=0, total=0)
    statistics = await services.catalog.counts.get_statistics(
        caller.user.id, trashed=is_trashed, visibility=visibility, is_favorite=is_favorite
    )
    return StatisticsResponse(images=statistics.images, videos=statistics.videos, total=statistics.total)


@router.get("/{id}")
async def get_asset(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    caller: Reader,
    services: ServicesDependency,
) -> AssetResponse:
    asset = await services.catalog.assets.get_owned(caller.user.id, id)
    if asset is None or asks_in_vain(caller, asset.visibility):
        raise _build_not_found_error()
    return await _build_response(asset, services)


@router.put("/{id}")
async def update_asset(
    id: UUID,  # noqa: A002
    body: AssetUpdate,
    caller: Annotated[Identity, Depends(require_permission(Permission.ASSET_UPDATE))],
    services: ServicesDependency,
) -> AssetResponse:
    """Change what is given, keep the rest. The file itself is never changed."""
    video_id = body.live_photo_video_id
    await check_visible(caller, services.catalog, [id] if video_id is None else [id, video_id])
    changed = await services.catalog.assets.update(caller.user.id, id, body.to_changes(), body.to_date_edit())
    if changed is None:
        raise _build_not_found_error()
    services.rendition_cache.invalidate_asset(id)
    return await _build_response(changed, services)


@router.put("", status_code=204)
async def update_assets(
    body: BulkUpdate,
    caller: Annotated[Identity, Depends(require_permission(Permission.ASSET_UPDATE))],
    services: ServicesDependency,
) -> Response:
    """Change what is given of all these assets. If one is not there or not yours: 404, and none is changed."""
    await check_visible(caller, services.catalog, body.ids)
    await services.catalog.bulk_updates.update(caller.user.id, body.ids, body.to_changes(), body.to_date_edit())
    for asset_id in body.ids:
        services.rendition_cache.invalidate_asset(asset_id)
    return Response(status_code=204)


@router.delete("", status_code=204)
async def delete_assets(
    body: BulkDelete,
    caller: Annotated[Identity, Depends(require_permission(Permission.ASSET_DELETE))],
    services: ServicesDependency,
) -> Response:
    """Into the trash, or with `force` removed now. If one is not there or not yours: 404, and none is deleted."""
    await check_visible(caller, services.catalog, body.ids)
    if body.force:
        await services.catalog.assets.delete(caller.user.id, body.ids)
        services.sweeper.wake()
    else:
        await services.catalog.assets.trash(caller.user.id, body.ids)
    for asset_id in body.ids:
        services.rendition_cache.invalidate_asset(asset_id)
    return Response(status_code=204)


async def _build_response(asset: Asset, services: Services) -> AssetResponse:
    failures = await services.catalog.renditions.get_failure_reasons([asset.id])
    return AssetResponse.from_asset(asset, failure=failures.get(asset.id))


def _build_check_result(name: str, holder: ChecksumHolder | None) -> dict[str, str | bool]:
    """The JSON of an `UploadCheckResult`."""
    if holder is None:
        return {"id": name, "action": UploadAction.ACCEPT}
    return {
        "id": name,
        "action": UploadAction.REJECT,
        "reason": "duplicate",
        "assetId": str(holder.id),
        "isTrashed": holder.is_trashed,
    }


def _build_not_found_error() -> ApiError:
    return ApiError(404, "Asset not found")
