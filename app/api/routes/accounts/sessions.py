"""Routes of the caller's sessions: list them and end them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.permissions import Permission
from app.api.errors import ApiError
from app.api.models.users import SessionResponse
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services

router = APIRouter(prefix="/api/sessions", tags=["sessions"], route_class=AuthenticatedJsonRoute)

ServicesDependency = Annotated[Services, Depends(get_services)]
Deleter = Annotated[Identity, Depends(require_permission(Permission.SESSION_DELETE))]


@router.get("")
async def list_sessions(
    caller: Annotated[Identity, Depends(require_permission(Permission.SESSION_READ))], services: ServicesDependency
) -> list[SessionResponse]:
    """Your logins that have not ended, the latest first; then those at Immich that are accepted here. The latter end at Immich."""
    sessions = await services.catalog.sessions.list(caller.user.id)
    if services.settings.immich_sessions:
        sessions += await services.catalog.immich_sessions.list(caller.user.id, datetime.now(UTC))
    return [SessionResponse.from_session(each, current=each.id == caller.credential_id) for each in sessions]


@router.delete("", status_code=204)
async def delete_other_sessions(caller: Deleter, services: ServicesDependency) -> Response:
    """End all sessions but that of this request, at once (in other processes within five seconds)."""
    await services.catalog.sessions.delete_others(caller.user.id, caller.credential_id)
    services.authenticator.clear_cache()
    return Response(status_code=204)


@router.delete("/{id}", status_code=204)
async def delete_session(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    caller: Deleter,
    services: ServicesDependency,
) -> Response:
    if not await services.catalog.sessions.delete(caller.user.id, id):
        raise ApiError(404, "Session not found")
    services.authenticator.clear_cache()
    return Response(status_code=204)
