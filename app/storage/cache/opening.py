"""Opens the cache that the settings describe, and exports its counts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.config import Settings
from app.metrics.families import CACHE_BYTES, CACHE_EVICTIONS, CACHE_FAILURES, CACHE_LOOKUPS
from app.metrics.instruments import ProcessMetrics
from app.storage.backend import StorageBackend
from app.storage.cache.backend import CachedBackend, InvalidatingBackend
from app.storage.cache.disk import CacheDisk
from app.storage.cache.policy import CachePolicy
from app.storage.cache.reads import ReadCache

LONGEST_WAIT_SECONDS = 10.0
"""For a block that another process fetches."""


async def open_cache(
    settings: Settings, folder: Path, store: StorageBackend, metrics: ProcessMetrics | None
) -> tuple[InvalidatingBackend, CachedBackend]:
    """The store, for all that does not read through the cache, and for reads through it. Never raises: where the folder cannot be used,
    reads come from the store, and the folder is tried again later."""
    location = f"{settings.s3_endpoint or settings.s3_region}/{settings.s3_bucket}/{settings.s3_prefix}"
    disk = CacheDisk(folder, limit=settings.cache_size, reserve=settings.cache_reserve)
    await disk.open()
    policy = CachePolicy(settings.cache_originals)
    cache = ReadCache(store, location, disk, policy, min(LONGEST_WAIT_SECONDS, settings.s3_deadline))
    if metrics is not None:
        _export_counts(cache, metrics)
    return InvalidatingBackend(cache), CachedBackend(cache)


def _export_counts(cache: ReadCache, metrics: ProcessMetrics) -> None:
    lookups, blocks, disk = cache.counts, cache.disk.counts, cache.disk

    def count_lookups() -> Mapping[tuple[str, ...], float]:
        return {("hit",): lookups.hits, ("miss",): lookups.misses, ("bypass",): lookups.bypasses}

    def count_failures() -> Mapping[tuple[str, ...], float]:
        return {("damaged",): blocks.damaged, ("disk",): disk.failures, ("eviction",): blocks.eviction_failures}

    metrics.add_total(CACHE_LOOKUPS, count_lookups)
    metrics.add_total(
        CACHE_BYTES, lambda: {("read",): float(lookups.hit_bytes), ("write",): float(blocks.written_bytes)}
    )
    metrics.add_total(CACHE_EVICTIONS, lambda: {(): float(blocks.evicted)})
    metrics.add_total(CACHE_FAILURES, count_failures)
