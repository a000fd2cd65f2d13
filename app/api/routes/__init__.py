"""The routes that answer with JSON. Bytes of media go the hot path, before these."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from app.api.routes import (
    api_keys,
    assets,
    downloads,
    health,
    jobs,
    libraries,
    people,
    search,
    server,
    sessions,
    trash,
    uploads,
    users,
    well_known,
)


def list_api_routers() -> list[APIRouter]:
    """Those below `/api`."""
    return [
        uploads.router,
        assets.router,
        search.router,
        trash.router,
        downloads.router,
        libraries.router,
        users.router,
        people.router,
        jobs.router,
        api_keys.router,
        sessions.router,
        server.router,
    ]


def install_routes(app: FastAPI) -> None:
    # Else an address with a slash too many redirects to whatever host the Host header names.
    app.router.redirect_slashes = False
    for router in list_api_routers():
        app.include_router(router, prefix="/api")
    app.include_router(well_known.router)
    app.include_router(health.router)
