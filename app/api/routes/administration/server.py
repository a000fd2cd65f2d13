"""Routes of the server's information: ping, version, configuration, features, storage, mounts and statistics."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Depends

from app import __version__
from app.api.authentication.authenticator import Identity, require_administrator, require_permission
from app.api.authentication.permissions import Permission
from app.api.models.server import (
    AboutResponse,
    FeaturesResponse,
    MediaTypesResponse,
    MountResponse,
    PingResponse,
    ServerConfigResponse,
    ServerStatistics,
    StorageResponse,
    ThemeResponse,
    UploadStatisticsResponse,
    UserUsage,
    VersionCheckResponse,
    VersionHistoryEntry,
    VersionResponse,
)
from app.api.services import Services, get_services
from app.catalog.schema.records import AccountUsage, FileKind
from app.formats import list_media_types
from app.storage.errors import ObjectNotFound, StorageUnavailable

router = APIRouter(prefix="/api/server", tags=["server"])

NO_SECURITY = {"security": []}
SIZE_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

ServicesDependency = Annotated[Services, Depends(get_services)]


@router.get("/ping", openapi_extra=NO_SECURITY)
async def ping() -> PingResponse:
    return PingResponse()


@router.get("/version", openapi_extra=NO_SECURITY)
async def get_version() -> VersionResponse:
    """The level of Immich's API; `/server/about` tells the version of mediavault."""
    return VersionResponse()


@router.get("/version-check", dependencies=[Depends(require_permission(Permission.SERVER_VERSION_CHECK))])
async def get_version_check() -> VersionCheckResponse:
    return VersionCheckResponse()


@router.get("/version-history", openapi_extra=NO_SECURITY)
async def get_version_history() -> list[VersionHistoryEntry]:
    """Empty: earlier versions are not kept in mind."""
    return []


@router.get("/config", openapi_extra=NO_SECURITY)
async def get_config(services: ServicesDependency) -> ServerConfigResponse:
    settings = services.settings
    return ServerConfigResponse(external_domain=settings.public_url or "", trash_days=settings.trash_days)


@router.get("/theme", openapi_extra=NO_SECURITY)
async def get_theme() -> ThemeResponse:
    """Of Immich before version 3."""
    return ThemeResponse()


@router.get("/features", openapi_extra=NO_SECURITY)
async def get_features() -> FeaturesResponse:
    return FeaturesResponse()


@router.get("/media-types", openapi_extra=NO_SECURITY)
async def get_media_types() -> MediaTypesResponse:
    return MediaTypesResponse(**list_media_types())


@router.get("/about", dependencies=[Depends(require_permission(Permission.SERVER_ABOUT))])
async def get_about(services: ServicesDependency) -> AboutResponse:
    return AboutResponse(
        version=f"v{__version__}", version_url=f"{services.settings.public_url or ''}/docs", licensed=False
    )


@router.get("/storage")
async def get_storage(
    caller: Annotated[Identity, Depends(require_permission(Permission.SERVER_STORAGE))], services: ServicesDependency
) -> StorageResponse:
    """The disk; with S3, which has no end, what you keep there, and for administrators what everybody does."""
    try:
        disk = await services.storage.primary_backend.disk_space("")
    except ObjectNotFound as error:  # the media location itself is missing
        raise StorageUnavailable(error.key, error.backend, error.detail) from error
    if disk is not None:
        return _build_storage_response(size=disk.total, used=disk.used, available=disk.free)
    owner_id = None if caller.user.is_admin else caller.user.id
    bytes_by_user = await services.catalog.counts.sum_bytes_by_kind(owner_id, only_remote=True)
    return _build_storage_response(
        size=0, used=sum(sum(by_kind.values()) for by_kind in bytes_by_user.values()), available=0
    )


@router.get("/mounts", dependencies=[Depends(require_administrator(Permission.SERVER_STATISTICS))])
async def get_mounts(services: ServicesDependency) -> list[MountResponse]:
    """Each media folder (on S3: the bucket) and each external library; for administrators."""
    return [MountResponse(**asdict(state)) for state in await services.mounts.list_mount_states()]


@router.get("/statistics", dependencies=[Depends(require_administrator(Permission.SERVER_STATISTICS))])
async def get_server_statistics(services: ServicesDependency) -> ServerStatistics:
    """Of all users; for administrators."""
    bytes_by_user = await services.catalog.counts.sum_bytes_by_kind()
    users = [
        _build_user_usage(user, bytes_by_user.get(user.user_id, {}))
        for user in await services.catalog.counts.get_usage_by_user()
    ]
    by_kind = Counter[FileKind]()
    for user in users:
        by_kind.update(user.usage_by_kind)
    return ServerStatistics(
        photos=sum(user.photos for user in users),
        videos=sum(user.videos for user in users),
        usage=sum(user.usage for user in users),
        usage_photos=sum(user.usage_photos for user in users),
        usage_videos=sum(user.usage_videos for user in users),
        usage_by_kind=by_kind,
        usage_by_user=users,
        uploads=UploadStatisticsResponse(**asdict(await services.catalog.uploads.get_statistics())),
    )


def format_size(size: int) -> str:
    """`size` bytes in Immich's format: one decimal, powers of 1,024."""
    power = 0
    value = float(size)
    while value >= 1024 and power < len(SIZE_UNITS) - 1:
        value /= 1024
        power += 1
    return f"{value:.{1 if power else 0}f} {SIZE_UNITS[power]}"


def _build_storage_response(*, size: int, used: int, available: int) -> StorageResponse:
    return StorageResponse(
        disk_size=format_size(size),
        disk_use=format_size(used),
        disk_available=format_size(available),
        disk_size_raw=size,
        disk_use_raw=used,
        disk_available_raw=available,
        disk_usage_percentage=round(100 * used / size, 2) if size else 0.0,
    )


def _build_user_usage(user: AccountUsage, by_kind: dict[FileKind, int]) -> UserUsage:
    return UserUsage(
        user_id=user.user_id,
        user_name=user.user_name,
        photos=user.photos,
        videos=user.videos,
        usage=user.usage,
        usage_photos=user.usage_photos,
        usage_videos=user.usage_videos,
        usage_by_kind=by_kind,
        quota_size_in_bytes=user.quota,
    )
