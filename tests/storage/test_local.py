"""The local backend: temporary files, links, descriptors, and file systems that lack features."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import pytest

from app.storage.backend import CHUNK_BYTES
from app.storage.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoragePermission,
)
from app.storage.key import Key, is_temporary
from app.storage.local import LocalBackend
from app.storage.local.threads import ThreadPool
from app.storage.ranges import ByteRange
from tests.real.service import ROOT
from tests.storage.guarantees.content import MEBIBYTE, fetch, keys_of, pattern, store

NOW = timedelta(0)


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalBackend]:
    backend = LocalBackend(tmp_path / "media")
    yield backend
    await backend.aclose()


def _names(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if not path.is_dir())


def _open_places() -> list[str]:
    """The paths of this process's open descriptors."""
    places: list[str] = []
    for link in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            places.append(str(link.readlink()))
    return places


def test_folders_that_may_not_be_looked_into_end_no_listing(tmp_path: Path) -> None:
    """Runs as a user who is not root, because root may list every folder."""
    for folder, mode in (("a", 0o755), ("closed", 0o000), ("names", 0o444), ("open", 0o755), ("passage", 0o311)):
        (tmp_path / folder / "below").mkdir(parents=True)
        (tmp_path / folder / "file").write_bytes(b"data")
        (tmp_path / folder).chmod(mode)
    program = (
        "import asyncio, os, sys; from datetime import timedelta; from pathlib import Path\n"
        "from app.storage.errors import ListingIncomplete; from app.storage.key import Key; from app.storage.local import LocalBackend\n"
        "async def main():\n"
        "    backend = LocalBackend(Path(sys.argv[1]))\n"
        "    os.getuid() or os.setuid(65534)\n"
        "    try:\n"
        "        async for info in backend.list_objects(): print(info.key)\n"
        "    except ListingIncomplete as error: print(*error.folders)\n"
        "    print(await backend.sweep_leftovers(timedelta(0)), await backend.exists(Key('passage/file')))\n"
        "asyncio.run(main())\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    for folder in tmp_path.iterdir():
        folder.chmod(0o755)
    listed, incomplete = ["a/file", "open/file"], ["closed", "names/below", "names", "passage"]
    assert done.stdout.split() == [*listed, *incomplete, "0", "True"], done.stderr


async def test_a_write_is_a_locked_temporary_file_beside_its_target(local: LocalBackend) -> None:
    async with local.write_stream(Key("a/b/c")) as writer:
        await writer.write(pattern(2 * MEBIBYTE))
        [name] = _names(local.root)
        assert is_temporary(name)
        with (local.root / "a/b" / name).open() as temporary, pytest.raises(BlockingIOError):
            fcntl.flock(temporary, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert _names(local.root) == ["c"]


async def test_a_sweep_leaves_what_a_living_writer_holds(local: LocalBackend) -> None:
    dead = local.root / "a" / ".mediavault-dead.tmp"
    async with local.write_stream(Key("a/living")) as writer:
        dead.write_bytes(b"left by a crash")
        await writer.write(pattern(2 * MEBIBYTE))
        assert await local.sweep_leftovers(timedelta(hours=1)) == 0
        assert dead.exists()
        assert await local.sweep_leftovers(NOW) == 1
    assert _names(local.root) == ["living"]


async def test_a_sweep_and_new_writers_do_not_disturb_each_other(local: LocalBackend) -> None:
    done = asyncio.Event()

    async def sweep() -> None:
        while not done.is_set():
            await local.sweep_leftovers(NOW)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(sweep())
        for batch in range(20):
            await asyncio.gather(*(store(local, f"{batch}/{n}", b"x") for n in range(10)))
        done.set()
    assert len(await keys_of(local)) == len(_names(local.root)) == 200


@pytest.mark.parametrize("action", ["read", "head", "write", "put", "copy", "delete"])
async def test_a_linked_folder_that_leads_out_is_refused(local: LocalBackend, tmp_path: Path, action: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_bytes(b"secret")
    (local.root / "link").symlink_to(tmp_path / "outside")
    await store(local, "inside", b"inside")
    key = Key("link/secret")
    attempt = {
        "read": lambda: fetch(local, key.value),
        "head": lambda: local.head(key),
        "write": lambda: store(local, "link/new", b"new"),
        "put": lambda: local.put_object(key, b"new"),
        "copy": lambda: local.copy_object(Key("inside"), Key("link/new")),
        "delete": lambda: local.delete_object(key),
    }[action]
    with pytest.raises(StoragePermission):
        await attempt()
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["secret"]
    assert (tmp_path / "outside/secret").read_bytes() == b"secret"
    assert await keys_of(local) == ["inside"]
    assert await keys_of(local, "inside") == []


async def test_a_linked_folder_within_the_root_may_be_used(local: LocalBackend) -> None:
    await local.ensure_prefix("real")
    (local.root / "link").symlink_to("real")
    await store(local, "link/file", b"linked")
    assert await fetch(local, "real/file") == b"linked"
    assert await keys_of(local) == ["real/file"]


@pytest.mark.parametrize("kind", ["FIFO", "link to a file", "folder", "socket"])
async def test_what_is_no_regular_file_is_no_object(local: LocalBackend, kind: str) -> None:
    path = local.root / "odd"
    (local.root / "file").write_bytes(b"file")
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "socket":
            os.mknod(path, 0o140600)
        case _:
            path.symlink_to("file")
    async with asyncio.timeout(10):
        with pytest.raises(ObjectNotFound):
            await fetch(local, "odd")
        with pytest.raises(ObjectNotFound):
            await local.head(Key("odd"))
        assert not await local.exists(Key("odd"))
        assert await keys_of(local) == ["file"]


@pytest.mark.parametrize("first", [0, 2 * CHUNK_BYTES])
@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_file_that_shrinks_ends_the_read_short(local: LocalBackend, first: int, in_memory: bool) -> None:
    await store(local, "file", pattern(4 * CHUNK_BYTES))
    local._nowait_support.is_supported = None if in_memory else False
    read = bytearray()

    async def read_on() -> None:
        async with local.read_stream(Key("file"), ByteRange(first)) as stream:
            async for chunk in stream.chunks:
                os.truncate(local.root / "file", first + len(chunk))
                read.extend(chunk)

    with pytest.raises(ObjectChanged):
        await read_on()
    assert len(read) == CHUNK_BYTES


async def test_what_is_in_memory_is_read_without_a_thread(local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pattern(3 * CHUNK_BYTES + 1)
    await store(local, "file", data)
    await fetch(local, "file")
    if (
        not local._nowait_support.is_supported
    ):  # tmpfs does not support RWF_NOWAIT, although all its files are in memory
        monkeypatch.setattr("app.storage.local.file_reader.read_cached", os.pread)
        local._nowait_support.is_supported = True

    def no_thread(*_: object) -> NoReturn:
        pytest.fail("a thread was used")

    monkeypatch.setattr(ThreadPool, "run", no_thread)
    monkeypatch.setattr(ThreadPool, "acquire", no_thread)
    assert await fetch(local, "file") == data
    assert await fetch(local, "file", ByteRange(5, 9)) == data[5:10]


async def test_what_is_not_in_memory_is_read_all_the_same(local: LocalBackend) -> None:
    data = pattern(5 * MEBIBYTE + 11)
    await store(local, "file", data)
    await fetch(local, "file")
    with (local.root / "file").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file.fileno(), 300_000, 100_000, os.POSIX_FADV_WILLNEED)
    assert await fetch(local, "file") == data


async def test_small_pieces_share_a_turn_of_a_thread(local: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    turns, run = 0, ThreadPool.run

    async def counted(self: ThreadPool, *arguments: Any) -> Any:
        nonlocal turns
        turns += 1
        return await run(self, *arguments)

    monkeypatch.setattr(ThreadPool, "run", counted)
    async with local.write_stream(Key("file")) as writer:
        for _ in range(20_000):
            await writer.write(b"x" * 200)
    assert turns <= 8
    assert await fetch(local, "file") == b"x" * 4_000_000


async def test_a_folder_that_someone_removed_is_made_again(local: LocalBackend) -> None:
    await store(local, "a/b/1", b"1")
    await local.delete_object(Key("a/b/1"))
    (local.root / "a/b").rmdir()
    await store(local, "a/b/2", b"2")
    assert await fetch(local, "a/b/2") == b"2"


async def test_nothing_is_left_open(local: LocalBackend) -> None:
    """Also after cancellations at any moment."""
    await store(local, "file", pattern(3 * MEBIBYTE))
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for attempt in range(150):
        local._nowait_support.is_supported = moments.choice([True, False])
        key = Key(f"new/{attempt}")
        task: asyncio.Task[Any] = asyncio.create_task(
            moments.choice(
                [
                    lambda: fetch(local, "file"),
                    lambda: fetch(local, "missing"),
                    lambda key=key: store(local, key.value, pattern(100_000)),
                    lambda key=key: local.copy_object(Key("file"), key),
                    lambda: local.head(Key("file")),
                    lambda: keys_of(local),
                    lambda key=key: local.delete_object(key),
                ]
            )()
        )
        await asyncio.wait([task], timeout=moments.random() * 0.004)
        task.cancel()
        await asyncio.wait([task])
    await asyncio.gather(*(asyncio.wrap_future(local._readers._executor.submit(int)) for _ in range(100)))
    assert [place for place in _open_places() if place.startswith(str(local.root))] == [str(local.root)]
    assert not [name for name in _names(local.root) if is_temporary(name)]


async def test_a_read_that_is_still_open_when_the_backend_closes_ends_quietly(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "media")
    await store(backend, "file", b"bytes")
    async with backend.read_stream(Key("file")):
        await backend.aclose()
    assert not [link for link in _open_places() if link.startswith(str(tmp_path))]


async def test_a_cancelled_call_waits_for_its_thread(tmp_path: Path) -> None:
    threads, entered, leave, left = ThreadPool("test", 1), threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        entered.set()
        leave.wait(30)
        left.set()

    task = asyncio.create_task(threads.run(work))
    assert await asyncio.to_thread(entered.wait, 10)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)
    assert left.is_set()
    await threads.aclose()


async def test_a_piece_of_a_write_is_hashed_and_written_in_one_call_of_a_thread(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call wakes a thread and then the event loop, for every MiB of an upload."""
    data = bytearray(pattern(3 * MEBIBYTE))
    digest = hashlib.sha1(usedforsecurity=False)
    async with local.write_stream(Key("folder/object")) as writer:
        calls = 0
        submit = ThreadPool.submit

        def count(self: ThreadPool, function: Any, *arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            return submit(self, function, *arguments)

        def refuse(*_: Any) -> NoReturn:
            pytest.fail("a second thread hashes")

        monkeypatch.setattr(ThreadPool, "submit", count)
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", refuse)
        for start in range(0, len(data), MEBIBYTE):
            await writer.write(memoryview(data)[start : start + MEBIBYTE], digest.update)
        monkeypatch.undo()

    assert calls == 3
    assert digest.digest() == hashlib.sha1(data, usedforsecurity=False).digest()
    assert await fetch(local, "folder/object") == data


async def test_an_object_whose_small_size_is_known_is_written_by_one_call_of_a_thread(
    local: LocalBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    submit = ThreadPool.submit

    def count(self: ThreadPool, function: Any, *arguments: Any) -> Any:
        calls.append(function.__name__)
        return submit(self, function, *arguments)

    monkeypatch.setattr(ThreadPool, "submit", count)
    pieces = [bytes([number]) * 700_000 for number in range(4)]

    async with local.write_stream(Key("a/photo"), size=2_800_000) as writer:
        for piece in pieces:
            await writer.write(piece)
        assert not [path for path in local.root.rglob("*") if path.is_file()], (
            "nothing is on the disk before the commit"
        )

    assert len(calls) == 1
    assert (local.root / "a/photo").read_bytes() == b"".join(pieces)


async def test_a_small_object_that_cannot_be_committed_leaves_nothing(local: LocalBackend) -> None:
    await local.put_object(Key("a/taken"), b"first")

    with pytest.raises(ObjectExists):
        async with local.write_stream(Key("a/taken"), size=6) as writer:
            await writer.write(b"second")

    assert [path.name for path in local.root.rglob("*") if path.is_file()] == ["taken"]
    assert (local.root / "a/taken").read_bytes() == b"first"
