"""Routes of external libraries, for administrators: folders whose files are indexed in place and never written."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.api.authentication.authenticator import require_administrator
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.libraries import (
    ImportPathCheck,
    LibraryCreate,
    LibraryResponse,
    LibraryScan,
    LibraryStatistics,
    LibraryUpdate,
    LibraryValidate,
    LibraryValidateResponse,
)
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services
from app.catalog.errors import NotFound
from app.catalog.schema.library_records import Library

router = APIRouter(prefix="/api/libraries", tags=["libraries"], route_class=AuthenticatedJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]


_READ = [Depends(require_administrator(Permission.LIBRARY_READ))]
_CREATE = [Depends(require_administrator(Permission.LIBRARY_CREATE))]
_UPDATE = [Depends(require_administrator(Permission.LIBRARY_UPDATE))]
_DELETE = [Depends(require_administrator(Permission.LIBRARY_DELETE))]
_STATISTICS = [Depends(require_administrator(Permission.LIBRARY_STATISTICS))]


@router.get("", dependencies=_READ)
async def list_libraries(services: ServicesDependency) -> list[LibraryResponse]:
    counts = await services.catalog.counts.count_by_library()
    libraries = await services.catalog.libraries.list()
    return [
        LibraryResponse.from_library(each, counts.get(each.id, 0), is_scanning=services.libraries.is_scanning(each.id))
        for each in libraries
        if each.deleted_at is None
    ]


@router.post("", status_code=201, dependencies=_CREATE)
async def create_library(body: LibraryCreate, services: ServicesDependency) -> LibraryResponse:
    """Nothing is read before a scan. If an import path may not be one: 400, which names every fault."""
    try:
        created = await services.libraries.create(body.owner_id, body.name, body.import_paths, body.exclusion_patterns)
    except NotFound:
        raise ApiError(400, "ownerId: there is no such user") from None
    return LibraryResponse.from_library(created, 0)


@router.get("/{id}", dependencies=_READ)
async def get_library(id: UUID, services: ServicesDependency) -> LibraryResponse:  # noqa: A002 -- the name in the address
    return await _build_response(await _get_library(id, services), services)


@router.put("/{id}", dependencies=_UPDATE)
async def update_library(id: UUID, body: LibraryUpdate, services: ServicesDependency) -> LibraryResponse:  # noqa: A002
    """Takes effect with the next scan; what belongs to the library no longer then goes to the trash."""
    changed = await services.libraries.update(id, body.to_changes())
    if changed is None:
        raise _build_not_found_error()
    return await _build_response(changed, services)


@router.delete("/{id}", status_code=204, dependencies=_DELETE)
async def delete_library(id: UUID, services: ServicesDependency) -> Response:  # noqa: A002
    """Its assets go from the catalogue, and what was made from them. The library's own files are never touched."""
    if not await services.libraries.remove(id):
        raise _build_not_found_error()
    return Response(status_code=204)


@router.post("/{id}/validate", dependencies=_UPDATE)
async def validate_library(id: UUID, body: LibraryValidate, services: ServicesDependency) -> LibraryValidateResponse:  # noqa: A002
    """Whether these could be import paths of the library."""
    await _get_library(id, services)
    checked = await services.libraries.check_import_paths(body.import_paths, id)
    pairs = zip(body.import_paths, checked, strict=True)
    return LibraryValidateResponse(import_paths=[ImportPathCheck.from_check(path, each) for path, each in pairs])


@router.post("/{id}/scan", status_code=204, dependencies=_UPDATE)
async def scan_library(id: UUID, services: ServicesDependency, wanted: LibraryScan | None = None) -> Response:  # noqa: A002
    """In the background, after one that runs already; `lastScan` of the library tells what became of it."""
    await _get_library(id, services)
    services.libraries.start_scan(id, accept_missing=wanted is not None and wanted.accept_missing)
    return Response(status_code=204)


@router.get("/{id}/statistics", dependencies=_STATISTICS)
async def get_library_statistics(id: UUID, services: ServicesDependency) -> LibraryStatistics:  # noqa: A002
    await _get_library(id, services)
    return LibraryStatistics.from_usage(await services.catalog.libraries.get_usage(id))


async def _get_library(library_id: UUID, services: Services) -> Library:
    library = await services.catalog.libraries.get(library_id)
    if library is None:
        raise _build_not_found_error()
    return library


async def _build_response(library: Library, services: Services) -> LibraryResponse:
    counts = await services.catalog.counts.count_by_library()
    is_scanning = services.libraries.is_scanning(library.id)
    return LibraryResponse.from_library(library, counts.get(library.id, 0), is_scanning=is_scanning)


def _build_not_found_error() -> ApiError:
    return ApiError(404, "Library not found")
