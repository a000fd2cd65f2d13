"""Stores whose responses differ from those of AWS: correct parts are used, and wrong bytes are never returned."""

from __future__ import annotations

import asyncio
import random

import pytest

from app.storage.backend import StorageBackend
from app.storage.errors import ObjectChanged, RangeNotSatisfiable, StorageUnavailable
from app.storage.key import Key
from app.storage.ranges import ByteRange
from app.storage.s3 import S3Backend
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.errors import S3RequestRefused
from tests.real.proxy import Answered, Fault, Proxy, Recorded
from tests.real.quirks import READ_QUIRKS, UNTRUSTED_QUIRKS, reading
from tests.storage.s3.conftest import OpenBackend, eventually, read, write

SIZE = 200_000
DATA = random.Random(12).randbytes(SIZE)
EDGES = (0, 1, 65_535, 65_536, 131_073, SIZE - 1)
LARGE = random.Random(13).randbytes(8 * 1024 * 1024)


@pytest.mark.parametrize("quirk", READ_QUIRKS)
async def test_every_range_gives_just_its_bytes(open_backend: OpenBackend, proxy: Proxy, quirk: str) -> None:
    await write(await open_backend(), "a", DATA)
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.extend(READ_QUIRKS[quirk]())
    assert (await backend.head(Key("a"))).size == SIZE
    assert await read(backend, "a") == DATA
    for first in EDGES:
        for last in (*(edge for edge in EDGES if edge >= first), SIZE, 2 * SIZE, None):
            async with backend.read_stream(Key("a"), ByteRange(first, last)) as stream:
                body = b"".join([chunk async for chunk in stream.chunks])
            end = SIZE if last is None else min(last + 1, SIZE)
            assert stream.served == ByteRange(first, end - 1), (first, last)
            assert stream.info.size == SIZE
            assert body == DATA[first:end], (first, last)
    for first in (SIZE, SIZE + 1):
        with pytest.raises(RangeNotSatisfiable) as caught:
            await read(backend, "a", ByteRange(first, first + 9))
        assert caught.value.size == SIZE


@pytest.mark.parametrize("quirk", READ_QUIRKS)
async def test_a_reader_that_stalls_is_continued_with_the_same_object_or_not_at_all(
    open_backend: OpenBackend, proxy: Proxy, quirk: str
) -> None:
    direct = await open_backend()
    await direct.put_object(Key("a"), LARGE)
    backend = await open_backend(endpoint=proxy.endpoint)
    backend.reader.stall_seconds = 0.1
    proxy.faults.extend(READ_QUIRKS[quirk]())
    assert await _read_with_a_stall(backend) == LARGE
    with pytest.raises(ObjectChanged):
        await _read_with_a_stall(backend, direct)


async def _read_with_a_stall(backend: S3Backend, replacing: StorageBackend | None = None) -> bytes:
    """Reads with a stall in which the connection is closed, and the object is replaced where `replacing` is given."""
    found: list[bytes] = []
    async with asyncio.timeout(20), backend.read_stream(Key("a"), ByteRange(100, None)) as stream:
        found.append(await anext(stream.chunks))
        await eventually(lambda: not backend.reader.connections_in_use)
        if replacing is not None:
            await replacing.put_object(Key("a"), LARGE[::-1] + b"x")
        found += [chunk async for chunk in stream.chunks]
    return LARGE[:100] + b"".join(found)


@pytest.mark.parametrize("quirk", UNTRUSTED_QUIRKS)
async def test_a_range_that_cannot_be_trusted_is_refused(open_backend: OpenBackend, proxy: Proxy, quirk: str) -> None:
    await write(await open_backend(), "a", DATA)
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.extend(UNTRUSTED_QUIRKS[quirk]())
    assert await read(backend, "a") == DATA
    for byte_range in (ByteRange(10, 1000), ByteRange(0, 10), ByteRange(SIZE - 11, SIZE - 2)):
        with pytest.raises(S3RequestRefused):
            await read(backend, "a", byte_range)


async def test_a_store_that_tells_no_version_is_read_in_one_go_or_not_to_the_end(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    await write(await open_backend(), "a", LARGE)
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(
        Fault(reading, rewrite=lambda _request, answered: answered.having(etag=None, last_modified=None))
    )
    assert await read(backend, "a") == LARGE
    backend.reader.stall_seconds = 0.1
    with pytest.raises(StorageUnavailable):
        await _read_with_a_stall(backend)


async def test_what_was_found_out_about_reads_is_not_asked_again(open_backend: OpenBackend, proxy: Proxy) -> None:
    await write(await open_backend(), "a", LARGE)
    backend = await open_backend(endpoint=proxy.endpoint)
    backend.reader.stall_seconds = 0.1
    proxy.faults.extend(READ_QUIRKS["If-Match never matches"]())
    for _ in range(2):
        assert await _read_with_a_stall(backend) == LARGE
    assert proxy.faults[0].seen == 1
    assert set(backend.client.capabilities.missing) == {S3Feature.IF_MATCH}


@pytest.mark.parametrize("refused", [400, 416])
async def test_the_marker_is_read_where_a_range_longer_than_the_object_is_refused(
    open_backend: OpenBackend, proxy: Proxy, refused: int
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await backend.put_object(Key(".immich"), b"ours\n")

    def refuse(request: Recorded, answered: Answered) -> Answered:
        if "range" in request.headers:
            return Answered(refused, {"content-length": "0"}, b"")
        return answered

    proxy.faults.append(Fault(reading, rewrite=refuse))
    await backend.check_marker(Key(".immich"), b"ours\n")
    with pytest.raises(ObjectChanged):
        await backend.check_marker(Key(".immich"), b"theirs\n")


@pytest.mark.parametrize("size", ["9" * 19, "9" * 5_000])
async def test_a_refused_range_of_an_impossible_object_is_a_storage_error(
    open_backend: OpenBackend, proxy: Proxy, size: str
) -> None:
    """Python converts no more than 4,300 digits."""
    backend = await open_backend(endpoint=proxy.endpoint)
    await backend.put_object(Key("a"), b"data")

    def refuse(_request: Recorded, _answered: Answered) -> Answered:
        return Answered(416, {"content-length": "0", "content-range": f"bytes */{size}"}, b"")

    proxy.faults.append(Fault(reading, rewrite=refuse))
    with pytest.raises(RangeNotSatisfiable):
        await read(backend, "a", ByteRange(7, 9))
