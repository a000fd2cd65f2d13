"""Composition root: opens every service in its order and connects them to one ASGI application. Contains no logic of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial

from fastapi import FastAPI

from app import __version__
from app.api.authentication.authenticator import Authenticator
from app.api.authentication.passwords import PasswordService
from app.api.errors import install_error_handlers
from app.api.files.front_server import FrontServer
from app.api.files.rendition_cache import RenditionCache
from app.api.handlers.file_requests import answer_from_memory, find_file_handler
from app.api.http.allowed_methods import install_method_handlers
from app.api.http.application import ApiApplication
from app.api.http.cors import CorsPolicy
from app.api.http.request_metrics import RequestMetrics
from app.api.openapi import install_openapi
from app.api.routes import install_routes
from app.api.routes.uploads.tus import find_error_conversion
from app.api.services import Services
from app.api.transfer_limits import create_transfer_limits
from app.api.transfer_metrics import add_transfer_metrics
from app.api.web.routes import install_web
from app.archives.links import ArchiveLinkService
from app.archives.planner import ArchivePlanner
from app.catalog.database.outage import FailedWork
from app.config import Settings, load_settings
from app.health.catalog_check import CatalogCheck
from app.health.foreign_root_states import ForeignRootStates
from app.health.installation_metrics import InstallationMetrics, create_catalog_groups, create_mount_group
from app.health.mount_states import MountRegistry, check_all_mounts
from app.health.readiness import ReadinessChecks
from app.jobs.elected_work import ElectedWork
from app.libraries.service import LibraryService
from app.media.portraits import PortraitService
from app.metrics.instruments import ProcessMetrics
from app.migration.backups.backup_schedule import BackupSchedule
from app.migration.backups.backup_store import BackupStore
from app.startup import open_core_services
from app.storage.metered.sent_bytes import SentBytes
from app.uploads.ingest import UploadIngest
from app.uploads.sessions.service import UploadSessions
from app.uploads.sessions.upload_sweeper import UploadSweeper
from app.uploads.upload_metrics import UploadMetrics


def create_app(
    settings: Settings | None = None,
    *,
    process_tasks: bool = True,
    adopt_markers: bool = False,
    metrics: ProcessMetrics | None = None,
) -> ApiApplication:
    """Build the ASGI application; its lifespan opens and closes all services.

    `process_tasks`: this process also works on background tasks. `adopt_markers`: rewrite the media location's markers with this
    installation's id, even if another installation wrote them. `metrics`: what this process records its metrics with, if they are exported.
    """
    effective_settings = settings or load_settings()
    api = FastAPI(title="mediavault", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(api)
    install_method_handlers(api, find_error_conversion)
    install_routes(api)
    install_openapi(api)
    install_web(api, effective_settings)

    @asynccontextmanager
    async def open_configured_services() -> AsyncIterator[Services]:
        async with open_services(
            effective_settings, process_tasks=process_tasks, adopt_markers=adopt_markers, metrics=metrics
        ) as services:
            yield services

    cors = CorsPolicy.create(effective_settings.allowed_origins)
    request_metrics = RequestMetrics(metrics) if metrics is not None else None
    return ApiApplication(
        api, find_file_handler, answer_from_memory, open_configured_services, api.state, cors, request_metrics
    )


@asynccontextmanager
async def open_services(
    settings: Settings,
    *,
    process_tasks: bool = True,
    adopt_markers: bool = False,
    metrics: ProcessMetrics | None = None,
) -> AsyncIterator[Services]:
    """Open all services that the routes use. The parameters are those of `create_app`. Raises `StartupError`."""
    async with open_core_services(
        settings, process_tasks=process_tasks, adopt_markers=adopt_markers, metrics=metrics
    ) as core:
        catalog, storage, media_location = core.catalog, core.storage, core.media_location
        limits = create_transfer_limits(settings)
        if metrics is not None:
            add_transfer_metrics(metrics, limits)
        sent_files = storage.with_read_cache()
        if metrics is not None:
            sent_files = sent_files.with_counted_reads(SentBytes(metrics))
        archive_planner = ArchivePlanner(catalog, sent_files)
        libraries = LibraryService(
            catalog,
            settings,
            set_link_roots=storage.set_external_link_roots,
            on_files_deleted=core.sweeper.wake,
            on_asset_added=core.jobs.wake,
        )
        backups = BackupStore(catalog, storage, settings)
        backup_schedule = BackupSchedule(backups, settings.backup_hours, media_location.check_markers)
        catalog_check = CatalogCheck(catalog)
        upload_sweeper = UploadSweeper(catalog, storage, settings.upload_lifetime, media_location.check_markers)
        upload_sessions = UploadSessions(
            catalog,
            storage,
            settings,
            check_media_location=media_location.check_before_write,
            on_asset_added=core.jobs.wake,
            on_ended=upload_sweeper.wake,
            on_outcome=UploadMetrics(metrics).record if metrics is not None else None,
        )
        foreign_roots = ForeignRootStates(catalog, storage)
        mounts = MountRegistry(
            [media_location.list_mount_states, libraries.list_mount_states, foreign_roots.list_mount_states]
        )
        installation_metrics = InstallationMetrics(
            [*create_catalog_groups(catalog), create_mount_group(mounts.list_mount_states)]
        )
        async with (
            upload_sessions.running(),
            aclosing(catalog_check),
            aclosing(installation_metrics),
            libraries.running(),
            ElectedWork(
                catalog,
                "schedules",
                partial(upload_sweeper.running, upload_sessions.complete_idle),
                backup_schedule.run_in_background,
            ).running(),
            aclosing(ArchiveLinkService(catalog, archive_planner)) as archive_links,
        ):
            yield Services(
                settings=settings,
                catalog=catalog,
                storage=sent_files,
                ingest=UploadIngest(catalog, storage, settings, media_location.check_before_write, core.jobs.wake),
                upload_sessions=upload_sessions,
                portraits=PortraitService(catalog, storage, core.processor, core.publisher),
                archive_planner=archive_planner,
                archive_links=archive_links,
                authenticator=Authenticator(catalog, settings, PasswordService()),
                rendition_cache=RenditionCache(catalog, sent_files, settings.stale_seconds),
                limits=limits,
                sweeper=core.sweeper,
                libraries=libraries,
                jobs=core.jobs,
                health=ReadinessChecks(
                    {
                        "catalogue": catalog_check.check,
                        "media location": media_location.check_readiness,
                        "staging folder": storage.staging.check,
                    },
                    {
                        "ffmpeg": core.processor.check_ffmpeg,
                        "workers": core.jobs.check_workers,
                        "libraries": partial(check_all_mounts, libraries.list_mount_states),
                        "foreign folders": partial(check_all_mounts, foreign_roots.list_mount_states),
                    },
                    is_outage=partial(catalog.outages.record_failure, work=FailedWork.CHECK),
                ),
                mounts=mounts,
                installation_metrics=installation_metrics,
                tracing=core.tracing,
                front_server=FrontServer.create(settings, storage, metrics),
            )
