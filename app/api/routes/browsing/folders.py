"""Routes that show assets by the folders of their originals."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.models.assets import AssetResponse
from app.api.models.base_model import Name
from app.api.services import Services, get_services
from app.catalog.schema.records import Asset

router = APIRouter(prefix="/api/view/folder", tags=["folders"])

Reader = Annotated[Identity, Depends(require_permission(Permission.FOLDER_READ))]
ServicesDependency = Annotated[Services, Depends(get_services)]

_RESPONSES = TypeAdapter(list[AssetResponse])


@router.get("/unique-paths")
async def get_folder_paths(caller: Reader, services: ServicesDependency) -> list[str]:
    """The folders that hold originals of your timeline."""
    return await services.catalog.folders.list_paths(caller.user.id)


@router.get("", response_model=list[AssetResponse])
async def get_folder(
    path: Annotated[Name, Query(description="As `/view/folder/unique-paths` tells it.")],
    caller: Reader,
    services: ServicesDependency,
) -> StreamingResponse:
    """The assets of your timeline whose originals are right in this folder."""
    pages = services.catalog.folders.iter_folder(caller.user.id, path)
    first = await anext(aiter(pages))
    return StreamingResponse(_encode(first, pages, services), media_type="application/json")


async def _encode(first: list[Asset], rest: AsyncIterator[list[Asset]], services: Services) -> AsyncIterator[bytes]:
    """The assets as one JSON array, page by page: a folder may hold 100,000."""
    yield b"[" + await _encode_page(first, services)
    separator = b"," if first else b""
    async for page in rest:
        if page:
            yield separator + await _encode_page(page, services)
            separator = b","
    yield b"]"


async def _encode_page(assets: list[Asset], services: Services) -> bytes:
    failures: dict[UUID, str] = await services.catalog.renditions.get_failure_reasons(asset.id for asset in assets)
    responses = [AssetResponse.from_asset(asset, failure=failures.get(asset.id)) for asset in assets]
    return _RESPONSES.dump_json(responses, by_alias=True)[1:-1]
