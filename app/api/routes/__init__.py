"""The routes that answer with JSON. Bytes of media go the hot path, before these."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from app.api.routes import api_keys, assets, health, search, server, sessions, trash, uploads, users, well_known


def all_routers() -> list[APIRouter]:
    """Those below `/api`."""
    return [
        uploads.router,
        assets.router,
        search.router,
        trash.router,
        users.router,
        api_keys.router,
        sessions.router,
        server.router,
    ]


def install_routes(app: FastAPI) -> None:
    for router in all_routers():
        app.include_router(router, prefix="/api")
    app.include_router(well_known.router)
    app.include_router(health.router)
