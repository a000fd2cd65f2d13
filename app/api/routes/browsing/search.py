"""Routes of searches for assets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.locked_assets import leave_out_locked
from app.api.authentication.permissions import Permission
from app.api.models.assets import AssetResponse
from app.api.models.search import (
    AssetSearch,
    LargeAssetSearch,
    MetadataSearch,
    Order,
    OrderField,
    RandomSearch,
    SearchOrder,
    SearchResponse,
    SearchStatistics,
)
from app.api.routes.json_routes import AuthenticatedJsonRoute, refuse_unknown_parameters
from app.api.services import Services, get_services
from app.catalog.schema.records import Asset, AssetFilters

router = APIRouter(prefix="/api", tags=["search"], route_class=AuthenticatedJsonRoute)

Reader = Annotated[Identity, Depends(require_permission(Permission.ASSET_READ))]
ServicesDependency = Annotated[Services, Depends(get_services)]


@router.post("/search/metadata")
async def search_metadata(body: MetadataSearch, caller: Reader, services: ServicesDependency) -> SearchResponse:
    """Your assets for which all given conditions hold, newest first."""
    assets, next_page = await services.catalog.assets.search(
        caller.user.id, leave_out_locked(caller, body.to_filters()), body.page, body.size
    )
    return SearchResponse.from_page(await _build_responses(assets, services, with_exif=body.with_exif), next_page)


@router.post("/search/random")
async def search_random(body: RandomSearch, caller: Reader, services: ServicesDependency) -> list[AssetResponse]:
    """A random choice of your assets for which all given conditions hold."""
    assets = await services.catalog.searches.choose(
        caller.user.id, leave_out_locked(caller, body.to_filters()), body.size
    )
    return await _build_responses(assets, services, with_exif=body.with_exif)


@router.post("/search/large-assets", dependencies=[Depends(refuse_unknown_parameters)])
async def search_large_assets(
    search: Annotated[LargeAssetSearch, Query()], caller: Reader, services: ServicesDependency
) -> list[AssetResponse]:
    """Your assets for which all given conditions hold, the largest files first."""
    filters = search.to_filters(SearchOrder(field=OrderField.FILE_SIZE, direction=Order.DESC))
    assets, _ = await services.catalog.assets.search(caller.user.id, leave_out_locked(caller, filters), 1, search.size)
    return await _build_responses(assets, services, with_exif=search.with_exif)


@router.post("/search/statistics")
async def get_search_statistics(
    body: AssetSearch,
    caller: Annotated[Identity, Depends(require_permission(Permission.ASSET_STATISTICS))],
    services: ServicesDependency,
) -> SearchStatistics:
    """How many of your assets meet all given conditions."""
    return SearchStatistics(
        total=await services.catalog.searches.count(caller.user.id, leave_out_locked(caller, body.to_filters()))
    )


@router.get("/assets/random", dependencies=[Depends(refuse_unknown_parameters)])
async def get_random_assets(
    caller: Reader, services: ServicesDependency, count: Annotated[int, Query(ge=1, le=1000)] = 1
) -> list[AssetResponse]:
    """Of Immich before version 3, which has `/search/random` instead."""
    assets = await services.catalog.searches.choose(caller.user.id, AssetFilters(), count)
    return await _build_responses(assets, services, with_exif=True)


async def _build_responses(assets: list[Asset], services: Services, *, with_exif: bool) -> list[AssetResponse]:
    failures = await services.catalog.renditions.get_failure_reasons(asset.id for asset in assets)
    return [AssetResponse.from_asset(asset, failure=failures.get(asset.id), with_exif=with_exif) for asset in assets]
