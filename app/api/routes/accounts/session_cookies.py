"""The cookies of a session: set at a sign-in, deleted at its end."""

from __future__ import annotations

from fastapi import Request, Response

from app.api.authentication.credentials import SESSION_COOKIE
from app.config import Settings

AUTH_TYPE_COOKIE = "immich_auth_type"
SIGNED_IN_COOKIE = "immich_is_authenticated"
"""The only cookie that scripts can read: it says that a session exists, and contains no secret."""


def set_session_cookies(request: Request, response: Response, token: str, settings: Settings) -> None:
    for name, value in ((SESSION_COOKIE, token), (AUTH_TYPE_COOKIE, "password"), (SIGNED_IN_COOKIE, "true")):
        response.set_cookie(
            name,
            value,
            max_age=int(settings.session_lifetime.total_seconds()),
            httponly=name != SIGNED_IN_COOKIE,
            samesite="lax",
            secure=_is_https(request, settings),
        )
    response.headers["cache-control"] = "no-store"


def delete_session_cookies(request: Request, response: Response, settings: Settings) -> None:
    for name in (SESSION_COOKIE, AUTH_TYPE_COOKIE, SIGNED_IN_COOKIE):
        response.delete_cookie(
            name, httponly=name != SIGNED_IN_COOKIE, samesite="lax", secure=_is_https(request, settings)
        )


def _is_https(request: Request, settings: Settings) -> bool:
    """Whether the browser speaks HTTPS: with the proxy that forwarded the request, or by the public address."""
    return request.url.scheme == "https" or (settings.public_url or "").startswith("https://")
