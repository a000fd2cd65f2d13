"""Wires the rooms together into one ASGI application; nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from fastapi import FastAPI

from app import __version__
from app.api.auth import Authenticator
from app.api.errors import install_error_handlers
from app.api.front import Front, StartRefused
from app.api.hot import DeliveryCache, answer_at_once, find_hot_path
from app.api.openapi import install_openapi
from app.api.passwords import Passwords
from app.api.routes import install_routes
from app.api.services import Services
from app.archives.links import Links
from app.archives.planning import Archiver
from app.catalog.catalog import open_catalog
from app.catalog.errors import CatalogError
from app.config import Settings, StorageEngine, load_settings, named
from app.health.checks import Health
from app.health.markers import MediaLocationCheck, MountCheckFailed
from app.jobs.sweeper import Sweeper
from app.migration.backup import Backups
from app.migration.schedule import BackupSchedule
from app.storage.errors import StagingFull, StorageError
from app.storage.service import open_storage
from app.storage.staging import Staging
from app.uploads.ingest import Ingest

log = structlog.get_logger(__name__)


def create_app(settings: Settings | None = None, *, adopt: bool = False) -> Front:
    """The service as an ASGI application; its lifespan opens and closes what it needs.

    `adopt` makes the media location's markers ours, whoever wrote them.
    """
    chosen = settings or load_settings()
    api = FastAPI(title="mediavault", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    install_error_handlers(api)
    install_routes(api)
    install_openapi(api)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Services]:
        async with open_services(chosen, adopt=adopt) as services:
            yield services

    return Front(api, find_hot_path, answer_at_once, opened, api.state)


@asynccontextmanager
async def open_services(settings: Settings, *, adopt: bool = False) -> AsyncIterator[Services]:
    """Catalogue, storage and all that stands on them; closed in reverse order. Raises `StartRefused`."""
    async with AsyncExitStack() as stack:
        try:
            catalog = await open_catalog(settings.db_url.get_secret_value())
        except CatalogError as error:
            raise StartRefused(named("DB_URL", error)) from error
        stack.push_async_callback(catalog.aclose)
        try:
            storage = await open_storage(settings)
        except StorageError as error:
            raise StartRefused(_storage_failure(error)) from error
        stack.push_async_callback(storage.aclose)
        await _open_staging(storage.staging)
        media_location = MediaLocationCheck(catalog, storage, ignore_errors=settings.ignore_mount_check_errors)
        await _verify(media_location, storage.engine, adopt=adopt)
        sweeper = Sweeper(catalog, storage, settings, media_location.require_intact)
        await stack.enter_async_context(sweeper.running())
        backups = BackupSchedule(
            Backups(catalog, storage, settings), settings.backup_hours, media_location.require_intact
        )
        await stack.enter_async_context(backups.running())
        archiver = Archiver(catalog, storage)
        yield Services(
            settings=settings,
            catalog=catalog,
            storage=storage,
            ingest=Ingest(catalog, storage, settings, media_location.admit_write),
            archiver=archiver,
            links=Links(catalog, archiver),
            authenticator=Authenticator(catalog, settings, Passwords()),
            cache=DeliveryCache(),
            sweeper=sweeper,
            health=Health(
                {
                    "catalogue": catalog.ping,
                    "media location": media_location.check,
                    "staging folder": storage.staging.check,
                }
            ),
        )


async def _verify(media_location: MediaLocationCheck, engine: StorageEngine, *, adopt: bool) -> None:
    """A wrong media location stops the start; a store that does not answer shows in `/readyz` until it does."""
    try:
        await media_location.verify(adopt=adopt)
    except MountCheckFailed as error:
        raise StartRefused(str(error)) from error
    except CatalogError as error:
        raise StartRefused(named("DB_URL", error)) from error
    except StorageError as error:
        if engine is StorageEngine.LOCAL and not error.retryable:
            raise StartRefused(_storage_failure(error)) from error
        log.error("media location is not usable yet", reason=str(error))


async def _open_staging(staging: Staging) -> None:
    """A folder that cannot be had stops the start; a disk that is full does not: nothing needs it yet."""
    try:
        await staging.open()
    except StagingFull as error:
        log.error("the staging folder is full", reason=str(error))
    except StorageError as error:
        raise StartRefused(f"MEDIAVAULT_STAGING_FOLDER: {error.key}: {error.detail}") from error


def _storage_failure(error: StorageError) -> str:
    """One line that begins with the settings that may be wrong."""
    if error.backend == "s3":
        return f"S3_ENDPOINT, S3_REGION or S3_ACCESS_KEY_ID: {error.detail}"
    return f"IMMICH_MEDIA_LOCATION: {error.key}: {error.detail}"
