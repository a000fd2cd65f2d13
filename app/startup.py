"""Opens what the server, `mediavault worker` and `mediavault process` need, in this order: catalogue, storage, media location check, sweeper, tasks.

Closes them in reverse order. A service that cannot be opened raises `StartupError` with a message of one line.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from app import __version__
from app.catalog.catalog import Catalog, open_catalog
from app.catalog.errors import CatalogError
from app.config import Settings, StorageEngine, prefix_setting_name
from app.health.foreign_roots import refuse_foreign_media_location
from app.health.markers import MediaLocationCheck, check_root_exists
from app.health.media_folder import MountCheckFailed
from app.health.process_gauges import add_process_gauges
from app.jobs.elected_work import ElectedWork
from app.jobs.search_indexer import SearchIndexer
from app.jobs.service import JobService, WakeWorkers, open_jobs
from app.jobs.sweeper import Sweeper
from app.jobs.task_executor import ProcessTask
from app.jobs.task_tracing import trace_tasks
from app.libraries.import_paths.link_roots import keep_read_roots_current
from app.media.generated_file_store import GeneratedFileStore
from app.media.pipeline import ProcessingPipeline
from app.media.processor import MediaProcessor
from app.metrics.instruments import ProcessMetrics
from app.storage.errors import StagingFull, StorageError
from app.storage.opening import open_storage
from app.storage.path import is_s3_uri
from app.storage.service import StorageService
from app.storage.staging import Staging
from app.tracing import Tracing, TracingUnavailable, open_tracing

log = structlog.get_logger(__name__)


class StartupError(Exception):
    """The program cannot start. The text is one line with the reason, and names the setting to correct where there is one."""


@dataclass(frozen=True, slots=True)
class CoreServices:
    """The opened services. `jobs` runs workers only if `process_tasks` was set; it can always enqueue. `tracing` is None if no collector of
    traces is named."""

    catalog: Catalog
    storage: StorageService
    media_location: MediaLocationCheck
    sweeper: Sweeper
    processor: MediaProcessor
    publisher: GeneratedFileStore
    jobs: JobService
    tracing: Tracing | None


@asynccontextmanager
async def open_core_services(
    settings: Settings, *, process_tasks: bool, adopt_markers: bool = False, metrics: ProcessMetrics | None = None
) -> AsyncIterator[CoreServices]:
    """Open the core services, and close them on exit.

    `process_tasks`: this process works on background tasks. `adopt_markers`: rewrite the media location's markers with this
    installation's id. `metrics`: what this process records its metrics with, if they are exported. Raises `StartupError`.
    """
    async with AsyncExitStack() as stack:
        try:
            catalog = await open_catalog(settings.db_url.get_secret_value(), max_waiting=settings.database_waiting)
        except CatalogError as error:
            raise StartupError(prefix_setting_name("DB_URL", error)) from error
        stack.push_async_callback(catalog.aclose)
        try:
            tracing = await stack.enter_async_context(open_tracing(__version__))
        except TracingUnavailable as error:
            raise StartupError(str(error)) from error
        await _refuse_foreign_media_location(catalog, settings)
        if not (adopt_markers or settings.ignore_mount_check_errors) and settings.storage_engine is StorageEngine.LOCAL:
            await _check_media_root(catalog, settings)
        try:
            storage = await open_storage(settings, metrics, tracing)
        except StorageError as error:
            raise StartupError(_describe_storage_error(error)) from error
        stack.push_async_callback(storage.aclose)
        if metrics is not None:
            add_process_gauges(metrics, catalog.database, storage.staging)
        await _open_staging(storage.staging)
        media_location = MediaLocationCheck(catalog, storage, ignore_errors=settings.ignore_mount_check_errors)
        stack.push_async_callback(media_location.aclose)
        await _verify_media_location(media_location, storage.engine, adopt_markers=adopt_markers)
        await _refuse_unplaced_files(catalog, storage)
        await _keep_read_roots_current(stack, catalog, storage)
        sweeper = Sweeper(catalog, storage, settings, media_location.check_markers)
        elected = ElectedWork(catalog, "sweeper", sweeper.running, SearchIndexer(catalog).running)
        await stack.enter_async_context(elected.running())
        processor = await stack.enter_async_context(MediaProcessor(settings).running())
        publisher = GeneratedFileStore(catalog, storage, media_location.check_before_write)

        def process_with(wake: WakeWorkers) -> ProcessTask:
            transcodes = settings.transcodes
            process = ProcessingPipeline(
                catalog, storage, processor, publisher, max_transcodes=transcodes, on_asset_added=wake
            ).process
            return process if tracing is None else trace_tasks(tracing, process)

        try:
            jobs = await stack.enter_async_context(
                open_jobs(settings, catalog, process_with if process_tasks else None, metrics)
            )
        except CatalogError as error:
            raise StartupError(prefix_setting_name("DB_URL", error)) from error
        yield CoreServices(catalog, storage, media_location, sweeper, processor, publisher, jobs, tracing)


async def _keep_read_roots_current(stack: AsyncExitStack, catalog: Catalog, storage: StorageService) -> None:
    try:
        await stack.enter_async_context(keep_read_roots_current(catalog, storage))
    except CatalogError as error:
        raise StartupError(prefix_setting_name("DB_URL", error)) from error


async def _refuse_foreign_media_location(catalog: Catalog, settings: Settings) -> None:
    try:
        await refuse_foreign_media_location(catalog, settings.media_location)
    except MountCheckFailed as error:
        raise StartupError(str(error)) from error
    except CatalogError as error:
        raise StartupError(prefix_setting_name("DB_URL", error)) from error


async def _check_media_root(catalog: Catalog, settings: Settings) -> None:
    try:
        await check_root_exists(catalog, settings.media_location)
    except MountCheckFailed as error:
        raise StartupError(str(error)) from error
    except CatalogError as error:
        raise StartupError(prefix_setting_name("DB_URL", error)) from error


async def _verify_media_location(
    media_location: MediaLocationCheck, engine: StorageEngine, *, adopt_markers: bool
) -> None:
    """Check the markers. A wrong media location prevents the start. A store that does not answer does not: `/readyz` fails until it does."""
    try:
        await media_location.verify(adopt=adopt_markers)
    except MountCheckFailed as error:
        raise StartupError(str(error)) from error
    except CatalogError as error:
        raise StartupError(prefix_setting_name("DB_URL", error)) from error
    except StorageError as error:
        if engine is StorageEngine.LOCAL and not error.retryable:
            raise StartupError(_describe_storage_error(error)) from error
        log.error("the media location is not usable yet; /readyz fails until it is", reason=str(error))


async def _refuse_unplaced_files(catalog: Catalog, storage: StorageService) -> None:
    """Refuse to start if the catalogue has files outside every configured storage location: they could be neither served nor deleted.

    The cause is a media location, bucket or prefix that was changed or is no longer set.
    """
    try:
        outside_path = await catalog.files.find_path_outside(storage.managed_path_prefixes())
    except CatalogError as error:
        raise StartupError(prefix_setting_name("DB_URL", error)) from error
    if outside_path is not None:
        setting = "S3_BUCKET or S3_PREFIX" if is_s3_uri(outside_path) else "IMMICH_MEDIA_LOCATION"
        raise StartupError(f"{setting}: the catalogue has {outside_path}, which lies below no configured place")


async def _open_staging(staging: Staging) -> None:
    """Open the staging folder. An unusable folder prevents the start. A full disk does not: work that needs the folder is retried."""
    try:
        await staging.open()
    except StagingFull as error:
        log.error("the staging folder is full", reason=str(error))
    except StorageError as error:
        raise StartupError(f"MEDIAVAULT_STAGING_FOLDER: {error.key}: {error.detail}") from error


def _describe_storage_error(error: StorageError) -> str:
    """One line that begins with the names of the settings that may be wrong."""
    if error.backend == "s3":
        return f"S3_ENDPOINT, S3_REGION or S3_ACCESS_KEY_ID: {error.detail}{f' ({error.hint})' if error.hint else ''}"
    return f"IMMICH_MEDIA_LOCATION: {error.key}: {error.detail}"
