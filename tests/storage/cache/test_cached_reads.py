"""Reads through the cache: what is cached needs no store, what is damaged or gone is never answered from it, and no failure of it fails a
read."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from app.storage.backend import ObjectStream
from app.storage.cache import disk
from app.storage.cache.backend import CachedBackend
from app.storage.cache.block_format import BLOCK_BYTES
from app.storage.cache.block_store import BlockStore
from app.storage.cache.disk import CacheDisk
from app.storage.cache.fills import FillState
from app.storage.cache.folder import CacheFolder
from app.storage.cache.open_block import SETTLED_NS
from app.storage.errors import ObjectChanged, ObjectNotFound, StorageUnavailable
from app.storage.key import Key
from app.storage.ranges import ByteRange, FileWindow
from tests.real.proxy import Fault, Proxy
from tests.real.waiting import eventually_so
from tests.storage.cache.block_files import block_paths
from tests.storage.cache.conftest import OpenCached
from tests.storage.guarantees.content import fetch, pattern, store

SIZE = 2 * BLOCK_BYTES + 100_001
CountGets = Callable[[], int]


async def until_cached(folder: Path, count: int) -> None:
    async def are_cached() -> bool:
        return len(block_paths(folder)) == count

    await eventually_so(are_cached, f"{count} blocks are cached")


async def settle(folder: Path) -> None:
    """Makes all block files old enough for an open one to be kept."""
    times = [path.stat().st_ctime_ns for path in block_paths(folder)]

    async def are_old() -> bool:
        return time.time_ns() - max(times) > SETTLED_NS

    await eventually_so(are_old, "the files have not been changed for a moment")


async def fetch_windows(backend: CachedBackend, key: str) -> list[bytes]:
    """The object's bytes, from the files of its windows."""
    async with backend.read_stream(Key(key)) as stream:
        if stream.windows is None:
            return [chunk async for chunk in stream.chunks]
        return [read_window(piece) if isinstance(piece, FileWindow) else piece async for piece in stream.windows]


def read_window(window: FileWindow) -> bytes:
    return os.pread(window.file.fileno(), window.length, window.offset)


def hang(_: CacheDisk) -> None:
    """As a call to a disk that does not answer: it takes longer than is waited for, and fails."""
    time.sleep(1.0)
    raise OSError(errno.EIO, "too late")


async def test_what_is_cached_needs_no_store_also_after_a_restart(
    open_cached: OpenCached, count_gets: CountGets, folder: Path, proxy: Proxy, seed: int
) -> None:
    backend, data, chance = await open_cached(), pattern(SIZE), random.Random(seed)
    await store(backend, "film", data)
    count_gets()
    assert await fetch(backend, "film") == data
    await until_cached(folder, 3)
    assert count_gets() == 3
    proxy.faults.append(Fault(status=503))
    for reader in (backend, await open_cached()):
        for _ in range(40):
            first = chance.randrange(SIZE)
            last = min(first + chance.choice([0, 1000, 300_000, BLOCK_BYTES + 1]), SIZE - 1)
            assert await fetch(reader, "film", ByteRange(first, last)) == data[first : last + 1]
            in_memory = reader.read_from_memory(Key("film"), ByteRange(first, last), SIZE)
            assert in_memory in (None, data[first : last + 1])
    assert count_gets() == 0
    assert (await open_cached()).read_from_memory(Key("film"), ByteRange(0, 9), SIZE + 1) is None


async def test_what_is_cached_is_offered_to_the_kernel(open_cached: OpenCached, folder: Path, proxy: Proxy) -> None:
    """Also where a block is missing, or was damaged or evicted meanwhile: its bytes come between the windows."""
    backend, data = await open_cached(), pattern(SIZE)
    await store(backend, "film", data)
    await fetch(backend, "film")
    await until_cached(folder, 3)
    await settle(folder)
    proxy.faults.append(Fault(status=503))
    assert b"".join(await fetch_windows(backend, "film")) == data
    over_the_boundary = ByteRange(BLOCK_BYTES - 100, BLOCK_BYTES + 99)
    assert backend.read_from_memory(Key("film"), over_the_boundary, SIZE) == data[BLOCK_BYTES - 100 : BLOCK_BYTES + 100]
    proxy.faults.clear()
    (second,) = [path for path in block_paths(folder) if path.name.endswith("-1")]
    second.unlink()
    assert b"".join(await fetch_windows(backend, "film")) == data
    await until_cached(folder, 3)
    async with backend.read_stream(Key("film")) as stream:
        assert stream.windows is not None
        window = await anext(stream.windows)
        assert isinstance(window, FileWindow)
        with next(path for path in block_paths(folder) if path.name.endswith("-0")).open("r+b") as file:
            file.seek(window.offset)
            file.write(b"other bytes")
        assert not window.file.is_cached(window.offset, window.length), "the sender has to ask for it"
        with pytest.raises(ObjectChanged):
            await window.file.load(window.offset, window.length)


async def test_small_objects_are_answered_at_once_from_memory(
    open_cached: OpenCached, folder: Path, count_gets: CountGets
) -> None:
    backend, data = await open_cached(), pattern(20_000)
    await store(backend, "thumbs/small", data)
    count_gets()
    assert await fetch(backend, "thumbs/small", ByteRange(5, 9)) == data[5:10]
    await until_cached(folder, 1)
    whole = ByteRange(0, 19_999)
    for reader in (backend, await open_cached()):
        assert reader.read_from_memory(Key("thumbs/small"), whole, 20_000) == data
        assert reader.read_from_memory(Key("thumbs/small"), ByteRange(100, 199), 20_000) == data[100:200]
        assert reader.read_from_memory(Key("thumbs/small"), whole, 20_001) is None
    assert count_gets() == 1


async def test_one_fetch_however_many_ask_at_once_in_all_processes(
    open_cached: OpenCached, count_gets: CountGets
) -> None:
    backends, data = [await open_cached() for _ in range(3)], pattern(BLOCK_BYTES + 70_000)
    await store(backends[0], "film", data)
    count_gets()
    answers = await asyncio.gather(*(fetch(backend, "film") for backend in backends for _ in range(10)))
    assert all(answer == data for answer in answers)
    assert count_gets() == 2


async def test_answers_stay_right_whatever_happens_to_the_files(
    open_cached: OpenCached, folder: Path, seed: int, *, soak: bool
) -> None:
    """Bits are flipped and ends cut off in place, between reads and during them."""
    backend, chance = await open_cached(), random.Random(seed)
    contents = {"a": pattern(30_000, 1), "b": pattern(BLOCK_BYTES + 5, 2), "c": pattern(600_000, 3)}
    for key, data in contents.items():
        await store(backend, key, data)
    for attempt in range(1000 if soak else 60):
        for path in block_paths(folder):
            if chance.random() < 0.3:
                with path.open("r+b") as file:
                    place = chance.randrange(max(1, path.stat().st_size))
                    file.seek(place)
                    was = file.read(1) or b"\0"
                    file.seek(place)
                    file.write(bytes([was[0] ^ 1 << chance.randrange(8)]))
                    if chance.random() < 0.2:
                        file.truncate(place)
            elif chance.random() < 0.2:
                os.utime(path)
        key = chance.choice(sorted(contents))
        data = contents[key]
        first = chance.randrange(len(data))
        last = min(len(data) - 1, first + chance.randrange(100_000))
        in_memory = backend.read_from_memory(Key(key), ByteRange(first, last), len(data))
        assert in_memory in (None, data[first : last + 1]), (attempt, key, first, last)
        assert await fetch(backend, key, ByteRange(first, last)) == data[first : last + 1], (attempt, key, first, last)
        assert b"".join(await fetch_windows(backend, key)) == data, (attempt, key)
    assert backend._cache.disk.counts.damaged > 0


async def test_a_deleted_or_replaced_object_is_never_answered_from_the_cache(
    open_cached: OpenCached, folder: Path
) -> None:
    reader, other = await open_cached(), await open_cached()
    old = (await store(reader, "x", b"old bytes")).etag
    for backend in (reader, other):
        assert await fetch(backend, "x") == b"old bytes"
    await until_cached(folder, 1)
    await other.put_object(Key("x"), b"new bytes!")
    for backend in (reader, other):
        assert backend.read_from_memory(Key("x"), ByteRange(0, 8), 9) is None
        assert await fetch(backend, "x") == b"new bytes!"
        with pytest.raises(ObjectChanged):
            await fetch(backend, "x", if_match=old)
    await other.delete_object(Key("x"))
    for backend in (reader, other):
        assert backend.read_from_memory(Key("x"), ByteRange(0, 9), 10) is None
        with pytest.raises(ObjectNotFound):
            await fetch(backend, "x")


@pytest.mark.parametrize("change", ["replaced", "deleted"])
async def test_a_block_that_is_kept_open_is_not_answered_after_its_object_is_gone(
    open_cached: OpenCached, folder: Path, change: str
) -> None:
    """Also where another process of the host has changed the object."""
    reader, other, old = await open_cached(), await open_cached(), pattern(BLOCK_BYTES + 1000)
    await store(reader, "x", old)
    assert await fetch(reader, "x") == old
    await until_cached(folder, 2)
    await settle(folder)
    for backend in (reader, other):
        assert await fetch(backend, "x") == old
        assert all(backend._cache.open_blocks.get("x", index) for index in range(2)), "both are kept open"
    if change == "replaced":
        await other.put_object(Key("x"), b"new")
    else:
        await other.delete_object(Key("x"))
    for backend in (reader, other):
        assert backend.read_from_memory(Key("x"), ByteRange(0, 8), len(old)) is None
        if change == "replaced":
            assert await fetch(backend, "x") == b"new"
        else:
            with pytest.raises(ObjectNotFound):
                await fetch(backend, "x")


async def test_a_fetch_that_is_cancelled_before_it_begins_keeps_no_reader(open_cached: OpenCached) -> None:
    backend = await open_cached()
    fill = backend._cache.fills.start(Key("x"), backend._cache.block(Key("x"), 0), None)
    assert fill is not None
    await backend._cache.fills.aclose()
    assert await asyncio.wait_for(fill.wait_for_answer(), 10) is FillState.UNCACHED


async def test_the_etag_that_is_asked_for_decides(open_cached: OpenCached, folder: Path, tmp_path: Path) -> None:
    """A host with a folder of its own does not hear of the other's writes."""
    here, elsewhere = await open_cached(), await open_cached(MEDIAVAULT_CACHE_FOLDER=str(tmp_path / "elsewhere"))
    await store(here, "x", b"old")
    assert await fetch(here, "x") == b"old"
    await until_cached(folder, 1)
    await elsewhere.put_object(Key("x"), b"new")
    new = (await here.head(Key("x"))).etag
    assert await fetch(here, "x", if_match=new) == b"new"

    async def is_replaced() -> bool:
        return await fetch(here, "x") == b"new"

    await eventually_so(is_replaced, "the newer version has taken the place of the older one")


async def test_a_fetch_that_began_before_the_deletion_is_not_cached(
    open_cached: OpenCached, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, other, data = await open_cached(), await open_cached(), b"deleted while it was fetched"
    await store(reader, "x", data)
    answered, released = asyncio.Event(), asyncio.Event()
    read_stream = reader._cache.store.read_stream

    @asynccontextmanager
    async def read_late(
        key: Key, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AsyncIterator[ObjectStream]:
        async with read_stream(key, byte_range, if_match) as stream:
            answered.set()
            await released.wait()
            yield stream

    monkeypatch.setattr(reader._cache.store, "read_stream", read_late)
    reading = asyncio.create_task(fetch(reader, "x"))
    await asyncio.wait_for(answered.wait(), 10)
    await other.delete_object(Key("x"))
    with pytest.raises(ObjectNotFound):
        await asyncio.wait_for(fetch(reader, "x"), 10)
    released.set()
    assert await reading == data, "it began before the deletion"
    for backend in (reader, other):
        with pytest.raises(ObjectNotFound):
            await fetch(backend, "x")
    assert block_paths(folder) == []


async def test_an_error_of_the_store_evicts_nothing(open_cached: OpenCached, folder: Path, proxy: Proxy) -> None:
    backend, data = await open_cached(MEDIAVAULT_S3_DEADLINE="5"), pattern(BLOCK_BYTES + 10)
    await store(backend, "x", data)
    assert await fetch(backend, "x", ByteRange(0, 9)) == data[:10]
    await until_cached(folder, 1)
    before = block_paths(folder)
    proxy.faults.append(Fault(status=503))
    with pytest.raises(StorageUnavailable):
        await fetch(backend, "x", ByteRange(BLOCK_BYTES, BLOCK_BYTES + 3))
    with pytest.raises(StorageUnavailable):
        await fetch(backend, "missing")
    assert await fetch(backend, "x", ByteRange(0, 9)) == data[:10]
    assert block_paths(folder) == before


async def test_a_store_that_breaks_off_leaves_no_half_block(
    open_cached: OpenCached, folder: Path, proxy: Proxy
) -> None:
    backend, data = await open_cached(), pattern(1_000_000)
    await store(backend, "x", data)
    proxy.faults.append(Fault(matches=lambda request: request.method == "GET", cut_after=100_000))
    with pytest.raises(StorageUnavailable):
        await fetch(backend, "x")
    proxy.faults.clear()
    assert block_paths(folder) == []
    assert await fetch(backend, "x") == data


@pytest.mark.parametrize("where", ["a file", "no rights", "full", "hangs"])
async def test_a_broken_disk_is_bypassed(
    open_cached: OpenCached, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    data = pattern(BLOCK_BYTES + 1000)
    if where == "a file":
        folder.write_bytes(b"")
    elif where == "no rights":
        CacheFolder(folder).close()
        (folder / "mediavault-blocks").chmod(0o777)
    elif where == "full":
        monkeypatch.setattr(CacheFolder, "free_space", lambda _: 0)
    else:
        monkeypatch.setattr("app.storage.cache.disk.TIMEOUT_SECONDS", 0.2)
        monkeypatch.setattr(CacheDisk, "_open_store", hang)
    backend = await open_cached()
    await store(backend, "x", data)
    for _ in range(2):
        assert await fetch(backend, "x") == data
        assert (
            await fetch(backend, "x", ByteRange(BLOCK_BYTES - 5, BLOCK_BYTES + 5))
            == data[BLOCK_BYTES - 5 : BLOCK_BYTES + 6]
        )
        assert backend.read_from_memory(Key("x"), ByteRange(0, 5), len(data)) is None
    await backend.delete_object(Key("x"))
    with pytest.raises(ObjectNotFound):
        await fetch(backend, "x")
    assert block_paths(folder) == []


@pytest.mark.parametrize("call", ["open", "_begin_with_room", "publish"])
async def test_a_disk_that_hung_during_a_fetch_keeps_no_lock(
    open_cached: OpenCached, folder: Path, count_gets: CountGets, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Also where so many calls hang that no further one is made."""
    monkeypatch.setattr("app.storage.cache.disk.TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("app.storage.cache.disk.PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("app.storage.cache.disk._MAX_STUCK_CALLS", 1)
    backend, data = await open_cached(), pattern(100_000)
    await store(backend, "x", data)
    answers, owner = threading.Event(), disk if call == "_begin_with_room" else BlockStore
    answer = getattr(owner, call)
    calls = 0

    def answer_late(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if call != "open" or calls > 1:  # the first looks for the block, before the fetch begins
            assert answers.wait(30)
        return answer(*arguments)

    monkeypatch.setattr(owner, call, answer_late)
    assert await asyncio.wait_for(fetch(backend, "x"), 10) == data
    assert not answers.is_set()
    answers.set()

    async def is_unlocked() -> bool:
        return not list(folder.glob("mediavault-blocks/???/*.tmp"))

    await eventually_so(is_unlocked, "the lock is given back")
    assert calls > (call == "open")

    async def is_cached() -> bool:
        count_gets()
        return await fetch(backend, "x") == data and count_gets() == 0

    await eventually_so(is_cached, "the block is cached")


async def test_a_folder_that_goes_away_costs_no_answer_and_is_made_anew(
    open_cached: OpenCached, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, data = await open_cached(), pattern(100_000)
    await store(backend, "x", data)
    assert await fetch(backend, "x") == data
    await until_cached(folder, 1)
    shutil.rmtree(folder)
    monkeypatch.setattr("app.storage.cache.disk.PAUSE_SECONDS", 0.0)
    for _ in range(3):
        assert await fetch(backend, "x") == data
    await until_cached(folder, 1)


async def test_originals_are_cached_as_the_settings_say(
    open_cached: OpenCached, count_gets: CountGets, folder: Path
) -> None:
    data = pattern(50_000)

    async def count_reads(backend: CachedBackend, key: str) -> list[int]:
        await store(backend, key, data)
        gets = []
        for _ in range(4):
            count_gets()
            assert await fetch(backend, key) == data
            gets.append(count_gets())
        return gets

    never = await open_cached(MEDIAVAULT_CACHE_ORIGINALS="never")
    assert await count_reads(never, "upload/1") == [1, 1, 1, 1]
    assert await count_reads(never, "thumbs/1") == [1, 0, 0, 0]
    second = await open_cached(MEDIAVAULT_CACHE_ORIGINALS="second")
    assert await count_reads(second, "upload/2") == [1, 1, 0, 0]
    assert await count_reads(second, "thumbs/2") == [1, 0, 0, 0]
    always = await open_cached(MEDIAVAULT_CACHE_ORIGINALS="always")
    assert await count_reads(always, "encoded-video/3") == [1, 0, 0, 0]
