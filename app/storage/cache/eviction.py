"""Evicts the least recently used blocks where they take more than the limit, or the disk has less free space than the reserve.

The time of a file's last change of content is that of its last use. Two passes over the folder, in constant memory: the first adds up bytes
by age, the second removes what is older than the age that frees enough. Evicted is a little more than needed, so that passes are seldom.
Where files could not be removed, two more passes look for others. All calls block.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

from app.storage.cache.block_store import BlockStore
from app.storage.cache.folder import TEMPORARY_SUFFIX, CacheFolder, occupied_bytes

HIGH_WATER, LOW_WATER = 0.95, 0.85
"""Of the limit: blocks are evicted when they take more than the first, until they take less than the second."""
SLACK_BYTES = 16 * 1024 * 1024
"""Blocks are evicted when the free space comes so close to the reserve, until it is twice as far from it."""
MAX_UNREMOVABLE = 1000
"""Files that cannot be removed. Were there more, the eviction ends."""
_AGES_PER_OCTAVE = 16
_MAX_AGES = 1024


def needs_eviction(store: BlockStore) -> bool:
    """Also where the blocks were never counted, which an eviction does too."""
    usage = store.folder.read_usage()
    return usage is None or usage > HIGH_WATER * store.limit or store.folder.free_space() < store.reserve + SLACK_BYTES


def evict(store: BlockStore, on_failure: Callable[[OSError], object] = lambda _: None) -> bool:
    """Counts all blocks, and evicts as many as needed. False where another process does. Calls `on_failure` for each file or folder that
    fails, and goes on with the others. Raises OSError where the cache's folder itself fails."""
    with store.folder.eviction_lock() as may_evict:
        if may_evict:
            _Eviction(store, on_failure).run()
        return may_evict


class _Eviction:
    """Blocks that cannot be removed are left out: where they are the oldest, others leave in their place."""

    def __init__(self, store: BlockStore, on_failure: Callable[[OSError], object]) -> None:
        self._store = store
        self._folder = store.folder
        self._on_failure = on_failure
        self._unremovable: set[str] = set()

    def run(self) -> None:
        now = time.time()
        ages = self._count_ages(now)
        missing = _missing_bytes(self._store)
        while ages and missing > 0:
            failed_before = len(self._unremovable)
            missing -= self._remove_oldest(ages, missing, now)
            if len(self._unremovable) == failed_before or len(self._unremovable) > MAX_UNREMOVABLE:
                return
            ages = self._count_ages(now)

    def _count_ages(self, now: float) -> dict[int, int]:
        """Bytes of the removable blocks by age class. Also counts the bytes of all blocks, and removes what dead writers have left."""
        ages: dict[int, int] = {}
        unremovable_bytes = 0
        for name, status in self._iter_files():
            size = occupied_bytes(status.st_size)
            if name.endswith(TEMPORARY_SUFFIX):
                with self._tolerate(name):
                    _remove_abandoned(self._folder, name)
            elif name in self._unremovable:
                unremovable_bytes += size
            else:
                age = _age_class(now - status.st_mtime)
                ages[age] = ages.get(age, 0) + size
        self._folder.set_usage(sum(ages.values()) + unremovable_bytes)
        return ages

    def _remove_oldest(self, ages: dict[int, int], missing: int, now: float) -> int:
        """Removes all blocks of the oldest classes, and of the class after these as many as needed. Returns the bytes that they took."""
        last_age, freed = -1, 0
        for last_age in sorted(ages, reverse=True):
            if ages[last_age] >= missing:
                break
            missing -= ages[last_age]
        for name, status in self._iter_files():
            age = _age_class(now - status.st_mtime)
            if name.endswith(TEMPORARY_SUFFIX) or age < last_age or (age == last_age and missing <= 0):
                continue
            if name in self._unremovable:
                continue
            with self._tolerate(name):
                if removed := self._folder.remove_block(name):
                    self._store.counts.evicted += 1
                    freed += removed
                    if age == last_age:
                        missing -= removed
            if len(self._unremovable) > MAX_UNREMOVABLE:
                break
        return freed

    def _iter_files(self) -> Iterator[tuple[str, os.stat_result]]:
        for shard in self._folder.iter_shards():
            files: list[tuple[str, os.stat_result]] = []
            with self._tolerate(shard):
                for name in self._folder.iter_shard(shard):
                    path = f"{shard}/{name}"
                    with self._tolerate(path):
                        files.append((path, self._folder.stat(path)))
            yield from files

    @contextmanager
    def _tolerate(self, name: str) -> Generator[None]:
        try:
            yield
        except FileNotFoundError:
            return
        except OSError as error:
            if name not in self._unremovable:
                self._unremovable.add(name)
                self._on_failure(error)


def _missing_bytes(store: BlockStore) -> int:
    """The bytes to evict."""
    usage = store.folder.read_usage() or 0
    free = store.folder.free_space()
    over_limit = usage - int(LOW_WATER * store.limit) if usage > HIGH_WATER * store.limit else 0
    over_disk = store.reserve + 2 * SLACK_BYTES - free if free < store.reserve + SLACK_BYTES else 0
    return max(over_limit, over_disk)


def _age_class(seconds: float) -> int:
    """Classes get wider with age: within a few percent of the age."""
    return min(int(_AGES_PER_OCTAVE * math.log2(1 + max(0.0, seconds))), _MAX_AGES)


def _remove_abandoned(folder: CacheFolder, name: str) -> None:
    """Removes the temporary file of a writer that has died: nobody holds its lock."""
    try:
        descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.descriptor)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(folder.stat(name), os.fstat(descriptor)):
            os.unlink(name, dir_fd=folder.descriptor)
    except (BlockingIOError, FileNotFoundError):
        return
    finally:
        os.close(descriptor)
