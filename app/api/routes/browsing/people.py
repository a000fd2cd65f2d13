"""Route that sets a person's thumbnail. The fast path (`handlers`) serves GET at the same URL."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.api.authentication.authenticator import Identity, require_permission
from app.api.authentication.locked_assets import check_visible
from app.api.authentication.permissions import Permission
from app.api.files.renditions import PERSON_THUMBNAIL
from app.api.models.people import PersonThumbnail
from app.api.routes.json_routes import AuthenticatedJsonRoute
from app.api.services import Services, get_services

router = APIRouter(prefix="/api/people", tags=["people"], route_class=AuthenticatedJsonRoute)


@router.put("/{id}/thumbnail", status_code=204)
async def set_person_thumbnail(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    body: PersonThumbnail,
    caller: Annotated[Identity, Depends(require_permission(Permission.PERSON_UPDATE))],
    services: Annotated[Services, Depends(get_services)],
) -> Response:
    """Cut the person out of one of your assets: a square JPEG. The person is made where there is none with this id yet."""
    await check_visible(caller, services.catalog, [body.asset_id])
    await services.portraits.set_person_thumbnail(caller.user.id, id, body.asset_id, body.to_box())
    services.rendition_cache.invalidate(id, PERSON_THUMBNAIL)
    return Response(status_code=204)
