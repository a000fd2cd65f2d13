"""The memory of upload sessions: buffers of ended requests are free for the next ones."""

from __future__ import annotations

import gc

from app.uploads.file_receiver import SPARE_BUFFERS, BufferPool, PipelinedWriter
from tests.uploads.sessions.session_place import SessionPlace, make_photo

CHUNK_BYTES = 200_000
BUFFERS = 40


async def test_no_buffer_of_an_ended_request_waits_for_the_garbage_collector(place: SessionPlace) -> None:
    data = make_photo(5 * CHUNK_BYTES)
    status = await place.create(len(data))
    gc.collect()
    gc.disable()
    try:
        for offset in range(0, len(data), CHUNK_BYTES):
            status = await place.send(status.id, offset, data[offset : offset + CHUNK_BYTES])
        waiting = [each for each in gc.get_objects() if isinstance(each, PipelinedWriter)]
    finally:
        gc.enable()
    assert waiting == []
    await place.assert_stored(status, data)


def test_a_pool_keeps_as_many_buffers_as_are_in_use() -> None:
    pool = BufferPool()
    used = [pool.take() for _ in range(BUFFERS)]
    first = set(map(id, used))

    for _ in range(3):  # the next request of half of the uploads
        pool.give_back(*used[: BUFFERS // 2])
        used[: BUFFERS // 2] = [pool.take() for _ in range(BUFFERS // 2)]
        assert set(map(id, used)) == first
    while used:
        pool.give_back(used.pop())

    kept = [id(pool.take()) for _ in range(SPARE_BUFFERS)]
    assert set(kept) <= first
