"""What is sent to clients is read through the cache, and counted by where it was read; everything else is read from the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.metrics.exposition import sum_segments
from app.metrics.families import CACHE_BYTES, CACHE_LOOKUPS, SENT_BYTES, MetricFamily
from app.metrics.instruments import ProcessMetrics
from app.metrics.segments import SharedSegments
from app.storage.cache.block_format import BLOCK_BYTES
from app.storage.errors import StoragePermission
from app.storage.key import Key
from app.storage.metered.sent_bytes import SentBytes
from app.storage.service import StorageService
from tests.storage.cache.block_files import block_paths
from tests.storage.cache.conftest import OpenService
from tests.storage.cache.test_cached_reads import CountGets, until_cached
from tests.storage.guarantees.content import pattern


async def read(service: StorageService, path: str) -> bytes:
    async with service.read(path) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


async def write(service: StorageService, key: str, data: bytes) -> str:
    path = service.managed_path(Key(key))
    async with service.write(path, size=len(data)) as writer:
        await writer.write(data)
    return path


async def test_only_what_is_sent_to_clients_comes_from_the_cache(
    open_service: OpenService, count_gets: CountGets, folder: Path
) -> None:
    service, data = await open_service(), pattern(100_000)
    path = await write(service, "thumbs/x", data)
    for_clients = service.with_read_cache()
    assert (for_clients.may_read_from_memory(path), service.may_read_from_memory(path)) == (True, False)
    count_gets()
    assert [await read(for_clients, path) for _ in range(2)] == [data] * 2
    assert count_gets() == 1
    assert [await read(service, path) for _ in range(2)] == [data] * 2
    async with service.stage_to_temp(path) as staged:
        assert staged.read_bytes() == data
    assert count_gets() == 3, "verification and processing read the store"
    await service.unlink(path)
    assert block_paths(folder) == []


async def test_a_foreign_root_holds_for_the_view_of_clients_too(open_service: OpenService, tmp_path: Path) -> None:
    """A path that was resolved before a folder became foreign is resolved anew."""
    media = tmp_path / "media"
    (media / "upload").mkdir(parents=True)
    service = await open_service(IMMICH_MEDIA_LOCATION=str(media))
    for_clients, path = service.with_read_cache(), str(media / "upload" / "photo.jpg")
    await write(service, "upload/elsewhere", b"data")
    for view in (service, for_clients):
        await view.unlink(path)
    service.set_foreign_roots([str(media / "upload")])
    for view in (service, for_clients):
        with pytest.raises(StoragePermission):
            await view.unlink(path)


async def test_bytes_are_counted_by_where_they_were_read(open_service: OpenService, folder: Path) -> None:
    metrics = ProcessMetrics(SharedSegments(1), 0)
    service, data = await open_service(metrics), pattern(BLOCK_BYTES + 100_000)
    for_clients = service.with_read_cache().with_counted_reads(SentBytes(metrics))
    sent = {(source,): 0 for source in ("disk", "s3", "cache", "front_server")}
    path = await write(service, "thumbs/x", data)
    assert await read(for_clients, path) == data
    await until_cached(folder, 2)
    assert totals(metrics, SENT_BYTES) == sent | {("s3",): len(data)}
    assert totals(metrics, CACHE_LOOKUPS) == {("hit",): 0, ("miss",): 2, ("bypass",): 0}
    assert await read(for_clients, path) == data
    assert totals(metrics, SENT_BYTES) == sent | {("s3",): len(data), ("cache",): len(data)}
    assert totals(metrics, CACHE_LOOKUPS) == {("hit",): 2, ("miss",): 2, ("bypass",): 0}
    assert totals(metrics, CACHE_BYTES) == {("read",): len(data), ("write",): len(data)}


def totals(metrics: ProcessMetrics, family: MetricFamily) -> Mapping[tuple[str, ...], float]:
    metrics.sample_gauges()
    return {labels: value for labels, (value,) in sum_segments(metrics.segments.segments)[family].items()}
