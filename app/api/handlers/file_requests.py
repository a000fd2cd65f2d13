"""Fast-path handler for GET and HEAD of media files, called before FastAPI's routing. `openapi_files` describes its routes.

Caller and file come from bounded caches of a few seconds, so that a repeated request needs no catalogue query.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
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
from app.api.handlers.archive_requests import ARCHIVE_ROUTE, is_archive_link, serve_archive
from app.api.services import Services
from app.config import S3Delivery
from app.delivery.conditions import may_redirect
from app.delivery.disposition import content_disposition
from app.delivery.response import HoldSlot
from app.delivery.stored_source import StoredSource
from app.formats import can_run_scripts
from app.storage.backend import read_for_account
from app.storage.errors import ObjectNotFound

_PATH_SUFFIXES = ("/original", "/thumbnail", "/video/playback", "/profile-image")
_ID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_PATH_PATTERN = re.compile(
    f"/api/(?:assets/{_ID}/(?:original|thumbnail|video/playback)|people/{_ID}/thumbnail|users/{_ID}/profile-image)"
)
_ASSETS_PREFIX = "/api/assets/"
ASSET_PATH_LENGTH = len(_ASSETS_PREFIX) + 36
"""Of an asset's path, up to the end of its id."""


@dataclass(frozen=True, slots=True)
class _FileRequest:
    """The rendition that a URL requests. `attachment`: the browser saves it; `is_versioned`: the response may be cached for ever."""

    rendition: Rendition
    attachment: bool = False
    is_versioned: bool = False


_DEFAULT_REQUESTS = {
    "/original": _FileRequest(ORIGINAL),
    "/thumbnail": _FileRequest(THUMBNAIL),
    "/video/playback": _FileRequest(PLAYBACK),
}
"""By path suffix of an asset's URL: the request without a query."""


def _parse_file_request(suffix: str, query_string: bytes) -> _FileRequest:
    """`download=true` makes an attachment, `c=…` a versioned URL. Raises `ApiError` 400 for an unknown `size`."""
    default = _DEFAULT_REQUESTS[suffix]
    if not query_string:
        return default
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    rendition = (
        parse_thumbnail_size(query["size"][-1])
        if default.rendition is THUMBNAIL and "size" in query
        else default.rendition
    )
    return _FileRequest(rendition, query.get("download", [""])[-1].lower() in ("true", "1"), "c" in query)


def find_file_handler(scope: Scope) -> Callable[[Scope, Receive, Send, Services], Awaitable[None]] | None:
    """The fast-path handler for this request; None for all methods but GET and HEAD and for paths that FastAPI routes."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    path: str = scope["path"]
    if path.endswith(_PATH_SUFFIXES) and _PATH_PATTERN.fullmatch(path):
        return serve_file
    return serve_archive if is_archive_link(path) else None


def find_route_template(scope: Scope) -> str | None:
    """The path of the fast-path route that answers this request, as OpenAPI describes it; None if there is none."""
    handler = find_file_handler(scope)
    if handler is serve_file:
        _, _, subject, _, rest = scope["path"].split("/", 4)
        return f"/api/{subject}/{{id}}/{rest}"
    return ARCHIVE_ROUTE if handler is serve_archive else None


def answer_from_memory(scope: Scope, services: Services) -> tuple[bytes, bytes] | None:
    """Head and body of the response to a GET of an asset's file, if caller, file and bytes are in memory and the body is one chunk.

    None for every other request, and for refusals and failures: `serve_file` answers those.
    """
    path: str = scope["path"]
    suffix = path[ASSET_PATH_LENGTH:]
    if scope["method"] != "GET" or not path.startswith(_ASSETS_PREFIX) or suffix not in _DEFAULT_REQUESTS:
        return None
    request = _parse_file_request(suffix, scope["query_string"])
    file = services.rendition_cache.peek(path[len(_ASSETS_PREFIX) : ASSET_PATH_LENGTH], request.rendition)
    if not isinstance(file, PreparedFile):
        return None
    if services.front_server is None and not file.source.may_be_in_memory:
        return None
    identity = services.authenticator.identify_from_cache(scope)
    if (
        identity is None
        or file.owner_id != identity.user.id
        or not identity.has_permission(request.rendition.permission)
        or (file.is_locked and not identity.sees_locked)
    ):
        return None
    representation = file.get_representation(attachment=request.attachment, is_versioned=request.is_versioned)
    if services.front_server is not None and file.may_be_offloaded:
        head = services.front_server.answer_from_memory(scope, representation, file.source)
        if head is not None:
            return head, b""
    return representation.answer_from_memory(scope["headers"], file.source.read_from_memory)


async def serve_file(scope: Scope, receive: Receive, send: Send, services: Services) -> None:
    """Send a file of an asset, a person or a user. An item of another user and a missing item get the same 404."""
    identity = await services.authenticator.identify(scope)
    read_for_account(identity.user.id)
    _, _, subject, item_id, rest = scope["path"].lower().split("/", 4)
    if subject == "assets":
        request = _parse_file_request(f"/{rest}", scope["query_string"])
    else:
        request = _FileRequest(PERSON_THUMBNAIL if subject == "people" else PROFILE_IMAGE)
    identity.require_permission(request.rendition.permission)
    resolved = await _resolve_for(identity, item_id, request.rendition, services)
    if isinstance(resolved, RenditionRedirect):
        await _redirect(_build_redirect_location(resolved, scope["query_string"]), send)
        return
    hold_slot = partial(services.limits.hold_download, identity.user.id)
    if isinstance(resolved, ExternalFile):
        storage, libraries = services.storage, services.libraries
        await resolved.deliver(
            scope, receive, send, storage, libraries, attachment=request.attachment, hold_slot=hold_slot
        )
        return
    try:
        await _deliver_or_redirect(resolved, request, scope, receive, send, services, hold_slot)
    except ObjectNotFound:
        # The file was moved, replaced or deleted since its row was read: read the row again, and retry once if the path differs.
        services.rendition_cache.invalidate(item_id, request.rendition)
        current = await _resolve_for(identity, item_id, request.rendition, services)
        if not isinstance(current, PreparedFile) or current.source.path == resolved.source.path:
            raise
        await _deliver_or_redirect(current, request, scope, receive, send, services, hold_slot)


async def _resolve_for(identity: Identity, item_id: str, rendition: Rendition, services: Services) -> ResolvedRendition:
    try:
        resolved = await services.rendition_cache.get(item_id, rendition)
    except RenditionMissing as missing:
        is_shown = missing.owner_id == identity.user.id and (identity.sees_locked or not missing.is_locked)
        raise (missing.refusal if is_shown else ApiError(404, rendition.not_found_message)) from None
    is_own = resolved is not None and resolved.owner_id == identity.user.id
    if resolved is None or not (is_own or (rendition is PROFILE_IMAGE and identity.user.is_admin)):
        raise ApiError(404, rendition.not_found_message)
    if resolved.is_locked and not identity.sees_locked:
        raise ApiError(404, rendition.not_found_message)
    return resolved


async def _deliver_or_redirect(
    file: PreparedFile,
    request: _FileRequest,
    scope: Scope,
    receive: Receive,
    send: Send,
    services: Services,
    hold_slot: HoldSlot,
) -> None:
    if services.settings.s3_delivery is S3Delivery.REDIRECT and may_redirect(scope["method"], scope["headers"]):
        url = await _sign_url(file.source, services, attachment=request.attachment)
        if url is not None:
            await _redirect(url, send)
            return
    representation = file.get_representation(attachment=request.attachment, is_versioned=request.is_versioned)
    if services.front_server is not None and file.may_be_offloaded:
        headers = await services.front_server.build_answer(scope, representation, file.source)
        if headers is not None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
    await representation.deliver(scope, receive, send, hold_slot=hold_slot)


async def _sign_url(source: StoredSource, services: Services, *, attachment: bool) -> str | None:
    attached = attachment or can_run_scripts(source.content_type)
    return await services.storage.presigned_url(
        source.path,
        expires_in=timedelta(seconds=services.settings.s3_link_seconds),
        content_type=source.content_type,
        disposition=content_disposition(source.filename, attachment=attached).decode("latin-1"),
    )


async def _redirect(location: str, send: Send) -> None:
    headers = [
        (b"location", location.encode("latin-1")),
        (b"content-length", b"0"),
        (b"cache-control", b"no-store"),
        (b"referrer-policy", b"no-referrer"),
    ]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _build_redirect_location(redirect: RenditionRedirect, query_string: bytes) -> str:
    """A URL relative to the request's, with its query except `size`: the credential may be in the query."""
    kept = [pair for pair in query_string.decode("latin-1").split("&") if pair and pair.partition("=")[0] != "size"]
    if redirect.size is not None:
        kept.insert(0, f"size={redirect.size}")
    return f"{redirect.path_suffix}?{'&'.join(kept)}" if kept else redirect.path_suffix
