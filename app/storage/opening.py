"""Opens the storage that the settings name."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app.config import Settings, StorageEngine
from app.metrics.instruments import ProcessMetrics
from app.storage.backend import StorageBackend
from app.storage.local import LocalBackend
from app.storage.metered.backend import MeteredBackend
from app.storage.metered.calls import StorageCalls
from app.storage.metered.traced_calls import TracedCalls
from app.storage.service import StorageService
from app.storage.staging import Staging
from app.tracing import Tracing


async def open_storage(
    settings: Settings,
    metrics: ProcessMetrics | None = None,
    tracing: Tracing | None = None,
    *,
    with_cache: bool = True,
) -> StorageService:
    """Open the backends that the settings name; with `metrics` their calls are measured. With engine `s3` the local folder is opened too
    where it exists, for files that have not moved yet; with engine `local` the bucket is opened too where one is set. Raises a
    `StorageError` where the media folder cannot be opened. Without `with_cache` the cache of the settings is left alone."""
    root = settings.media_location
    local: StorageBackend | None = None
    s3: StorageBackend | None = None
    s3_cache: StorageBackend | None = None
    if settings.storage_engine is StorageEngine.LOCAL or await asyncio.to_thread(root.is_dir):
        local = _observe(await asyncio.to_thread(_open_local, root, settings.fsync), metrics, tracing)
    try:
        if settings.s3_bucket:
            s3 = await _open_s3(settings, metrics, tracing)
            if with_cache and settings.cache_folder is not None:
                from app.storage.cache.opening import open_cache  # noqa: PLC0415 - slow to load for commands without a cache

                s3, s3_cache = await open_cache(settings, settings.cache_folder, s3, metrics)
    except BaseException:
        if local is not None:
            await local.aclose()
        raise
    return StorageService(
        local=local,
        media_root=root,
        s3=s3,
        bucket=settings.s3_bucket,
        prefix=settings.s3_prefix,
        engine=settings.storage_engine,
        staging=Staging(settings.staging_folder, settings.staging_limit),
        prefers_copies=settings.foreign_reads is StorageEngine.S3,
        s3_cache=s3_cache,
    )


def _observe(backend: StorageBackend, metrics: ProcessMetrics | None, tracing: Tracing | None) -> StorageBackend:
    if tracing is not None:
        backend = MeteredBackend(backend, TracedCalls(tracing, backend.name))
    return backend if metrics is None else MeteredBackend(backend, StorageCalls(metrics, backend.name))


async def _open_s3(settings: Settings, metrics: ProcessMetrics | None, tracing: Tracing | None) -> StorageBackend:
    from app.storage.s3 import open_s3  # noqa: PLC0415 - the S3 client takes 0.5 s to load

    backend = await open_s3(settings)
    if metrics is not None:
        from app.storage.metered.s3_requests import meter_s3_requests  # noqa: PLC0415 - see above

        meter_s3_requests(backend, metrics)
    return _observe(backend, metrics, tracing)


def _open_local(root: Path, fsync: bool) -> LocalBackend:
    return LocalBackend(root, fsync=fsync)
