"""Determines the methods that a URL supports: for `Allow` on every 405, and for the response to OPTIONS."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from app.api.errors import ERROR_CONVERSION, ApiError, build_error_response
from app.api.handlers.file_requests import find_file_handler
from app.api.http.request_head import KNOWN_METHODS

WHOLE_SERVER = "*"
_PROBED_METHODS = sorted(method.decode("ascii") for method in KNOWN_METHODS - {b"HEAD", b"OPTIONS", b"TRACE"})

FindErrorConversion = Callable[[str], Callable[[Exception], ApiError] | None]
"""Returns what replaces `to_api_error` for requests to a path; None where nothing does."""


def install_method_handlers(app: FastAPI, find_error_conversion: FindErrorConversion = lambda _path: None) -> None:
    """Install handlers of 404 and 405 on `app` that cover its routes and those of the fast path. `find_error_conversion`: for the paths of a
    protocol with fields of its own on every response, also where no route matches.

    HEAD is supported wherever GET is, because `ApiApplication` sends HEAD to the GET route.
    """

    async def handle(request: Request, error: Exception) -> Response:
        convert = find_error_conversion(request.scope["path"])
        if convert is not None:
            request.scope.setdefault(ERROR_CONVERSION, convert)
        allowed = _find_allowed_methods(app, request.scope)
        if not allowed or request.method in allowed:
            return build_error_response(request, error)
        headers = {"allow": ", ".join(sorted({*allowed, "OPTIONS"}))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=headers)
        return build_error_response(request, HTTPException(405, headers=headers))

    for status in (404, 405):
        app.add_exception_handler(status, handle)


def _find_allowed_methods(app: FastAPI, scope: Scope) -> set[str]:
    """The supported methods except OPTIONS; empty if the URL does not exist."""
    methods = {
        method
        for method in _PROBED_METHODS
        if scope["path"] == WHOLE_SERVER or _has_handler(app, {**scope, "method": method})
    }
    if "GET" in methods:
        methods.add("HEAD")
    return methods


def _has_handler(app: FastAPI, scope: Scope) -> bool:
    return find_file_handler(scope) is not None or any(route.matches(scope)[0] is Match.FULL for route in app.routes)
