"""Archives: how to cut a selection, one zip at once, and links to zips that can be paused and resumed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.auth import Identity, requires
from app.api.errors import ApiError
from app.api.external import refuse_unmounted_member
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
from app.api.permissions import Permission
from app.api.routes.bodies import LargeJsonRoute
from app.api.services import Services, services
from app.archives.errors import MemberLost
from app.archives.names import cleaned
from app.archives.stream import ArchiveSource
from app.delivery.response import NO_CACHE, Representation

router = APIRouter(prefix="/download", tags=["download"], route_class=LargeJsonRoute)

Rooms = Annotated[Services, Depends(services)]
Downloader = Annotated[Identity, Depends(requires(Permission.ASSET_DOWNLOAD))]


@router.post("/info", status_code=201)
async def get_download_info(wanted: DownloadInfoRequest, caller: Downloader, rooms: Rooms) -> DownloadInfoResponse:
    """The selection as archives of at most `archiveSize` bytes (4 GiB by default); one asset that is larger stands alone. The
    motion parts of live photos go along. All of them can be unpacked into one folder: for a week, whoever asks for the archive of one
    of these lists gets names that no other of them has. 409 names an asset that is in the trash or offline."""
    if wanted.album_id is not None:
        raise ApiError(404, "Album not found")
    if wanted.asset_ids is None and wanted.user_id is None:
        raise ApiError(400, "One of assetIds and userId is required")
    if wanted.asset_ids is None and wanted.user_id != caller.user.id:
        raise ApiError(404, "User not found")
    parts = await rooms.archiver.parts(caller.user.id, wanted.asset_ids, wanted.archive_size or DEFAULT_ARCHIVE_BYTES)
    archives = [ArchivePart(size=part.size, asset_ids=part.asset_ids) for part in parts]
    return DownloadInfoResponse(total_size=sum(part.size for part in parts), archives=archives)


@router.post(
    "/archive",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def download_archive(wanted: ArchiveRequest, caller: Downloader, rooms: Rooms) -> Response:
    """The assets as one zip, with its length. Cannot be resumed: `/download/links` can."""
    manifest = await rooms.archiver.manifest(caller.user.id, wanted.asset_ids)
    source = await rooms.archiver.source(manifest, archive_file_name(wanted.archive_name), datetime.now(UTC))
    return ArchiveResponse(replace(source, content_type="application/octet-stream"), rooms)


@router.post("/links", status_code=201)
async def create_download_link(wanted: LinkRequest, caller: Downloader, rooms: Rooms) -> LinkResponse:
    """A link to the assets as one zip, which a browser or a download program can pause, resume and split. Whoever has the link
    can fetch the zip until it expires or is revoked; nothing else. What goes into the trash meanwhile is not given out: 410 names it."""
    name = archive_file_name(wanted.archive_name)
    lifetime = timedelta(seconds=wanted.expires_in)
    credential_id = caller.credential_id if wanted.ends_with_key else None
    token, link = await rooms.links.create(caller.user.id, wanted.asset_ids, name, lifetime, credential_id)
    return LinkResponse(
        id=link.id,
        url=f"{rooms.settings.public_url or ''}/api/download/archives/{token}/{quote(name, safe='')}",
        size=link.source.size,
        etag=link.source.etag,
        resumable=link.source.accepts_ranges,
        expires_at=link.expires_at,
    )


@router.get("/links")
async def list_download_links(caller: Downloader, rooms: Rooms) -> list[ListedLink]:
    """Your links that have not ended, newest first."""
    return [ListedLink.of(link) for link in await rooms.catalog.archives.list(caller.user.id, datetime.now(UTC))]


@router.delete("/links", status_code=204)
async def revoke_download_links(wanted: BulkIds, caller: Downloader, rooms: Rooms) -> Response:
    """These links open nothing any more (in other processes within five seconds). If one is not there or not yours: 404, and all stay."""
    await rooms.catalog.archives.delete(caller.user.id, wanted.ids)
    rooms.links.forget(wanted.ids)
    return Response(status_code=204)


def archive_file_name(wanted: str | None) -> str:
    """What the zip is saved as."""
    name = cleaned(wanted or "mediavault")
    return name if name.lower().endswith(".zip") else cleaned(f"{name}.zip")


class ArchiveResponse(Response):
    """A whole archive as the answer to a POST: no conditions and no ranges hold for it."""

    def __init__(self, source: ArchiveSource, rooms: Services) -> None:
        super().__init__()
        self._rooms = rooms
        self._representation = Representation(source, attachment=True, cache_control=NO_CACHE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._representation.deliver({**scope, "method": "GET", "headers": []}, receive, send)
        except MemberLost as lost:
            await refuse_unmounted_member(lost, self._rooms.catalog, self._rooms.libraries)
            raise
