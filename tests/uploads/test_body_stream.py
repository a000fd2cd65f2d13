"""`stream_body`: the limits that end a body early."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from app.uploads.body_stream import BodyLimits, Receive, stream_body
from app.uploads.errors import ClientDisconnected, IncompleteBody, UploadTooLarge, UploadTooSlow

LIMITS = BodyLimits(size=1000, idle_seconds=30, minimum_rate=0)


def received(messages: Iterable[dict[str, Any]], *, pause: float = 0) -> Receive:
    """An ASGI `receive` that returns these messages, then waits for ever."""
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(pause)
        message = next(left, None)
        if message is None:
            await asyncio.Event().wait()
            raise AssertionError
        return message

    return receive


def chunk(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def read(receive: Receive, length: int | None = None, limits: BodyLimits = LIMITS) -> bytes:
    async with asyncio.timeout(30):
        return b"".join([one async for one in stream_body(receive, length, limits)])


@pytest.mark.parametrize("length", [6, None])
async def test_a_whole_body(length: int | None) -> None:
    messages = [chunk(b"ab"), chunk(b""), chunk(b"cd"), chunk(b"ef", more=False)]
    assert await read(received(messages), length) == b"abcdef"


async def test_an_empty_body() -> None:
    assert await read(received([{"type": "http.request"}]), 0) == b""


async def test_a_client_that_vanishes() -> None:
    with pytest.raises(ClientDisconnected):
        await read(received([chunk(b"ab"), {"type": "http.disconnect"}]), 6)


async def test_a_body_shorter_than_announced() -> None:
    with pytest.raises(IncompleteBody):
        await read(received([chunk(b"ab", more=False)]), 6)


async def test_a_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("the body was asked for")

    with pytest.raises(UploadTooLarge) as refusal:
        await read(receive, 1001)
    assert refusal.value.limit == 1000


async def test_a_body_that_grows_over_the_limit() -> None:
    with pytest.raises(UploadTooLarge):
        await read(received([chunk(b"x" * 600), chunk(b"x" * 600)]))


async def test_a_client_that_sends_nothing_more() -> None:
    with pytest.raises(UploadTooSlow, match=r"0\.05 seconds"):
        await read(received([chunk(b"ab")]), limits=BodyLimits(size=1000, idle_seconds=0.05, minimum_rate=0))


async def test_a_client_that_drips() -> None:
    drips = received([chunk(b"x")] * 1000, pause=0.01)
    with pytest.raises(UploadTooSlow, match="512 bytes"):
        await read(drips, limits=BodyLimits(size=10**6, idle_seconds=30, minimum_rate=512, rate_window=0.1))


async def test_a_steady_client_may_take_long() -> None:
    steady = received([chunk(b"x" * 100)] * 30 + [chunk(b"", more=False)], pause=0.01)
    limits = BodyLimits(size=10**6, idle_seconds=30, minimum_rate=512, rate_window=0.1)
    assert len(await read(steady, limits=limits)) == 3000


async def test_the_time_that_the_reader_takes_does_not_count_against_the_client() -> None:
    limits = BodyLimits(size=1000, idle_seconds=30, minimum_rate=512, rate_window=0.3)
    body = b""
    async for one in stream_body(received([chunk(b"x")] * 4 + [chunk(b"", more=False)]), None, limits):
        await asyncio.sleep(0.1)
        body += one
    assert body == b"xxxx"


async def test_each_wait_has_the_whole_idle_time_of_its_own() -> None:
    """One timer serves all waits of a body: it must not end a later wait at the time of an earlier one."""
    loop = asyncio.get_running_loop()
    arrived: list[float] = []
    limits = BodyLimits(size=1000, idle_seconds=0.4, minimum_rate=0)

    async def note_arrivals() -> None:
        body = stream_body(received([chunk(b"ab")] * 4, pause=0.25), None, limits)
        async for _ in body:
            arrived.append(loop.time())  # noqa: PERF401 - also those before the error

    with pytest.raises(UploadTooSlow):
        await asyncio.wait_for(note_arrivals(), 30)

    assert len(arrived) == 4
    assert loop.time() - arrived[-1] >= 0.4 - 0.05


async def test_a_cancellation_is_no_idle_client() -> None:
    reading = asyncio.create_task(read(received([chunk(b"ab")])))
    await asyncio.wait([reading], timeout=0.05)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
