"""`StorageService`: routing of paths to backends, and permitted operations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.config import Settings, StorageEngine
from app.storage.errors import (
    InvalidKey,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StoragePermission,
    StorageUnavailable,
)
from app.storage.key import Key
from app.storage.local import LocalBackend
from app.storage.opening import open_storage
from app.storage.ranges import ByteRange
from app.storage.resumable import ResumableWriteState
from app.storage.service import StorageService
from app.storage.staging import Staging
from tests.real.seaweedfs import SeaweedFS
from tests.storage.guarantees.content import pattern

BUCKET, PREFIX = "photos", "vault"


class TwoLocations:
    """A service with a second folder in place of the bucket, and the paths around it."""

    def __init__(self, base: Path, engine: StorageEngine) -> None:
        self.base = base
        self.media = base / "data"
        self.disk = LocalBackend(self.media, fsync=False)
        self.store = _Bucket(base / "bucket", fsync=False)
        self.storage = StorageService(
            local=self.disk,
            media_root=self.media,
            s3=self.store,
            bucket=BUCKET,
            prefix=PREFIX,
            engine=engine,
            staging=Staging(base / "staging", 1024 * 1024),
        )

    def on_disk(self, key: str) -> str:
        return f"{self.media}/{key}"

    def in_bucket(self, key: str) -> str:
        return f"s3://{BUCKET}/{PREFIX}/{key}"

    def external(self, name: str) -> str:
        path = self.base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"external")
        return str(path)


class _Bucket(LocalBackend):
    """A folder that behaves like S3 where the service depends on it."""

    @property
    def name(self) -> str:
        return "s3"

    def local_path(self, key: Key) -> Path | None:
        return None

    async def presigned_url(
        self, key: Key, *, expires_in: timedelta, content_type: str | None = None, disposition: str | None = None
    ) -> str | None:
        return f"https://store/{key}?{expires_in.total_seconds():.0f}&{content_type}&{disposition}"


@pytest.fixture(params=StorageEngine)
async def locations(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TwoLocations]:
    locations = TwoLocations(tmp_path, request.param)
    yield locations
    await locations.storage.aclose()


async def _write(storage: StorageService, path: str, data: bytes) -> None:
    async with storage.write(path, size=len(data), content_type="image/jpeg") as writer:
        await writer.write(data)


async def _read(storage: StorageService, path: str, byte_range: ByteRange | None = None) -> bytes:
    async with storage.read(path, byte_range) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


def _both(locations: TwoLocations) -> list[str]:
    return [locations.on_disk("upload/a #1.jpg"), locations.in_bucket("upload/a #1.jpg")]


async def test_a_library_half_on_disk_and_half_in_the_bucket_works(locations: TwoLocations) -> None:
    storage = locations.storage
    for path in _both(locations):
        await _write(storage, path, path.encode())
    for path in _both(locations):
        assert await _read(storage, path) == path.encode()
        assert await _read(storage, path, ByteRange(1, 2)) == path.encode()[1:3]
        assert (await storage.stat(path)).size == len(path.encode())
        assert storage.is_managed_path(path)
    assert sorted([path async for path, _ in storage.list_managed()]) == sorted(_both(locations))
    assert await storage.unlink_many(_both(locations)) == {}
    assert [path async for path, _ in storage.list_managed()] == []


async def test_new_files_go_to_the_engine_that_is_set(locations: TwoLocations) -> None:
    path = locations.storage.managed_path(Key("upload/caf\u00e9 %2F.jpg"))
    if locations.storage.engine is StorageEngine.LOCAL:
        assert path == f"{locations.media}/upload/caf\u00e9 %2F.jpg"
        assert locations.storage.primary_backend is locations.disk
    else:
        assert path == "s3://photos/vault/upload/caf\u00e9 %2F.jpg"
        assert locations.storage.primary_backend is locations.store
    await _write(locations.storage, path, b"new")
    assert await _read(locations.storage, path) == b"new"
    assert (await locations.storage.primary_backend.head(Key("upload/caf\u00e9 %2F.jpg"))).size == 3


async def test_a_longer_name_beside_the_media_folder_is_external(locations: TwoLocations) -> None:
    storage, path = locations.storage, locations.external("database/a")
    assert not storage.is_managed_path(path)
    assert await _read(storage, path) == b"external"
    with pytest.raises(StoragePermission):
        await storage.unlink(path)


async def test_external_files_are_read_only(locations: TwoLocations) -> None:
    storage, path, mine = locations.storage, locations.external("library/a.jpg"), locations.on_disk("mine")
    await _write(storage, mine, b"mine")
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(StoragePermission):
        storage.write(locations.external("library/b.jpg"))
    for attempt in (
        storage.unlink(path),
        storage.rename(path, locations.on_disk("b")),
        storage.rename(mine, path),
        storage.copy(mine, path),
        storage.utimes(path, moment, moment),
    ):
        with pytest.raises(StoragePermission) as failure:
            await attempt
        assert (failure.value.key, failure.value.backend) == (path, "external")
    failed = await storage.unlink_many([path, mine])
    assert set(failed) == {path}
    assert Path(path).read_bytes() == b"external"
    assert not await storage.exists(mine)


async def test_an_external_file_is_read_copied_and_pinned(locations: TwoLocations) -> None:
    storage, path = locations.storage, locations.external("library/a.jpg")
    assert await storage.exists(path)
    info = await storage.stat(path)
    assert (info.key, info.size) == (path, 8)
    assert storage.local_path(path) == Path(path)
    assert await storage.presigned_url(path, expires_in=timedelta(minutes=1)) is None
    for target in (locations.on_disk("copy"), locations.in_bucket("copy")):
        await storage.copy(path, target)
        assert await _read(storage, target) == b"external"
    Path(path).write_bytes(b"edited!!!")
    with pytest.raises(ObjectChanged):
        async with storage.read(path, if_match=info.etag):
            pytest.fail("the read was opened")


@pytest.mark.parametrize("turned", [False, True])
async def test_copies_and_renames_cross_from_one_engine_to_the_other(locations: TwoLocations, turned: bool) -> None:
    storage, data = locations.storage, pattern(3_000_000)
    source, target = _both(locations)[:: -1 if turned else 1]
    await _write(storage, source, data)
    await storage.copy(source, target)
    assert await _read(storage, target) == data
    with pytest.raises(ObjectExists):
        await storage.rename(source, target)
    assert await _read(storage, source) == data
    await storage.unlink(target)
    await storage.rename(source, target)
    assert await _read(storage, target) == data
    assert not await storage.exists(source)


async def test_copies_and_renames_within_one_engine(locations: TwoLocations) -> None:
    storage = locations.storage
    for source in _both(locations):
        await _write(storage, source, b"bytes")
        await storage.copy(source, source + ".copy")
        await storage.rename(source, source + ".moved")
        assert await _read(storage, source + ".copy") == await _read(storage, source + ".moved") == b"bytes"
        assert not await storage.exists(source)


async def test_only_managed_local_files_may_be_read_from_memory(locations: TwoLocations) -> None:
    paths = (locations.on_disk("a"), locations.in_bucket("a"), locations.external("outside/a"))
    assert [locations.storage.may_read_from_memory(path) for path in paths] == [True, False, False]


async def test_direct_ways_are_told_where_there_are_some(locations: TwoLocations) -> None:
    storage, lifetime = locations.storage, timedelta(seconds=90)
    for path in _both(locations):
        await _write(storage, path, b"direct")
    disk, bucket = _both(locations)
    assert storage.local_path(disk) == Path(disk)
    assert storage.local_path(bucket) is None
    assert await storage.presigned_url(disk, expires_in=lifetime) is None
    link = await storage.presigned_url(bucket, expires_in=lifetime, content_type="image/jpeg", disposition="inline")
    assert link == "https://store/upload/a #1.jpg?90&image/jpeg&inline"


async def test_times_are_set_on_disk_and_left_alone_in_the_bucket(locations: TwoLocations) -> None:
    accessed, modified = datetime(2021, 2, 3, tzinfo=UTC), datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC)
    for path in _both(locations):
        await _write(locations.storage, path, b"old")
        before = await locations.storage.stat(path)
        await locations.storage.utimes(path, accessed, modified)
        after = await locations.storage.stat(path)
        assert after.last_modified == (modified if path.startswith("/") else before.last_modified)
    with pytest.raises(ObjectNotFound):
        await locations.storage.utimes(locations.on_disk("missing"), accessed, modified)


async def test_times_of_what_a_link_leads_out_to_are_left_alone(locations: TwoLocations) -> None:
    path = Path(locations.external("outside/file"))
    before = path.stat().st_mtime
    (locations.media / "link").symlink_to(path.parent)
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    with pytest.raises(StoragePermission):
        await locations.storage.utimes(locations.on_disk("link/file"), moment, moment)
    assert path.stat().st_mtime == before


@pytest.mark.parametrize(
    "path",
    [
        "",
        "relative/a",
        "s3://photos/other/a",
        "s3://photos/vault",
        "s3://photos/vaults/a",
        "s3://others/vault/a",
        "s3://photos/vault/../a",
        "s3://photos",
        "MEDIA/../library/a.jpg",
        "MEDIA//a",
        "MEDIA/.mediavault-1.tmp",
        "/etc/../etc/passwd",
        "/etc/pass\0wd",
    ],
)
async def test_a_path_that_nobody_can_have_is_refused(locations: TwoLocations, path: str) -> None:
    path = path.replace("MEDIA", str(locations.media))
    locations.external("library/a.jpg")
    storage = locations.storage
    for attempt in (storage.stat(path), storage.exists(path), storage.unlink(path), storage.copy(path, "/x")):
        with pytest.raises((InvalidKey, StoragePermission)) as failure:
            await attempt
        assert isinstance(failure.value, InvalidKey) or failure.value.key == "/x"
    for open_it in (storage.read, storage.write, storage.local_path):
        with pytest.raises(InvalidKey):
            open_it(path)
    assert isinstance((await storage.unlink_many([path]))[path], InvalidKey)


async def test_the_probe_asks_the_engine_that_is_set_and_a_sweep_all(locations: TwoLocations) -> None:
    for root in (locations.disk.root, locations.store.root):
        (root / ".mediavault-1.tmp").write_bytes(b"left by a crash")
    assert await locations.storage.sweep_leftovers(timedelta(days=1)) == 0
    assert await locations.storage.sweep_leftovers(timedelta(0)) == 2
    await locations.storage.probe()
    idle, busy = (locations.store, locations.disk)[:: 1 if locations.storage.engine is StorageEngine.LOCAL else -1]
    idle.root.rename(locations.base / "away")
    await locations.storage.probe()
    busy.root.rename(locations.base / "away too")
    with pytest.raises(StorageUnavailable):
        await locations.storage.probe()


async def test_a_resumable_write_goes_on_where_it_began(locations: TwoLocations) -> None:
    """Also one that began before the engine was switched."""
    storage = locations.storage
    paths = [locations.on_disk("upload/a"), locations.in_bucket("upload/a")]
    states: dict[str, ResumableWriteState] = {}
    asked: set[str] = set()

    async def find_in_use(found: Collection[str]) -> Collection[str]:
        asked.update(found)
        return paths

    for path in paths:

        async def save(state: ResumableWriteState, path: str = path) -> None:
            states[path] = state

        await save(await storage.resumable.begin(path, size=None, content_type=None))
        async with storage.resumable.append(path, states[path], size=None, save=save, is_contested=False) as appender:
            await appender.write(path.encode())
            await appender.checkpoint()
    assert await storage.sweep_leftovers(timedelta(0), find_in_use) == 0
    assert asked == set(paths)
    for path, state in states.items():
        await storage.resumable.check(path, state)
        await storage.resumable.commit(path, state, len(path))
        await storage.resumable.abort(path, state)
        assert await _read(storage, path) == path.encode()
    assert storage.s3_writes == 1
    with pytest.raises(StoragePermission):
        await storage.resumable.begin(locations.external("library/a.jpg"), size=None, content_type=None)


def _settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]


async def test_the_default_is_a_local_folder_that_is_made(tmp_path: Path) -> None:
    storage = await open_storage(_settings(media_location=tmp_path / "some" / "media"))
    path = storage.managed_path(Key("a"))
    await _write(storage, path, b"a")
    assert (tmp_path / "some/media/a").read_bytes() == b"a"
    with pytest.raises(InvalidKey):
        await storage.stat("s3://bucket/a")
    await storage.aclose()


async def test_a_media_location_that_is_a_file_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "media").write_bytes(b"")
    with pytest.raises(InvalidKey) as failure:
        await open_storage(_settings(media_location=tmp_path / "media"))
    assert str(tmp_path / "media") in str(failure.value)


@pytest.mark.parametrize("with_folder", [False, True])
async def test_disk_and_a_real_bucket_side_by_side(seaweedfs: SeaweedFS, tmp_path: Path, with_folder: bool) -> None:
    if with_folder:
        (tmp_path / "media").mkdir()
    bucket = seaweedfs.create_bucket()
    storage = await open_storage(
        _settings(
            storage_engine="s3",
            media_location=tmp_path / "media",
            s3_endpoint=seaweedfs.endpoint,
            s3_bucket=bucket,
            s3_prefix="some/prefix",
            s3_access_key_id=seaweedfs.admin.access_key,
            s3_secret_access_key=seaweedfs.admin.secret_key,
            s3_force_path_style=True,
        )
    )
    moved, here = storage.managed_path(Key("upload/a#b %2F.jpg")), f"{tmp_path}/media/upload/a#b %2F.jpg"
    assert moved == f"s3://{bucket}/some/prefix/upload/a#b %2F.jpg"
    await _write(storage, moved, b"moved")
    assert seaweedfs.objects(bucket) == {"some/prefix/upload/a#b %2F.jpg": 5}
    assert storage.is_managed_path(here)
    if with_folder:
        await _write(storage, here, b"here")
        assert await _read(storage, here) == b"here"
        assert sorted([path async for path, _ in storage.list_managed()]) == sorted([moved, here])
        await storage.copy(here, moved + ".copy")
        assert await _read(storage, moved + ".copy") == b"here"
    else:
        with pytest.raises(StorageUnavailable):
            await storage.stat(here)
        assert not (tmp_path / "media").exists()
    assert await _read(storage, moved) == b"moved"
    await storage.aclose()
