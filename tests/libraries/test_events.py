"""Watching of libraries: changes in real folders show soon, coalesced and settled; a library that cannot be watched is polled, and says why."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from inotify_simple import Event, INotify, flags

from app.catalog.catalog import open_catalog
from app.catalog.errors import CatalogUnavailable
from app.catalog.schema.library_records import LibraryState
from app.config import Settings
from app.libraries import service
from app.libraries.service import LibraryService
from app.libraries.watching import monitor
from app.libraries.watching.events import PendingFolders, find_changed_scopes
from tests.libraries.library_tree import LibraryTree, Mount, make_library, unmount
from tests.real.catalogues import Databases
from tests.real.chosen import database
from tests.real.waiting import eventually_so

__all__ = ["database"]

SETTLE = 0.5
WRITING_SETTLE = 1.0
WITHIN = 20.0


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, within: float = WITHIN) -> None:
    await eventually_so(condition, what, within=within)


class SlowWriter:
    """Writes to a file all the time, in a thread, since the event loop is that of the scans. `longest_pause`, in seconds, shows whether a busy
    machine let the file settle."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write)
        self._written = time.monotonic()
        self._longest = 0.0

    @property
    def longest_pause(self) -> float:
        return max(self._longest, time.monotonic() - self._written)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _write(self) -> None:
        with self._path.open("wb") as slow:
            while not self._done.wait(WRITING_SETTLE / 20):
                self._longest = self.longest_pause
                slow.write(b"x" * 100)
                slow.flush()
                self._written = time.monotonic()


@asynccontextmanager
async def watching(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: object
) -> AsyncIterator[LibraryService]:
    """A library service that watches, and probes import paths every half second. Begins once the watches of earlier tests are closed: the
    service that ends does not wait for the thread that closes them."""
    await eventually(no_inode_is_watched, "no folder is watched by an earlier test")
    for module, name in ((monitor, "PROBE_SECONDS"), (service, "LEADER_CHECK_SECONDS")):
        monkeypatch.setattr(module, name, 0.5)
    values = {
        "DB_URL": db_url,
        "IMMICH_MEDIA_LOCATION": str(tmp_path / "media"),
        "MEDIAVAULT_LIBRARY_WATCH": True,
        "MEDIAVAULT_LIBRARY_SETTLE_SECONDS": SETTLE,
        "MEDIAVAULT_LIBRARY_POLL_SECONDS": 0.3,
        **settings,
    }
    made = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    async with LibraryService(tree.catalog, made).running() as libraries:
        yield libraries


def watched_inodes() -> set[int]:
    """The inodes that this process watches by inotify."""
    inodes: set[int] = set()
    for folder in Path("/proc/self/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            inodes |= {int(each, 16) for each in re.findall(r"inotify wd:\w+ ino:(\w+)", folder.read_text())}
    return inodes


async def no_inode_is_watched() -> bool:
    return not watched_inodes()


async def is_watched(tree: LibraryTree) -> bool:
    library = await tree.library()
    return library.watch is not None and library.scanned_at is not None


async def shows(tree: LibraryTree, names: set[str]) -> None:
    async def shown() -> bool:
        return await tree.names() == names

    await eventually(shown, f"the library holds {sorted(names)[:5]}…")


async def test_new_changed_renamed_and_deleted_files_show(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write("old/a.jpg")
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        assert (await tree.library()).watch == "events of the system"
        await shows(tree, {"old/a.jpg"})
        before = (await tree.assets())["old/a.jpg"]
        tree.write("old/b.jpg")
        tree.write("new/deep/c.mp4")
        await shows(tree, {"old/a.jpg", "old/b.jpg", "new/deep/c.mp4"})
        (tree.root / "old/a.jpg").rename(tree.root / "old/z.jpg")
        await shows(tree, {"old/z.jpg", "old/b.jpg", "new/deep/c.mp4"})
        assert (await tree.assets())["old/z.jpg"].id == before.id
        tree.write("old/b.jpg", b"other content")

        async def changed() -> bool:
            return (await tree.assets())["old/b.jpg"].file.size == len(b"other content")

        await eventually(changed, "the changed file is noticed")
        shutil.rmtree(tree.root / "new")
        await shows(tree, {"old/z.jpg", "old/b.jpg"})
        assert await tree.names(trashed=True) == {"new/deep/c.mp4"}


async def test_a_file_that_is_being_written_is_left_until_it_rests(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowWriter(tree.root / "slow.mp4")

    async def taken() -> bool:
        names = await tree.names()
        assert "slow.mp4" not in names or slow.longest_pause > WRITING_SETTLE, "it was never at rest"
        return "beside.jpg" in names

    async with watching(tree, db_url, tmp_path, monkeypatch, MEDIAVAULT_LIBRARY_SETTLE_SECONDS=WRITING_SETTLE):
        await eventually(lambda: is_watched(tree), "the library is watched")
        with slow:
            tree.write("beside.jpg")
            await eventually(taken, "who is not written any more does not wait for who is")
            await asyncio.sleep(2 * WRITING_SETTLE)
            assert await taken()
        await shows(tree, {"slow.mp4", "beside.jpg"})
        size = (tree.root / "slow.mp4").stat().st_size
        assert (await tree.assets())["slow.mp4"].file.size == size


async def test_a_burst_of_files_in_new_folders_is_coalesced_and_none_is_lost(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, soak: bool
) -> None:
    in_each = 100 if soak else 30
    scans = 0
    run = LibraryService._run_scan

    async def counted(*arguments: object, **options: object) -> object:
        nonlocal scans
        scans += 1
        return await run(*arguments, **options)  # pyright: ignore[reportArgumentType]

    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        monkeypatch.setattr(LibraryService, "_run_scan", counted)

        def burst() -> None:
            for folder in range(50):
                for number in range(in_each):
                    tree.write(f"burst/{folder % 7}/{folder}/IMG_{number}.jpg", b"x")

        await asyncio.to_thread(burst)

        async def there() -> bool:
            return await tree.catalog.library_files.count(tree.id) == 50 * in_each

        await eventually(there, "all files are there", within=60)
        assert scans < 60, "a scan for each folder at most, and not one for each file"


async def test_deletions_pass_the_guard(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tree.fill(30)
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await shows(tree, {f"album/{path.name}" for path in paths})
        for path in paths[:25]:
            path.unlink()

        async def unmounted() -> bool:
            return (await tree.library()).state is LibraryState.UNMOUNTED

        await eventually(unmounted, "so many losses count as an unmounted disk")
        assert len(await tree.names()) == 30


async def test_a_disk_that_goes_away_and_comes_back_is_noticed_and_watched_again(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount_tmpfs: Mount
) -> None:
    mount_tmpfs(tree.root)
    paths = tree.fill(3)
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    async with watching(tree, db_url, tmp_path, monkeypatch) as libraries:
        await shows(tree, {f"album/{path.name}" for path in paths})
        before = await tree.assets()
        await asyncio.to_thread(unmount, tree.root)
        assert "is not mounted" in (await libraries.explain_missing_file(tree.id) or "")

        async def states() -> str:
            (state,) = await libraries.list_mount_states()
            return str(state.state)

        async def unmounted() -> bool:
            return await states() == "unmounted"

        async def well() -> bool:
            return await states() == "ok"

        await eventually(unmounted, "the missing disk shows")
        (state,) = await libraries.list_mount_states()
        assert "was a mount point" in (state.error or "")
        await asyncio.to_thread(mount_tmpfs, tree.root)
        (tree.root / "album").mkdir()
        for path, (content, mtime) in kept.items():
            path.write_bytes(content)
            os.utime(path, ns=(mtime, mtime))
        await eventually(well, "the disk is there again")
        assert await tree.assets() == before
        assert await libraries.explain_missing_file(tree.id) is None
        tree.write("after.jpg")
        await shows(tree, {*before, "after.jpg"})


async def test_a_disk_that_is_mounted_anew_between_two_looks_is_watched(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount_tmpfs: Mount
) -> None:
    """The new mount has the same device and inode numbers, but the kernel has dropped all watches."""
    disk = tree.root / "disk"
    mount_tmpfs(disk)
    tree.write("disk/a.jpg")
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        before = disk.stat()
        unmount(disk)
        mount_tmpfs(disk)
        after = disk.stat()
        assert (after.st_dev, after.st_ino) == (before.st_dev, before.st_ino)
        tree.write("disk/a.jpg")
        for number in range(3):
            tree.write(f"disk/{number}.jpg")
            await shows(tree, {"disk/a.jpg", *(f"disk/{each}.jpg" for each in range(number + 1))})


@pytest.mark.parametrize("way", ["removed and made anew", "renamed and back"])
async def test_an_import_path_that_is_gone_for_a_moment_is_watched_again(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The new folder may get the inode of the old one, so that the two cannot be told apart."""
    monkeypatch.setattr("app.libraries.import_paths.probe._read_folder_identity", lambda _: (1, 1))
    tree.write("a.jpg")
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        if way == "removed and made anew":
            shutil.rmtree(tree.root)
            tree.root.mkdir()
        else:
            tree.root.rename(tmp_path / "away").rename(tree.root)
        tree.write("a.jpg")
        for number in range(3):
            tree.write(f"{number}.jpg")
            await shows(tree, {"a.jpg", *(f"{each}.jpg" for each in range(number + 1))})


async def test_only_what_belongs_to_the_library_is_watched(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a link to / would have the whole system watched."""
    for number in range(50):
        (tmp_path / f"outside/{number}").mkdir(parents=True)
        (tree.root / f"@eaDir/{number}").mkdir(parents=True)
    (tree.root / "real/deep").mkdir(parents=True)
    (tree.root / "out").symlink_to(tmp_path / "outside")
    (tree.root / "loop").symlink_to(tree.root)
    (tree.root / "alias").symlink_to(tree.root / "real")
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        assert watched_inodes() == {
            folder.stat().st_ino for folder in (tree.root, tree.root / "real/deep", tree.root / "real")
        }
        (tree.root / "out-too").symlink_to(tmp_path / "outside")
        tree.write("real/deep/a.jpg")
        await shows(tree, {"real/deep/a.jpg", "alias/deep/a.jpg"})
        assert len(watched_inodes()) == 3


async def test_folders_are_followed_as_they_come_and_go_and_are_renamed(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        monkeypatch.setattr(monitor, "PROBE_SECONDS", 600.0)
        tree.write("new/deep/a.jpg")
        await shows(tree, {"new/deep/a.jpg"})
        tree.write("new/deep/b.jpg")
        await shows(tree, {"new/deep/a.jpg", "new/deep/b.jpg"})
        (tree.root / "new").rename(tree.root / "renamed")
        await shows(tree, {"renamed/deep/a.jpg", "renamed/deep/b.jpg"})
        tree.write("renamed/deep/c.jpg")
        shutil.rmtree(tree.root / "renamed/deep")
        tree.write("renamed/deep/d.jpg")
        await shows(tree, {"renamed/deep/d.jpg"})
        tree.write("renamed/deep/e.jpg")
        (tree.root / "renamed").rename(tmp_path / "away")
        await shows(tree, set())
        shutil.copytree(tmp_path / "away", tree.root / "back")
        (tree.root / "link").symlink_to(tree.root / "back/deep")
        both = {f"{folder}/{name}.jpg" for folder in ("back/deep", "link") for name in "de"}
        await shows(tree, both)
        tree.write("back/deep/f.jpg")
        await shows(tree, both | {"back/deep/f.jpg", "link/f.jpg"})


async def test_more_events_than_the_system_remembers_lose_nothing(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's event queue overflows while it is not read; later changes have no events."""
    read, reads, overflows = INotify.read, threading.Event(), 0

    def late_read(self: INotify, timeout: int) -> list[Event]:
        nonlocal overflows
        events = read(self, timeout) if reads.is_set() else []
        overflows += sum(bool(event.mask & flags.Q_OVERFLOW) for event in events)
        return events

    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        monkeypatch.setattr(INotify, "read", late_read)
        for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())):
            (tree.root / f"{number}.txt").touch()  # two events each, so that the queue overflows long before the last
        tree.write("lost/a.jpg")
        reads.set()
        await shows(tree, {"lost/a.jpg"})
        assert overflows
        tree.write("lost/b.jpg")
        await shows(tree, {"lost/a.jpg", "lost/b.jpg"})


async def test_what_happened_while_the_catalogue_failed_shows_all_the_same(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = 0
    run = LibraryService._run_scan

    async def failing(*arguments: object, **options: object) -> object:
        nonlocal failures
        if not failures:
            failures += 1
            raise CatalogUnavailable("for a moment")
        return await run(*arguments, **options)  # pyright: ignore[reportArgumentType]

    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        monkeypatch.setattr(LibraryService, "_run_scan", failing)
        tree.write("a.jpg")
        await shows(tree, {"a.jpg"})
    assert failures == 1


async def test_a_person_who_accepts_what_is_missing_is_heard_while_a_scan_waits(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tree.fill(30)
    await tree.scan()
    for path in paths:
        path.unlink()
    async with watching(tree, db_url, tmp_path, monkeypatch, MEDIAVAULT_LIBRARY_WATCH=False) as libraries:
        async with tree.catalog.try_lock(f"library-{tree.id}") as lock:
            assert lock is not None
            libraries.start_scan(tree.id)
            libraries.start_scan(tree.id, accept_missing=True)
        await shows(tree, set())
    assert len(await tree.names(trashed=True)) == 30


async def test_a_disk_that_hangs_is_asked_for_its_room_once(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise requests for the state take all threads, and no other library is probed any more."""
    answers, asked = threading.Event(), 0

    def hanging(path: str) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        assert path == str(tree.root)
        answers.wait(WITHIN)
        return 1, 2

    monkeypatch.setattr(service, "read_disk_space", hanging)
    monkeypatch.setattr(service, "PROBE_SECONDS", 0.05)
    async with watching(tree, db_url, tmp_path, monkeypatch, MEDIAVAULT_LIBRARY_WATCH=False) as libraries:
        try:
            for _ in range(12):
                (state,) = await libraries.list_mount_states()
                assert (state.free_bytes, state.total_bytes) == (None, None)
            assert asked == 1
        finally:
            answers.set()

        async def answered() -> bool:
            (state,) = await libraries.list_mount_states()
            return (state.free_bytes, state.total_bytes) == (1, 2)

        await eventually(answered, "the disk is asked again once it has answered")


async def test_a_network_mount_is_polled_and_says_so(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount_tmpfs: Mount
) -> None:
    """A tmpfs stands in for a network file system, since it can be mounted everywhere."""
    monkeypatch.setattr("app.libraries.import_paths.mount_table.NETWORK_TYPES", frozenset({"tmpfs"}))
    mount_tmpfs(tree.root)
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is polled")
        assert (await tree.library()).watch == f"every 0.3 seconds: {tree.root} is on tmpfs"
        tree.write("a.jpg")
        await shows(tree, {"a.jpg"})


LIMITED = """
import asyncio, sys
from app.catalog.catalog import open_catalog
from app.config import Settings
from app.libraries.service import LibraryService
from app.libraries.watching import monitor
monitor.PROBE_SECONDS = 0.5

async def main(db_url, media):
    catalog = await open_catalog(db_url)
    settings = Settings(_env_file=None, DB_URL=db_url, IMMICH_MEDIA_LOCATION=media, MEDIAVAULT_LIBRARY_WATCH=True,
                        MEDIAVAULT_LIBRARY_SETTLE_SECONDS=0.2, MEDIAVAULT_LIBRARY_POLL_SECONDS=0.3)
    async with LibraryService(catalog, settings).running():
        await asyncio.to_thread(sys.stdin.read)
    await catalog.aclose()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ("max_inotify_watches", "the system's limit of watched folders is reached"),
        ("max_inotify_instances", "the system's limit of watchers is reached"),
    ],
)
async def test_a_limit_that_is_reached_leads_to_polling_and_says_so(
    databases: Databases, threads: ThreadPoolExecutor, tmp_path: Path, limit: str, reason: str
) -> None:
    """A process in a user namespace has its own inotify limits. It cannot access PostgreSQL's folder."""
    if not shutil.which("unshare") or not Path("/proc/sys/user", limit).exists():
        pytest.skip("no user namespaces here")
    db_url = databases.ready("sqlite")
    catalog = await open_catalog(db_url)
    tree = LibraryTree(tmp_path / "nas", catalog, await make_library(catalog, tmp_path / "nas"), threads)
    for folder in range(10):
        tree.write(f"{folder}/a.jpg")
    script = f'echo {5 if "watches" in limit else 0} > /proc/sys/user/{limit} && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"]
    process = await asyncio.create_subprocess_exec(
        *command, sys.executable, "-c", LIMITED, db_url, str(tmp_path / "media"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        await eventually(lambda: is_watched(tree), "the library is polled", within=30)
        assert (
            await tree.library()
        ).watch == f"every 0.3 seconds: {reason} (fs.inotify.{limit.replace('inotify', 'user')})"
        tree.write("later/b.jpg")
        await shows(tree, {*(f"{folder}/a.jpg" for folder in range(10)), "later/b.jpg"})
    finally:
        try:
            output, _ = await asyncio.wait_for(process.communicate(b""), WITHIN)
        finally:
            if process.returncode is None:
                process.kill()
    assert b"can not be watched and is polled" in output
    assert process.returncode == 0
    await catalog.aclose()


def test_events_are_coalesced_into_folders_once_they_have_settled() -> None:
    pending = PendingFolders(5)
    pending.add({("/a", False), ("/a/b", True)}, 0)
    pending.add({("/a", False), ("/a/b/c", False), ("/a/b", False)}, 3)
    assert pending.take_due(4) == []
    assert sorted(pending.take_due(5)) == [("/a", False), ("/a/b", True)]
    assert sorted(pending.take_due(8)) == [("/a/b", False), ("/a/b/c", False)]
    assert pending.take_due(100) == []
    pending.add({("/x", True), ("/x/y", True), ("/x/y/z", False), ("/xy", False)}, 0)
    assert sorted(pending.take_due(5)) == [("/x", True), ("/xy", False)]


def test_an_event_tells_where_to_look(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file.jpg").touch()
    top = str(root)
    assert find_changed_scopes([f"{top}/file.jpg"], [top]) == {(top, False)}
    assert find_changed_scopes([f"{top}/folder"], [top]) == {(top, False), (f"{top}/folder", True)}
    assert find_changed_scopes([f"{top}/gone"], [top]) == {(top, False), (f"{top}/gone", True)}
    assert find_changed_scopes([top], [top]) == {(top, True)}
    assert find_changed_scopes([f"{top}-other/x"], [top]) == set()
