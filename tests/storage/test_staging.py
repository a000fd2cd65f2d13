"""`Staging`: complete local files from both engines, within the limit, and no left-overs however the work ends."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest

from app.storage.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    ObjectTooLarge,
    StagingFull,
    StorageError,
    StorageFull,
    StoragePermission,
)
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from app.storage.staging import ByteBudget, Staging
from tests.real.seaweedfs import SeaweedFS
from tests.storage.conftest import Place, settings_of
from tests.storage.guarantees.content import MEBIBYTE, pattern

PHOTO = "upload/photo #1.jpg"

Engine = str


@pytest.fixture(scope="module")
def bucket(seaweedfs: SeaweedFS) -> str:
    return seaweedfs.create_bucket()


@pytest.fixture(params=["local", "s3"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture
def place(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return place_of(engine, tmp_path, request)


def place_of(engine: Engine, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    place = {
        "IMMICH_STORAGE_ENGINE": engine,
        "IMMICH_MEDIA_LOCATION": str(tmp_path / "media"),
        "MEDIAVAULT_STAGING_FOLDER": str(tmp_path / "staging"),
    }
    if engine == "s3":
        server: SeaweedFS = request.getfixturevalue("seaweedfs")
        place |= {
            "S3_ENDPOINT": server.endpoint,
            "S3_BUCKET": request.getfixturevalue("bucket"),
            "S3_PREFIX": f"test-{secrets.token_hex(6)}",
            "S3_ACCESS_KEY_ID": server.admin.access_key,
            "S3_SECRET_ACCESS_KEY": server.admin.secret_key,
        }
    return place


@pytest.fixture
async def storage(place: Place, tmp_path: Path) -> AsyncIterator[StorageService]:
    """A service; asserts at the end that staged files, and after closing the process's folder, are removed."""
    storage = await open_storage(settings_of(place))
    yield storage
    assert staged_in(tmp_path / "staging") == []
    await storage.aclose()
    assert not (tmp_path / "staging").exists() or list((tmp_path / "staging").iterdir()) == []


@pytest.fixture
async def in_bucket(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[StorageService]:
    """A service with engine S3, where files have to be downloaded."""
    storage = await open_storage(settings_of(place_of("s3", tmp_path, request)))
    yield storage
    assert staged_in(tmp_path / "staging") == []
    await storage.aclose()


def staged_in(root: Path) -> list[Path]:
    """All files in the staging folder, without the locks."""
    return [path for path in root.glob("*/*") if path.name != "lock"]


async def store(storage: StorageService, data: bytes, key: str = PHOTO) -> str:
    path = storage.managed_path(Key(key))
    async with storage.write(path, size=len(data)) as writer:
        await writer.write(data)
    return path


async def read(storage: StorageService, path: str) -> bytes:
    async with storage.read(path) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


@pytest.mark.parametrize("size", [0, 1, 300_000, 20 * MEBIBYTE])
async def test_a_staged_file_holds_the_bytes_and_is_never_a_copy_of_a_local_one(
    storage: StorageService, engine: Engine, tmp_path: Path, size: int
) -> None:
    data = pattern(size)
    path = await store(storage, data)
    async with storage.stage_to_temp(path) as staged:
        assert staged.read_bytes() == data
        assert staged.suffix == ".jpg"
        if engine == "local":
            assert str(staged) == path
            assert not (tmp_path / "staging").exists()
        else:
            assert staged_in(tmp_path / "staging") == [staged]
            assert [place.stat().st_mode & 0o777 for place in (staged.parent.parent, staged.parent, staged)] == [
                0o700,
                0o700,
                0o600,
            ]
    assert await read(storage, path) == data


async def test_an_external_file_is_used_where_it_lies(in_bucket: StorageService, tmp_path: Path) -> None:
    external = tmp_path / "library" / "photo.jpg"
    external.parent.mkdir()
    external.write_bytes(b"external")
    async with in_bucket.stage_to_temp(str(external), size=8) as staged:
        assert staged.samefile(external)
        assert not (tmp_path / "staging").exists()
        external.rename(tmp_path / "renamed.jpg")
        external.write_bytes(b"replaced")
        assert staged.read_bytes() == b"external"
    external.unlink()
    (tmp_path / "renamed.jpg").rename(external)
    with pytest.raises(ObjectChanged):
        async with in_bucket.stage_to_temp(str(external), size=7):
            pytest.fail("was staged")
    assert external.read_bytes() == b"external"


async def test_a_file_that_is_not_there_or_has_another_size_is_told_before_any_work(storage: StorageService) -> None:
    with pytest.raises(ObjectNotFound):
        async with storage.stage_to_temp(storage.managed_path(Key("missing"))):
            pytest.fail("was staged")
    path = await store(storage, b"eight !!")
    for size in (7, 9):
        with pytest.raises(ObjectChanged):
            async with storage.stage_to_temp(path, size=size):
                pytest.fail("was staged")
    async with storage.stage_to_temp(path, size=8) as staged:
        assert staged.read_bytes() == b"eight !!"


async def test_nothing_stays_when_the_work_fails(in_bucket: StorageService, tmp_path: Path) -> None:
    path = await store(in_bucket, pattern(MEBIBYTE))

    async def work() -> None:
        async with in_bucket.stage_to_temp(path) as staged, in_bucket.staging.temporary_folder() as folder:
            (folder / "deeper").mkdir()
            (folder / "deeper" / "output").write_bytes(b"half")
            assert sorted(staged_in(tmp_path / "staging")) == sorted([staged, folder])
            raise RuntimeError("the tool broke")

    with pytest.raises(RuntimeError, match="the tool broke"):
        await work()
    assert staged_in(tmp_path / "staging") == []


async def test_nothing_stays_when_the_work_is_cancelled_wherever_it_is(
    in_bucket: StorageService, tmp_path: Path
) -> None:
    path = await store(in_bucket, pattern(12 * MEBIBYTE))
    working = asyncio.Event()

    async def work() -> None:
        async with in_bucket.stage_to_temp(path), in_bucket.staging.temporary_folder():
            working.set()
            await asyncio.sleep(600)

    for turns in [*range(0, 60, 3), None]:
        task = asyncio.create_task(work())
        if turns is None:
            await asyncio.wait_for(working.wait(), 30)
        for _ in range(turns or 0):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task], timeout=30)
        assert task.cancelled()
        assert staged_in(tmp_path / "staging") == []
    async with asyncio.timeout(30), in_bucket.stage_to_temp(path) as staged:  # the reserved bytes are free again
        assert staged.stat().st_size == 12 * MEBIBYTE


async def test_more_than_the_limit_waits_for_its_turn(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    limit = {"MEDIAVAULT_STAGING_LIMIT": str(3 * MEBIBYTE)}
    storage = await open_storage(settings_of({**place_of("s3", tmp_path, request), **limit}))
    paths = [await store(storage, pattern(MEBIBYTE), f"upload/{number}.jpg") for number in range(8)]
    paths.insert(4, await store(storage, pattern(5 * MEBIBYTE), "upload/larger-than-the-limit.mp4"))
    most = 0

    async def work(path: str) -> None:
        nonlocal most
        async with storage.stage_to_temp(path):
            sizes = [staged.stat().st_size for staged in staged_in(tmp_path / "staging")]
            most = max(most, len(sizes))
            assert sum(sizes) <= 3 * MEBIBYTE or sizes == [5 * MEBIBYTE]
            await asyncio.sleep(0.02)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for path in paths:
            group.create_task(work(path))
    assert most == 3
    await storage.aclose()


async def enter(stack: AsyncExitStack, context: AbstractAsyncContextManager[None]) -> None:
    await stack.enter_async_context(context)


async def test_room_is_given_in_the_order_in_which_it_is_asked_for() -> None:
    room, order = ByteBudget(10), list[str]()

    async def work(name: str, size: int) -> None:
        async with room.reserve(size):
            order.append(name)

    async with AsyncExitStack() as first:
        await enter(first, room.reserve(6))
        large = asyncio.create_task(work("large", 100))
        await asyncio.sleep(0)
        small = asyncio.create_task(work("small", 1))
        gone = asyncio.create_task(work("gone", 2))
        await asyncio.sleep(0)
        assert order == []  # the small one would fit, but then the large one could starve
        gone.cancel()
    await asyncio.wait_for(asyncio.gather(large, small), 10)
    assert order == ["large", "small"]
    assert gone.cancelled()


@pytest.mark.parametrize("late", [False, True])
async def test_room_that_nobody_waits_for_any_more_is_not_lost(late: bool) -> None:
    room = ByteBudget(10)
    async with AsyncExitStack() as holder:
        await enter(holder, room.reserve(10))
        waiting = asyncio.create_task(enter(AsyncExitStack(), room.reserve(10)))
        behind = asyncio.create_task(enter(AsyncExitStack(), room.reserve(3)))
        await asyncio.sleep(0)
        if late:  # it is admitted and cancelled in the same iteration of the loop
            await holder.aclose()
        waiting.cancel()
        await asyncio.sleep(0)
    await asyncio.wait_for(behind, 10)
    await asyncio.wait_for(enter(AsyncExitStack(), room.reserve(7)), 10)


async def test_an_output_is_stored_with_its_checksums_and_taken_away(storage: StorageService) -> None:
    data = pattern(3 * MEBIBYTE + 17)
    path = storage.managed_path(Key("thumbs/output.webp"))
    async with storage.staging.temporary_folder() as folder:
        output = folder / "output"
        output.write_bytes(data)
        uploaded = await storage.upload_from_temp(output, path, content_type="image/webp")
        assert (uploaded.size, uploaded.sha1, uploaded.crc32) == (
            len(data),
            hashlib.sha1(data).digest(),
            zlib.crc32(data),
        )
        assert not output.exists()
        assert await read(storage, path) == data

        output.write_bytes(b"again")
        with pytest.raises(ObjectExists):
            await storage.upload_from_temp(output, path)
        assert output.read_bytes() == b"again"
    assert await read(storage, path) == data


async def test_what_is_received_is_a_file_for_as_long_as_it_is_worked_on(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "staging", MEBIBYTE)
    data = pattern(700_000)

    async def chunks(*, failing: bool = False) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]
        if failing:
            raise RuntimeError("the client left")

    async def receive(most: int, *, failing: bool = False) -> bytes:
        async with staging.receive(chunks(failing=failing), most, ".png") as received:
            assert received.suffix == ".png"
            return received.read_bytes()

    assert await receive(700_000) == data
    with pytest.raises(ObjectTooLarge):
        await receive(699_999)
    with pytest.raises(RuntimeError, match="the client left"):
        await receive(MEBIBYTE, failing=True)
    assert staged_in(tmp_path / "staging") == []
    assert await asyncio.wait_for(receive(2 * MEBIBYTE), 10) == data  # more than the limit: alone
    await staging.aclose()


def _link(output: Path, secret: Path) -> None:
    output.symlink_to(secret)


def _hard_link(output: Path, secret: Path) -> None:
    output.hardlink_to(secret)


def _pipe(output: Path, secret: Path) -> None:
    os.mkfifo(output)


def _folder(output: Path, secret: Path) -> None:
    output.mkdir()


@pytest.mark.parametrize("leave", [_link, _hard_link, _pipe, _folder])
async def test_what_a_tool_left_in_place_of_a_file_of_its_own_is_never_stored(
    storage: StorageService, tmp_path: Path, leave: Callable[[Path, Path], None]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"the operator's")
    path = storage.managed_path(Key("thumbs/output.webp"))
    async with asyncio.timeout(20), storage.staging.temporary_folder() as folder:
        leave(folder / "output", secret)
        with pytest.raises((StoragePermission, ObjectNotFound)):
            await storage.upload_from_temp(folder / "output", path)
    assert not await storage.exists(path)
    assert secret.read_bytes() == b"the operator's"


async def test_what_a_killed_process_staged_is_swept_and_a_living_one_is_left_alone(
    in_bucket: StorageService, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = await store(in_bucket, pattern(MEBIBYTE))
    place = {**place_of("s3", tmp_path, request), "S3_PREFIX": path.split("/")[3]}
    await in_bucket.staging.open()
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.storage.staging_holder",
        path,
        env=os.environ | dict(place),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        held = [Path((await asyncio.wait_for(holder.stdout.readline(), 30)).decode().strip()) for _ in range(2)]
        assert held[0].stat().st_size == MEBIBYTE
        await _opened_and_closed(tmp_path)
        assert held[0].exists()
        assert (held[1] / "output").exists()
    finally:
        holder.send_signal(signal.SIGKILL)
        await asyncio.wait_for(holder.wait(), 10)
    assert held[0].exists()
    await _opened_and_closed(tmp_path)
    assert not held[0].parent.exists()
    async with in_bucket.stage_to_temp(path) as staged:  # this process's own folder was kept
        assert staged.stat().st_size == MEBIBYTE


async def _opened_and_closed(tmp_path: Path) -> None:
    another = Staging(tmp_path / "staging", MEBIBYTE)
    await another.open()
    await another.aclose()


async def test_other_things_in_the_staging_folder_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "staging"
    (root / "mine").mkdir(parents=True)
    (root / "mediavault-note").write_bytes(b"a file")
    (tmp_path / "elsewhere").mkdir()
    (root / "mediavault-link").symlink_to(tmp_path / "elsewhere")
    (root / "mediavault-dead").mkdir()
    root.chmod(0o755)
    await _opened_and_closed(tmp_path)
    assert sorted(path.name for path in root.iterdir()) == ["mediavault-link", "mediavault-note", "mine"]
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert root.stat().st_mode & 0o777 == 0o755


async def test_many_processes_that_start_at_once_take_nothing_from_each_other(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "staging" / f"mediavault-dead{number}").mkdir(parents=True)
    stagings = [Staging(tmp_path / "staging", MEBIBYTE) for _ in range(12)]
    await asyncio.gather(*(staging.open() for staging in stagings))
    assert len(list((tmp_path / "staging").iterdir())) == len(stagings)
    for staging in stagings:
        async with staging.temporary_folder() as folder:
            assert folder.is_dir()
        await staging.aclose()


async def test_a_folder_that_a_cleaner_took_away_is_made_again(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "staging", MEBIBYTE)
    for _ in range(2):
        async with staging.temporary_folder() as folder:
            assert folder.is_dir()
        await staging.check()
        subprocess.run(["rm", "-r", str(tmp_path / "staging")], check=True)
    await staging.aclose()


async def test_a_staging_folder_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        staging = Staging(root, MEBIBYTE)
        for attempt in (staging.open, staging.check):
            with pytest.raises(StorageError) as failure:
                await attempt()
            assert failure.value.backend == "staging"
        await staging.aclose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "staging"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("a full disk needs a small tmpfs, and mounting one needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True, timeout=30)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True, timeout=30)


async def test_a_full_staging_disk_is_told_and_passes(small_disk: Path, in_bucket: StorageService) -> None:
    large, small = [await store(in_bucket, pattern(size * MEBIBYTE), f"upload/{size}") for size in (8, 3)]
    with pytest.raises(StagingFull, match="no room for 8388608 bytes") as failure:
        async with in_bucket.stage_to_temp(large):
            pytest.fail("was staged")
    assert failure.value.retryable
    assert isinstance(failure.value, StorageFull)

    filling = small_disk / "somebody else's"
    filling.write_bytes(bytes(3 * MEBIBYTE))
    with pytest.raises(StagingFull):
        async with in_bucket.stage_to_temp(small):
            pytest.fail("was staged")
    await in_bucket.staging.check()
    assert staged_in(small_disk) == []
    filling.unlink()
    async with in_bucket.stage_to_temp(small) as staged:
        assert staged.stat().st_size == 3 * MEBIBYTE


async def test_a_disk_that_fills_up_during_the_download_is_told(small_disk: Path, in_bucket: StorageService) -> None:
    """Two downloads that fit one at a time begin at the same moment."""
    paths = [await store(in_bucket, pattern(3 * MEBIBYTE), f"upload/{number}") for number in range(2)]
    both = asyncio.Barrier(2)
    staged_at_once = 0

    async def work(path: str) -> None:
        nonlocal staged_at_once
        await both.wait()
        async with in_bucket.stage_to_temp(path) as staged:
            staged_at_once += 1
            assert staged.stat().st_size == 3 * MEBIBYTE
            await asyncio.sleep(0.2)

    results = await asyncio.wait_for(asyncio.gather(*map(work, paths), return_exceptions=True), 30)
    failures = [result for result in results if result is not None]
    assert failures
    assert all(isinstance(failure, StagingFull) for failure in failures), failures
    assert staged_in(small_disk) == []
    await work_alone(in_bucket, paths[0])


async def work_alone(storage: StorageService, path: str) -> None:
    async with storage.stage_to_temp(path) as staged:
        assert staged.stat().st_size == 3 * MEBIBYTE
