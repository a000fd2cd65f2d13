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

from app.api.archive_links import is_archive_link, serve_archive
from app.api.auth import Identity
from app.api.delivery_cache import Deliverable, Found
from app.api.errors import ApiError
from app.api.external import External
from app.api.renditions import (
    ORIGINAL,
    PERSON,
    PLAYBACK,
    PROFILE,
    THUMBNAIL,
    Elsewhere,
    NotMade,
    Rendition,
    of_size,
)
from app.api.services import Services
from app.config import S3Delivery
from app.delivery.conditions import may_redirect
from app.delivery.disposition import content_disposition
from app.delivery.stored import StoredSource
from app.formats import scriptable
from app.storage.errors import ObjectNotFound

_ENDS = ("/original", "/thumbnail", "/video/playback", "/profile-image")
_ID = "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_ADDRESS = re.compile(
    f"/api/(?:assets/{_ID}/(?:original|thumbnail|video/playback)|people/{_ID}/thumbnail|users/{_ID}/profile-image)"
)
_ASSETS = "/api/assets/"
_ID_END = len(_ASSETS) + 36


@dataclass(frozen=True, slots=True)
class _Request:
    """What the address and its query ask for. `attachment`: to be saved; `versioned`: the answer is good for ever."""

    wanted: Rendition
    attachment: bool = False
    versioned: bool = False


_PLAIN = {"/original": _Request(ORIGINAL), "/thumbnail": _Request(THUMBNAIL), "/video/playback": _Request(PLAYBACK)}
"""By the end of an asset's address: what is asked for without a query."""


def _asked(end: str, query_string: bytes) -> _Request:
    """`download=true` attaches; a version (`c=…`) makes the answer good for ever. Raises 400 for a size that there is not."""
    plain = _PLAIN[end]
    if not query_string:
        return plain
    query = parse_qs(query_string.decode("latin-1"), keep_blank_values=True)
    wanted = of_size(query["size"][-1]) if plain.wanted is THUMBNAIL and "size" in query else plain.wanted
    return _Request(wanted, query.get("download", [""])[-1].lower() in ("true", "1"), "c" in query)


def find_hot_path(scope: Scope) -> Callable[[Scope, Receive, Send, Services], Awaitable[None]] | None:
    """The application for this request, if it is one of the hot path's; other methods than GET and HEAD are FastAPI's."""
    if scope["method"] not in ("GET", "HEAD"):
        return None
    path: str = scope["path"]
    if path.endswith(_ENDS) and _ADDRESS.fullmatch(path):
        return serve_file
    return serve_archive if is_archive_link(path) else None


def answer_at_once(scope: Scope, services: Services) -> tuple[bytes, bytes] | None:
    """The answer to a GET of an asset's file, as its head and its body, if all that it takes is in memory and the body is one
    chunk. None for everything else, refusals and failures too: those are `serve_file`'s."""
    path: str = scope["path"]
    if scope["method"] != "GET" or not path.startswith(_ASSETS) or path[_ID_END:] not in _PLAIN:
        return None
    request = _asked(path[_ID_END:], scope["query_string"])
    found = services.cache.recent(path[len(_ASSETS) : _ID_END], request.wanted)
    if not isinstance(found, Deliverable):
        return None
    identity = services.authenticator.recent(scope)
    if identity is None or found.owner_id != identity.user.id or not identity.may(request.wanted.permission):
        return None
    representation = found.representation(attachment=request.attachment, versioned=request.versioned)
    return representation.at_once(scope["headers"], found.source.read_now)


async def serve_file(scope: Scope, receive: Receive, send: Send, services: Services) -> None:
    """Answer with a file of an asset, a person or a user. What is not the caller's and what is not there answer alike."""
    identity = await services.authenticator.identify(scope)
    _, _, subject, item_id, rest = scope["path"].lower().split("/", 4)
    if subject == "assets":
        request = _asked(f"/{rest}", scope["query_string"])
    else:
        request = _Request(PERSON if subject == "people" else PROFILE)
    identity.require(request.wanted.permission)
    found = await _seen_by(identity, item_id, request.wanted, services)
    if isinstance(found, Elsewhere):
        await _redirect(_address(found, scope["query_string"]), send)
        return
    if isinstance(found, External):
        store, libraries = services.storage, services.libraries
        await found.deliver(scope, receive, send, store, libraries, attachment=request.attachment)
        return
    try:
        await _send(found, request, scope, receive, send, services)
    except ObjectNotFound:
        # Moved, replaced or deleted since the row was read: ask again, and try once more if there is another file.
        services.cache.forget(item_id, request.wanted)
        again = await _seen_by(identity, item_id, request.wanted, services)
        if not isinstance(again, Deliverable) or again.source.path == found.source.path:
            raise
        await _send(again, request, scope, receive, send, services)


async def _seen_by(identity: Identity, item_id: str, wanted: Rendition, services: Services) -> Found:
    try:
        found = await services.cache.get(item_id, wanted)
    except NotMade as missing:
        raise missing.refusal if missing.owner_id == identity.user.id else ApiError(404, wanted.unknown) from None
    allowed = found is not None and found.owner_id == identity.user.id
    if found is None or not (allowed or (wanted is PROFILE and identity.user.is_admin)):
        raise ApiError(404, wanted.unknown)
    return found


async def _send(
    found: Deliverable, request: _Request, scope: Scope, receive: Receive, send: Send, services: Services
) -> None:
    if services.settings.s3_delivery is S3Delivery.REDIRECT and may_redirect(scope["method"], scope["headers"]):
        link = await _link(found.source, services, attachment=request.attachment)
        if link is not None:
            await _redirect(link, send)
            return
    representation = found.representation(attachment=request.attachment, versioned=request.versioned)
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


def _address(elsewhere: Elsewhere, query_string: bytes) -> str:
    """Relative to the request's own, with the rest of its query: the credential may be in it."""
    kept = [pair for pair in query_string.decode("latin-1").split("&") if pair and pair.partition("=")[0] != "size"]
    if elsewhere.size is not None:
        kept.insert(0, f"size={elsewhere.size}")
    return f"{elsewhere.address}?{'&'.join(kept)}" if kept else elsewhere.address
