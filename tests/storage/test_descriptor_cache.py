"""`DescriptorCache`: correct bytes from cached descriptors, and their closing in time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from app.storage.key import Key
from app.storage.local import LocalBackend
from app.storage.local.descriptor_cache import MAX_DESCRIPTORS, DescriptorCache
from app.storage.ranges import ByteRange
from tests.storage.guarantees.content import fetch, pattern, store

NAME, DATA = "upload/film.mp4", pattern(100_000)
SPAN = ByteRange(1000, 65_999)
PATIENCE = 10.0


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    backend = await _after_a_read(tmp_path)
    yield backend
    await backend.aclose()


async def test_it_reads_what_was_asked_for(local: LocalBackend) -> None:
    assert local.read_from_memory(Key(NAME), SPAN, len(DATA)) == DATA[1000:66_000]


async def test_it_knows_no_file_of_another_size_and_none_that_is_not_there(local: LocalBackend) -> None:
    assert local.read_from_memory(Key(NAME), SPAN, len(DATA) + 1) is None
    assert local.read_from_memory(Key("upload/other.mp4"), SPAN, len(DATA)) is None
    assert local.read_from_memory(Key("upload"), ByteRange(0, 1), 4096) is None


async def test_a_file_that_was_cut_short_is_left_to_the_ordinary_way(local: LocalBackend) -> None:
    os.truncate(local.root / NAME, 5000)
    assert local.read_from_memory(Key(NAME), SPAN, len(DATA)) is None


async def test_deleting_here_gives_it_back(local: LocalBackend) -> None:
    await local.delete_object(Key(NAME))
    assert local.read_from_memory(Key(NAME), SPAN, len(DATA)) is None
    await _until(lambda: not _held_open(local.root))


async def test_deleting_elsewhere_gives_its_space_back_though_it_is_read_all_the_time(local: LocalBackend) -> None:
    (local.root / NAME).unlink()
    await _until(lambda: local.read_from_memory(Key(NAME), SPAN, len(DATA)) is None)
    await _until(lambda: not _held_open(local.root))


async def test_closing_gives_all_back(tmp_path: Path) -> None:
    backend = await _after_a_read(tmp_path)
    await backend.aclose()
    assert not _held_open(backend.root)


async def test_there_are_never_more_than_so_many() -> None:
    given_back: list[int] = []
    held = DescriptorCache(given_back.append)
    taken = [held.add(f"file {number}", number, 1) for number in range(MAX_DESCRIPTORS + 10)]
    held.close()
    assert taken == [True] * MAX_DESCRIPTORS + [False] * 10
    assert sorted(given_back) == list(range(MAX_DESCRIPTORS))


async def _after_a_read(folder: Path) -> LocalBackend:
    """A backend with one file in the page cache and in the descriptor cache."""
    backend = LocalBackend(folder / "media")
    await store(backend, NAME, DATA)
    await fetch(backend, NAME)
    if backend.read_from_memory(Key(NAME), SPAN, len(DATA)) is None:
        await backend.aclose()
        pytest.skip("this file system cannot tell what is in memory")
    return backend


def _held_open(root: Path) -> list[str]:
    found: list[str] = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            target = str(descriptor.readlink())
            if target.startswith(f"{root / 'upload'}/"):
                found.append(target)
    return found


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - the kernel's table of descriptors tells nobody when it changes
            await asyncio.sleep(0.05)
