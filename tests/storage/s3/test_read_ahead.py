"""A read that waits for a distant store goes on over several connections; one that does not keeps to one, and nobody's memory or turn is taken."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from app.storage.key import Key
from app.storage.ranges import ByteRange
from app.storage.s3 import S3Backend
from app.storage.s3.reads import ahead as read_ahead
from app.storage.s3.reads.ahead import MAX_PIECES_OF_ALL, PIECE_BYTES
from app.storage.s3.reads.chunks import RangeReader, ReadChunks, ReadResponse
from tests.real.notes import Note
from tests.real.proxy import Fault, Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.real.slow_link import SlowLink
from tests.storage.guarantees.content import pattern
from tests.storage.s3.conftest import OpenBackend, eventually, read

SIZE = 10 * PIECE_BYTES + 12_345
LATENCY, RATE = 0.04, 5_000_000
SLOW_CLIENT_RATE = 30_000_000


@pytest.fixture(scope="module")
def prefix() -> str:
    return f"ahead-{secrets.token_hex(6)}"


@pytest.fixture(scope="module")
def film(seaweedfs: SeaweedFS, bucket: str, prefix: str) -> bytes:
    """The bytes of the object `film`."""
    data = pattern(SIZE)
    seaweedfs.administration.put_object(Bucket=bucket, Key=f"{prefix}/film", Body=data)
    return data


@pytest.fixture
def link(seaweedfs: SeaweedFS) -> Iterator[SlowLink]:
    with SlowLink(seaweedfs.port, latency=LATENCY, rate=RATE) as running:
        yield running


@pytest.fixture
async def distant(open_backend: OpenBackend, link: SlowLink) -> S3Backend:
    return await open_backend(endpoint=link.endpoint)


async def test_a_slow_store_is_read_over_several_connections(
    distant: S3Backend, film: bytes, link: SlowLink, note: Note
) -> None:
    began = time.monotonic()
    assert await read(distant, "film") == film
    seconds = time.monotonic() - began
    note(
        f"read ahead: {SIZE / RATE / seconds:.1f} times the rate of one connection, {link.most_connections} connections"
    )
    assert link.most_connections >= 4
    assert seconds < SIZE / RATE, "one connection cannot be as fast"
    assert distant.reader.ahead_budget.used == 0
    assert distant.reader.connections.in_use == 0


async def test_ranges_have_just_their_bytes(distant: S3Backend, film: bytes) -> None:
    first, last = PIECE_BYTES - 7, 7 * PIECE_BYTES + 5
    assert await read(distant, "film", ByteRange(first, last)) == film[first : last + 1]


async def test_a_read_that_returns_to_one_connection_has_just_its_bytes(
    distant: S3Backend, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "JUDGED_PIECES", 2)
    monkeypatch.setattr(type(distant.reader.spare_connections), "has_spare", property(lambda _: True))
    monkeypatch.setattr(read_ahead, "USEFUL_RATIO", 1000)  # never reached
    monkeypatch.setattr(read_ahead, "PIECE_BYTES", 1_000_003)  # no multiple of a chunk
    assert await read(distant, "film") == film
    assert distant.reader.ahead_budget.used == 0


async def test_one_connection_is_enough_for_a_client_that_is_slower_than_the_store(
    open_backend: OpenBackend, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = await open_backend()
    gets = 0
    send_get = backend.reader.send_get

    async def count(key: str, byte_range: ByteRange | None, if_match: str | None) -> ReadResponse:
        nonlocal gets
        gets += 1
        return await send_get(key, byte_range, if_match)

    monkeypatch.setattr(backend.reader, "send_get", count)
    received = bytearray()
    async with backend.read_stream(Key("film")) as stream:
        async for chunk in stream.chunks:
            received += chunk
            await asyncio.sleep(len(chunk) / SLOW_CLIENT_RATE)
    assert received == film
    assert gets == 1


async def test_all_reads_together_keep_within_the_budget(
    distant: S3Backend, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "MAX_PIECES", 16)
    budget = distant.reader.ahead_budget
    most = 0
    try_take = budget.try_take

    def record() -> bool:
        nonlocal most
        is_taken = try_take()
        most = max(most, budget.used)
        return is_taken

    monkeypatch.setattr(budget, "try_take", record)
    answers = await asyncio.gather(*(read(distant, "film") for _ in range(3)))
    assert all(answer == film for answer in answers)
    assert 4 <= most <= MAX_PIECES_OF_ALL
    assert budget.used == 0


async def test_a_reader_that_stalls_holds_nothing(
    distant: S3Backend, film: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_ahead, "STALL_SECONDS", 0.3)
    budget = distant.reader.ahead_budget
    async with distant.read_stream(Key("film")) as stream:
        received = bytearray()
        async for chunk in stream.chunks:
            received += chunk
            if budget.used:
                break
        assert budget.used
        await eventually(lambda: budget.used == 0)
        async for chunk in stream.chunks:
            received += chunk
    assert received == film


async def test_pieces_that_fail_are_read_once_more(open_backend: OpenBackend, link: SlowLink, film: bytes) -> None:
    with Proxy(link_port(link)) as proxy:
        backend = await open_backend(endpoint=proxy.endpoint)
        proxy.faults.append(Fault(matches=is_piece(5), status=403, times=1))
        proxy.faults.append(Fault(matches=is_piece(7), cut_after=100_000, times=1))
        assert await read(backend, "film") == film
        assert backend.reader.ahead_budget.used == 0


@pytest.mark.parametrize("failure", [TypeError, asyncio.CancelledError])
@pytest.mark.parametrize("chunks_before", [0, 1])
async def test_a_piece_whose_fetch_ends_unexpectedly_is_read_once_more(
    distant: S3Backend, film: bytes, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException], chunks_before: int
) -> None:
    fetches: list[ByteRange] = []

    class FailingChunks(ReadChunks):
        """Those of the first piece fail."""

        def __init__(self, reader: RangeReader, response: ReadResponse, served: ByteRange) -> None:
            super().__init__(reader, response, served)
            self._left = chunks_before if not fetches else None
            fetches.append(served)

        async def __anext__(self) -> bytes:
            if self._left == 0:
                raise failure
            if self._left is not None:
                self._left -= 1
            return await super().__anext__()

    monkeypatch.setattr(read_ahead, "ReadChunks", FailingChunks)
    assert await asyncio.wait_for(read(distant, "film"), 60) == film
    assert fetches[0].length == PIECE_BYTES
    assert any(served.first > fetches[0].first for served in fetches)
    assert distant.reader.ahead_budget.used == 0
    assert distant.reader.connections.in_use == 0


@pytest.mark.usefixtures("film")
async def test_a_read_that_is_given_up_leaves_no_fetches(distant: S3Backend) -> None:
    budget = distant.reader.ahead_budget
    async with distant.read_stream(Key("film")) as stream:
        async for _ in stream.chunks:
            if budget.used:
                break
    assert budget.used == 0
    assert distant.reader.connections.in_use == 0


def is_piece(number: int) -> Callable[..., bool]:
    """Matches the request for the first piece that begins in the object's piece `number`."""

    def matches(request: object) -> bool:
        sent = getattr(request, "headers", {}).get("range", "")
        return sent.startswith("bytes=") and int(sent[6:].split("-")[0]) // PIECE_BYTES == number

    return matches


def link_port(link: SlowLink) -> int:
    return int(link.endpoint.rpartition(":")[2])
