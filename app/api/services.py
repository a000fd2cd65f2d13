"""What the routes work with: built once by `create_app`, handed to every request. None of it imports this module: it takes what it needs."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from app.api.auth import Authenticator
from app.api.delivery_cache import DeliveryCache
from app.archives.links import Links
from app.archives.planning import Archiver
from app.catalog.catalog import Catalog
from app.config import Settings
from app.health.checks import Health
from app.health.mounts import Mounts
from app.jobs.jobs import Jobs
from app.jobs.sweeper import Sweeper
from app.libraries.service import Libraries
from app.media.portraits import Portraits
from app.storage.service import StorageService
from app.uploads.ingest import Ingest


@dataclass(frozen=True, slots=True)
class Services:
    settings: Settings
    catalog: Catalog
    storage: StorageService
    ingest: Ingest
    portraits: Portraits
    archiver: Archiver
    links: Links
    authenticator: Authenticator
    cache: DeliveryCache
    sweeper: Sweeper
    libraries: Libraries
    jobs: Jobs
    health: Health
    mounts: Mounts


def services(request: Request) -> Services:
    """FastAPI dependency."""
    return request.app.state.services
