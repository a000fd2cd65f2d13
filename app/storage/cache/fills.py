"""`Fills`: fetches blocks from the store and puts them into the cache, each once however many readers ask for it.

Readers in this process take the bytes as they arrive; those of other processes wait until the block is there. A fetch goes at the store's
pace, not at a reader's, and to its end when the readers leave. The blocks that are being fetched are in memory; `MAX_FILLS` bounds them. A
reader that finds no room there reads from the store itself.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from enum import Enum

from app.storage.backend import ObjectInfo, StorageBackend, is_strong
from app.storage.cache.block_format import BLOCK_BYTES, BlockId
from app.storage.cache.block_store import PendingBlock
from app.storage.cache.disk import CacheDisk, CacheUnavailable
from app.storage.errors import StorageError
from app.storage.key import Key
from app.storage.ranges import ByteRange

MAX_FILLS = 16
"""At most 64 MiB."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


class FillState(Enum):
    WAITING = "another process may be fetching the block, or the store has not answered yet"
    FETCHING = "bytes arrive"
    FETCHED = "all bytes have arrived"
    CACHED = "the block is in the cache"
    UNCACHED = "the block cannot be cached"
    FAILED = "the store failed"


class Fill:
    """One block that is being fetched. `info` is known from `FETCHING` on."""

    def __init__(self, key: Key, block: BlockId, if_match: str | None) -> None:
        self.key = key
        self.block = block
        self.if_match = if_match
        self.state = FillState.WAITING
        self.info: ObjectInfo | None = None
        self.error: StorageError | None = None
        self.pieces: list[bytes] = []
        self.pending: PendingBlock | None = None
        self._changed = asyncio.Event()

    @property
    def has_ended(self) -> bool:
        return self.state in (FillState.CACHED, FillState.UNCACHED, FillState.FAILED)

    def set_state(self, state: FillState) -> None:
        """At the end the bytes are not kept: readers that are behind read the file, or the store."""
        self.state = state
        if self.has_ended:
            self.pieces = []
        self.notify()

    def notify(self) -> None:
        """Wakes up those that wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self) -> None:
        await self._changed.wait()

    async def wait_for_answer(self) -> FillState:
        while self.state is FillState.WAITING:
            await self.wait_for_change()
        return self.state


class Fills:
    def __init__(self, store: StorageBackend, disk: CacheDisk, wait_seconds: float) -> None:
        """`wait_seconds`: how long the block of another process is waited for."""
        self._store = store
        self._disk = disk
        self._wait_seconds = wait_seconds
        self._running: dict[tuple[str, int], Fill] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._has_versions = True

    async def join(self, key: Key, block: BlockId, if_match: str | None) -> Fill | None:
        """The fetch of the block that is under way, or a new one; None where there is no room for one more, and for a store without
        ETags. What the object was before it was replaced is joined by nobody. Raises `CacheUnavailable`."""
        running = self._running.get((key.value, block.index))
        if running is None:
            return self.start(key, block, if_match)
        while running.state is FillState.FETCHED:
            await running.wait_for_change()
        pending, is_under_way = running.pending, running.state in (FillState.WAITING, FillState.FETCHING)
        if is_under_way and pending is not None and await self._disk.is_removed(pending):
            return None
        return running

    def start(self, key: Key, block: BlockId, if_match: str | None) -> Fill | None:
        """A new fetch; None as in `join`, and where one is under way."""
        entry = key.value, block.index
        if entry in self._running or len(self._tasks) >= MAX_FILLS or not self._has_versions:
            return None
        fill = self._running[entry] = Fill(key, block, if_match)
        task = asyncio.get_running_loop().create_task(self._run(fill))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._on_ended(task, fill, entry))
        return fill

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _on_ended(self, task: asyncio.Task[None], fill: Fill, entry: tuple[str, int]) -> None:
        """Called however the task ends, also where it was cancelled before it began: the readers must not wait any longer."""
        self._tasks.discard(task)
        self._running.pop(entry, None)
        if not fill.has_ended:
            fill.set_state(FillState.UNCACHED)

    async def _run(self, fill: Fill) -> None:
        pending: PendingBlock | None = None
        try:
            pending = fill.pending = await self._lock(fill)
            if pending is None:
                return
            await self._fetch(fill)
            if fill.state is FillState.FETCHED and fill.info is not None:
                is_cached = await self._disk.publish(pending, fill.info, fill.pieces)
                fill.set_state(FillState.CACHED if is_cached else FillState.UNCACHED)
        except CacheUnavailable:
            fill.set_state(FillState.UNCACHED)
        except StorageError as error:
            fill.error = error
            fill.set_state(FillState.FAILED)
        finally:
            if pending is not None:
                self._disk.abandon(pending)

    async def _lock(self, fill: Fill) -> PendingBlock | None:
        """Waits for the block's lock. None, with the state set, where another process has fetched the block, or takes too long."""
        pause = _FIRST_PAUSE
        with suppress(TimeoutError):
            async with asyncio.timeout(self._wait_seconds):
                while True:
                    pending = await self._disk.begin(fill.block)
                    is_needed = False
                    try:
                        is_needed = not await self._is_cached(fill)
                    finally:
                        if pending is not None and not is_needed:
                            self._disk.abandon(pending)
                    if not is_needed:
                        fill.set_state(FillState.CACHED)
                        return None
                    if pending is not None:
                        return pending
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        fill.set_state(FillState.UNCACHED)
        return None

    async def _is_cached(self, fill: Fill) -> bool:
        opened = await self._disk.find(fill.block)
        if opened is None:
            return False
        opened.release()
        return fill.if_match in (None, opened.info.etag)

    async def _fetch(self, fill: Fill) -> None:
        first = fill.block.first
        async with self._store.read_stream(
            fill.key, ByteRange(first, first + BLOCK_BYTES - 1), fill.if_match
        ) as stream:
            if not is_strong(stream.info.etag):
                self._has_versions = False
                fill.set_state(FillState.UNCACHED)
                return
            fill.info = stream.info
            fill.set_state(FillState.FETCHING)
            async for chunk in stream.chunks:
                fill.pieces.append(chunk)
                fill.notify()
        fill.set_state(FillState.FETCHED)
