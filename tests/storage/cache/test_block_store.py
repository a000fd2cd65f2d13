"""Block files: what is damaged, torn or foreign is a miss; a removed object stays removed, whoever writes its blocks meanwhile."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from app.storage.cache.block_format import BLOCK_BYTES, BlockId
from app.storage.cache.eviction import evict
from app.storage.cache.folder import FOLDER_NAME, CacheFolder
from tests.storage.cache.block_files import (
    block_id,
    block_paths,
    count_bytes,
    load,
    make_bytes,
    make_info,
    open_store,
    store_object,
)

SIZE = 2 * BLOCK_BYTES + 4711


def test_blocks_are_read_as_they_were_written_also_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store_object(store, "a/film.mp4", SIZE)
    data = make_bytes("a/film.mp4", SIZE)
    store.folder.close()
    store = open_store(tmp_path)
    for index in range(3):
        assert load(store, "a/film.mp4", index) == data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]
    assert load(store, "a/film.mp4", 3) is None
    assert load(store, "a/film") is None
    block = store.open(block_id("a/film.mp4"))
    assert block is not None
    assert block.info == make_info("a/film.mp4", SIZE)
    block.release()
    assert store.folder.read_usage() == count_bytes(tmp_path)


def test_a_damaged_block_is_a_miss(tmp_path: Path, seed: int, *, soak: bool) -> None:
    """Flips, cuts, fills with zeros and exchanges: the answer is right, or a miss, which removes the file."""
    chance = random.Random(seed)
    store = open_store(tmp_path)
    for attempt in range(2000 if soak else 120):
        size = chance.choice([1, 100, 20_000, 70_000])
        data = make_bytes("x", size)
        store_object(store, "x", size)
        store_object(store, "other", size)
        (path, other) = sorted(block_paths(tmp_path), key=lambda path: b"other" in path.read_bytes()[:200])
        content = bytearray(path.read_bytes())
        place, kind = chance.randrange(len(content)), chance.choice(["flip", "cut", "zeros", "longer", "foreign"])
        if kind == "flip":
            content[place] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del content[place:]
        elif kind == "zeros":
            content[place:] = bytes(len(content) - place)
        elif kind == "longer":
            content += b"\0"
        else:
            content[:] = other.read_bytes()
        is_same = bytes(content) == path.read_bytes()
        path.write_bytes(content)
        assert load(store, "x") == (data if is_same else None), (attempt, kind, place)
        assert path.exists() == is_same
        store.remove_object(block_id("x").object_name)
        store.remove_object(block_id("other").object_name)
    assert evict(store)
    assert store.folder.read_usage() == 0


def test_a_block_of_another_store_is_a_miss(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store_object(store, "x", 100)
    assert store.open(BlockId("https://store.example/other/", "x", 0)) is None
    path = block_paths(tmp_path)[0]
    elsewhere = BlockId("https://store.example/other/", "x", 0)
    target = tmp_path / FOLDER_NAME / elsewhere.object_name[:3]
    target.mkdir(exist_ok=True)
    path.rename(target / f"{elsewhere.object_name}-0")
    assert store.open(elsewhere) is None


def test_an_open_block_notices_a_write_and_a_removal(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store_object(store, "x", 10_000)
    path = block_paths(tmp_path)[0]
    os.utime(path, ns=(0, 0))
    block = store.open(block_id("x"))
    assert block is not None
    assert not block.is_settled, "a file that was changed just now could be changed again without a new time"
    assert not block.is_unchanged()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    assert not store.verify(block)
    block.release()


def test_one_writer_has_a_block_at_a_time_in_all_processes(tmp_path: Path) -> None:
    store, other = open_store(tmp_path), open_store(tmp_path)
    pending = store.begin(block_id("x"))
    assert pending is not None
    assert other.begin(block_id("x")) is None
    assert store.begin(block_id("x")) is None
    another = other.begin(block_id("x", 1))
    assert another is not None
    other.abandon(another)
    assert store.publish(pending, make_info("x", 3), [b"abc"])
    assert load(other, "x") == b"abc"
    again = other.begin(block_id("x"))
    assert again is not None
    assert other.publish(again, make_info("x", 4, '"two"'), [b"defg"])
    assert load(store, "x") == b"defg"
    assert store.folder.read_usage() == count_bytes(tmp_path) == 4096


def test_a_writer_that_began_before_the_removal_publishes_nothing(tmp_path: Path) -> None:
    store, other = open_store(tmp_path), open_store(tmp_path)
    stale = store.begin(block_id("x"))
    assert stale is not None
    other.remove_object(block_id("x").object_name)
    fresh = other.begin(block_id("x"))
    assert fresh is not None
    assert not store.publish(stale, make_info("x", 3, '"old"'), [b"old"])
    assert load(store, "x") is None
    assert other.publish(fresh, make_info("x", 3, '"new"'), [b"new"])
    assert load(store, "x") == b"new"
    assert store.folder.read_usage() == 4096


def test_a_block_that_is_given_up_while_it_is_written_writes_to_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that takes long is given up, and goes on later: the number of its descriptor must not be another file's by then."""
    store = open_store(tmp_path)
    pending = store.begin(block_id("x"))
    assert pending is not None
    others: list[int] = []
    write = os.writev

    def write_in_two(descriptor: int, pieces: list[bytes]) -> int:
        if others:
            return write(descriptor, pieces)
        written = write(descriptor, [bytes(pieces[0])[:10]])
        store.abandon(pending)
        others.append(os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT))
        return written

    monkeypatch.setattr(os, "writev", write_in_two)
    try:
        assert store.publish(pending, make_info("x", 3), [b"abc"])
    finally:
        os.close(others[0])
    assert (tmp_path / "other").read_bytes() == b""
    assert load(store, "x") == b"abc"
    assert store.folder.read_usage() == count_bytes(tmp_path)
    assert not list(tmp_path.glob("mediavault-blocks/???/*.tmp"))


def test_a_block_that_was_given_up_is_not_published(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    pending = store.begin(block_id("x"))
    assert pending is not None
    store.abandon(pending)
    assert not store.publish(pending, make_info("x", 3), [b"abc"])
    assert load(store, "x") is None


def test_a_removal_takes_all_blocks_of_the_object_and_no_others(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store_object(store, "x", SIZE)
    store_object(store, "y", 10)
    store.remove_object(block_id("x").object_name)
    assert [load(store, "x", index) for index in range(3)] == [None] * 3
    assert load(store, "y") == make_bytes("y", 10)


def test_no_block_goes_beyond_the_limit_or_into_the_reserve(tmp_path: Path) -> None:
    store = open_store(tmp_path, limit=5 * 4096)
    taken = [store_object(store, f"{n}", 100) for n in range(7)]
    assert taken == [True] * 5 + [False] * 2
    assert count_bytes(tmp_path) == store.folder.read_usage() == 5 * 4096
    full = open_store(tmp_path / "full", reserve=2**62)
    assert not store_object(full, "x", 100)
    assert count_bytes(tmp_path / "full") == full.folder.read_usage() == 0


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    CacheFolder(tmp_path).close()
    (tmp_path / FOLDER_NAME).chmod(0o777)
    with pytest.raises(PermissionError, match="other users"):
        CacheFolder(tmp_path)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / FOLDER_NAME).symlink_to(tmp_path)
    with pytest.raises(OSError, match=FOLDER_NAME):
        CacheFolder(tmp_path / "link")
