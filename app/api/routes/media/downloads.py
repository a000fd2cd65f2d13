"""Routes of archive downloads: split a selection, send one zip at once, and manage download links, whose zips can be resumed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.files.external_files import raise_if_member_unmounted
from app.api.models.assets import BulkIds
from app.api.models.downloads import (
    DEFAULT_ARCHIVE_BYTES,
    ArchivePart,
    ArchiveRequest,
    DownloadInfoRequest,
    DownloadInfoResponse,
    LinkRequest,
    LinkResponse,
    ListedLink,
)
from app.api.routes.json_routes import LargeJsonRoute
from app.api.services import Services, get_services
from app.archives.errors import MemberLost
from app.archives.member_names import clean_member_name
from app.archives.stream import ArchiveSource
from app.delivery.response import NO_CACHE, Representation
from app.storage.backend import read_for_account

router = APIRouter(prefix="/api/download", tags=["download"], route_class=LargeJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]
Downloader = Annotated[Identity, Depends(require_permission(Permission.ASSET_DOWNLOAD))]


@router.post("/info", status_code=201)
async def get_download_info(
    body: DownloadInfoRequest, caller: Downloader, services: ServicesDependency
) -> DownloadInfoResponse:
    """The selection as archives of at most `archiveSize` bytes (4 GiB by default); one asset that is larger stands alone. The
    motion parts of live photos go along. All of them can be unpacked into one folder: for a day, whoever asks for the archive of one
    of these lists gets names that no other of them has. 409 names an asset that is in the trash or offline."""
    if body.album_id is not None:
        raise ApiError(404, "Album not found")
    if body.asset_ids is None and body.user_id is None:
        raise ApiError(400, "One of assetIds and userId is required")
    if body.asset_ids is None and body.user_id != caller.user.id:
        raise ApiError(404, "User not found")
    parts = await services.archive_planner.plan_archives(
        caller.user.id,
        body.asset_ids,
        body.archive_size or DEFAULT_ARCHIVE_BYTES,
        with_locked=caller.sees_locked,
    )
    archives = [ArchivePart(size=part.size, asset_ids=part.asset_ids) for part in parts]
    return DownloadInfoResponse(total_size=sum(part.size for part in parts), archives=archives)


@router.post(
    "/archive",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def download_archive(body: ArchiveRequest, caller: Downloader, services: ServicesDependency) -> Response:
    """The assets as one zip, with its length. Cannot be resumed: `/download/links` can."""
    manifest = await services.archive_planner.build_manifest(
        caller.user.id, body.asset_ids, with_locked=caller.sees_locked
    )
    source = await services.archive_planner.build_source(
        manifest, build_archive_file_name(body.archive_name), datetime.now(UTC)
    )
    return ArchiveResponse(replace(source, content_type="application/octet-stream"), services, caller.user.id)


@router.post("/links", status_code=201)
async def create_download_link(body: LinkRequest, caller: Downloader, services: ServicesDependency) -> LinkResponse:
    """A link to the assets as one zip, which a browser or a download program can pause, resume and split. Whoever has the link
    can fetch the zip until it expires or is revoked; nothing else. What goes into the trash meanwhile is not given out: 410 names it."""
    name = build_archive_file_name(body.archive_name)
    lifetime = timedelta(seconds=body.expires_in)
    credential_id = caller.credential_id if body.ends_with_key or caller.is_foreign else None
    token, link = await services.archive_links.create(
        caller.user.id, body.asset_ids, name, lifetime, credential_id, with_locked=caller.sees_locked
    )
    return LinkResponse(
        id=link.id,
        url=f"{services.settings.public_url or ''}/api/download/archives/{token}/{quote(name, safe='')}",
        size=link.source.size,
        etag=link.source.etag,
        resumable=link.source.accepts_ranges,
        expires_at=link.expires_at,
    )


@router.get("/links")
async def list_download_links(caller: Downloader, services: ServicesDependency) -> list[ListedLink]:
    """Your links that have not ended, newest first."""
    return [
        ListedLink.from_link(link)
        for link in await services.catalog.archive_links.list(caller.user.id, datetime.now(UTC))
    ]


@router.delete("/links", status_code=204)
async def revoke_download_links(body: BulkIds, caller: Downloader, services: ServicesDependency) -> Response:
    """These links open nothing any more (in other processes within five seconds). If one is not there or not yours: 404, and all stay."""
    await services.catalog.archive_links.delete(caller.user.id, body.ids)
    services.archive_links.drop_revoked(body.ids)
    return Response(status_code=204)


def build_archive_file_name(wanted: str | None) -> str:
    """The zip's file name: `wanted` as a clean member name, with the extension `.zip`."""
    name = clean_member_name(wanted or "mediavault")
    return name if name.lower().endswith(".zip") else clean_member_name(f"{name}.zip")


class ArchiveResponse(Response):
    """A whole archive as the response to a POST: the request's conditions and ranges are ignored."""

    def __init__(self, source: ArchiveSource, services: Services, user_id: UUID) -> None:
        super().__init__()
        self._services = services
        self._user_id = user_id
        self._representation = Representation(source, attachment=True, cache_control=NO_CACHE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        read_for_account(self._user_id)
        try:
            hold_slot = partial(self._services.limits.hold_archive, self._user_id)
            await self._representation.deliver(
                {**scope, "method": "GET", "headers": []}, receive, send, hold_slot=hold_slot
            )
        except MemberLost as lost:
            await raise_if_member_unmounted(lost, self._services.catalog, self._services.libraries)
            raise
