"""`CacheDisk`: the block store for the event loop. A disk that fails, is full or hangs never fails a read: it is left alone for a while.

Calls that may wait are made in threads of their own, and given up after `TIMEOUT_SECONDS`. After a failed read nothing is asked of the disk
for `PAUSE_SECONDS`; after a failed write nothing is written to it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog

from app.storage.backend import ObjectInfo
from app.storage.cache.block_format import BLOCK_BYTES, BlockId
from app.storage.cache.block_store import BlockCounts, BlockStore, PendingBlock
from app.storage.cache.eviction import evict, needs_eviction
from app.storage.cache.folder import CacheFolder
from app.storage.cache.open_block import OpenBlock
from app.storage.local.daemon_executor import DaemonExecutor
from app.storage.local.threads import TimeoutThreadPool

PAUSE_SECONDS = 10.0
TIMEOUT_SECONDS = 5.0
_THREADS = 8
_MAX_STUCK_CALLS = 4
_REMOVED_AT_ONCE = 256
MAX_UNREMOVED = 100_000
"""Objects that could not be removed and are remembered; were there more, the cache would not be used until the next start."""

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")
_log = structlog.get_logger(__name__)


class CacheUnavailable(Exception):
    """The disk of the cache cannot be used at the moment: the store answers instead."""


class NoRoom(CacheUnavailable):
    """Blocks have to be evicted first."""


class CacheDisk:
    """`open` before use, `aclose` after it. `find`, `begin`, `publish`, `is_removed` and `read_piece` raise `CacheUnavailable`."""

    def __init__(self, root: Path, *, limit: int, reserve: int) -> None:
        """See `BlockStore`."""
        self._root = root
        self._limit = limit
        self._reserve = reserve
        self.counts = BlockCounts()
        self.failures = 0
        """Calls that failed: for metrics."""
        self.store: BlockStore | None = None
        self._threads = TimeoutThreadPool("cache", _THREADS, TIMEOUT_SECONDS, _MAX_STUCK_CALLS)
        self._reads_resume_at = self._writes_resume_at = 0.0
        self._unremoved: dict[str, object] = {}
        """Names of objects, each with a value of the last call that has removed it."""
        self._eviction: asyncio.Task[None] | None = None
        self._evictor = DaemonExecutor("cache-eviction", 1)
        """Not the threads of the other calls: an eviction takes long where there are many blocks."""
        self._is_failing = False
        self._may_be_gone = False
        """A call has failed since the folder was looked at."""
        self._cannot_evict = False

    async def open(self) -> None:
        """Never raises: a folder that cannot be used is tried again later."""
        with suppress(CacheUnavailable):
            await self._get_store()

    async def aclose(self) -> None:
        """Calls that hang, and an eviction, run on. The last one closes the folder."""
        if self._eviction is not None:
            self._eviction.cancel()
            await asyncio.wait([self._eviction])
            self._eviction = None
        self._evictor.shutdown(wait=False)
        await self._threads.aclose()
        references, self.store = [self.store], None
        self._threads.run_in_background(references.clear)  # closing may wait for a server

    @property
    def may_read(self) -> bool:
        if self.store is None or self._unremoved:
            return False
        return (
            not self._reads_resume_at or self._now() >= self._reads_resume_at
        )  # the first half: for each small answer

    @property
    def may_write(self) -> bool:
        return self._now() >= max(self._reads_resume_at, self._writes_resume_at)

    async def find(self, block: BlockId) -> OpenBlock | None:
        """Opens and verifies a block; None where it is not cached."""
        store = await self._get_store()
        opened = await self._acquire(store.open, OpenBlock.release, block)
        if opened is not None and not opened.never_waits:
            opened.close_descriptor = partial(self._threads.run_in_background, os.close)
        return opened

    async def begin(self, block: BlockId) -> PendingBlock | None:
        """See `BlockStore.begin`."""
        if self._now() < self._writes_resume_at:
            raise CacheUnavailable
        store = await self._get_store()
        try:
            return await self._acquire(_begin_with_room, store.abandon, store, block, is_write=True)
        except NoRoom:
            self._start_eviction(store)
            raise

    async def publish(self, pending: PendingBlock, info: ObjectInfo, pieces: Sequence[bytes]) -> bool:
        """See `BlockStore.publish`. Where there is no room, blocks are evicted."""
        store = await self._get_store()
        try:
            is_published = await self._run(store.publish, pending, info, pieces, is_write=True)
        finally:
            self._start_eviction(store)
        return is_published

    async def is_removed(self, pending: PendingBlock) -> bool:
        """See `PendingBlock.is_removed`."""
        store = await self._get_store()
        return pending.is_removed() if store.never_waits else await self._run(pending.is_removed)

    def abandon(self, pending: PendingBlock) -> None:
        """In the background, and also where the disk is left alone: a lock that stays would keep the block from everybody."""
        if self.store is not None and pending.descriptor >= 0:
            self._threads.run_in_background(self.store.abandon, pending)

    async def read_piece(self, block: OpenBlock, length: int, offset: int) -> bytes:
        """Bytes of the file of an open block, from the disk; b"" where the block is damaged by now."""
        store = await self._get_store()
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(block.release)

        with self._note_failures():
            call = self._threads.submit(_read_piece, store, block, length, offset)
            block.acquire()  # until the thread has left the call, or never will begin it, also where nobody waits for it any more
            call.add_done_callback(release)
            piece = await self._threads.wait(call)
        self._is_failing = False
        return piece

    async def remove_objects(self, object_names: Iterable[str]) -> None:
        """Never raises. Objects whose blocks cannot be removed are remembered: until they are, nothing is read from the cache."""
        if len(self._unremoved) <= MAX_UNREMOVED:
            self._unremoved.update(dict.fromkeys(object_names, object()))
        with suppress(CacheUnavailable):
            await self._get_store()

    async def _get_store(self) -> BlockStore:
        """The store, without the blocks of removed objects."""
        if self._now() < self._reads_resume_at or len(self._unremoved) > MAX_UNREMOVED:
            raise CacheUnavailable
        store = self.store
        if store is not None and self._may_be_gone:
            self._may_be_gone = False
            if await self._call(_is_gone, store):
                store = None
        if store is None:
            store = self.store = await self._call(self._open_store)
        while self._unremoved:
            batch = list(islice(self._unremoved.items(), _REMOVED_AT_ONCE))
            await self._run(_remove_all, store, [name for name, _ in batch])
            for name, asked_by in batch:
                if self._unremoved.get(name) is asked_by:
                    del self._unremoved[name]
        return store

    def _open_store(self) -> BlockStore:
        store = BlockStore(CacheFolder(self._root), self.counts, limit=self._limit, reserve=self._reserve)
        if store.folder.read_usage() is None:
            self._evict_in_thread(store)
        return store

    def _evict_in_thread(self, store: BlockStore) -> None:
        """Raises OSError."""
        failures: list[OSError] = []
        if not evict(store, failures.append):
            return
        self.counts.eviction_failures += len(failures)
        if failures and not self._cannot_evict:
            _log.warning(
                "files of the cache cannot be evicted, others are evicted instead",
                folder=str(self._root),
                files=len(failures),
                reason=str(failures[0]),
            )
        self._cannot_evict = bool(failures)

    def _start_eviction(self, store: BlockStore) -> None:
        if self._eviction is None or self._eviction.done():
            self._eviction = asyncio.get_running_loop().create_task(self._evict(store))

    async def _evict(self, store: BlockStore) -> None:
        with suppress(CacheUnavailable):
            if not await self._run(needs_eviction, store, is_write=True):
                return
            try:
                await asyncio.wrap_future(self._evictor.submit(self._evict_in_thread, store))
            except OSError as error:
                self._note_failure(error, is_write=True)

    async def _run(self, function: Callable[[*_Arguments], _T], *arguments: *_Arguments, is_write: bool = False) -> _T:
        result = await self._call(function, *arguments, is_write=is_write)
        self._is_failing = False
        return result

    async def _call(self, function: Callable[[*_Arguments], _T], *arguments: *_Arguments, is_write: bool = False) -> _T:
        with self._note_failures(is_write=is_write):
            return await self._threads.wait(self._threads.submit(function, *arguments))

    async def _acquire(
        self,
        function: Callable[[*_Arguments], _T | None],
        release: Callable[[_T], object],
        *arguments: *_Arguments,
        is_write: bool = False,
    ) -> _T | None:
        def release_result(result: _T | None) -> None:
            if result is not None:
                release(result)

        with self._note_failures(is_write=is_write):
            return await self._threads.acquire(function, release_result, *arguments)

    @contextmanager
    def _note_failures(self, *, is_write: bool = False) -> Generator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            self._note_failure(error, is_write=is_write)
            raise CacheUnavailable from error

    def _note_failure(self, error: Exception, *, is_write: bool) -> None:
        self.failures += 1
        self._may_be_gone = True
        if not self._is_failing:
            self._is_failing = True
            _log.warning(
                "the disk of the cache fails, the store is read instead", folder=str(self._root), reason=str(error)
            )
        self._writes_resume_at = self._now() + PAUSE_SECONDS
        if not is_write or isinstance(error, TimeoutError):
            self._reads_resume_at = self._writes_resume_at

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _begin_with_room(store: BlockStore, block: BlockId) -> PendingBlock | None:
    if not store.has_room(BLOCK_BYTES):
        raise NoRoom
    return store.begin(block)


def _remove_all(store: BlockStore, object_names: Sequence[str]) -> None:
    for name in object_names:
        store.remove_object(name)


def _read_piece(store: BlockStore, block: OpenBlock, length: int, offset: int) -> bytes:
    if not block.is_unchanged() and not store.verify(block):
        return b""
    return os.pread(block.descriptor, length, offset)


def _is_gone(store: BlockStore) -> bool:
    return store.folder.is_gone
