"""Routes of login and logout with a password, for browsers (cookies) and for clients that store the token themselves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.credentials import SESSION_COOKIE
from app.api.models.accounts import LoginRequest, LoginResponse, LogoutResponse, TokenStatus
from app.api.routes.json_routes import JsonRoute
from app.api.services import Services, get_services
from app.config import Settings

router = APIRouter(prefix="/api/auth", tags=["sessions"], route_class=JsonRoute)

AUTH_TYPE_COOKIE = "immich_auth_type"
SIGNED_IN_COOKIE = "immich_is_authenticated"
"""The only cookie that scripts can read: it says that a session exists, and contains no secret."""

ServicesDependency = Annotated[Services, Depends(get_services)]


@router.post("/login", status_code=201, openapi_extra={"security": []})
async def login(
    credentials: LoginRequest, request: Request, response: Response, services: ServicesDependency
) -> LoginResponse:
    """A new session. Its token comes in the answer and as the cookie `immich_access_token`."""
    user, token = await services.authenticator.login(credentials.email, credentials.password, request.scope)
    for name, value in ((SESSION_COOKIE, token), (AUTH_TYPE_COOKIE, "password"), (SIGNED_IN_COOKIE, "true")):
        response.set_cookie(
            name,
            value,
            max_age=int(services.settings.session_lifetime.total_seconds()),
            httponly=name != SIGNED_IN_COOKIE,
            samesite="lax",
            secure=_is_https(request, services.settings),
        )
    response.headers["cache-control"] = "no-store"
    portrait = await services.catalog.renditions.get_for_user(user.id)
    return LoginResponse.from_login(user, token, portrait.file.path if portrait else "")


@router.post("/logout")
async def logout(
    caller: Annotated[Identity, Depends(require_permission(None))],
    request: Request,
    response: Response,
    services: ServicesDependency,
) -> LogoutResponse:
    """End the session of this request, and have the browser forget what it kept of it."""
    await services.authenticator.logout(caller)
    for name in (SESSION_COOKIE, AUTH_TYPE_COOKIE, SIGNED_IN_COOKIE):
        response.delete_cookie(
            name, httponly=name != SIGNED_IN_COOKIE, samesite="lax", secure=_is_https(request, services.settings)
        )
    response.headers["clear-site-data"] = '"cache"'
    return LogoutResponse()


@router.post("/validateToken", dependencies=[Depends(require_permission(None))])
async def validate_token() -> TokenStatus:
    """200 with a valid credential, else 401."""
    return TokenStatus()


def _is_https(request: Request, settings: Settings) -> bool:
    """Whether the browser speaks HTTPS: with the proxy that forwarded the request, or by the public address."""
    return request.url.scheme == "https" or (settings.public_url or "").startswith("https://")
