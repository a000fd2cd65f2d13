"""Routes of the page: its addresses, which all answer with the index, and its files below `/web/{version}`."""

from __future__ import annotations

import asyncio
from importlib.resources import files
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response

from app.api.errors import ApiError
from app.api.web.static_files import StaticFile, StaticFiles, read_files
from app.config import S3Delivery, Settings, StorageEngine
from app.delivery.conditions import matches_weak_etag

PAGE_PATHS = ("/", "/photos/{asset_id}", "/trash", "/administration", "/sign-in")
"""The addresses of the page's views; its own scripts decide which one is shown."""

_IMMUTABLE = "public, max-age=31536000, immutable"
_REVALIDATED = "no-cache"


def install_web(app: FastAPI, settings: Settings) -> None:
    """Add the page's routes. All files are read now, so that an update of the package does not mix versions, and compressed at the first
    request: most starts serve no page."""
    page = _Page(read_files(files("app.web")))
    security = build_security_headers(settings)

    async def open_page(request: Request) -> Response:
        return _build_response((await page.get_files()).index, request, security | {"cache-control": _REVALIDATED})

    async def get_file(request: Request, version: str, name: str) -> Response:
        static = await page.get_files()
        file = static.files.get(name) if version == static.version else None
        if file is None:
            raise ApiError(404, "Not Found")
        return _build_response(file, request, security | {"cache-control": _IMMUTABLE})

    for path in PAGE_PATHS:
        app.add_api_route(path, open_page, include_in_schema=False)
    app.add_api_route("/web/{version}/{name:path}", get_file, include_in_schema=False)


class _Page:
    def __init__(self, sources: dict[str, bytes]) -> None:
        self._sources = sources
        self._lock = asyncio.Lock()
        self._files: StaticFiles | None = None

    async def get_files(self) -> StaticFiles:
        """Made once, outside the event loop."""
        if self._files is None:
            async with self._lock:
                if self._files is None:
                    self._files = await asyncio.to_thread(StaticFiles.create, self._sources)
                    self._sources = {}
        return self._files


def build_security_headers(settings: Settings) -> dict[str, str]:
    """The header fields of the page and of each of its files."""
    return {
        "content-security-policy": _build_content_security_policy(settings),
        "cross-origin-opener-policy": "same-origin",
        "cross-origin-resource-policy": "same-origin",
        "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }


def _build_content_security_policy(settings: Settings) -> str:
    """Scripts, styles, pictures and requests from this origin only; where `S3_DELIVERY=redirect`, also pictures and videos from the store."""
    store = "".join(f" {source}" for source in _list_store_sources(settings))
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; "
        f"img-src 'self' blob: data:{store}; media-src 'self' blob:{store}; "
        "connect-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )


def _list_store_sources(settings: Settings) -> list[str]:
    """The hosts that signed links lead to, as sources of a policy."""
    if settings.storage_engine is not StorageEngine.S3 or settings.s3_delivery is not S3Delivery.REDIRECT:
        return []
    if not settings.s3_endpoint:
        return ["https://*.amazonaws.com", "https://*.amazonaws.com.cn"]
    endpoint = urlsplit(settings.s3_endpoint)
    is_path_style = settings.s3_force_path_style in (None, True)
    return [f"{endpoint.scheme}://{'' if is_path_style else '*.'}{endpoint.netloc}"]


def _build_response(file: StaticFile, request: Request, headers: dict[str, str]) -> Response:
    """200 with the content in the best encoding, or 304 if the client has it."""
    encoding = file.choose_encoding(", ".join(request.headers.getlist("accept-encoding")))
    headers = headers | {"etag": encoding.etag, "vary": "Accept-Encoding"}
    known = ", ".join(request.headers.getlist("if-none-match"))
    if known and matches_weak_etag(known, encoding.etag):
        return Response(status_code=304, headers=headers)
    if encoding.content_encoding is not None:
        headers["content-encoding"] = encoding.content_encoding
    return Response(encoding.body, headers=headers | {"content-type": file.content_type})
