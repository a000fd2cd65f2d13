"""`/.well-known/immich`: tells clients that know only the host where the API is. Outside `/api`."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.models.server import WellKnown

router = APIRouter(tags=["server"])


@router.get("/.well-known/immich")
async def discover() -> WellKnown:
    return WellKnown()
