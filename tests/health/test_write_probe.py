"""Readiness on S3: a test object once an hour, the marker in between, and failures that uploads meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.catalog.catalog import open_catalog
from app.health.markers import MediaLocationCheck
from app.health.media_folder import MountCheckFailed
from app.health.mount_states import MountCondition
from app.health.write_probe import LONGEST_RETRY_SECONDS, PROBE_SECONDS, WriteProbe
from app.storage.errors import StorageError, StoragePermission, StorageUnavailable
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.real.proxy import Fault, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS
from tests.storage.s3.conftest import s3_settings


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Bucket:
    """A media location in S3 behind a proxy, and its check."""

    def __init__(
        self,
        store: SeaweedFS,
        proxy: Proxy,
        name: str,
        storage: StorageService,
        check: MediaLocationCheck,
        clock: Clock,
    ) -> None:
        self.store = store
        self.proxy = proxy
        self.name = name
        self.storage = storage
        self.media = check
        self.clock = clock

    @property
    def writes(self) -> int:
        """The number of test objects written so far."""
        return len([request for request in self.proxy.of("PUT") if "probe" in request.path])

    @property
    def reads(self) -> int:
        return len([request for request in self.proxy.of("GET") if request.path.endswith("/.immich")])

    async def upload(self, name: str) -> None:
        async with self.storage.write(self.storage.managed_path(Key(name))) as writer:
            await writer.write(b"x")


def is_put(request: Recorded) -> bool:
    return request.method == "PUT"


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[Proxy]:
    with Proxy(seaweedfs.port) as running:
        yield running


@pytest.fixture
async def bucket(seaweedfs: SeaweedFS, proxy: Proxy, tmp_path: Path) -> AsyncIterator[Bucket]:
    name, clock = seaweedfs.create_bucket(), Clock()
    more = {"IMMICH_STORAGE_ENGINE": "s3", "IMMICH_MEDIA_LOCATION": str(tmp_path / "none"), "MEDIAVAULT_S3_DEADLINE": 2}
    settings = s3_settings(proxy.endpoint, seaweedfs.admin, name, "vault", **more)
    catalog = await open_catalog(f"sqlite:///{tmp_path}/catalogue.db")
    storage = await open_storage(settings)
    check = MediaLocationCheck(catalog, storage, clock=clock)
    await check.check_readiness()
    yield Bucket(seaweedfs, proxy, name, storage, check, clock)
    await check.aclose()
    await storage.aclose()
    await catalog.aclose()


async def test_a_test_object_is_written_once_an_hour_and_the_marker_read_in_between(bucket: Bucket) -> None:
    assert bucket.writes == 1
    for _ in range(5):
        read = bucket.reads
        await bucket.media.check_readiness()
        assert bucket.reads == read + 1
        bucket.clock.now += PROBE_SECONDS / 6
    assert bucket.writes == 1
    bucket.clock.now += PROBE_SECONDS / 6
    await bucket.media.check_readiness()
    assert bucket.writes == 2


async def test_an_outage_is_noticed_and_its_end_costs_no_write(bucket: Bucket) -> None:
    bucket.proxy.faults.append(Fault(status=503, code="SlowDown"))
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            await bucket.media.check_readiness()
    bucket.proxy.faults.clear()
    await bucket.media.check_readiness()
    assert bucket.writes == 1


async def test_a_foreign_marker_an_emptied_place_and_a_lost_bucket_are_noticed(bucket: Bucket) -> None:
    store, marker = bucket.store.administration, {"Bucket": bucket.name, "Key": "vault/.immich"}
    ours = store.get_object(**marker)["Body"].read()
    store.put_object(**marker, Body=b"somebody else")
    with pytest.raises(MountCheckFailed) as foreign:
        await bucket.media.check_readiness()
    assert foreign.value.condition is MountCondition.NOT_OURS
    store.delete_object(**marker)
    with pytest.raises(MountCheckFailed) as emptied:
        await bucket.media.check_readiness()
    assert emptied.value.condition is MountCondition.UNMOUNTED
    store.put_object(**marker, Body=ours)
    await bucket.media.check_readiness()
    store.delete_object(**marker)
    store.delete_bucket(Bucket=bucket.name)
    with pytest.raises(StorageUnavailable):
        await bucket.media.check_readiness()
    assert bucket.writes == 1


async def test_what_an_upload_meets_is_told_and_that_it_is_over(bucket: Bucket) -> None:
    await bucket.upload("upload/a")
    fault = Fault(is_put, status=403, code="AccessDenied")
    bucket.proxy.faults.append(fault)
    for name in ("upload/b", "upload/c"):
        with pytest.raises(StoragePermission):
            await bucket.upload(name)
    await bucket.media.check_readiness()  # the last test object is less than a minute old
    bucket.clock.now += 61
    tried = fault.seen
    for _ in range(5):
        with pytest.raises(StoragePermission):
            await bucket.media.check_readiness()
    assert fault.seen == tried + 1
    bucket.proxy.faults.clear()
    bucket.clock.now += 6
    await bucket.media.check_readiness()
    await bucket.upload("upload/d")
    written = bucket.writes
    bucket.clock.now += PROBE_SECONDS - 1
    await bucket.media.check_readiness()
    assert bucket.writes == written


@pytest.mark.parametrize(("stored", "probes"), [(True, 24 + 12), (False, 24 * 60 + 12)])
async def test_while_it_fails_it_is_tried_less_and_less(stored: bool, probes: int) -> None:
    clock, tried = Clock(), 0

    async def refused() -> None:
        nonlocal tried
        tried += 1
        error = StoragePermission("", "s3", "no")
        error.probe_was_stored = stored
        raise error

    probe = WriteProbe(refused, lambda: 0, lambda: 0, clock)
    for _ in range(24 * 3600 // 3):
        with pytest.raises(StoragePermission):
            await probe.check()
        clock.now += 3
    assert tried < probes


async def _fail_for_hours(bucket: Bucket, fault: Fault) -> None:
    bucket.clock.now += PROBE_SECONDS
    bucket.proxy.faults.append(fault)
    for _ in range(20):
        with pytest.raises(StoragePermission):
            await bucket.media.check_readiness()
        bucket.clock.now += 1200
    with pytest.raises(StoragePermission):
        await bucket.media.check_readiness()
    bucket.proxy.faults.clear()


async def test_a_minute_after_writes_are_taken_again_it_is_ready(bucket: Bucket) -> None:
    await _fail_for_hours(bucket, Fault(is_put, status=403, code="AccessDenied"))
    bucket.clock.now += LONGEST_RETRY_SECONDS
    await bucket.media.check_readiness()


async def test_a_write_of_anybody_that_is_taken_ends_it_at_once(bucket: Bucket) -> None:
    await _fail_for_hours(bucket, Fault(is_put, status=403, code="AccessDenied"))
    with pytest.raises(StoragePermission):
        await bucket.media.check_readiness()
    await bucket.upload("upload/a")
    await bucket.media.check_readiness()


async def test_test_objects_that_cannot_be_removed_are_not_made_every_minute(bucket: Bucket) -> None:
    """Also if other writes succeed."""
    await _fail_for_hours(bucket, Fault(lambda request: request.method == "DELETE", status=403, code="AccessDenied"))
    made = bucket.writes
    await bucket.upload("upload/a")
    bucket.clock.now += LONGEST_RETRY_SECONDS
    with pytest.raises(StoragePermission):
        await bucket.media.check_readiness()
    assert bucket.writes == made


async def test_a_probe_that_is_not_waited_for_counts_as_failed() -> None:
    clock, answered = Clock(), asyncio.Event()
    probe = WriteProbe(lambda: _wait(answered), lambda: 0, lambda: 0, clock)
    waiting = asyncio.create_task(probe.check())
    await asyncio.sleep(0)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    with pytest.raises(StorageError):
        await probe.check()
    answered.set()
    clock.now += 6
    await probe.check()


async def _wait(event: asyncio.Event) -> None:
    await event.wait()
