"""More reads than connections: slow clients hold none that others need, accounts share them fairly, and no byte is lost over it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import pytest

from app.storage.backend import ObjectStream, read_for_account
from app.storage.key import Key
from app.storage.ranges import ByteRange
from app.storage.s3 import S3Backend
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.reads import connections as scheduling
from app.storage.s3.reads.connections import ReadConnection, ReadConnections
from tests.real.proxy import Fault, Proxy
from tests.real.quirks import READ_QUIRKS, reading
from tests.storage.s3.conftest import OpenBackend, eventually, read, write

LARGE = random.Random(21).randbytes(4 * 1024 * 1024)
CONNECTIONS = 8
PATIENCE = 30.0
IDLE = scheduling.IDLE_SECONDS * 4
CLIENTS = 60
"""Readers at once."""


async def read_as(backend: S3Backend, account: Hashable, key: str) -> bytes:
    read_for_account(account)
    return await read(backend, key)


class SlowClients:
    """Clients that take one chunk each and then nothing until `go_on`."""

    def __init__(self, backend: S3Backend) -> None:
        self._backend = backend
        self._begun = asyncio.Semaphore(0)
        self._go_on = asyncio.Event()
        self._tasks: list[asyncio.Task[bytes]] = []

    async def begin(self, account: Hashable, count: int) -> None:
        """Returns when each has its first chunk."""
        self._tasks += [asyncio.create_task(self._read(account)) for _ in range(count)]
        for _ in range(count):
            await self._begun.acquire()

    async def finish(self) -> None:
        """All go on, and get the rest of their bytes."""
        self._go_on.set()
        assert all(found == LARGE for found in await asyncio.gather(*self._tasks))

    async def _read(self, account: Hashable) -> bytes:
        read_for_account(account)
        async with self._backend.read_stream(Key("large")) as stream:
            found = [await anext(stream.chunks)]
            self._begun.release()
            await self._go_on.wait()
            found += [chunk async for chunk in stream.chunks]
            return b"".join(found)


@asynccontextmanager
async def reading_greedily(
    backend: S3Backend, account: Hashable, count: int
) -> AsyncIterator[list[asyncio.Task[bytes]]]:
    """`count` clients that take whatever comes; the block begins when as many as can be have a connection."""
    tasks = [asyncio.create_task(read_as(backend, account, "large")) for _ in range(count)]
    connections = backend.reader.connections
    await eventually(lambda: connections.in_use >= min(count, CONNECTIONS - 1))
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def open_small_pool(open_backend: OpenBackend, **more: object) -> S3Backend:
    backend = await open_backend(MEDIAVAULT_S3_CONNECTIONS=CONNECTIONS, MEDIAVAULT_S3_DEADLINE=5, **more)
    await write(backend, "large", LARGE)
    await write(backend, "small", b"served")
    return backend


async def test_slow_clients_keep_neither_others_nor_their_own_account_from_reading(open_backend: OpenBackend) -> None:
    """Three times as many as there are connections. Nobody waits for the ten seconds after which a stalled client loses its connection."""
    backend = await open_small_pool(open_backend)
    slow = SlowClients(backend)
    async with asyncio.timeout(PATIENCE):
        await slow.begin("anna", 3 * CONNECTIONS)
        for account in ("bert", "anna"):
            for _ in range(5):
                assert await asyncio.create_task(read_as(backend, account, "small")) == b"served"
        await slow.finish()
    assert (backend.reader.connections.in_use, backend.reader.connections.waiting) == (0, 0)


async def test_slow_clients_of_many_accounts_keep_nobody_from_reading(open_backend: OpenBackend) -> None:
    backend = await open_small_pool(open_backend)
    slow = SlowClients(backend)
    async with asyncio.timeout(PATIENCE):
        for number in range(2 * CONNECTIONS):
            await slow.begin(number, 1)
        assert await asyncio.create_task(read_as(backend, "bert", "small")) == b"served"
        await slow.finish()


async def test_a_slow_client_holds_no_connection_any_more_once_others_needed_it(open_backend: OpenBackend) -> None:
    """What it asks for from then on arrives whole, however slowly it is taken."""
    backend = await open_small_pool(open_backend)
    connections = backend.reader.connections
    async with asyncio.timeout(PATIENCE), backend.read_stream(Key("large")) as stream:
        found = [await anext(stream.chunks)]
        busy = [await asyncio.create_task(acquire_as(number, connections)) for number in range(CONNECTIONS)]
        for connection in busy:
            connection.release()
        assert connections.in_use == 0
        found.append(await anext(stream.chunks))
        await eventually(lambda: connections.in_use == 0)
        found += [chunk async for chunk in stream.chunks]
    assert b"".join(found) == LARGE


async def test_a_large_share_goes_down_at_the_next_chunk(open_backend: OpenBackend, proxy: Proxy) -> None:
    """All connections carry bytes that clients take at once, and would for a minute; a third account gets one within its five seconds."""
    backend = await open_small_pool(open_backend, endpoint=proxy.endpoint)
    proxy.rate = 1024 * 1024
    async with (
        asyncio.timeout(PATIENCE),
        reading_greedily(backend, "anna", CONNECTIONS - 1) as annas,
        reading_greedily(backend, "bert", CONNECTIONS - 1),
    ):
        await eventually(lambda: backend.reader.connections.in_use == CONNECTIONS)
        assert await asyncio.create_task(read_as(backend, "carl", "small")) == b"served"
        assert not any(task.done() for task in annas)
        proxy.rate = None
        assert all(found == LARGE for found in await asyncio.gather(*annas))


async def test_reads_of_one_account_take_turns(open_backend: OpenBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read that had its turn gives its connection to one of the same account that waits."""
    monkeypatch.setattr(scheduling, "TURN_SECONDS", 0.1)
    connections = ReadConnections(2)
    holders = [await connections.acquire() for _ in range(2)]
    for holder in holders:
        holder.on_revoked = holder.release  # as of a read that can be continued; its client takes everything at once
    async with asyncio.timeout(PATIENCE):
        waiting = asyncio.create_task(connections.acquire())
        await eventually(lambda: any(holder.is_recalled for holder in holders))
        assert sum(holder.is_recalled for holder in holders) == 1, "as many as are waiting"
        next(holder for holder in holders if holder.is_recalled).release()
        (await waiting).release()
    assert connections.in_use == 1


async def test_a_free_connection_goes_to_the_account_that_has_the_fewest() -> None:
    connections = ReadConnections(4)
    anna = [await asyncio.create_task(acquire_as("anna", connections)) for _ in range(4)]
    order: list[str] = []

    async def wait(account: str) -> None:
        read_for_account(account)
        await connections.acquire()
        order.append(account)

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        for account in ("anna", "anna", "bert", "anna", "bert", "carl"):
            group.create_task(wait(account))
        await eventually(lambda: connections.waiting == 6)
        for released in anna:
            released.release()
            await asyncio.sleep(0)
        await eventually(lambda: len(order) == 4)
        assert sorted(order[:2]) == ["bert", "carl"]
        assert order[2:] in (["bert", "anna"], ["anna", "bert"])
        for connection in list(connections._held):
            connection.release()


async def test_one_account_leaves_some_connections_to_others() -> None:
    connections = ReadConnections(16)
    taken = [await asyncio.create_task(acquire_as("anna", connections)) for _ in range(14)]
    waiting = asyncio.create_task(acquire_as("anna", connections))
    await eventually(lambda: connections.waiting == 1)
    (await asyncio.create_task(acquire_as("bert", connections))).release()
    assert not waiting.done()
    taken[0].release()
    (await waiting).release()


@pytest.mark.parametrize("quirk", READ_QUIRKS)
async def test_a_read_that_was_interrupted_goes_on_with_the_same_bytes(
    open_backend: OpenBackend, proxy: Proxy, quirk: str
) -> None:
    """Also on stores that ignore ranges or conditions."""
    await write(await open_backend(), "large", LARGE)
    backend = await open_backend(endpoint=proxy.endpoint, MEDIAVAULT_S3_CONNECTIONS=4)
    proxy.faults.extend(READ_QUIRKS[quirk]())
    connections = backend.reader.connections
    async with asyncio.timeout(PATIENCE), backend.read_stream(Key("large"), ByteRange(100, None)) as stream:
        found = [await anext(stream.chunks)]
        if backend.client.capabilities.has(S3Feature.RANGE):
            for connection in [await asyncio.create_task(acquire_as(number, connections)) for number in range(4)]:
                connection.release()
            assert not backend.reader.connections_in_use
        found += [chunk async for chunk in stream.chunks]
    assert LARGE[:100] + b"".join(found) == LARGE


async def test_a_read_that_cannot_be_continued_is_never_interrupted(open_backend: OpenBackend, proxy: Proxy) -> None:
    await write(await open_backend(), "large", LARGE)
    backend = await open_backend(endpoint=proxy.endpoint, MEDIAVAULT_S3_CONNECTIONS=4)
    proxy.faults.append(
        Fault(reading, rewrite=lambda _request, answered: answered.having(etag=None, last_modified=None))
    )
    async with asyncio.timeout(PATIENCE), backend.read_stream(Key("large")) as stream:
        found = [await anext(stream.chunks)]
        busy = [await asyncio.create_task(acquire_as(number, backend.reader.connections)) for number in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(IDLE):
                await backend.reader.connections.acquire()
        found += [chunk async for chunk in stream.chunks]
        for connection in busy:
            connection.release()
    assert b"".join(found) == LARGE


async def test_random_clients_get_their_bytes_and_leave_nothing_behind(
    open_backend: OpenBackend, seed: int, *, soak: bool
) -> None:
    """Fast, slow and leaving clients of several accounts, many more than connections."""
    dice = random.Random(seed)
    backend = await open_small_pool(open_backend)
    places = asyncio.Semaphore(CLIENTS)  # more at once wait longer for a connection than a client has to

    async def run_client(account: int, pause: float, chunks: int | None) -> None:
        try:
            await read_and_check(account, pause, chunks)
        finally:
            places.release()

    async def read_and_check(account: int, pause: float, chunks: int | None) -> None:
        read_for_account(account)
        first = dice.randrange(len(LARGE))
        async with backend.read_stream(Key("large"), ByteRange(first, None)) as stream:
            assert stream.served is not None
            found = await take(stream, pause, chunks)
        assert LARGE[first : first + len(found)] == found
        assert chunks is not None or len(found) == stream.served.length

    async with asyncio.timeout(PATIENCE * 20), asyncio.TaskGroup() as group:
        for _ in range(2000 if soak else CLIENTS):
            await places.acquire()
            pause = dice.choice([0.0, 0.0, 0.01, 0.05])
            group.create_task(run_client(dice.randrange(4), pause, dice.choice([None, None, 1, 5])))
            await asyncio.sleep(dice.choice([0.0, 0.0, 0.01]))
    assert (backend.reader.connections.in_use, backend.reader.connections.waiting) == (0, 0)
    assert not backend.reader.connections_in_use


async def take(stream: ObjectStream, pause: float, chunks: int | None) -> bytes:
    found: list[bytes] = []
    async for chunk in stream.chunks:
        found.append(chunk)
        await asyncio.sleep(pause)
        if len(found) == chunks:
            break
    return b"".join(found)


async def acquire_as(account: Hashable, connections: ReadConnections) -> ReadConnection:
    """Call it in a task of its own: the account is the task's."""
    read_for_account(account)
    return await connections.acquire()
