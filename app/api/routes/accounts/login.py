"""Routes that begin a session (by password, by the token of a sign-in address, by an API key) and that end it.

The answer holds the session's token for clients that store it themselves, and sets it as a cookie for browsers.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.models.accounts import (
    KeySignInRequest,
    LoginRequest,
    LoginResponse,
    LogoutResponse,
    TokenSignInRequest,
    TokenStatus,
)
from app.api.routes.accounts.session_cookies import delete_session_cookies, set_session_cookies
from app.api.routes.json_routes import JsonRoute
from app.api.services import Services, get_services
from app.catalog.schema.records import User

router = APIRouter(prefix="/api/auth", tags=["sessions"], route_class=JsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]
_NO_SECURITY = {"security": []}


@router.post("/login", status_code=201, openapi_extra=_NO_SECURITY)
async def login(
    credentials: LoginRequest, request: Request, response: Response, services: ServicesDependency
) -> LoginResponse:
    """A new session. Its token comes in the answer and as the cookie `immich_access_token`."""
    user, token = await services.authenticator.login(credentials.email, credentials.password, request.scope)
    return await _begin_session(user, token, request, response, services)


@router.post("/sign-in-token", status_code=201, openapi_extra=_NO_SECURITY)
async def sign_in_with_token(
    body: TokenSignInRequest, request: Request, response: Response, services: ServicesDependency
) -> LoginResponse:
    """A new session for the token of a printed address (`…/#signin=TOKEN`). A token works once, for ten minutes; then the answer is 401."""
    user, token = await services.authenticator.sign_in_with_token(body.token, request.scope)
    return await _begin_session(user, token, request, response, services)


@router.post("/sign-in-key", status_code=201, openapi_extra=_NO_SECURITY)
async def sign_in_with_key(
    body: KeySignInRequest, request: Request, response: Response, services: ServicesDependency
) -> LoginResponse:
    """A new session with the permissions that the API key has at each time. It ends when the key is deleted."""
    user, token = await services.authenticator.sign_in_with_key(body.api_key, request.scope)
    return await _begin_session(user, token, request, response, services)


@router.post("/logout")
async def logout(
    caller: Annotated[Identity, Depends(require_permission(None))],
    request: Request,
    response: Response,
    services: ServicesDependency,
) -> LogoutResponse:
    """End the session of this request, and have the browser forget what it kept of it."""
    await services.authenticator.logout(caller)
    delete_session_cookies(request, response, services.settings)
    response.headers["clear-site-data"] = '"cache"'
    return LogoutResponse()


@router.post("/validateToken", dependencies=[Depends(require_permission(None))])
async def validate_token() -> TokenStatus:
    """200 with a valid credential, else 401."""
    return TokenStatus()


async def _begin_session(
    user: User, token: str, request: Request, response: Response, services: Services
) -> LoginResponse:
    set_session_cookies(request, response, token, services.settings)
    portrait = await services.catalog.renditions.get_for_user(user.id)
    return LoginResponse.from_login(user, token, portrait.file.path if portrait else "")
