"""Opens what every program of the house stands on, in its order, and closes it in reverse: catalogue, storage, the check of the media
location, and the work on tasks. What cannot be had refuses the start with one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.errors import CatalogError
from app.config import Settings, StorageEngine, named
from app.health.folders import MountCheckFailed
from app.health.markers import MediaLocationCheck, require_root
from app.jobs.attempts import Process
from app.jobs.jobs import Jobs, Wake, open_jobs
from app.jobs.sweeper import Sweeper
from app.libraries.confinement import confined
from app.media.pipeline import Pipeline
from app.media.processor import Processor
from app.media.publishing import Publisher
from app.storage.errors import StagingFull, StorageError
from app.storage.path import is_s3
from app.storage.service import StorageService, open_storage
from app.storage.staging import Staging

log = structlog.get_logger(__name__)


class StartRefused(Exception):
    """The program can not start; the text is one line that says why."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What is opened. `jobs` also works on tasks where that was wanted."""

    catalog: Catalog
    storage: StorageService
    media_location: MediaLocationCheck
    sweeper: Sweeper
    processor: Processor
    publisher: Publisher
    jobs: Jobs


@asynccontextmanager
async def open_ground(settings: Settings, *, work: bool, adopt: bool = False) -> AsyncIterator[Ground]:
    """`work`: this process works on tasks. `adopt` makes the media location's markers ours. Raises `StartRefused`."""
    async with AsyncExitStack() as stack:
        try:
            catalog = await open_catalog(settings.db_url.get_secret_value())
        except CatalogError as error:
            raise StartRefused(named("DB_URL", error)) from error
        stack.push_async_callback(catalog.aclose)
        if not (adopt or settings.ignore_mount_check_errors) and settings.storage_engine is StorageEngine.LOCAL:
            await _require_root(catalog, settings)
        try:
            storage = await open_storage(settings)
        except StorageError as error:
            raise StartRefused(_storage_failure(error)) from error
        stack.push_async_callback(storage.aclose)
        await _open_staging(storage.staging)
        media_location = MediaLocationCheck(catalog, storage, ignore_errors=settings.ignore_mount_check_errors)
        stack.push_async_callback(media_location.aclose)
        await _verify(media_location, storage.engine, adopt=adopt)
        await _refuse_stray(catalog, storage)
        sweeper = Sweeper(catalog, storage, settings, media_location.require_intact)
        await stack.enter_async_context(sweeper.running())
        await _confine(stack, catalog, storage)
        processor = await stack.enter_async_context(Processor(settings).running())
        publisher = Publisher(catalog, storage, media_location.admit_write)

        def process_with(wake: Wake) -> Process:
            transcodes = settings.transcodes
            return Pipeline(catalog, storage, processor, publisher, transcodes=transcodes, added=wake).process

        try:
            jobs = await stack.enter_async_context(open_jobs(settings, catalog, process_with if work else None))
        except CatalogError as error:
            raise StartRefused(named("DB_URL", error)) from error
        yield Ground(catalog, storage, media_location, sweeper, processor, publisher, jobs)


async def _confine(stack: AsyncExitStack, catalog: Catalog, storage: StorageService) -> None:
    try:
        await stack.enter_async_context(confined(catalog, storage.confine_external))
    except CatalogError as error:
        raise StartRefused(named("DB_URL", error)) from error


async def _require_root(catalog: Catalog, settings: Settings) -> None:
    try:
        await require_root(catalog, settings.media_location)
    except MountCheckFailed as error:
        raise StartRefused(str(error)) from error
    except CatalogError as error:
        raise StartRefused(named("DB_URL", error)) from error


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


async def _refuse_stray(catalog: Catalog, storage: StorageService) -> None:
    """Files that no configured place holds could be neither served nor deleted: a base was changed, or is no longer set."""
    try:
        stray = await catalog.files.stray(storage.bases())
    except CatalogError as error:
        raise StartRefused(named("DB_URL", error)) from error
    if stray is not None:
        setting = "S3_BUCKET or S3_PREFIX" if is_s3(stray) else "IMMICH_MEDIA_LOCATION"
        raise StartRefused(f"{setting}: the catalogue has {stray}, which lies below no configured place")


async def _open_staging(staging: Staging) -> None:
    """A folder that cannot be had stops the start; a disk that is full does not: what needs it is tried again."""
    try:
        await staging.open()
    except StagingFull as error:
        log.error("the staging folder is full", reason=str(error))
    except StorageError as error:
        raise StartRefused(f"MEDIAVAULT_STAGING_FOLDER: {error.key}: {error.detail}") from error


def _storage_failure(error: StorageError) -> str:
    """One line that begins with the settings that may be wrong."""
    if error.backend == "s3":
        return f"S3_ENDPOINT, S3_REGION or S3_ACCESS_KEY_ID: {error.detail}{f' ({error.hint})' if error.hint else ''}"
    return f"IMMICH_MEDIA_LOCATION: {error.key}: {error.detail}"
