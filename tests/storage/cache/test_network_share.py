"""A cache folder on a network share or FUSE, where each call may take long: none is made in the event loop's thread."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from app.storage.cache.block_format import BLOCK_BYTES
from app.storage.errors import ObjectNotFound
from app.storage.key import Key
from app.storage.ranges import ByteRange
from tests.real.waiting import eventually_so
from tests.storage.cache.block_files import open_descriptors
from tests.storage.cache.conftest import OpenCached
from tests.storage.cache.network_share import NetworkShare
from tests.storage.cache.test_cached_reads import CountGets, settle, until_cached
from tests.storage.guarantees.content import fetch, pattern, store

SIZE = BLOCK_BYTES + 300_001


@pytest.fixture
def share(folder: Path, monkeypatch: pytest.MonkeyPatch) -> NetworkShare:
    return NetworkShare(folder, monkeypatch)


async def test_the_event_loop_makes_no_call_for_the_cache(
    open_cached: OpenCached, folder: Path, share: NetworkShare, count_gets: CountGets
) -> None:
    backend, film, small = await open_cached(), pattern(SIZE), pattern(20_000)
    await store(backend, "film", film)
    await store(backend, "thumbs/small", small)
    count_gets()
    answers = await asyncio.gather(*(fetch(backend, "film") for _ in range(5)))
    assert all(answer == film for answer in answers)
    assert await fetch(backend, "thumbs/small") == small
    await until_cached(folder, 3)
    await settle(folder)
    assert count_gets() == 3
    for _ in range(3):
        assert await fetch(backend, "film", ByteRange(BLOCK_BYTES - 9, BLOCK_BYTES + 9)) == film[BLOCK_BYTES - 9 :][:19]
        assert await fetch(backend, "film") == film
        assert await fetch(backend, "thumbs/small") == small
        assert backend.read_from_memory(Key("thumbs/small"), ByteRange(0, 19_999), 20_000) is None
    async with backend.read_stream(Key("film")) as stream:
        assert stream.windows is None
    assert count_gets() == 0, "all of it is in the cache"
    await backend.delete_object(Key("film"))
    with pytest.raises(ObjectNotFound):
        await fetch(backend, "film")
    await backend._cache.aclose()

    async def is_closed() -> bool:
        gc.collect()
        return not open_descriptors(folder)

    await eventually_so(is_closed, "the folder is closed")
    assert share.calls_of_the_loop == []


@pytest.mark.parametrize("hangs_from", ["the look-up", "the middle"])
async def test_a_share_that_hangs_delays_nobody_else(
    open_cached: OpenCached, folder: Path, share: NetworkShare, monkeypatch: pytest.MonkeyPatch, hangs_from: str
) -> None:
    monkeypatch.setattr("app.storage.cache.disk.TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("app.storage.cache.disk.PAUSE_SECONDS", 0.0)
    backend, film = await open_cached(), pattern(SIZE)
    await store(backend, "film", film)
    assert await fetch(backend, "film") == film
    await until_cached(folder, 2)
    await settle(folder)
    if hangs_from == "the look-up":
        share.answers.clear()
        assert await asyncio.wait_for(fetch(backend, "film"), 20) == film
    else:
        received = bytearray()
        async with backend.read_stream(Key("film")) as stream:
            async for chunk in stream.chunks:
                received += chunk
                share.answers.clear()
        assert received == film
    assert share.calls_of_the_loop == []
    share.answers.set()
    hits = backend._cache.counts.hits

    async def is_hit() -> bool:
        return await fetch(backend, "film") == film and backend._cache.counts.hits > hits

    await eventually_so(is_hit, "the cache is used again")
    assert share.calls_of_the_loop == []
