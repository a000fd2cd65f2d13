"""`CacheDisk`: calls that hang or go on after its end do no harm."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app.storage.cache import disk as disk_module
from app.storage.cache.block_store import BlockStore
from app.storage.cache.disk import CacheDisk, CacheUnavailable
from app.storage.cache.folder import FOLDER_NAME, CacheFolder
from tests.real.waiting import eventually_so
from tests.storage.cache.block_files import block_id, block_paths, open_descriptors, store_object

UNIT = 4096


async def open_disk(folder: Path, *, limit: int = 2**30) -> CacheDisk:
    disk = CacheDisk(folder, limit=limit, reserve=0)
    await disk.open()
    return disk


async def test_an_eviction_that_goes_on_after_the_end_touches_no_other_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of closed descriptors are used anew."""
    cache, other = tmp_path / "cache", tmp_path / "other"
    disk = await open_disk(cache, limit=UNIT * 20)
    assert disk.store is not None
    for n in range(20):
        assert store_object(disk.store, f"{n}", 100)
    for path in block_paths(cache):
        twin = other / path.relative_to(cache / FOLDER_NAME)
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(b"not a block")
    twins = sorted(other.glob("???/*"))
    assert len(twins) == 20
    arrived, released = threading.Event(), threading.Event()
    remove_block = CacheFolder.remove_block

    def remove_late(folder: CacheFolder, name: str) -> int:
        arrived.set()
        assert released.wait(30)
        return remove_block(folder, name)

    monkeypatch.setattr(CacheFolder, "remove_block", remove_late)
    disk._start_eviction(disk.store)
    assert await asyncio.to_thread(arrived.wait, 10)
    await asyncio.wait_for(disk.aclose(), 10)
    taken = [os.open(other, os.O_RDONLY | os.O_DIRECTORY) for _ in range(64)]
    released.set()

    async def is_closed() -> bool:
        gc.collect()
        return not open_descriptors(cache)

    await eventually_so(is_closed, "the last call has closed the folder")
    assert sorted(other.glob("???/*")) == twins
    for descriptor in taken:
        os.close(descriptor)


@pytest.mark.parametrize("call", ["refused", "given up in the queue"])
async def test_a_read_that_was_never_made_keeps_no_block_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr("app.storage.cache.disk.TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("app.storage.cache.disk._THREADS", 1)
    disk = await open_disk(tmp_path)
    assert disk.store is not None
    assert store_object(disk.store, "x", 100)
    (path,) = block_paths(tmp_path)
    block = await disk.find(block_id("x"))
    assert block is not None
    assert str(path) in open_descriptors(tmp_path)
    released = threading.Event()
    if call == "refused":
        monkeypatch.setattr(disk._threads, "_max_stuck_calls", 0)
    else:
        disk._threads.run_in_background(released.wait, 30)
    with pytest.raises(CacheUnavailable):
        await disk.read_piece(block, 10, block.data_offset)
    block.release()

    async def is_given_up() -> bool:
        return len(disk._threads._calls) == (call != "refused")

    await eventually_so(is_given_up, "only the call before it is left")
    released.set()

    async def is_closed() -> bool:
        return str(path) not in open_descriptors(tmp_path)

    await eventually_so(is_closed, "the block is closed")
    await disk.aclose()


async def test_a_removal_is_not_taken_for_done_because_an_earlier_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = await open_disk(tmp_path)
    store = disk.store
    assert store is not None
    removing, looking, go_on = threading.Event(), threading.Event(), threading.Event()
    removals = 0
    remove_all, is_gone = disk_module._remove_all, disk_module._is_gone

    def remove_late(store: BlockStore, names: Sequence[str]) -> None:
        nonlocal removals
        removals += 1
        remove_all(store, names)
        if removals == 1:
            assert store_object(store, "x", 100), "fetched after the first deletion"
            removing.set()
            assert looking.wait(4)

    def look_late(store: BlockStore) -> bool:
        looking.set()
        assert go_on.wait(4)
        return is_gone(store)

    monkeypatch.setattr(disk_module, "_remove_all", remove_late)
    monkeypatch.setattr(disk_module, "_is_gone", look_late)
    first = asyncio.create_task(disk.remove_objects([block_id("x").object_name]))
    assert await asyncio.to_thread(removing.wait, 4)
    disk._may_be_gone = True  # as after a failed call
    second = asyncio.create_task(disk.remove_objects([block_id("x").object_name]))
    await first
    go_on.set()
    await second
    assert block_paths(tmp_path) == []
    assert disk.may_read
    await disk.aclose()


async def test_failed_evictions_are_counted_and_reported_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = await open_disk(tmp_path, limit=UNIT * 20)
    assert disk.store is not None
    for n in range(20):
        assert store_object(disk.store, f"{n}", 100)

    def refuse(_folder: CacheFolder, _name: str) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(CacheFolder, "remove_block", refuse)
    with capture_logs() as logs:
        for evictions in (1, 2):
            disk._start_eviction(disk.store)
            assert disk._eviction is not None
            await asyncio.wait_for(disk._eviction, 20)
            assert disk.counts.eviction_failures == 20 * evictions
    assert [log["event"] for log in logs] == ["files of the cache cannot be evicted, others are evicted instead"]
    assert logs[0]["files"] == 20
    await disk.aclose()
