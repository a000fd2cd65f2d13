"""`UploadBody` returns the bytes appended to it; `WriteBudget` limits the memory of all uploads without deadlocks."""

from __future__ import annotations

import asyncio
import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.errors import StorageUnavailable
from app.storage.s3.protocol.upload_body import UploadBody, WriteBudget


@given(st.lists(st.binary(max_size=20_000), max_size=12), st.integers(1, 30_000))
def test_a_body_gives_back_what_it_took(pieces: list[bytes], step: int) -> None:
    body = UploadBody()
    for number, piece in enumerate(pieces):
        body.append(piece if number % 2 else bytearray(piece))
    whole = b"".join(pieces)

    async def sent() -> bytes:
        return b"".join([bytes(piece) async for piece in body])

    assert len(body) == len(whole)
    assert asyncio.run(sent()) == whole
    assert body.read() == whole
    assert body.read() == b""
    body.seek(0)
    found = b""
    while piece := body.read(step):
        assert len(piece) <= step
        found += piece
    assert found == whole
    assert body.crc32_base64 == base64.b64encode(zlib.crc32(whole).to_bytes(4, "big")).decode()


async def test_reused_buffers_do_not_change_what_was_taken() -> None:
    buffer = bytearray(b"a" * 100_000)
    body = UploadBody()
    body.append(memoryview(buffer))
    buffer[:] = b"b" * 100_000
    assert body.read() == b"a" * 100_000


async def test_uploads_that_hold_part_of_everything_still_finish() -> None:
    """Ten parts of 16 bytes share 64 bytes: each holds some, and none could be filled without the reserve."""
    budget = WriteBudget(64, 16, timeout_seconds=10)
    held = 0
    most = 0

    async def fill() -> None:
        nonlocal held, most
        reservation = budget.create_reservation("key")
        for _ in range(16):
            await reservation.grow(1)
            held += 1
            most = max(most, held)
            await asyncio.sleep(0)
        held -= 16
        reservation.release()

    async with asyncio.timeout(10):
        await asyncio.gather(*(fill() for _ in range(10)))
    assert most <= 64


async def test_waiting_for_memory_is_bounded_and_cancelled_waits_leave_nothing() -> None:
    budget = WriteBudget(32, 16, timeout_seconds=0.05)
    first, second, third = (budget.create_reservation(name) for name in "abc")
    await first.grow(16)
    await second.grow(1)  # from the reserve
    with pytest.raises(StorageUnavailable):
        await third.grow(1)
    waiting = asyncio.create_task(third.grow(16))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    for reservation in (first, second, third):
        reservation.release()
    for reservation in (first, second):
        async with asyncio.timeout(1):
            await reservation.grow(16)
