"""The hot path: GET and HEAD of originals and archives, dispatched before FastAPI's routing (and described in OpenAPI all the same).

A request for what was just seen asks the catalogue nothing: the caller and the file come from bounded, short-lived caches.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from uuid import UUID

from starlette.types import Receive, Scope, Send

from app.api.archive_links import is_archive_link, serve_archive
from app.api.cache import RecentCache
from app.api.errors import ApiError
from app.api.permissions import Permission
from app.catalog.records import Asset
from app.config import S3Delivery
from app.delivery.conditions import may_redirect
from app.delivery.disposition import content_disposition
from app.delivery.response import FOR_EVER, NO_CACHE, Representation
from app.delivery.stored import StoredSource, etag_of
from app.formats import scriptable
from app.storage.errors import ObjectNotFound
from app.storage.following import Locate
from app.storage.service import StorageService

if TYPE_CHECKING:
    from app.api.services import Services

CACHED_ASSETS = 20_000

_ORIGINAL = re.compile(r"/api/assets/([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})/original")


_BEFORE_ID, _AFTER_ID = "/api/assets/", "/original"


class Original:
    """An asset's file, ready to be sent; the header fields of each way to ask for it are made up once."""

    __slots__ = ("_representations", "owner_id", "source")

    def __init__(self, asset: Asset, storage: StorageService, locate: Locate) -> None:
        file = asset.file
        if file.size is None or file.sha1 is None:
            raise ObjectNotFound(file.path, "catalogue", "never stored")
        self.owner_id = asset.owner_id
        self.source = StoredSource(
            storage,
            path=file.path,
            size=file.size,
            etag=etag_of(file.sha1),
            # Not later than now, whatever the uploader's clock said (RFC 9110 section 8.8.2.1).
            last_modified=min(asset.file_modified_at, file.created_at),
            content_type=file.mime_type,
            filename=asset.original_file_name,
            locate=locate,
        )
        self._representations: dict[tuple[bool, bool], Representation] = {}

    def representation(self, *, attachment: bool, versioned: bool) -> Representation:
        known = self._representations.get((attachment, versioned))
        if known is None:
            cache_control = FOR_EVER if versioned else NO_CACHE
            known = Representation(self.source, attachment=attachment, cache_control=cache_control)
            self._representations[attachment, versioned] = known
        return known


class DeliveryCache:
    """The originals that were just asked for, whoever asked."""

    def __init__(self) -> None:
        self._originals: RecentCache[str, Original] = RecentCache(CACHED_ASSETS)

    async def original(self, asset_id: str, services: Services) -> Original | None:
        async def load() -> Original | None:
            asset = await services.catalog.assets.get(UUID(asset_id))
            return None if asset is None else Original(asset, services.storage, partial(_locate, asset, services))

        return await self._originals.get(asset_id, load)

    def recent(self, asset_id: str) -> Original | None:
        """Without asking the catalogue."""
        return self._originals.peek(asset_id)

    def forget_asset(self, asset_id: UUID | str) -> None:
        """The asset was changed or deleted."""
        self._originals.forget(str(asset_id))


def find_hot_path(scope: Scope) -> Callable[[Scope, Receive, Send, Services], Awaitable[None]] | None:
    """The application for this request, if it is one of the hot path's."""
    path: str = scope["path"]
    if path.endswith("/original") and _ORIGINAL.fullmatch(path):
        return serve_original
    return serve_archive if is_archive_link(path) else None


def answer_at_once(scope: Scope, services: Services) -> tuple[bytes, bytes] | None:
    """The answer to a GET of an original, as its head and its body, if all that it takes is in memory and the body is one
    chunk. None for everything else, refusals and failures too: those are `serve_original`'s."""
    path: str = scope["path"]
    if scope["method"] != "GET" or not (path.startswith(_BEFORE_ID) and path.endswith(_AFTER_ID)):
        return None
    original = services.cache.recent(path[len(_BEFORE_ID) : -len(_AFTER_ID)])
    identity = services.authenticator.recent(scope) if original is not None else None
    if original is None or identity is None or original.owner_id != identity.user.id:
        return None
    if not identity.may(Permission.ASSET_DOWNLOAD):
        return None
    attachment, versioned = _wishes(scope["query_string"])
    representation = original.representation(attachment=attachment, versioned=versioned)
    return representation.at_once(scope["headers"], original.source.read_now)


async def serve_original(scope: Scope, receive: Receive, send: Send, services: Services) -> None:
    """Answer `/api/assets/{id}/original`. What is not the caller's and what is not there answer alike."""
    if scope["method"] not in ("GET", "HEAD"):
        raise ApiError(405, "Method Not Allowed", headers={"allow": "GET, HEAD"})
    identity = await services.authenticator.identify(scope)
    identity.require(Permission.ASSET_DOWNLOAD)
    asset_id = scope["path"].split("/")[3].lower()
    attachment, versioned = _wishes(scope["query_string"])
    original = await _owned(asset_id, identity.user.id, services)
    try:
        await _send(original, scope, receive, send, services, attachment=attachment, versioned=versioned)
    except ObjectNotFound:
        # Moved or deleted since the row was read: ask again, and try once more if it has moved.
        services.cache.forget_asset(asset_id)
        again = await _owned(asset_id, identity.user.id, services)
        if again.source.path == original.source.path:
            raise
        await _send(again, scope, receive, send, services, attachment=attachment, versioned=versioned)


async def _locate(asset: Asset, services: Services) -> str | None:
    """Where the original is now, past all caches."""
    services.cache.forget_asset(asset.id)
    again = await services.catalog.assets.get(asset.id)
    return again.file.path if again is not None and again.file.sha1 == asset.file.sha1 else None


async def _owned(asset_id: str, user_id: UUID, services: Services) -> Original:
    original = await services.cache.original(asset_id, services)
    if original is None or original.owner_id != user_id:
        raise ApiError(404, "Asset not found")
    return original


async def _send(
    original: Original,
    scope: Scope,
    receive: Receive,
    send: Send,
    services: Services,
    *,
    attachment: bool,
    versioned: bool,
) -> None:
    if services.settings.s3_delivery is S3Delivery.REDIRECT and may_redirect(scope["method"], scope["headers"]):
        link = await _link(original.source, services, attachment=attachment)
        if link is not None:
            await _redirect(link, send)
            return
    representation = original.representation(attachment=attachment, versioned=versioned)
    await representation.deliver(scope, receive, send)


async def _link(source: StoredSource, services: Services, *, attachment: bool) -> str | None:
    attached = attachment or scriptable(source.content_type)
    return await services.storage.presigned_url(
        source.path,
        expires_in=timedelta(seconds=services.settings.s3_link_seconds),
        content_type=source.content_type,
        disposition=content_disposition(source.filename, attachment=attached).decode("latin-1"),
    )


async def _redirect(link: str, send: Send) -> None:
    headers = [
        (b"location", link.encode("latin-1")),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
    ]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _wishes(query_string: bytes) -> tuple[bool, bool]:
    """`download=true` attaches; a version (`c=…`) makes the answer good for ever."""
    if not query_string:
        return False, False
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    return query.get("download", [""])[-1].lower() in ("true", "1"), "c" in query
