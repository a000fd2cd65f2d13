"""Responses over a bare socket when the source fails, or the client disconnects or stalls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from app.delivery.errors import TransferAborted
from app.storage.backend import CHUNK_BYTES
from app.storage.errors import ObjectChanged, StorageError, StorageUnavailable
from tests.delivery.sources import RecordedSource, SourceApp, run_server
from tests.real.http_raw import RawConnection, fetch
from tests.real.waiting import eventually

HOST = "127.0.0.1"
FOUR_CHUNKS = bytes(range(256)) * (4 * CHUNK_BYTES // 256)
SMALL_BUFFER = 16 * 1024


@pytest.fixture
def gallery() -> SourceApp:
    return SourceApp()


@pytest.fixture
def port(gallery: SourceApp) -> Iterator[int]:
    with run_server(gallery, send_buffer=SMALL_BUFFER) as port:
        yield port


async def until_closed(source: RecordedSource) -> None:
    await asyncio.to_thread(eventually, lambda: source.closed == 1, "the source is closed")


def failing_at(position: int, error: StorageError) -> Callable[[int], None]:
    def before_chunk(given: int) -> None:
        if given >= position:
            raise error

    return before_chunk


AWAY = StorageUnavailable("upload/x.jpg", "s3")
CHANGED = ObjectChanged("upload/x.jpg", "external")


@pytest.mark.parametrize("field", ["none", "bytes=0-", "bytes=0-600000"])
async def test_a_source_that_fails_half_way_cuts_the_connection(gallery: SourceApp, port: int, field: str) -> None:
    source = gallery.sources["/"] = RecordedSource(FOUR_CHUNKS, before_chunk=failing_at(2 * CHUNK_BYTES, AWAY))
    async with await RawConnection.open(HOST, port) as connection:
        answer = await connection.request("GET", "/", [("Range", field)])
        assert answer.status in (200, 206)
        assert not answer.complete
        assert answer.body == FOUR_CHUNKS[: 2 * CHUNK_BYTES]
        assert await connection.read_to_end() == b""
    (error,) = gallery.raised
    assert isinstance(error, TransferAborted)
    assert error.__cause__ is AWAY
    assert source.closed == 1


async def test_a_source_that_fails_between_ranges_cuts_the_connection(gallery: SourceApp, port: int) -> None:
    gallery.sources["/"] = RecordedSource(FOUR_CHUNKS)

    def before_chunk(_: int) -> None:
        if gallery.sources["/"].opened == 2:
            raise AWAY

    gallery.sources["/"].before_chunk = before_chunk
    answer = await fetch(HOST, port, "GET", "/", [("Range", "bytes=0-9,20-29")])
    assert answer.status == 206
    assert not answer.complete
    assert isinstance(gallery.raised[0], TransferAborted)


@pytest.mark.parametrize("size", [10, CHUNK_BYTES, 4 * CHUNK_BYTES])
async def test_a_source_that_fails_at_its_first_byte_is_a_status(gallery: SourceApp, port: int, size: int) -> None:
    source = gallery.sources["/"] = RecordedSource(FOUR_CHUNKS[:size], before_chunk=failing_at(0, AWAY))
    async with await RawConnection.open(HOST, port) as connection:
        assert (await connection.request("GET", "/")).status == 404
        source.before_chunk = None
        assert (await connection.request("GET", "/")).body == FOUR_CHUNKS[:size]
    assert gallery.raised == [AWAY]


async def test_a_change_that_shows_at_the_end_ends_the_transfer_short(gallery: SourceApp, port: int) -> None:
    gallery.sources["/"] = RecordedSource(FOUR_CHUNKS, before_chunk=failing_at(len(FOUR_CHUNKS), CHANGED))
    answer = await fetch(HOST, port, "GET", "/")
    assert (answer.status, answer.complete) == (200, False)
    assert isinstance(gallery.raised[0], TransferAborted)
    assert gallery.raised[0].__cause__ is CHANGED


async def test_a_change_in_a_small_file_is_a_status(gallery: SourceApp, port: int) -> None:
    gallery.sources["/"] = RecordedSource(b"0123456789", before_chunk=failing_at(10, CHANGED))
    assert (await fetch(HOST, port, "GET", "/")).status == 404
    assert gallery.raised == [CHANGED]


@pytest.mark.parametrize(
    "announced", [len(FOUR_CHUNKS) - 1, len(FOUR_CHUNKS) + 1, len(FOUR_CHUNKS) - CHUNK_BYTES, 2**40]
)
async def test_a_source_of_another_length_is_never_padded_nor_ended(
    gallery: SourceApp, port: int, announced: int
) -> None:
    gallery.sources["/"] = RecordedSource(FOUR_CHUNKS, announced=announced)
    answer = await fetch(HOST, port, "GET", "/")
    assert not answer.complete
    assert FOUR_CHUNKS.startswith(answer.body)
    (error,) = gallery.raised
    assert isinstance(error, TransferAborted)
    assert isinstance(error.__cause__, ObjectChanged)


@pytest.mark.parametrize("announced", [5, 15])
async def test_a_small_source_of_another_length_is_a_status(gallery: SourceApp, port: int, announced: int) -> None:
    gallery.sources["/"] = RecordedSource(b"0123456789", announced=announced)
    answer = await fetch(HOST, port, "GET", "/")
    assert answer.status == (404 if announced == 5 else 200)
    assert answer.complete is (announced == 5)


async def test_a_stalled_client_costs_one_chunk(gallery: SourceApp, port: int) -> None:
    source = gallery.sources["/stalled"] = RecordedSource(FOUR_CHUNKS * 16)
    gallery.sources["/"] = RecordedSource(FOUR_CHUNKS)
    async with await RawConnection.open(HOST, port, receive_buffer=SMALL_BUFFER) as connection:
        await connection.send_request("GET", "/stalled")
        await connection.read_head()
        # Others are served meanwhile, which takes long enough for a reader that does not wait to run ahead.
        for _ in range(5):
            assert (await fetch(HOST, port, "GET", "/")).body == FOUR_CHUNKS
        assert source.given == CHUNK_BYTES
        assert await connection.read_up_to(source.size) == source.content


async def test_a_client_that_vanishes_stops_the_reading(gallery: SourceApp, port: int) -> None:
    source = gallery.sources["/"] = RecordedSource(FOUR_CHUNKS * 64)
    connection = await RawConnection.open(HOST, port)
    await connection.send_request("GET", "/")
    await connection.read_head()
    await connection.read_up_to(3 * CHUNK_BYTES)
    connection.vanish()
    await until_closed(source)
    assert source.given < source.size / 8
    assert gallery.raised == []


async def test_a_stalled_client_that_vanishes_stops_the_reading_within_a_chunk(gallery: SourceApp, port: int) -> None:
    source = gallery.sources["/"] = RecordedSource(FOUR_CHUNKS * 16)
    connection = await RawConnection.open(HOST, port, receive_buffer=SMALL_BUFFER)
    await connection.send_request("GET", "/")
    await connection.read_head()
    before = source.given
    connection.vanish()
    await until_closed(source)
    assert source.given <= before + CHUNK_BYTES
    assert gallery.raised == []


@pytest.mark.parametrize("block_at", [0, CHUNK_BYTES])
@pytest.mark.parametrize("field", ["none", "bytes=0-500000,600000-1000000"])
async def test_a_client_that_vanishes_frees_a_source_that_blocks(
    gallery: SourceApp, port: int, block_at: int, field: str
) -> None:
    source = gallery.sources["/"] = RecordedSource(FOUR_CHUNKS, block_at=block_at)
    connection = await RawConnection.open(HOST, port)
    await connection.send_request("GET", "/", [("Range", field)])
    await asyncio.to_thread(eventually, lambda: source.opened == 1, "the source is opened")
    connection.vanish()
    await until_closed(source)
    assert gallery.raised == []


async def test_a_slow_client_gets_every_byte(gallery: SourceApp, port: int) -> None:
    source = gallery.sources["/"] = RecordedSource(FOUR_CHUNKS)
    async with await RawConnection.open(HOST, port, receive_buffer=SMALL_BUFFER) as connection:
        await connection.send_request("GET", "/")
        await connection.read_head()
        pieces = [await connection.read_up_to(8192) for _ in range(len(FOUR_CHUNKS) // 8192)]
    assert b"".join(pieces) == FOUR_CHUNKS
    assert source.closed == 1


async def test_a_client_that_vanishes_with_requests_queued_stops_the_reading(gallery: SourceApp, port: int) -> None:
    source = gallery.sources["/"] = RecordedSource(FOUR_CHUNKS * 16)
    queued = gallery.sources["/queued"] = RecordedSource(FOUR_CHUNKS)
    connection = await RawConnection.open(HOST, port, receive_buffer=SMALL_BUFFER)
    await connection.send_request("GET", "/")
    await connection.read_head()
    await connection.send_request("GET", "/queued")
    await connection.send_request("GET", "/queued")
    assert (await fetch(HOST, port, "GET", "/queued")).body == FOUR_CHUNKS
    before = source.given
    connection.vanish()
    await until_closed(source)
    assert source.given <= before + CHUNK_BYTES
    assert queued.opened == 1
    # uvicorn tells only the newest request of a connection that it has gone; the older one hears of it when it sends.
    assert all(isinstance(error, TransferAborted) for error in gallery.raised)
