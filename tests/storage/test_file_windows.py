"""Windows of local files: they are in the page cache when they are yielded, cover the range exactly, and never name bytes that are not there."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.storage.backend import CHUNK_BYTES, WINDOW_BYTES, ObjectStream
from app.storage.errors import ObjectChanged
from app.storage.key import Key
from app.storage.local import LocalBackend
from app.storage.local.syscalls import count_cached_bytes
from app.storage.ranges import ByteRange, FileWindow
from tests.real.disk_folders import disk_folder

PAGE = os.sysconf("SC_PAGESIZE")
SIZE = 3 * WINDOW_BYTES + 11
KEY = Key("file")


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    with disk_folder(tmp_path) as folder:
        backend = LocalBackend(folder / "media", fsync=True)
        await backend.put_object(KEY, os.urandom(SIZE))
        async with backend.read_stream(KEY, ByteRange(0, CHUNK_BYTES)) as stream:
            assert stream.windows is not None, "found out with the first file that is in memory"
        yield backend
        await backend.aclose()


def drop_from_memory(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def count_cached(path: Path, first: int, length: int) -> int:
    with path.open("rb") as file:
        return count_cached_bytes(file.fileno(), first, length)


@pytest.mark.parametrize("first", [0, 1, CHUNK_BYTES, 2 * WINDOW_BYTES - 7])
@pytest.mark.parametrize("is_cold", [True, False])
async def test_windows_cover_the_range_and_are_in_memory(local: LocalBackend, first: int, *, is_cold: bool) -> None:
    path = local.root / "file"
    expected = path.read_bytes()[first : SIZE - 5]
    if is_cold:
        drop_from_memory(path)
    got: list[bytes] = []
    async with local.read_stream(KEY, ByteRange(first, SIZE - 6)) as stream:
        async for window in iterate_windows(stream):
            assert 0 < len(window) <= WINDOW_BYTES
            assert count_cached(path, window.offset, window.length) == window.length
            got.append(os.pread(window.file.fileno(), window.length, window.offset))

    assert b"".join(got) == expected


async def test_a_window_that_left_the_memory_is_noticed_and_read_again(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = local.root / "file"
    async with local.read_stream(KEY) as stream:
        window = await next_window(stream)
        assert window.file.is_cached(window.offset, window.length)
        drop_from_memory(path)
        monkeypatch.setattr("app.storage.local.file_windows.LOOKUP_SECONDS", 0.0)
        assert not window.file.is_cached(window.offset, window.length)

        await window.file.load(window.offset, window.length)

        assert window.file.is_cached(window.offset, window.length)
        assert count_cached(path, window.offset, window.length) == window.length


@pytest.mark.parametrize("kept", [0, 10, WINDOW_BYTES, WINDOW_BYTES + 5])
async def test_a_file_that_became_shorter_ends_the_windows(local: LocalBackend, kept: int) -> None:
    async def read_on() -> None:
        async with local.read_stream(KEY) as stream:
            await next_window(stream)
            os.truncate(local.root / "file", kept)
            async for window in iterate_windows(stream):
                await window.file.load(window.offset, window.length)

    with pytest.raises(ObjectChanged):
        await read_on()


async def test_small_ranges_and_foreign_owners_have_no_windows(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local.read_stream(KEY, ByteRange(5, 4 + CHUNK_BYTES)) as stream:
        assert stream.windows is None, "a copy is cheaper"
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    async with local.read_stream(KEY) as stream:
        assert stream.windows is None, "the kernel would say that all is in memory"


async def test_what_is_in_memory_is_counted_up_to_the_first_gap(local: LocalBackend) -> None:
    path = local.root / "file"
    path.read_bytes()
    assert count_cached(path, 3, SIZE - 3) == SIZE - 3
    drop_from_memory(path)
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no read-ahead
        file.read(64 * PAGE)
    assert count_cached(path, 3, SIZE - 3) == 64 * PAGE - 3
    assert count_cached(path, 64 * PAGE, PAGE) == 0


async def iterate_windows(stream: ObjectStream) -> AsyncIterator[FileWindow]:
    """All of them are windows, since nothing of a local file has to be fetched first."""
    assert stream.windows is not None
    async for window in stream.windows:
        assert isinstance(window, FileWindow)
        yield window


async def next_window(stream: ObjectStream) -> FileWindow:
    return await anext(iterate_windows(stream))
