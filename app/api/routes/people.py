"""The pictures of persons. They are fetched at the same addresses, by the hot path."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response

from app.api.auth import Identity, requires
from app.api.models.people import PersonThumbnail
from app.api.permissions import Permission
from app.api.renditions import PERSON
from app.api.routes.bodies import KeyedJsonRoute
from app.api.services import Services, services

router = APIRouter(prefix="/people", tags=["people"], route_class=KeyedJsonRoute)


@router.put("/{id}/thumbnail", status_code=204)
async def set_person_thumbnail(
    id: UUID,  # noqa: A002 -- the name in the address, as Immich has it
    wanted: PersonThumbnail,
    caller: Annotated[Identity, Depends(requires(Permission.PERSON_UPDATE))],
    rooms: Annotated[Services, Depends(services)],
) -> Response:
    """Cut the person out of one of your assets: a square JPEG. The person is made where there is none with this id yet."""
    await rooms.portraits.show_person(caller.user.id, id, wanted.asset_id, wanted.box())
    rooms.cache.forget(id, PERSON)
    return Response(status_code=204)
