"""External libraries, for administrators: folders that are indexed where they lie, read-only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from app.api.auth import Identity, requires
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
from app.api.permissions import Permission
from app.api.routes.bodies import KeyedJsonRoute
from app.api.services import Services, services
from app.catalog.errors import NotFound
from app.catalog.library_records import Library

router = APIRouter(prefix="/libraries", tags=["libraries"], route_class=KeyedJsonRoute)

Rooms = Annotated[Services, Depends(services)]


def _administrator(permission: Permission) -> Callable[[Request], Awaitable[Identity]]:
    allowed = requires(permission)

    async def caller(request: Request) -> Identity:
        identity = await allowed(request)
        if not identity.user.is_admin:
            raise ApiError(403, "Forbidden: for administrators only")
        return identity

    return caller


_READ = [Depends(_administrator(Permission.LIBRARY_READ))]
_CREATE = [Depends(_administrator(Permission.LIBRARY_CREATE))]
_UPDATE = [Depends(_administrator(Permission.LIBRARY_UPDATE))]
_DELETE = [Depends(_administrator(Permission.LIBRARY_DELETE))]
_STATISTICS = [Depends(_administrator(Permission.LIBRARY_STATISTICS))]


@router.get("", dependencies=_READ)
async def list_libraries(rooms: Rooms) -> list[LibraryResponse]:
    counts = await rooms.catalog.libraries.asset_counts()
    libraries = await rooms.catalog.libraries.list()
    return [LibraryResponse.of(each, counts.get(each.id, 0)) for each in libraries if each.deleted_at is None]


@router.post("", status_code=201, dependencies=_CREATE)
async def create_library(wanted: LibraryCreate, rooms: Rooms) -> LibraryResponse:
    """Nothing is read before a scan. If an import path may not be one: 400, which names every fault."""
    try:
        created = await rooms.libraries.create(
            wanted.owner_id, wanted.name, wanted.import_paths, wanted.exclusion_patterns
        )
    except NotFound:
        raise ApiError(400, "ownerId: there is no such user") from None
    return LibraryResponse.of(created, 0)


@router.get("/{id}", dependencies=_READ)
async def get_library(id: UUID, rooms: Rooms) -> LibraryResponse:  # noqa: A002 -- the name in the address
    return await _shown(await _found(id, rooms), rooms)


@router.put("/{id}", dependencies=_UPDATE)
async def update_library(id: UUID, wanted: LibraryUpdate, rooms: Rooms) -> LibraryResponse:  # noqa: A002
    """Takes effect with the next scan; what belongs to the library no longer then goes to the trash."""
    changed = await rooms.libraries.update(id, wanted.changes())
    if changed is None:
        raise _not_found()
    return await _shown(changed, rooms)


@router.delete("/{id}", status_code=204, dependencies=_DELETE)
async def delete_library(id: UUID, rooms: Rooms) -> Response:  # noqa: A002
    """Its assets go from the catalogue, and what was made from them. The library's own files are never touched."""
    if not await rooms.libraries.remove(id):
        raise _not_found()
    return Response(status_code=204)


@router.post("/{id}/validate", dependencies=_UPDATE)
async def validate_library(id: UUID, wanted: LibraryValidate, rooms: Rooms) -> LibraryValidateResponse:  # noqa: A002
    """Whether these could be import paths of the library."""
    await _found(id, rooms)
    checked = await rooms.libraries.check_paths(wanted.import_paths, id)
    pairs = zip(wanted.import_paths, checked, strict=True)
    return LibraryValidateResponse(import_paths=[ImportPathCheck.of(path, each) for path, each in pairs])


@router.post("/{id}/scan", status_code=204, dependencies=_UPDATE)
async def scan_library(id: UUID, rooms: Rooms, wanted: LibraryScan | None = None) -> Response:  # noqa: A002
    """In the background, after one that runs already; `lastScan` of the library tells what became of it."""
    await _found(id, rooms)
    rooms.libraries.start_scan(id, accept_missing=wanted is not None and wanted.accept_missing)
    return Response(status_code=204)


@router.get("/{id}/statistics", dependencies=_STATISTICS)
async def get_library_statistics(id: UUID, rooms: Rooms) -> LibraryStatistics:  # noqa: A002
    await _found(id, rooms)
    return LibraryStatistics.of(await rooms.catalog.libraries.usage(id))


async def _found(library_id: UUID, rooms: Services) -> Library:
    library = await rooms.catalog.libraries.get(library_id)
    if library is None:
        raise _not_found()
    return library


async def _shown(library: Library, rooms: Services) -> LibraryResponse:
    counts = await rooms.catalog.libraries.asset_counts()
    return LibraryResponse.of(library, counts.get(library.id, 0))


def _not_found() -> ApiError:
    return ApiError(404, "Library not found")
