"""The sweeper makes storage and catalogue agree exactly, whatever failed before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from structlog.testing import capture_logs

from app.catalog.catalog import Catalog
from app.catalog.errors import CatalogUnavailable, DuplicateAsset, WriteLeaseLost
from app.catalog.files import LATE_WRITE_GRACE
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, File, FileKind, FileState, User
from app.config import Settings, StorageEngine
from app.jobs import sweeper as module
from app.jobs.sweeper import Sweeper, SweepReport, sweep
from app.storage.errors import StorageError, StoragePermission, StorageUnavailable
from app.storage.key import Key
from app.storage.local import LocalBackend
from app.storage.service import StorageService
from app.storage.staging import Staging
from tests.catalog.rows import LEASE, make_user, new_asset, stored, used_bytes

WAIT_SECONDS = 20.0


class Storage(StorageService):
    """The storage service on a local folder, which fails as an unavailable store does when a test sets `failure`."""

    def __init__(self, folder: Path) -> None:
        backend = LocalBackend(folder, fsync=False)
        super().__init__(
            local=backend,
            media_root=folder,
            s3=None,
            bucket=None,
            prefix="",
            engine=StorageEngine.LOCAL,
            staging=Staging(folder.parent / "staging", 1024 * 1024),
        )
        self.failure: Exception | None = None
        self.refused = asyncio.Event()
        self.stubborn: set[str] = set()
        self.unlinked: list[str] = []

    async def unlink_many(self, paths: Iterable[str]) -> dict[str, StorageError]:
        wanted = list(paths)
        if self.failure:
            self.refused.set()
            raise self.failure
        failed = await super().unlink_many(path for path in wanted if path not in self.stubborn)
        self.unlinked += [path for path in wanted if path not in self.stubborn]
        return failed | {path: StorageUnavailable(path, "local") for path in wanted if path in self.stubborn}

    async def put(self, path: str, content: bytes) -> None:
        async with self.write(path) as writer:
            await writer.write(content)


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    folder = tmp_path / "media"
    folder.mkdir()
    opened = Storage(folder)
    yield opened
    await opened.aclose()


@pytest.fixture
async def user(catalog: Catalog) -> User:
    return await make_user(catalog)


async def begin(catalog: Catalog, storage: Storage, user: User, *, lease: timedelta = LEASE) -> File:
    path = storage.managed_path(Key(f"upload/{user.id}/{uuid4()}.jpg"))
    return await catalog.files.begin_write(user.id, FileKind.ORIGINAL, path, "image/jpeg", lease)


async def upload(catalog: Catalog, storage: Storage, user: User, content: bytes = b"") -> Asset:
    content = content or random.randbytes(50)
    file = await begin(catalog, storage, user)
    await storage.put(file.path, content)
    kept = stored(file, content)
    return await catalog.assets.insert(new_asset(user.id, kept.sha1), kept)


async def add_doomed_files(catalog: Catalog, storage: Storage, user: User, count: int) -> list[File]:
    files = [await begin(catalog, storage, user) for _ in range(count)]
    for file in files:
        await storage.put(file.path, b"x")
    await catalog.files.mark_many_for_deletion(file.id for file in files)
    return files


async def list_objects(storage: Storage) -> set[str]:
    return {path async for path, _ in storage.list_managed()}


async def assert_agreement(catalog: Catalog, storage: Storage, user: User) -> None:
    rows = [file async for file in catalog.files.iterate_all()]
    assert {file.state for file in rows} <= {FileState.LIVE}
    assert {file.path for file in rows} == await list_objects(storage)
    assert await used_bytes(catalog, user.id) == sum(file.size or 0 for file in rows)


def in_the_future(**duration: float) -> datetime:
    return datetime.now(UTC) + timedelta(**duration)


async def test_objects_and_rows_go_and_what_is_live_stays(catalog: Catalog, storage: Storage, user: User) -> None:
    kept, removed = await upload(catalog, storage, user), await upload(catalog, storage, user)
    await catalog.assets.delete(user.id, [removed.id])
    await begin(catalog, storage, user)  # the writer died before its first byte
    dead = await begin(catalog, storage, user)
    await storage.put(dead.path, b"died before the insert")

    assert await sweep(catalog, storage, now=in_the_future(seconds=1)) == SweepReport(objects=1)
    assert await list_objects(storage) == {kept.file.path, dead.path}
    lapsed = in_the_future(days=1)
    assert await sweep(catalog, storage, now=lapsed) == SweepReport()
    assert await sweep(catalog, storage, now=lapsed + LATE_WRITE_GRACE) == SweepReport(objects=2)
    await assert_agreement(catalog, storage, user)
    assert await list_objects(storage) == {kept.file.path}
    assert await sweep(catalog, storage, now=in_the_future(days=2)) == SweepReport()


async def test_an_upload_in_progress_is_left_alone(catalog: Catalog, storage: Storage, user: User) -> None:
    file = await begin(catalog, storage, user, lease=timedelta(minutes=10))
    await storage.put(file.path, b"bytes")
    assert await sweep(catalog, storage, now=in_the_future(minutes=9)) == SweepReport()
    assert await catalog.assets.insert(new_asset(user.id, b"x" * 20), stored(file, b"bytes"))
    await assert_agreement(catalog, storage, user)


async def test_more_than_one_batch_is_swept_in_one_pass(catalog: Catalog, storage: Storage, user: User) -> None:
    await add_doomed_files(catalog, storage, user, 7)
    assert await sweep(catalog, storage, now=in_the_future(seconds=1), limit=3) == SweepReport(objects=7)
    await assert_agreement(catalog, storage, user)


async def test_a_kill_between_object_and_row_is_made_up_for(
    catalog: Catalog, storage: Storage, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    await upload(catalog, storage, user)
    files = await add_doomed_files(catalog, storage, user, 3)

    async def killed(_: object) -> int:
        raise CatalogUnavailable("killed")

    monkeypatch.setattr(catalog.files, "delete_swept", killed)
    with pytest.raises(CatalogUnavailable):
        await sweep(catalog, storage, now=in_the_future(seconds=1))
    monkeypatch.undo()

    assert not await list_objects(storage) & {file.path for file in files}
    assert {(await catalog.files.get(file.id)) is not None for file in files} == {True}
    assert await sweep(catalog, storage, now=in_the_future(hours=1)) == SweepReport(objects=3)
    await assert_agreement(catalog, storage, user)


async def test_a_store_that_is_away_loses_no_row(catalog: Catalog, storage: Storage, user: User) -> None:
    files = await add_doomed_files(catalog, storage, user, 5)
    storage.failure = StorageUnavailable("", "local", "away")
    assert await sweep(catalog, storage, now=in_the_future(seconds=1), limit=2) == SweepReport(failed=2)
    assert await list_objects(storage) == {file.path for file in files}
    storage.failure = None
    assert await sweep(catalog, storage, now=in_the_future(hours=1), limit=2) == SweepReport(objects=5)
    await assert_agreement(catalog, storage, user)


async def test_what_the_store_refuses_to_delete_is_tried_again_later(
    catalog: Catalog, storage: Storage, user: User
) -> None:
    files = await add_doomed_files(catalog, storage, user, 3)
    storage.stubborn = {files[0].path}
    assert await sweep(catalog, storage, now=in_the_future(seconds=1)) == SweepReport(objects=2, failed=1)
    assert await list_objects(storage) == {files[0].path}
    assert await sweep(catalog, storage, now=in_the_future(seconds=2)) == SweepReport(), "not again at once"
    storage.stubborn = set()
    assert await sweep(catalog, storage, now=in_the_future(hours=1)) == SweepReport(objects=1)
    await assert_agreement(catalog, storage, user)


async def test_sweepers_at_once_share_the_work(catalog: Catalog, storage: Storage, user: User) -> None:
    files = await add_doomed_files(catalog, storage, user, 40)
    now = in_the_future(seconds=1)
    reports = await asyncio.gather(*(sweep(catalog, storage, now=now, limit=4) for _ in range(4)))
    assert sum(report.objects for report in reports) == 40
    assert sorted(storage.unlinked) == sorted(file.path for file in files), "none was given to two"
    await assert_agreement(catalog, storage, user)


async def test_a_writer_that_comes_too_late_is_refused_and_leaves_nothing(
    catalog: Catalog, storage: Storage, user: User
) -> None:
    file = await begin(catalog, storage, user)
    await sweep(catalog, storage, now=in_the_future(days=1))
    assert await sweep(catalog, storage, now=in_the_future(days=2)) == SweepReport(objects=1)
    assert not await catalog.files.renew_lease(file.id, LEASE)
    await storage.put(file.path, b"late")
    with pytest.raises(WriteLeaseLost):
        await catalog.assets.insert(new_asset(user.id, b"x" * 20), stored(file, b"late"))

    await catalog.files.mark_late_upload_for_deletion(file)
    assert await sweep(catalog, storage, now=in_the_future(seconds=1)) == SweepReport(objects=1)
    await assert_agreement(catalog, storage, user)


async def test_a_download_outlives_the_removal_of_its_object(catalog: Catalog, storage: Storage, user: User) -> None:
    content = random.randbytes(3 * 1024 * 1024)
    asset = await upload(catalog, storage, user, content)
    async with storage.read(asset.file.path) as stream:
        got = await anext(stream.chunks)
        await catalog.assets.delete(user.id, [asset.id])
        assert await sweep(catalog, storage, now=in_the_future(seconds=1)) == SweepReport(objects=1)
        async for chunk in stream.chunks:
            got += chunk
    assert got == content
    await assert_agreement(catalog, storage, user)


async def test_old_trash_goes_in_the_same_pass(catalog: Catalog, storage: Storage, user: User) -> None:
    assets = [await upload(catalog, storage, user) for _ in range(5)]
    await catalog.assets.trash(user.id, [asset.id for asset in assets[:3]])
    report = await sweep(catalog, storage, now=in_the_future(minutes=1), limit=2, trashed_before=in_the_future())
    assert report == SweepReport(trash=3, objects=3)
    assert await list_objects(storage) == {asset.file.path for asset in assets[3:]}
    await assert_agreement(catalog, storage, user)


async def test_random_lives_and_deaths_end_in_agreement(catalog: Catalog, storage: Storage, user: User) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    contents = [chance.randbytes(chance.randrange(1, 60)) for _ in range(8)]

    async def life() -> None:
        file = await begin(catalog, storage, user)
        if chance.random() < 0.1:
            return
        content = chance.choice(contents)
        await storage.put(file.path, content)
        if chance.random() < 0.1:
            return
        kept = stored(file, content)
        with suppress(DuplicateAsset):
            asset = await catalog.assets.insert(new_asset(user.id, kept.sha1), kept)
            if chance.random() < 0.5:
                await catalog.assets.delete(user.id, [asset.id])

    async def sweeping() -> None:
        while True:
            with suppress(StorageError):
                await sweep(catalog, storage, now=in_the_future(seconds=1), limit=3)
            storage.failure = StorageUnavailable("", "local") if chance.random() < 0.3 else None
            await asyncio.sleep(0)

    async with asyncio.timeout(60):
        background = asyncio.create_task(sweeping())
        for _ in range(12):
            lives = [asyncio.create_task(life()) for _ in range(5)]
            if chance.random() < 0.3:
                await asyncio.wait(lives, timeout=chance.random() * 0.05)
                for task in lives:
                    task.cancel()
            await asyncio.wait(lives)
            assert [task.exception() for task in lives if not task.cancelled() and task.exception()] == []
        background.cancel()
        await asyncio.wait([background])
        storage.failure = None
        await sweep(catalog, storage, now=in_the_future(days=1))
        await sweep(catalog, storage, now=in_the_future(days=2))
    await assert_agreement(catalog, storage, user)


def settings(tmp_path: Path, **changes: object) -> Settings:
    return Settings(_env_file=None, media_location=tmp_path / "media", **changes)  # pyright: ignore[reportCallIssue, reportArgumentType]


async def wait_until_gone(storage: Storage, paths: set[str]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while await list_objects(storage) & paths:  # noqa: ASYNC110 - no event for deleted files
            await asyncio.sleep(0.02)


async def test_the_running_sweeper_works_at_its_start_and_when_woken(
    catalog: Catalog, storage: Storage, user: User, tmp_path: Path
) -> None:
    first = await add_doomed_files(catalog, storage, user, 2)
    async with Sweeper(catalog, storage, settings(tmp_path)).running() as sweeper:
        await wait_until_gone(storage, {file.path for file in first})
        second = await add_doomed_files(catalog, storage, user, 2)
        sweeper.wake()
        await wait_until_gone(storage, {file.path for file in second})
    third = await add_doomed_files(catalog, storage, user, 1)
    sweeper.wake()
    await asyncio.sleep(0.1)
    assert await list_objects(storage) == {third[0].path}, "it ended with its block"


@pytest.mark.parametrize(
    "failure",
    [StorageUnavailable("", "local"), RuntimeError("a mistake of ours")],
    ids=lambda error: type(error).__name__,
)
async def test_the_running_sweeper_survives_what_fails(
    catalog: Catalog, storage: Storage, user: User, tmp_path: Path, failure: Exception
) -> None:
    storage.failure = failure
    await add_doomed_files(catalog, storage, user, 1)
    async with Sweeper(catalog, storage, settings(tmp_path)).running() as sweeper:
        async with asyncio.timeout(WAIT_SECONDS):
            await storage.refused.wait()
        storage.failure = None
        more = await add_doomed_files(catalog, storage, user, 1)
        sweeper.wake()
        await wait_until_gone(storage, {more[0].path})


async def run_housekeeping_pass(
    catalog: Catalog, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: datetime, days: int
) -> None:
    """Run one pass of the sweeper at that moment, including housekeeping."""
    leftover = tmp_path / "media" / ".mediavault-dead.tmp"
    leftover.write_bytes(b"half")

    class Moment(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # pyright: ignore[reportIncompatibleMethodOverride]
            return moment

    monkeypatch.setattr(module, "LEFTOVER_AGE", timedelta(0))
    monkeypatch.setattr(module, "datetime", Moment)
    async with Sweeper(catalog, storage, settings(tmp_path, trash_days=days)).running():
        async with asyncio.timeout(WAIT_SECONDS):
            while leftover.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("days", "age", "left"),
    [
        (1, timedelta(days=1, seconds=1), 0),
        (1, timedelta(hours=23), 1),
        (3, timedelta(days=1), 1),
        (3, timedelta(days=2), 1),
        (3, timedelta(days=2, hours=23), 1),
        (3, timedelta(days=3, seconds=1), 0),
        (0, timedelta(days=400), 1),
    ],
    ids=str,
)
async def test_the_running_sweeper_empties_the_trash_at_its_age_and_not_before(
    catalog: Catalog,
    storage: Storage,
    user: User,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    age: timedelta,
    left: int,
) -> None:
    asset = await upload(catalog, storage, user)
    await catalog.assets.trash(user.id, [asset.id])
    trashed = await catalog.assets.get(asset.id)
    assert trashed is not None
    assert trashed.deleted_at is not None

    await run_housekeeping_pass(catalog, storage, tmp_path, monkeypatch, trashed.deleted_at + age, days)

    assert len(await list_objects(storage)) == left
    assert (await catalog.assets.get(asset.id) is not None) is bool(left)


async def test_the_running_sweeper_ends_sessions_that_have_expired_and_no_others(
    catalog: Catalog, storage: Storage, user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = in_the_future(days=2)
    await catalog.sessions.create(user.id, b"expired", moment - timedelta(seconds=1))
    await catalog.sessions.create(user.id, b"open", moment + timedelta(seconds=1))

    await run_housekeeping_pass(catalog, storage, tmp_path, monkeypatch, moment, 1)

    assert await catalog.sessions.get_by_hash(b"expired", datetime.now(UTC)) is None
    assert await catalog.sessions.get_by_hash(b"open", datetime.now(UTC)) is not None


async def test_the_running_sweeper_fills_in_folded_names(
    catalog: Catalog, storage: Storage, user: User, tmp_path: Path
) -> None:
    """Names of assets that an older version inserted."""
    asset = await upload(catalog, storage, user)
    async with catalog.engine.begin() as connection:
        await connection.execute(update(tables.asset).values(original_file_name="Straße.jpg", folded_name=None))

    filled = select(tables.asset.c.folded_name).where(tables.asset.c.id == asset.id)
    async with Sweeper(catalog, storage, settings(tmp_path)).running(), asyncio.timeout(WAIT_SECONDS):
        name = None
        while name is None:
            async with catalog.engine.connect() as connection:
                name = (await connection.execute(filled)).scalar_one()

    assert name == "strasse.jpg"


async def test_what_may_not_be_swept_puts_nothing_else_off(
    catalog: Catalog, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bucket policy may forbid to list unfinished uploads: the sweeper logs that once an hour, not at every pass."""
    asked: list[timedelta] = []

    async def refused(older_than: timedelta, find_in_use: object) -> int:
        asked.append(older_than)
        raise StoragePermission("", "s3", "may not be listed")

    monkeypatch.setattr(storage, "sweep_leftovers", refused)
    sweeper = Sweeper(catalog, storage, settings(tmp_path))
    with capture_logs() as logged:
        await sweeper._sweep_once()
        await sweeper._sweep_once()
    assert len(asked) == 1
    assert [entry["event"] for entry in logged] == ["leftovers of unfinished writes may not be swept"]
