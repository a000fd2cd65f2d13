"""`BackupStore`: backups are complete, of one snapshot, made by one process at a time, and the newest are kept."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileKind
from app.config import Settings
from app.migration.backups import backup_store as module
from app.migration.backups.backup_format import BackupDamaged, read_backup
from app.migration.backups.backup_schedule import BackupSchedule
from app.migration.backups.backup_store import BackupInfo, BackupInProgress, BackupStore, list_backups
from app.storage.errors import StorageUnavailable
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.catalog.rows import LEASE, make_user, new_asset, stored
from tests.real.catalogues import Databases
from tests.real.stacks import ENGINES, USUAL, Engine, Stack, Stacks

PATIENCE = 30.0


@pytest.fixture(scope="module", params=ENGINES)
def stack(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture(scope="module")
def place(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """The storage location; module-wide, because making one on S3 takes seconds."""
    return stacks.create(stack, tmp_path_factory.mktemp("place"))


@pytest.fixture
async def db_url(stack: Engine, databases: Databases) -> AsyncIterator[str]:
    url = databases.ready(USUAL[stack])
    yield url
    databases.done(url)


@pytest.fixture
def settings(place: Stack, db_url: str) -> Settings:
    values = {**place.settings, "DB_URL": db_url, "MEDIAVAULT_FSYNC": "false", "MEDIAVAULT_BACKUP_KEEP": "3"}
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[StorageService]:
    """Empty storage."""
    opened = await open_storage(settings)
    await opened.primary_backend.delete_objects([Key(info.key) async for info in opened.primary_backend.list_objects()])
    yield opened
    await opened.aclose()


@pytest.fixture
def backups(catalog: Catalog, storage: StorageService, settings: Settings) -> BackupStore:
    return BackupStore(catalog, storage, settings)


async def names(storage: StorageService) -> list[str]:
    return [backup.name for backup in await list_backups(storage)]


async def check(storage: StorageService, backup: BackupInfo) -> None:
    async with storage.read(backup.path) as stream, aclosing(read_backup(stream.chunks)) as parts:
        async for _ in parts:
            pass


async def test_the_newest_are_kept(backups: BackupStore, storage: StorageService) -> None:
    await storage.primary_backend.put_object(Key("backups/.immich"), b"marker")
    await storage.primary_backend.put_object(Key("backups/immich-db-backup-1.sql.gz"), b"somebody else's")
    made = [await backups.create() for _ in range(5)]

    assert await list_backups(storage) == [made[4], made[3], made[2]]
    for backup in made[2:]:
        await check(storage, backup)
    others = {info.key async for info in storage.primary_backend.list_objects("backups")} - {
        f"backups/{m.name}" for m in made
    }
    assert others == {"backups/.immich", "backups/immich-db-backup-1.sql.gz"}


@pytest.mark.parametrize("name", ["mediavault-20990101-000000.000.jsonl.gz", "mediavault-20269999-000000.000.jsonl.gz"])
async def test_a_name_that_no_clock_gave_decides_nothing(
    backups: BackupStore, storage: StorageService, settings: Settings, catalog: Catalog, name: str
) -> None:
    """A name far in the future decides neither which backups are old, nor whether one is due."""
    only_one = BackupStore(catalog, storage, settings.model_copy(update={"backup_keep": 1}))
    first = await only_one.create()
    await storage.primary_backend.put_object(Key(f"backups/{name}"), b"junk")

    moment = datetime.now(UTC) + timedelta(days=3)
    made = await only_one.create_if_due(moment, timedelta(days=1))

    assert made is not None
    await check(storage, made)
    assert not await storage.exists(first.path)
    assert await storage.exists(storage.managed_path(Key(f"backups/{name}"))), "a person decides about it"


async def test_the_one_that_was_just_made_stays(
    backups: BackupStore, storage: StorageService, settings: Settings, catalog: Catalog
) -> None:
    """The clock was set back a few hours before the backup was made."""
    hours_ahead = datetime.now(UTC) + timedelta(hours=5)
    for number in range(3):
        name = f"backups/mediavault-{hours_ahead + timedelta(minutes=number):%Y%m%d-%H%M%S}.000.jsonl.gz"
        await storage.primary_backend.put_object(Key(name), b"junk")

    made = await backups.create()

    await check(storage, made)
    assert len(await names(storage)) == 3
    assert made.name in await names(storage)


async def test_two_at_once_are_one(catalog: Catalog, backups: BackupStore, storage: StorageService) -> None:
    async with catalog.try_exclusive("backup") as alone:
        assert alone
        with pytest.raises(BackupInProgress):
            await backups.create()
        assert await backups.create_if_due(datetime.now(UTC), timedelta(0)) is None
    assert await names(storage) == []
    await backups.create()
    assert len(await names(storage)) == 1


async def test_one_is_due_when_the_newest_is_old(backups: BackupStore, storage: StorageService) -> None:
    day = timedelta(days=1)
    moment = datetime.now(UTC)
    first = await backups.create_if_due(moment, day)
    assert first is not None
    assert await backups.create_if_due(moment + timedelta(hours=23), day) is None
    assert await backups.create_if_due(moment + timedelta(hours=25), day) is not None
    assert len(await names(storage)) == 2


async def test_what_comes_back_damaged_is_no_backup(
    backups: BackupStore, storage: StorageService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lying(*_: object) -> None:
        async with storage.write(path) as writer:
            await writer.write(b"not what was given")

    path = ""
    real = backups._write

    async def write(where: str, moment: datetime) -> None:
        nonlocal path
        path = where
        await lying()

    monkeypatch.setattr(backups, "_write", write)
    with pytest.raises(BackupDamaged):
        await backups.create()
    assert await names(storage) == []
    monkeypatch.setattr(backups, "_write", real)
    await backups.create()


async def test_what_was_not_read_back_is_not_listed(
    backups: BackupStore, storage: StorageService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store fails between writing and reading back, so that the backup cannot be removed either."""

    async def away(path: str, *_: object) -> None:
        raise StorageUnavailable(path, "test", "does not answer")

    def read_away(path: str, *_: object) -> AbstractAsyncContextManager[None]:
        @asynccontextmanager
        async def refused() -> AsyncIterator[None]:
            await away(path)
            yield

        return refused()

    with monkeypatch.context() as patched:
        patched.setattr(storage, "read", read_away)
        patched.setattr(storage, "unlink", away)
        with pytest.raises(StorageUnavailable):
            await backups.create()
    assert await names(storage) == []

    made = await backups.create()

    assert await names(storage) == [made.name]
    stored = [info.key async for info in storage.primary_backend.list_objects("backups")]
    assert stored == [f"backups/{made.name}"], "what was left is cleared away"


@pytest.mark.parametrize("step", ["write_backup", "read_backup"])
async def test_one_that_is_cancelled_leaves_the_lock_free_and_nothing_half(
    backups: BackupStore, storage: StorageService, catalog: Catalog, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    original = getattr(module, step)

    for pieces in (1, 5, 20):

        async def cancelled_after(*arguments: Any, pieces: int = pieces) -> AsyncGenerator[Any]:
            async with aclosing(original(*arguments)) as inner:
                async for count, piece in enumerated(inner):
                    if count == pieces:
                        task = asyncio.current_task()
                        assert task is not None
                        task.cancel()
                        await asyncio.sleep(0)
                    yield piece

        monkeypatch.setattr(module, step, cancelled_after)
        making = asyncio.create_task(backups.create())
        await asyncio.wait([making], timeout=PATIENCE)
        assert making.cancelled() or making.exception() is None
        for backup in await list_backups(storage):
            await check(storage, backup)
    monkeypatch.setattr(module, step, original)
    await asyncio.wait_for(backups.create(), PATIENCE)
    await asyncio.wait_for(make_user(catalog), PATIENCE)


async def enumerated(pieces: AsyncIterator[Any]) -> AsyncIterator[tuple[int, Any]]:
    count = 0
    async for piece in pieces:
        count += 1
        yield count, piece


async def test_it_is_of_one_moment(catalog: Catalog, stack: Engine) -> None:
    """Rows committed during the backup are in none of its tables."""
    owner = await make_user(catalog)
    await upload(catalog, owner.id)
    async with catalog.open_snapshot() as snapshot:
        tables = {table.name: table for table in snapshot.tables}
        assert len(await all_rows(snapshot.iterate_rows(tables["asset"]))) == 1
        await asyncio.wait_for(upload(catalog, owner.id), PATIENCE)  # and the backup blocks no writer
        assert len(await all_rows(snapshot.iterate_rows(tables["file"]))) == 1
        users = await all_rows(snapshot.iterate_rows(tables["user"]))
        used = [column.name for column in tables["user"].columns].index("used")
        assert [row[used] for row in users] == [100]
    async with catalog.open_snapshot() as snapshot:
        assert len(await all_rows(snapshot.iterate_rows(tables["file"]))) == 2


async def upload(catalog: Catalog, owner_id) -> None:
    file = await catalog.files.begin_write(
        owner_id, FileKind.ORIGINAL, f"/media/{os.urandom(8).hex()}", "image/jpeg", LEASE
    )
    kept = stored(file)
    await catalog.assets.insert(new_asset(owner_id, kept.sha1), kept)


async def all_rows(batches) -> list[list[object]]:
    return [row async for batch in batches for row in batch]


async def test_nobody_else_may_read_it(backups: BackupStore, stack: str) -> None:
    """`mediavault` sets a umask for its process; here the test has to set it."""
    before = os.umask(0o077)
    try:
        backup = await backups.create()
    finally:
        os.umask(before)
    if stack == "local":
        assert stat.S_IMODE(Path(backup.path).stat().st_mode) == 0o600
    else:
        assert backup.path.startswith("s3://")


async def test_a_schedule_survives_a_store_that_is_away(
    backups: BackupStore, storage: StorageService, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    looked = asyncio.Event()

    async def admit_write() -> None:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise [OSError("unexpected"), asyncio.InvalidStateError()][looks - 1]
        looked.set()

    async with BackupSchedule(backups, 0.05 / 3600, admit_write).run_in_background():
        async with asyncio.timeout(PATIENCE):
            await looked.wait()
            while not await names(storage):  # noqa: ASYNC110 - of the store
                await asyncio.sleep(0.02)


async def test_none_is_made_where_none_is_wanted(backups: BackupStore, storage: StorageService) -> None:
    async def admit_write() -> None:
        raise AssertionError("it looked")

    async with BackupSchedule(backups, 0, admit_write).run_in_background():
        await asyncio.sleep(0.05)
    assert await names(storage) == []
