"""FastAPI routes of the JSON API. Requests for the bytes of files do not come here: `handlers` serves them (the fast path).

The docstrings of route functions are part of the published OpenAPI description.
"""

from __future__ import annotations

from fastapi import APIRouter, FastAPI

from app.api.routes.accounts import admin_users, api_keys, login, sessions, user_profiles, users
from app.api.routes.administration import health, libraries, moves_and_backups, queues, server, well_known
from app.api.routes.browsing import absent_features, folders, people, search, timeline
from app.api.routes.media import asset_tasks, assets, downloads, trash
from app.api.routes.media import uploads as plain_uploads
from app.api.routes.uploads import ietf, tus


def list_api_routers() -> list[APIRouter]:
    """The routers of paths below `/api`, which is in the prefix of each."""
    return [
        plain_uploads.router,
        tus.router,
        ietf.router,
        search.router,
        timeline.router,
        folders.router,
        asset_tasks.router,
        assets.router,
        trash.router,
        downloads.router,
        libraries.router,
        users.router,
        user_profiles.router,
        admin_users.router,
        people.router,
        absent_features.router,
        queues.router,
        api_keys.router,
        login.router,
        sessions.router,
        server.router,
        moves_and_backups.router,
    ]


def install_routes(app: FastAPI) -> None:
    """Install the routes as their routers built them. `FastAPI.include_router` would build each again at the first request, with its
    dependencies and response model: that took half of a start, and finding a route takes longer there."""
    # Otherwise a URL with a trailing slash would redirect to the host that the client's `Host` field names.
    app.router.redirect_slashes = False
    for router in (*list_api_routers(), well_known.router, health.router):
        app.router.routes.extend(router.routes)
