"""Which methods an address has: `Allow` on every 405, and the answer to OPTIONS."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Scope

from app.api.errors import error_answer
from app.api.hot import find_hot_path
from app.api.request_head import METHODS

WHOLE_SERVER = "*"
_ASKED = sorted(method.decode("ascii") for method in METHODS - {b"HEAD", b"OPTIONS", b"TRACE"})


def install_methods(app: FastAPI) -> None:
    """For the addresses of `app` and of the hot path. HEAD is wherever GET is: `Front` sees to that."""

    async def handle(request: Request, error: Exception) -> Response:
        allowed = _allowed(app, request.scope)
        if not allowed or request.method in allowed:
            return error_answer(request, error)
        fields = {"allow": ", ".join(sorted({*allowed, "OPTIONS"}))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=fields)
        return error_answer(request, HTTPException(405, headers=fields))

    for status in (404, 405):
        app.add_exception_handler(status, handle)


def _allowed(app: FastAPI, scope: Scope) -> set[str]:
    """Beside OPTIONS."""
    found = {method for method in _ASKED if scope["path"] == WHOLE_SERVER or _has(app, {**scope, "method": method})}
    if "GET" in found:
        found.add("HEAD")
    return found


def _has(app: FastAPI, scope: Scope) -> bool:
    return find_hot_path(scope) is not None or any(route.matches(scope)[0] is Match.FULL for route in app.routes)
