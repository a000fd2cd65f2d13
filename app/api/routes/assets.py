"""Assets: what is there, what is known about each, changing that, and deleting."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response

from app.api.auth import Identity, requires
from app.api.errors import ApiError
from app.api.models.assets import (
    AssetPage,
    AssetResponse,
    AssetUpdate,
    BulkDelete,
    StatisticsResponse,
    UploadAction,
    UploadCheckRequest,
    UploadCheckResponse,
    UploadCheckResult,
)
from app.api.permissions import Permission
from app.api.routes.bodies import LargeJsonRoute, only_known_parameters
from app.api.services import Services, services
from app.catalog.records import Asset, AssetType, Visibility
from app.uploads.ingest import SHA1_OF_NOTHING

router = APIRouter(prefix="/assets", tags=["assets"], route_class=LargeJsonRoute)

Rooms = Annotated[Services, Depends(services)]
Reader = Annotated[Identity, Depends(requires(Permission.ASSET_READ))]


@router.post("/bulk-upload-check")
async def check_bulk_upload(
    wanted: UploadCheckRequest, caller: Annotated[Identity, Depends(requires(Permission.ASSET_UPLOAD))], rooms: Rooms
) -> UploadCheckResponse:
    """Which of these files you have already, by their checksums. The answer keeps the order. An empty file is never one that you have:
    its upload is refused, while a client takes each reject for a duplicate and may delete its own."""
    digests = list({item.checksum for item in wanted.assets} - {SHA1_OF_NOTHING})
    known = await rooms.catalog.assets.by_checksums(caller.user.id, digests)
    return UploadCheckResponse(results=[_checked(item.id, known.get(item.checksum)) for item in wanted.assets])


@router.get("", dependencies=[Depends(only_known_parameters)])
async def list_assets(
    caller: Reader,
    rooms: Rooms,
    cursor: Annotated[str | None, Query(max_length=1000, description="`nextCursor` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Most assets on the page.")] = 100,
    type: Annotated[AssetType | None, Query()] = None,  # noqa: A002 -- the parameter's name in the address
    library: Annotated[UUID | None, Query(description="Only those of this external library.")] = None,
    trashed: Annotated[bool, Query(description="What is in the trash, in place of what is not.")] = False,
    visibility: Annotated[Visibility | None, Query()] = None,
) -> AssetPage:
    """Your assets, newest first."""
    assets, following = await rooms.catalog.assets.page(
        caller.user.id,
        cursor=cursor,
        limit=limit,
        type=type,
        trashed=trashed,
        visibility=visibility,
        library_id=library,
    )
    failures = await rooms.catalog.pictures.failures_of(asset.id for asset in assets)
    items = [AssetResponse.of(asset, failure=failures.get(asset.id)) for asset in assets]
    return AssetPage(items=items, next_cursor=following)


@router.get("/statistics")
async def get_asset_statistics(
    caller: Annotated[Identity, Depends(requires(Permission.ASSET_STATISTICS))],
    rooms: Rooms,
    is_favorite: Annotated[bool | None, Query(alias="isFavorite")] = None,
    is_trashed: Annotated[bool, Query(alias="isTrashed")] = False,
    visibility: Annotated[Visibility | None, Query()] = None,
) -> StatisticsResponse:
    """How many photos and videos you have."""
    counted = await rooms.catalog.assets.statistics(
        caller.user.id, trashed=is_trashed, visibility=visibility, is_favorite=is_favorite
    )
    return StatisticsResponse(images=counted.images, videos=counted.videos, total=counted.total)


@router.get("/{id}")
async def get_asset(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    caller: Reader,
    rooms: Rooms,
) -> AssetResponse:
    asset = await rooms.catalog.assets.get_owned(caller.user.id, id)
    if asset is None:
        raise _not_found()
    return await _shown(asset, rooms)


@router.put("/{id}")
async def update_asset(
    id: UUID,  # noqa: A002
    wanted: AssetUpdate,
    caller: Annotated[Identity, Depends(requires(Permission.ASSET_UPDATE))],
    rooms: Rooms,
) -> AssetResponse:
    """Change what is given, keep the rest. The file itself is never changed."""
    changed = await rooms.catalog.assets.update(caller.user.id, id, wanted.changes())
    if changed is None:
        raise _not_found()
    rooms.cache.forget_asset(id)
    return await _shown(changed, rooms)


@router.delete("", status_code=204)
async def delete_assets(
    wanted: BulkDelete, caller: Annotated[Identity, Depends(requires(Permission.ASSET_DELETE))], rooms: Rooms
) -> Response:
    """Into the trash, or with `force` removed now. If one is not there or not yours: 404, and none is deleted."""
    if wanted.force:
        await rooms.catalog.assets.delete(caller.user.id, wanted.ids)
        rooms.sweeper.wake()
    else:
        await rooms.catalog.assets.trash(caller.user.id, wanted.ids)
    for asset_id in wanted.ids:
        rooms.cache.forget_asset(asset_id)
    return Response(status_code=204)


async def _shown(asset: Asset, rooms: Services) -> AssetResponse:
    failures = await rooms.catalog.pictures.failures_of([asset.id])
    return AssetResponse.of(asset, failure=failures.get(asset.id))


def _checked(name: str, holder: Asset | None) -> UploadCheckResult:
    if holder is None:
        return UploadCheckResult(id=name, action=UploadAction.ACCEPT)
    return UploadCheckResult(
        id=name,
        action=UploadAction.REJECT,
        reason="duplicate",
        asset_id=holder.id,
        is_trashed=holder.deleted_at is not None,
    )


def _not_found() -> ApiError:
    return ApiError(404, "Asset not found")
