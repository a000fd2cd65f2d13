"""The hot path: GET and HEAD of media and archives, dispatched before FastAPI's routing (and described in OpenAPI all the same).

A request for what was just seen asks the catalogue nothing: the caller and the file come from bounded, short-lived caches.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import parse_qs

from starlette.types import Receive, Scope, Send

from app.api.authentication.authenticator import Identity
from app.api.errors import ApiError
from app.api.files.external_files import ExternalFile
from app.api.files.rendition_cache import PreparedFile, ResolvedRendition
from app.api.files.renditions import (
    ORIGINAL,
    PERSON_THUMBNAIL,
    PLAYBACK,
    PROFILE_IMAGE,
    THUMBNAIL,
    Rendition,
    RenditionMissing,
    RenditionRedirect,
    parse_thumbnail_size,
)
from app.api.handlers.archive_requests import is_archive_link, serve_archive
from app.api.services import Services
from app.config import S3Delivery
from app.delivery.conditions import may_redirect
from app.delivery.disposition import content_disposition
from app.delivery.stored_source import StoredSource
from app.formats import can_run_scripts
from app.storage.errors import ObjectNotFound

_PATH_SUFFIXES = ("/original", "/thumbnail", "/video/playback", "/profile-image")
_ID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_PATH_PATTERN = re.compile(
    f"/api/(?:assets/{_ID}/(?:original|thumbnail|video/playback)|people/{_ID}/thumbnail|users/{_ID}/profile-image)"
)
_ASSETS_PREFIX = "/api/assets/"
_ID_END = len(_ASSETS_PREFIX) + 36


@dataclass(frozen=True, slots=True)
class _FileRequest:
    """What the address and its query ask for. `attachment`: to be saved; `is_versioned`: the answer is good for ever."""

    rendition: Rendition
    attachment: bool = False
    is_versioned: bool = False


_DEFAULT_REQUESTS = {
    "/original": _FileRequest(ORIGINAL),
    "/thumbnail": _FileRequest(THUMBNAIL),
    "/video/playback": _FileRequest(PLAYBACK),
}
"""By the end of an asset's address: what is asked for without a query."""


def _parse_file_request(suffix: str, query_string: bytes) -> _FileRequest:
    """`download=true` attaches; a version (`c=…`) makes the answer good for ever. Raises 400 for a size that there is not."""
    plain = _DEFAULT_REQUESTS[suffix]
    if not query_string:
        return plain
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    wanted = (
        parse_thumbnail_size(query["size"][-1]) if plain.rendition is THUMBNAIL and "size" in query else plain.rendition
    )
    return _FileRequest(wanted, query.get("download", [""])[-1].lower() in ("true", "1"), "c" in query)


def find_file_handler(scope: Scope) -> Callable[[Scope, Receive, Send, Services], Awaitable[None]] | None:
    """The application for this request, if it is one of the hot path's; other methods than GET and HEAD are FastAPI's."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    path: str = scope["path"]
    if path.endswith(_PATH_SUFFIXES) and _PATH_PATTERN.fullmatch(path):
        return serve_file
    return serve_archive if is_archive_link(path) else None


def answer_from_memory(scope: Scope, services: Services) -> tuple[bytes, bytes] | None:
    """The answer to a GET of an asset's file, as its head and its body, if all that it takes is in memory and the body is one
    chunk. None for everything else, refusals and failures too: those are `serve_file`'s."""
    path: str = scope["path"]
    if scope["method"] != "GET" or not path.startswith(_ASSETS_PREFIX) or path[_ID_END:] not in _DEFAULT_REQUESTS:
        return None
    request = _parse_file_request(path[_ID_END:], scope["query_string"])
    found = services.rendition_cache.peek(path[len(_ASSETS_PREFIX) : _ID_END], request.rendition)
    if not isinstance(found, PreparedFile):
        return None
    identity = services.authenticator.identify_from_cache(scope)
    if (
        identity is None
        or found.owner_id != identity.user.id
        or not identity.has_permission(request.rendition.permission)
    ):
        return None
    representation = found.get_representation(attachment=request.attachment, is_versioned=request.is_versioned)
    return representation.answer_from_memory(scope["headers"], found.source.read_from_memory)


async def serve_file(scope: Scope, receive: Receive, send: Send, services: Services) -> None:
    """Answer with a file of an asset, a person or a user. What is not the caller's and what is not there answer alike."""
    identity = await services.authenticator.identify(scope)
    _, _, subject, item_id, rest = scope["path"].lower().split("/", 4)
    if subject == "assets":
        request = _parse_file_request(f"/{rest}", scope["query_string"])
    else:
        request = _FileRequest(PERSON_THUMBNAIL if subject == "people" else PROFILE_IMAGE)
    identity.require_permission(request.rendition.permission)
    found = await _resolve_for(identity, item_id, request.rendition, services)
    if isinstance(found, RenditionRedirect):
        await _redirect(_build_redirect_location(found, scope["query_string"]), send)
        return
    if isinstance(found, ExternalFile):
        store, libraries = services.storage, services.libraries
        await found.deliver(scope, receive, send, store, libraries, attachment=request.attachment)
        return
    try:
        await _deliver_or_redirect(found, request, scope, receive, send, services)
    except ObjectNotFound:
        # Moved, replaced or deleted since the row was read: ask again, and try once more if there is another file.
        services.rendition_cache.invalidate(item_id, request.rendition)
        again = await _resolve_for(identity, item_id, request.rendition, services)
        if not isinstance(again, PreparedFile) or again.source.path == found.source.path:
            raise
        await _deliver_or_redirect(again, request, scope, receive, send, services)


async def _resolve_for(identity: Identity, item_id: str, rendition: Rendition, services: Services) -> ResolvedRendition:
    try:
        found = await services.rendition_cache.get(item_id, rendition)
    except RenditionMissing as missing:
        raise (
            missing.refusal if missing.owner_id == identity.user.id else ApiError(404, rendition.not_found_message)
        ) from None
    allowed = found is not None and found.owner_id == identity.user.id
    if found is None or not (allowed or (rendition is PROFILE_IMAGE and identity.user.is_admin)):
        raise ApiError(404, rendition.not_found_message)
    return found


async def _deliver_or_redirect(
    found: PreparedFile, request: _FileRequest, scope: Scope, receive: Receive, send: Send, services: Services
) -> None:
    if services.settings.s3_delivery is S3Delivery.REDIRECT and may_redirect(scope["method"], scope["headers"]):
        link = await _sign_url(found.source, services, attachment=request.attachment)
        if link is not None:
            await _redirect(link, send)
            return
    representation = found.get_representation(attachment=request.attachment, is_versioned=request.is_versioned)
    await representation.deliver(scope, receive, send)


async def _sign_url(source: StoredSource, services: Services, *, attachment: bool) -> str | None:
    attached = attachment or can_run_scripts(source.content_type)
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


def _build_redirect_location(redirect: RenditionRedirect, query_string: bytes) -> str:
    """Relative to the request's own, with the rest of its query: the credential may be in it."""
    kept = [pair for pair in query_string.decode("latin-1").split("&") if pair and pair.partition("=")[0] != "size"]
    if redirect.size is not None:
        kept.insert(0, f"size={redirect.size}")
    return f"{redirect.path_suffix}?{'&'.join(kept)}" if kept else redirect.path_suffix
