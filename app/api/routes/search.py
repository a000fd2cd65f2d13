"""The search for assets by what is known about them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.auth import Identity, requires
from app.api.models.assets import AssetResponse
from app.api.models.search import MetadataSearch, SearchResponse
from app.api.permissions import Permission
from app.api.routes.bodies import KeyedJsonRoute
from app.api.services import Services, services

router = APIRouter(prefix="/search", tags=["search"], route_class=KeyedJsonRoute)


@router.post("/metadata")
async def search_metadata(
    wanted: MetadataSearch,
    caller: Annotated[Identity, Depends(requires(Permission.ASSET_READ))],
    rooms: Annotated[Services, Depends(services)],
) -> SearchResponse:
    """Your assets for which all given conditions hold, newest first."""
    found, following = await rooms.catalog.assets.search(caller.user.id, wanted.filters(), wanted.page, wanted.size)
    failures = await rooms.catalog.pictures.failures_of(asset.id for asset in found)
    items = [AssetResponse.of(asset, failure=failures.get(asset.id), with_exif=wanted.with_exif) for asset in found]
    return SearchResponse.of(items, following)
