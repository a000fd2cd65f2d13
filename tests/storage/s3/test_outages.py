"""Stores that hang, refuse or are unreachable: a typed error within the deadline, and no left-overs once the store is back."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from app.storage.errors import StorageError, StoragePermission, StorageUnavailable
from app.storage.key import Key
from app.storage.ranges import ByteRange
from app.storage.s3 import S3Backend
from tests.real.proxy import Proxy
from tests.real.seaweedfs import Identity, SeaweedFS
from tests.storage.s3.conftest import OpenBackend, eventually, read, write

MIB = 1024 * 1024
DEADLINE = 2.0
DATA = random.Random(10).randbytes(20 * MIB)
STOPPING: dict[str, object] = {"MEDIAVAULT_S3_DEADLINE": DEADLINE, "MEDIAVAULT_S3_MINIMUM_RATE": 16 * MIB}


@pytest.fixture
def running(seaweedfs: SeaweedFS) -> Iterator[SeaweedFS]:
    """The store, which is restarted after the test if necessary."""
    yield seaweedfs
    seaweedfs.resume()


@asynccontextmanager
async def _unavailable_in_time() -> AsyncIterator[None]:
    """Asserts that the call raises in time: its deadline, time for its bytes, a HEAD of the object, and the abort of the parts."""
    started = time.monotonic()
    async with asyncio.timeout(30):
        with pytest.raises(StorageUnavailable):
            yield
    assert time.monotonic() - started < 4 * DEADLINE + 2


async def _nothing_left(backend: S3Backend, store: SeaweedFS, bucket: str, prefix: str) -> None:
    """Waits until nothing is left: a store that was stopped may still carry out requests that lay in its sockets."""
    await backend.sweep_leftovers(timedelta(0))
    await eventually(lambda: not store.unfinished_uploads(bucket, prefix))
    for key in store.objects(bucket, prefix):
        name = key.removeprefix(f"{prefix}/")
        assert await read(backend, name) == DATA[: (await backend.head(Key(name))).size]
    async with asyncio.timeout(30):
        await write(backend, "next", DATA)
        assert await read(backend, "next") == DATA


async def test_stopped_before_the_write(
    open_backend: OpenBackend, running: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend(**STOPPING)
    running.pause()
    async with _unavailable_in_time():
        await write(backend, "a", DATA)
    running.resume()
    await _nothing_left(backend, running, bucket, prefix)


@pytest.mark.parametrize("size", [10, 7 * MIB])
async def test_stopped_in_a_put(
    open_backend: OpenBackend, running: SeaweedFS, bucket: str, prefix: str, size: int
) -> None:
    backend = await open_backend(**STOPPING)
    async with _unavailable_in_time(), backend.write_stream(Key("a")) as writer:
        await writer.write(DATA[:size])
        running.pause()
    running.resume()
    await _nothing_left(backend, running, bucket, prefix)


async def test_stopped_among_the_parts(open_backend: OpenBackend, running: SeaweedFS, bucket: str, prefix: str) -> None:
    backend = await open_backend(**STOPPING)
    async with _unavailable_in_time(), backend.write_stream(Key("a")) as writer:
        await writer.write(DATA[: 9 * MIB])
        running.pause()
        for _ in range(100):
            await writer.write(bytes(MIB))
    running.resume()
    await _nothing_left(backend, running, bucket, prefix)


async def test_stopped_in_complete(
    open_backend: OpenBackend, running: SeaweedFS, proxy: Proxy, bucket: str, prefix: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, **STOPPING)
    proxy.on_request = lambda request: (
        running.pause() if request.method == "POST" and "uploadId" in request.query else None
    )
    async with _unavailable_in_time():
        await write(backend, "a", DATA)
    proxy.on_request = None
    running.resume()
    await _nothing_left(backend, running, bucket, prefix)


async def test_stopped_in_a_read(open_backend: OpenBackend, running: SeaweedFS) -> None:
    backend = await open_backend(**STOPPING)
    await write(backend, "a", DATA)
    async with _unavailable_in_time(), backend.read_stream(Key("a")) as stream:
        await anext(stream.chunks)
        running.pause()
        async for _ in stream.chunks:
            pass
    running.resume()
    assert await read(backend, "a") == DATA


@pytest.mark.parametrize(
    "call",
    [
        lambda backend: backend.head(Key("a")),
        lambda backend: backend.exists(Key("a")),
        lambda backend: read(backend, "a"),
        lambda backend: backend.put_object(Key("m"), b"x"),
        lambda backend: backend.copy_object(Key("a"), Key("b")),
        lambda backend: backend.delete_object(Key("b")),
        lambda backend: anext(backend.list_objects()),
        lambda backend: backend.probe(),
        lambda backend: backend.sweep_leftovers(timedelta(0)),
    ],
)
async def test_every_call_ends_while_the_store_is_stopped(
    open_backend: OpenBackend, running: SeaweedFS, call: Callable[[S3Backend], Awaitable[object]]
) -> None:
    backend = await open_backend(**{**STOPPING, "MEDIAVAULT_S3_DEADLINE": 0.5})
    running.pause()
    started = time.monotonic()
    async with asyncio.timeout(10):
        with pytest.raises(StorageUnavailable):
            await call(backend)
    assert time.monotonic() - started < 3
    running.resume()


async def test_batches_report_an_outage_per_key(open_backend: OpenBackend, running: SeaweedFS) -> None:
    backend = await open_backend(**{**STOPPING, "MEDIAVAULT_S3_DEADLINE": 0.5})
    running.pause()
    failed = await asyncio.wait_for(backend.delete_objects([Key("a"), Key("b")]), 10)
    assert {key: type(error) for key, error in failed.items()} == dict.fromkeys(
        (Key("a"), Key("b")), StorageUnavailable
    )


async def _all_calls(backend: S3Backend) -> list[StorageError]:
    """The error of every call; none may succeed."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: backend.exists(Key("a")),
        lambda: backend.head(Key("a")),
        lambda: read(backend, "a"),
        lambda: read(backend, "a", ByteRange(0, 1)),
        lambda: write(backend, "a", b"x"),
        lambda: write(backend, "b", DATA),
        lambda: backend.put_object(Key("a"), b"x"),
        lambda: backend.copy_object(Key("a"), Key("b")),
        lambda: backend.delete_object(Key("a")),
        lambda: anext(backend.list_objects()),
        backend.probe,
        lambda: backend.sweep_leftovers(timedelta(0)),
    ]
    errors: list[StorageError] = []
    for call in calls:
        with pytest.raises(StorageError) as caught:
            await asyncio.wait_for(call(), 20)
        errors.append(caught.value)
    return [*errors, *(await backend.delete_objects([Key("a")])).values()]


@pytest.mark.parametrize(
    "identity",
    [
        Identity("unknown", "unknownkey", "unknownsecret", ()),
        Identity("wrong", "testadminkey", "not the secret", ()),
    ],
)
async def test_wrong_keys_are_named_without_telling_them(open_backend: OpenBackend, identity: Identity) -> None:
    for error in await _all_calls(await open_backend(identity=identity)):
        assert type(error) is StoragePermission, error
        assert identity.secret_key not in str(error)
        assert identity.access_key not in str(error)


async def test_a_missing_bucket_is_no_missing_object(open_backend: OpenBackend) -> None:
    errors = await _all_calls(await open_backend(bucket="no-such-bucket"))
    for error in errors:
        assert type(error) is StorageUnavailable, error
        assert "no such bucket" in str(error)


async def test_nobody_listens(open_backend: OpenBackend) -> None:
    backend = await open_backend(endpoint="http://127.0.0.1:9", **STOPPING)
    for call in (backend.exists(Key("a")), read(backend, "a"), backend.probe()):
        with pytest.raises(StorageUnavailable):
            await asyncio.wait_for(call, 10)


async def test_rights_on_the_prefix_alone_suffice(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    identity = seaweedfs.add_prefix_identity(f"own{prefix[-6:]}", bucket, prefix)
    backend = await open_backend(identity=identity)
    await backend.probe()
    await write(backend, "a/small", b"x")
    await write(backend, "a/large", DATA)
    await backend.copy_object(Key("a/large"), Key("b/copy"))
    await backend.move_object(Key("a/small"), Key("b/moved"))
    assert not await backend.exists(Key("a/small"))
    assert await read(backend, "b/copy", ByteRange(5, 9)) == DATA[5:10]
    assert {info.key async for info in backend.list_objects("b")} == {"b/copy", "b/moved"}
    assert await backend.sweep_leftovers(timedelta(0)) == 0
    assert await backend.delete_objects([Key("a/large"), Key("b/copy"), Key("b/moved")]) == {}
    assert not seaweedfs.objects(bucket, prefix)
