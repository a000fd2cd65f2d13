"""Route of the metadata search for assets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.models.assets import AssetResponse
from app.api.models.search import MetadataSearch, SearchResponse
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services

router = APIRouter(prefix="/search", tags=["search"], route_class=AuthenticatedJsonRoute)


@router.post("/metadata")
async def search_metadata(
    body: MetadataSearch,
    caller: Annotated[Identity, Depends(require_permission(Permission.ASSET_READ))],
    services: Annotated[Services, Depends(get_services)],
) -> SearchResponse:
    """Your assets for which all given conditions hold, newest first."""
    assets, next_page = await services.catalog.assets.search(caller.user.id, body.to_filters(), body.page, body.size)
    failures = await services.catalog.renditions.get_failure_reasons(asset.id for asset in assets)
    items = [
        AssetResponse.from_asset(asset, failure=failures.get(asset.id), with_exif=body.with_exif) for asset in assets
    ]
    return SearchResponse.from_page(items, next_page)
