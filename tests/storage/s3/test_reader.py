"""Reads that are disturbed: broken bodies, stalled readers, expired links, stores that ignore ranges."""

from __future__ import annotations

import asyncio
import gc
import random
import time
import weakref

import pytest

from app.storage.backend import MAX_CHUNK_BYTES
from app.storage.errors import (
    ObjectChanged,
    ObjectNotFound,
    StorageError,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.key import Key
from app.storage.ranges import ByteRange
from app.storage.s3.reads.chunks import MAX_CONTINUATIONS
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS
from tests.storage.s3.conftest import OpenBackend, eventually, read, write

DATA = random.Random(7).randbytes(3 * 1024 * 1024)
LARGE = random.Random(8).randbytes(24 * 1024 * 1024)


def gets(request: Recorded) -> bool:
    return request.method == "GET" and "X-Amz-Signature" in request.query


async def test_a_broken_body_is_continued_three_times(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", DATA)
    proxy.faults.append(Fault(gets, times=MAX_CONTINUATIONS, cut_after=300_000))
    assert await read(backend, "a") == DATA
    continued = [request for request in proxy.requests if gets(request)][1:]
    assert len(continued) == MAX_CONTINUATIONS
    etag = (await backend.head(Key("a"))).etag
    assert {request.headers["if-match"] for request in continued} == {etag}


async def test_a_body_that_breaks_once_more_is_an_error_and_never_a_silent_end(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", DATA)
    proxy.faults.append(Fault(gets, cut_after=300_000))
    with pytest.raises(StorageUnavailable):
        await read(backend, "a")
    assert proxy.faults[0].seen == MAX_CONTINUATIONS + 1


async def test_a_range_that_breaks_is_continued_within_the_range(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", DATA)
    proxy.faults.append(Fault(gets, times=2, cut_after=300_000))
    assert await read(backend, "a", ByteRange(1_000, 2_000_000)) == DATA[1_000:2_000_001]


async def test_stalled_readers_give_their_connections_back_and_finish_later(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, MEDIAVAULT_S3_CONNECTIONS=4, MEDIAVAULT_S3_DEADLINE=10)
    backend.reader.stall_seconds = 0.5
    await write(backend, "large", LARGE)
    await write(backend, "small", b"served")
    begun = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def stall() -> bytes:
        async with backend.read_stream(Key("large")) as stream:
            found = [await anext(stream.chunks)]
            begun.release()
            await go_on.wait()
            found += [chunk async for chunk in stream.chunks]
            assert max(map(len, found)) <= MAX_CHUNK_BYTES
            return b"".join(found)

    async with asyncio.timeout(30):
        stalled = [asyncio.create_task(stall()) for _ in range(4)]
        for _ in stalled:
            await begun.acquire()
        started = time.monotonic()
        assert await read(backend, "small") == b"served"
        assert time.monotonic() - started < 5
        go_on.set()
        assert all(found == LARGE for found in await asyncio.gather(*stalled))


async def test_waiting_for_a_connection_is_bounded(open_backend: OpenBackend) -> None:
    backend = await open_backend(MEDIAVAULT_S3_CONNECTIONS=4, MEDIAVAULT_S3_DEADLINE=1)
    await write(backend, "large", LARGE)
    connections = backend.reader.connections
    busy = [await connections.acquire() for _ in range(4)]  # as reads that wait for the store
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match="no connection within 1 s"):
        await read(backend, "large")
    assert 0.5 < time.monotonic() - started < 5
    assert (connections.in_use, connections.waiting, connections.refused_total) == (4, 0, 1)
    assert await backend.exists(Key("large"))  # other requests than reads use another connection pool
    for connection in busy:
        connection.release()
    assert await read(backend, "large", ByteRange(0, 9)) == LARGE[:10]


async def test_an_object_that_changed_while_the_reader_stalled_is_never_mixed(open_backend: OpenBackend) -> None:
    backend = await open_backend()
    backend.reader.stall_seconds = 0.2
    await backend.put_object(Key("a"), LARGE)
    async with asyncio.timeout(20), backend.read_stream(Key("a")) as stream:
        await anext(stream.chunks)
        await eventually(lambda: not backend.reader.connections_in_use)
        await backend.put_object(Key("a"), LARGE[::-1])
        with pytest.raises(ObjectChanged):
            async for _ in stream.chunks:
                pass


async def test_an_object_that_vanished_while_the_reader_stalled(open_backend: OpenBackend) -> None:
    backend = await open_backend()
    backend.reader.stall_seconds = 0.2
    await write(backend, "a", LARGE)
    async with asyncio.timeout(20), backend.read_stream(Key("a")) as stream:
        await anext(stream.chunks)
        await eventually(lambda: not backend.reader.connections_in_use)
        await backend.delete_object(Key("a"))
        with pytest.raises((ObjectChanged, ObjectNotFound)):
            async for _ in stream.chunks:
                pass


async def test_a_reader_that_leaves_early_gives_its_connection_back(open_backend: OpenBackend) -> None:
    backend = await open_backend(MEDIAVAULT_S3_CONNECTIONS=4)
    await write(backend, "a", LARGE)
    for _ in range(8):
        async with asyncio.timeout(10), backend.read_stream(Key("a")) as stream:
            await anext(stream.chunks)
    assert backend.reader.connections_in_use == 0


async def test_a_link_that_is_refused_is_signed_again_once(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", b"0123456789")
    assert await read(backend, "a") == b"0123456789"
    proxy.faults.append(Fault(gets, times=1, status=403, code="AccessDenied"))
    assert await read(backend, "a") == b"0123456789"
    proxy.faults[:] = [Fault(gets, status=403, code="AccessDenied")]
    with pytest.raises(StoragePermission):
        await read(backend, "a")
    assert proxy.faults[0].seen == 2


async def test_a_store_that_is_short_of_breath_is_asked_again(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", b"0123456789")
    proxy.faults.append(Fault(gets, times=2, status=503, code="SlowDown"))
    assert await read(backend, "a") == b"0123456789"
    proxy.faults[:] = [Fault(gets, status=503, code="SlowDown")]
    with pytest.raises(StorageUnavailable):
        await read(backend, "a")


async def test_content_encoding_is_not_undone(
    open_backend: OpenBackend, bucket: str, prefix: str, seaweedfs: SeaweedFS
) -> None:
    backend = await open_backend()
    seaweedfs.administration.put_object(
        Bucket=bucket, Key=f"{prefix}/a", Body=b"not really gzip", ContentEncoding="gzip"
    )
    assert await read(backend, "a") == b"not really gzip"


async def test_forbidden_counts_as_missing_only_where_the_settings_say_so(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    strict = await open_backend(endpoint=proxy.endpoint)
    lenient = await open_backend(endpoint=proxy.endpoint, MEDIAVAULT_S3_FORBIDDEN_IS_MISSING=True)
    proxy.faults.append(Fault(lambda request: request.method in ("GET", "HEAD"), status=403, code="AccessDenied"))
    assert not await lenient.exists(Key("a"))
    with pytest.raises(ObjectNotFound):
        await read(lenient, "a")
    with pytest.raises(StoragePermission):
        await strict.exists(Key("a"))
    with pytest.raises(StoragePermission):
        await read(strict, "a")


async def test_a_trickle_counts_as_stuck(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(
        endpoint=proxy.endpoint, MEDIAVAULT_S3_DEADLINE=1, MEDIAVAULT_S3_MINIMUM_RATE=10 * 1024 * 1024
    )
    await write(await open_backend(), "a", LARGE)
    proxy.rate = 512 * 1024
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        await read(backend, "a")
    assert caught.type is StorageUnavailable
    assert time.monotonic() - started < 10


async def test_an_ended_read_is_freed_without_the_garbage_collector(open_backend: OpenBackend) -> None:
    backend = await open_backend()
    await write(backend, "a", DATA)
    gc.disable()
    try:
        async with backend.read_stream(Key("a"), ByteRange(0, 9)) as stream:
            (reading,) = map(weakref.ref, backend.reader.open_reads)
            assert [chunk async for chunk in stream.chunks] == [DATA[:10]]
        del stream
        assert reading() is None
    finally:
        gc.enable()
