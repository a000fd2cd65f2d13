"""Evicts the least recently used blocks where they take more than the limit, or the disk has less free space than the reserve.

The time of a file's last change of content is that of its last use. Two passes over the folder, in constant memory: the first adds up bytes by age, the second
removes what is older than the age that frees enough. Evicted is a little more than needed, so that passes are seldom. All calls block.
"""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Iterator

from app.storage.cache.block_store import BlockStore
from app.storage.cache.folder import TEMPORARY_SUFFIX, CacheFolder, occupied_bytes

HIGH_WATER, LOW_WATER = 0.95, 0.85
"""Of the limit: blocks are evicted when they take more than the first, until they take less than the second."""
SLACK_BYTES = 16 * 1024 * 1024
"""Blocks are evicted when the free space comes so close to the reserve, until it is twice as far from it."""
_AGES_PER_OCTAVE = 16
_MAX_AGES = 1024


def needs_eviction(store: BlockStore) -> bool:
    """Also where the blocks were never counted, which an eviction does too."""
    usage = store.folder.read_usage()
    return usage is None or usage > HIGH_WATER * store.limit or store.folder.free_space() < store.reserve + SLACK_BYTES


def evict(store: BlockStore) -> bool:
    """Counts all blocks, and evicts as many as needed. False where another process does. Raises OSError."""
    folder = store.folder
    with folder.eviction_lock() as may_evict:
        if not may_evict:
            return False
        now = time.time()
        ages: dict[int, int] = {}
        for name, status in _iter_blocks(folder):
            if name.endswith(TEMPORARY_SUFFIX):
                _remove_abandoned(folder, name)
            else:
                age = _age_class(now - status.st_mtime)
                ages[age] = ages.get(age, 0) + occupied_bytes(status.st_size)
        folder.set_usage(sum(ages.values()))
        missing = _missing_bytes(store)
        if missing > 0:
            _evict_oldest(store, ages, missing, now)
        return True


def _missing_bytes(store: BlockStore) -> int:
    """The bytes to evict. Without blocks there is nothing to evict, however full the disk is."""
    usage = store.folder.read_usage() or 0
    free = store.folder.free_space()
    over_limit = usage - int(LOW_WATER * store.limit) if usage > HIGH_WATER * store.limit else 0
    over_disk = store.reserve + 2 * SLACK_BYTES - free if free < store.reserve + SLACK_BYTES else 0
    return min(usage, max(over_limit, over_disk))


def _evict_oldest(store: BlockStore, ages: dict[int, int], missing: int, now: float) -> None:
    """Removes all blocks of the oldest classes, and of the class after these as many as needed."""
    last_age = -1
    for last_age in sorted(ages, reverse=True):
        if ages[last_age] >= missing:
            break
        missing -= ages[last_age]
    for name, status in _iter_blocks(store.folder):
        age = _age_class(now - status.st_mtime)
        if name.endswith(TEMPORARY_SUFFIX) or age < last_age or (age == last_age and missing <= 0):
            continue
        if removed := store.folder.remove_block(name):
            store.counts.evicted += 1
            if age == last_age:
                missing -= removed


def _iter_blocks(folder: CacheFolder) -> Iterator[tuple[str, os.stat_result]]:
    for shard in folder.iter_shards():
        for name in folder.iter_shard(shard):
            path = f"{shard}/{name}"
            try:
                status = folder.stat(path)
            except FileNotFoundError:
                continue
            yield path, status


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
