"""The services that routes and handlers use: opened once at the start of the application, passed to every request.

The services themselves do not import this module; each receives its dependencies as parameters.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from app.api.authentication.authenticator import Authenticator
from app.api.files.front_server import FrontServer
from app.api.files.rendition_cache import RenditionCache
from app.api.transfer_limits import TransferLimits
from app.archives.links import ArchiveLinkService
from app.archives.planner import ArchivePlanner
from app.catalog.catalog import Catalog
from app.config import Settings
from app.health.installation_metrics import InstallationMetrics
from app.health.mount_states import MountRegistry
from app.health.readiness import ReadinessChecks
from app.jobs.service import JobService
from app.jobs.sweeper import Sweeper
from app.libraries.service import LibraryService
from app.media.portraits import PortraitService
from app.storage.service import StorageService
from app.tracing import Tracing
from app.uploads.ingest import UploadIngest
from app.uploads.sessions.service import UploadSessions


@dataclass(frozen=True, slots=True)
class Services:
    """`storage` counts the bytes of its reads as sent to clients, where metrics are exported."""

    settings: Settings
    catalog: Catalog
    storage: StorageService
    ingest: UploadIngest
    upload_sessions: UploadSessions
    portraits: PortraitService
    archive_planner: ArchivePlanner
    archive_links: ArchiveLinkService
    authenticator: Authenticator
    rendition_cache: RenditionCache
    limits: TransferLimits
    sweeper: Sweeper
    libraries: LibraryService
    jobs: JobService
    health: ReadinessChecks
    mounts: MountRegistry
    installation_metrics: InstallationMetrics
    tracing: Tracing | None = None
    front_server: FrontServer | None = None


async def get_services(request: Request) -> Services:
    """FastAPI dependency: the application's services. Async, since FastAPI calls other functions in a thread."""
    return request.app.state.services
