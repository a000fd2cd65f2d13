"""Cross-origin resource sharing (https://fetch.spec.whatwg.org/#http-cors-protocol) for uploads and reads. Off unless origins are configured.

Keys, logins, accounts and settings have no CORS: a page elsewhere has no business with them.
"""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any, Self

from starlette.types import Scope, Send

from app.config.server import ANY_ORIGIN

MAX_REQUESTED_FIELDS_BYTES = 2048
PREFLIGHT_SECONDS = 7200
"""How long a browser may keep the answer to a preflight; Chromium keeps it for at most so long."""

_UPLOAD_PATH = re.compile(r"/api/uploads?(?:/[^/]*)?")
_POST_PATH = re.compile(r"/api/(?:assets|assets/bulk-upload-check|search/.*|download/(?:info|archive|links))")
_PRIVATE_PATH = re.compile(r"/api/(?:auth|api-keys|sessions|admin|users|system-config)(?:/.*)?")
_UPLOAD_METHODS = b"DELETE, GET, HEAD, OPTIONS, PATCH, POST"
_REQUESTED_FIELDS = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?: ?, ?[!#$%&'*+.^_`|~0-9A-Za-z-]+)*")
_EXPOSED_FIELDS = (
    b"Location, Upload-Offset, Upload-Length, Upload-Expires, Upload-Metadata, Upload-Defer-Length, Upload-Complete, "
    b"Upload-Incomplete, Upload-Limit, Upload-Draft-Interop-Version, Tus-Resumable, Tus-Version, Tus-Extension, "
    b"Tus-Max-Size, Tus-Checksum-Algorithm, Mediavault-Asset-Id, ETag, Accept-Ranges, Content-Range, Content-Disposition, "
    b"Retry-After, X-Correlation-Id"
)

Fields = list[tuple[bytes, bytes]]


class CorsPolicy:
    """The answers to requests of pages of `origins`. Only named origins may send cookies; `ANY_ORIGIN` stands for all others."""

    def __init__(self, origins: frozenset[str]) -> None:
        self._allows_any = ANY_ORIGIN in origins
        self._named = frozenset(origin.encode("ascii") for origin in origins if origin != ANY_ORIGIN)

    @classmethod
    def create(cls, origins: frozenset[str]) -> Self | None:
        """None without an origin."""
        return cls(origins) if origins else None

    def is_trusted(self, scope: Scope) -> bool:
        """Whether the request comes from a page of a named origin, to a path that such pages may use."""
        return _find_origin(scope) in self._named and _find_methods(scope["path"]) is not None

    def build_fields(self, scope: Scope) -> Fields:
        """The header fields that the response has in addition."""
        if _find_methods(scope["path"]) is None:
            return []
        fields = self._build_origin_fields(_find_origin(scope))
        return [*fields, (b"access-control-expose-headers", _EXPOSED_FIELDS)] if len(fields) > 1 else fields

    def answer_preflight(self, scope: Scope) -> Fields | None:
        """The header fields of the response to a preflight; None if the request is none, or not of an origin that may do this."""
        if scope["method"] != "OPTIONS":
            return None
        headers: dict[bytes, bytes] = dict(scope["headers"])
        methods = _find_methods(scope["path"])
        if methods is None or b"access-control-request-method" not in headers:
            return None
        fields = self._build_origin_fields(_find_origin(scope))
        if len(fields) == 1:
            return None
        fields += [
            (b"access-control-allow-methods", methods),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]
        requested = headers.get(b"access-control-request-headers", b"")
        if len(requested) <= MAX_REQUESTED_FIELDS_BYTES and _REQUESTED_FIELDS.fullmatch(requested):
            fields.append((b"access-control-allow-headers", requested))
        return fields

    def _build_origin_fields(self, origin: bytes | None) -> Fields:
        """`Vary` alone where the origin is not allowed."""
        vary = (b"vary", b"Origin")
        if origin is not None and origin in self._named:
            allowed = (b"access-control-allow-origin", origin)
            return [vary, allowed, (b"access-control-allow-credentials", b"true")]
        return [vary, (b"access-control-allow-origin", b"*")] if self._allows_any else [vary]


def with_fields(send: Send, fields: Fields) -> Send:
    """`send`, with these header fields added to the response."""

    async def send_with_fields(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], *fields]}
        await send(message)

    return send_with_fields


def _find_origin(scope: Scope) -> bytes | None:
    headers: dict[bytes, bytes] = dict(scope["headers"])
    return headers.get(b"origin")


def _find_methods(path: str) -> bytes | None:
    """The methods that pages of other origins may use; None if the path is not for them."""
    if not path.startswith("/api/") or _PRIVATE_PATH.fullmatch(path):
        return None
    if _UPLOAD_PATH.fullmatch(path):
        return _UPLOAD_METHODS
    return b"GET, HEAD, POST" if _POST_PATH.fullmatch(path) else b"GET, HEAD"
