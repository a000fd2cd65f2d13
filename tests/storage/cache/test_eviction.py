"""The least recently used blocks leave, by bytes and by the free space of the disk; what dead writers left goes too."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from app.storage.cache.block_store import BlockStore
from app.storage.cache.eviction import SLACK_BYTES, evict, needs_eviction
from tests.storage.cache.block_files import block_id, block_paths, count_bytes, load, open_store, store_object

UNIT = 4096


def fill(store: BlockStore, root: Path, count: int) -> None:
    """Objects 0, 1, … of one unit each, of which the first was used longest ago."""
    for n in range(count):
        assert store_object(store, f"{n}", 100)
        (path,) = [path for path in block_paths(root) if path.name.startswith(block_id(f"{n}").object_name)]
        used_at = time.time() - 1.5 ** (count - n)
        os.utime(path, (used_at, used_at))


def cached(store: BlockStore, count: int) -> list[int]:
    return [n for n in range(count) if load(store, f"{n}") is not None]


def test_the_least_recently_used_leave_until_the_low_mark(tmp_path: Path) -> None:
    store = open_store(tmp_path, limit=20 * UNIT)
    fill(store, tmp_path, 18)
    assert not needs_eviction(store)
    assert evict(store)
    assert cached(store, 18) == list(range(18)), "nothing leaves below the high mark"
    fill(store, tmp_path, 20)
    assert needs_eviction(store)
    assert evict(store)
    assert cached(store, 20) == list(range(3, 20))
    assert store.folder.read_usage() == count_bytes(tmp_path) == 17 * UNIT
    assert store.counts.evicted == 3


def test_a_read_makes_a_block_recently_used(tmp_path: Path) -> None:
    store = open_store(tmp_path, limit=20 * UNIT)
    fill(store, tmp_path, 20)
    assert load(store, "0") is not None
    assert evict(store)
    assert cached(store, 20) == [0, *range(4, 20)]


def test_blocks_leave_where_the_disk_gets_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path, reserve=SLACK_BYTES)
    fill(store, tmp_path, 8)
    free = 4 * SLACK_BYTES
    monkeypatch.setattr(store.folder, "free_space", lambda: free)
    assert not needs_eviction(store)
    free = 3 * SLACK_BYTES - 2 * UNIT  # below: as if others had taken the space
    assert not needs_eviction(store)
    free = 2 * SLACK_BYTES - 1
    assert needs_eviction(store)
    assert evict(store)
    assert cached(store, 8) == [], "more is missing than all blocks have"
    assert store.folder.read_usage() == count_bytes(tmp_path) == 0


def test_one_process_evicts_at_a_time(tmp_path: Path) -> None:
    store, other = open_store(tmp_path), open_store(tmp_path)
    with store.folder.eviction_lock() as may_evict:
        assert may_evict
        assert not evict(other)
    assert evict(other)


def test_what_dead_writers_left_is_removed_and_the_blocks_are_counted_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store_object(store, "x", 10_000)
    living, dead = store.begin(block_id("living")), store.begin(block_id("dead"))
    assert living is not None
    assert dead is not None
    os.close(dead.descriptor)  # as the end of its process does
    store.folder.add_usage(123_456)
    assert evict(store)
    assert [path.name for path in tmp_path.glob("mediavault-blocks/???/*.tmp")] == [living.name.partition("/")[2]]
    assert store.folder.read_usage() == count_bytes(tmp_path)
    store.abandon(living)
    (tmp_path / "mediavault-blocks" / "usage").write_bytes(b"torn")
    assert store.folder.read_usage() is None
    assert needs_eviction(store)
    assert evict(store)
    assert store.folder.read_usage() == count_bytes(tmp_path)


def test_others_leave_in_place_of_a_block_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path, limit=20 * UNIT)
    fill(store, tmp_path, 20)
    kept = {block_id(f"{n}").object_name for n in range(2)}
    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if Path(path).name[:40] in kept:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    failures: list[OSError] = []
    assert evict(store, failures.append)
    assert cached(store, 20) == [0, 1, *range(5, 20)]
    assert [failure.errno for failure in failures] == [errno.EPERM] * 2
    assert store.folder.read_usage() == count_bytes(tmp_path) == 17 * UNIT


def test_a_disk_that_lets_nothing_be_removed_ends_an_eviction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path, limit=20 * UNIT)
    fill(store, tmp_path, 20)

    def refuse(_path: str, *, dir_fd: int | None = None) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "unlink", refuse)
    failures: list[OSError] = []
    assert evict(store, failures.append)
    assert len(failures) == 20
    assert cached(store, 20) == list(range(20))


def test_a_folder_among_the_blocks_is_left_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path, limit=20 * UNIT)
    fill(store, tmp_path, 20)
    for path in block_paths(tmp_path):
        (path.parent / "made-by-others").mkdir()
        os.utime(path.parent / "made-by-others", (0, 0))
    assert evict(store)
    assert cached(store, 20) == list(range(3, 20))
    assert len(list(tmp_path.glob("mediavault-blocks/*/made-by-others"))) == 20
    store.remove_object(block_id("5").object_name)
    assert cached(store, 20) == [3, 4, *range(6, 20)]
