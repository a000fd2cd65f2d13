"""`S3Writer`: part sizes, left-overs of failed writes, lost answers, memory and back-pressure."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from datetime import timedelta

import psutil
import pytest

from app.storage.errors import InvalidKey, ObjectExists, ObjectTooLarge, StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.s3.part_sizes import MAXIMUM_PART_BYTES
from app.storage.s3.protocol.capabilities import S3Feature
from tests.real.proxy import Answered, Fault, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS
from tests.storage.s3.conftest import OpenBackend, eventually, read, write

MIB = 1024 * 1024
DATA = random.Random(9).randbytes(20 * MIB + 5)


def completing(request: Recorded) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def putting(request: Recorded) -> bool:
    return request.method == "PUT" and "uploadId" not in request.query


def sending_a_part(request: Recorded) -> bool:
    return request.method == "PUT" and "partNumber" in request.query


async def test_what_no_object_can_hold_is_refused_before_a_byte(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    with pytest.raises(ObjectTooLarge):
        await write(backend, "a", b"", size=10_000 * MAXIMUM_PART_BYTES + 1)
    assert not proxy.requests


@pytest.mark.parametrize("profile", ["compatible", "aws"])
@pytest.mark.parametrize("size", [0, 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1, len(DATA)])
async def test_sizes_around_a_part(open_backend: OpenBackend, proxy: Proxy, size: int, profile: str) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, MEDIAVAULT_S3_CHECKSUMS=profile)
    await write(backend, "a", DATA[:size])
    assert await read(backend, "a") == DATA[:size]
    lengths = [int(request.headers["content-length"]) for request in proxy.requests if sending_a_part(request)]
    assert sorted(lengths, reverse=True) == (
        [] if size < 8 * MIB else [8 * MIB] * (size // (8 * MIB)) + ([size % (8 * MIB)] if size % (8 * MIB) else [])
    )


async def test_type_and_metadata_survive_a_copy_in_one_go_and_by_parts(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend()
    await write(backend, "a", DATA, content_type="video/mp4", metadata={"owner": "someone"})
    await backend.copy_object(Key("a"), Key("whole"))
    backend.max_copy_bytes, backend.copy_part_bytes = 8 * MIB, 6 * MIB
    await backend.copy_object(Key("a"), Key("parts"))
    for name in ("whole", "parts"):
        found = seaweedfs.administration.head_object(Bucket=bucket, Key=f"{prefix}/{name}")
        assert (found["ContentType"], found["Metadata"]["owner"]) == ("video/mp4", "someone")
        assert await read(backend, name) == DATA
    for name in ("whole", "parts"):
        with pytest.raises(ObjectExists):
            await backend.copy_object(Key("a"), Key(name))


async def test_a_copy_by_parts_that_fails_leaves_nothing(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", DATA)
    backend.max_copy_bytes, backend.copy_part_bytes = 8 * MIB, 6 * MIB
    proxy.faults.append(
        Fault(lambda request: request.query.get("partNumber") == "2", status=400, code="InvalidRequest")
    )
    with pytest.raises(StorageError):
        await backend.copy_object(Key("a"), Key("b"))
    assert set(seaweedfs.objects(bucket, prefix)) == {f"{prefix}/a"}
    assert not seaweedfs.unfinished_uploads(bucket, prefix)


@pytest.mark.parametrize("size", [10, len(DATA)])
@pytest.mark.parametrize("times", [1, None])
async def test_a_lost_answer_to_the_commit_is_settled_by_asking(
    open_backend: OpenBackend, proxy: Proxy, size: int, times: int | None
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    committing = putting if size < 8 * MIB else completing
    proxy.faults.append(Fault(committing, times=times, lose_answer=True))
    await write(backend, "a", DATA[:size])
    assert proxy.faults[0].seen >= 1
    proxy.faults.clear()
    assert await read(backend, "a") == DATA[:size]


@pytest.mark.parametrize("by_parts", [False, True])
@pytest.mark.parametrize("times", [1, None])
async def test_a_lost_answer_to_a_copy_is_settled_by_asking(
    open_backend: OpenBackend, proxy: Proxy, by_parts: bool, times: int | None
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", DATA)
    if by_parts:
        backend.max_copy_bytes, backend.copy_part_bytes = 8 * MIB, 6 * MIB
    proxy.faults.append(Fault(completing if by_parts else putting, times=times, lose_answer=True))
    await backend.copy_object(Key("a"), Key("b"))
    assert proxy.faults[0].seen >= 1
    assert await read(backend, "b") == DATA


@pytest.mark.parametrize("size", [10, len(DATA)])
async def test_somebody_elses_object_is_never_taken_for_ours(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str, size: int
) -> None:
    """Both write the same bytes to the same key, and the loser's answers are lost, too."""
    backend = await open_backend(endpoint=proxy.endpoint)
    other = await open_backend()

    async def lose_the_race() -> None:
        async with backend.write_stream(Key("a")) as writer:
            await writer.write(DATA[:size])
            await write(other, "a", DATA[:size])
            proxy.faults.append(Fault(putting if size < 8 * MIB else completing, lose_answer=True))

    with pytest.raises(ObjectExists):
        await lose_the_race()
    assert not seaweedfs.unfinished_uploads(bucket, prefix)


REFUSED = (412, "PreconditionFailed")
UPLOAD_GONE = (404, "NoSuchUpload")


@pytest.mark.parametrize(
    ("size", "answer"),
    [(10, REFUSED), (10, (404, "NoSuchKey")), (len(DATA), REFUSED), (len(DATA), UPLOAD_GONE)],
    ids=str,
)
async def test_a_commit_that_is_refused_where_there_is_no_object_is_worth_another_try(
    open_backend: OpenBackend, proxy: Proxy, size: int, answer: tuple[int, str]
) -> None:
    """The upload was swept, or the object in the way was deleted again: the error is neither `ObjectNotFound` nor `ObjectExists`."""
    backend = await open_backend(endpoint=proxy.endpoint)
    committing = putting if size < 8 * MIB else completing
    proxy.faults.append(Fault(committing, status=answer[0], code=answer[1]))
    with pytest.raises(StorageUnavailable):
        await write(backend, "a", DATA[:size])
    assert proxy.faults[0].seen == 1
    proxy.faults.clear()
    assert not await backend.exists(Key("a"))
    await write(backend, "a", DATA[:size])
    assert await read(backend, "a") == DATA[:size]


@pytest.mark.parametrize(
    ("fails", "answer"),
    [(putting, REFUSED), (completing, REFUSED), (completing, UPLOAD_GONE), (sending_a_part, UPLOAD_GONE)],
    ids=["whole", "refused", "upload gone at the end", "upload gone at a part"],
)
async def test_a_copy_that_is_refused_where_there_is_no_object_is_worth_another_try(
    open_backend: OpenBackend, proxy: Proxy, fails: Callable[[Recorded], bool], answer: tuple[int, str]
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", DATA)
    if fails is not putting:
        backend.max_copy_bytes, backend.copy_part_bytes = 8 * MIB, 6 * MIB
    proxy.faults.append(Fault(fails, status=answer[0], code=answer[1]))
    with pytest.raises(StorageUnavailable):
        await backend.copy_object(Key("a"), Key("b"))
    proxy.faults.clear()
    await backend.copy_object(Key("a"), Key("b"))
    assert await read(backend, "b") == DATA


async def test_a_part_whose_upload_is_gone_is_worth_another_try(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(sending_a_part, status=404, code="NoSuchUpload"))
    with pytest.raises(StorageUnavailable):
        await write(backend, "a", DATA)
    proxy.faults.clear()
    await write(backend, "a", DATA)
    assert await read(backend, "a") == DATA


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
async def test_a_store_without_conditional_writes_still_takes_them(
    open_backend: OpenBackend, proxy: Proxy, status: int, code: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(lambda request: "if-none-match" in request.headers, status=status, code=code))
    await write(backend, "a", b"one")
    await write(backend, "b", DATA)
    await backend.copy_object(Key("a"), Key("c"))
    found_out = proxy.faults[0].seen
    assert set(backend.client.capabilities.missing) == {
        S3Feature.CONDITIONAL_PUT,
        S3Feature.CONDITIONAL_COMPLETE,
        S3Feature.CONDITIONAL_COPY,
    }
    for data in (b"two", DATA):
        with pytest.raises(ObjectExists):
            await write(backend, "a", data)
    await write(backend, "d", DATA)
    await backend.copy_object(Key("b"), Key("e"))
    assert await read(backend, "a") == b"one"
    assert proxy.faults[0].seen == found_out


async def test_a_key_that_is_taken_during_the_write_is_refused_without_conditional_writes(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    """Also by the write that detects that the store has none."""
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(lambda request: "if-none-match" in request.headers, status=400, code="InvalidArgument"))

    async def come_late(key: str, size: int) -> None:
        async with backend.write_stream(Key(key)) as writer:
            await writer.write(DATA[:size])
            await write(backend, key, b"early")

    for key, size in (("a", 10), ("b", len(DATA))):
        with pytest.raises(ObjectExists):
            await come_late(key, size)
        assert await read(backend, key) == b"early"


async def test_a_part_that_fails_ends_the_write_and_leaves_nothing(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(sending_a_part, status=400, code="InvalidRequest"))
    with pytest.raises(StorageError):
        await write(backend, "a", DATA * 4)
    assert not seaweedfs.unfinished_uploads(bucket, prefix)
    assert not seaweedfs.objects(bucket, prefix)


async def test_damage_on_the_way_is_noticed(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(putting, flip=True))
    with pytest.raises(StorageUnavailable):
        await write(backend, "a", b"0123456789")
    assert not await backend.exists(Key("a"))


@pytest.mark.parametrize("moment", range(6))
async def test_a_cancelled_write_leaves_nothing(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str, moment: int
) -> None:
    backend = await open_backend()
    reached = asyncio.Event()

    async def endless() -> None:
        async with backend.write_stream(Key("a")) as writer:
            for number in range(10_000):
                if number == moment * 9:
                    reached.set()
                await writer.write(bytearray(MIB))

    task = asyncio.create_task(endless())
    await asyncio.wait_for(reached.wait(), 30)
    await asyncio.sleep(0.01 * moment)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert not seaweedfs.objects(bucket, prefix)
    assert not seaweedfs.unfinished_uploads(bucket, prefix)


async def test_a_write_that_is_cancelled_while_it_commits_is_whole(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(completing, delay=0.5))
    task = asyncio.create_task(write(backend, "a", DATA))
    async with asyncio.timeout(20):
        await eventually(lambda: proxy.faults[0].seen > 0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await read(backend, "a") == DATA


async def test_the_sweep_takes_what_dead_processes_left_and_only_below_the_prefix(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    store = seaweedfs.administration
    for key in (f"{prefix}/left", f"{prefix}-other/left"):
        store.create_multipart_upload(Bucket=bucket, Key=key)
    store.put_object(Bucket=bucket, Key=f"{prefix}/.mediavault-probe-1.tmp", Body=b"x")
    backend = await open_backend()
    async with backend.write_stream(Key("alive")) as writer:
        await writer.write(DATA)
        assert await backend.sweep_leftovers(timedelta(days=1)) == 0
        assert await backend.sweep_leftovers(timedelta(0)) == 2
    assert await read(backend, "alive") == DATA
    assert set(seaweedfs.objects(bucket, f"{prefix}/")) == {f"{prefix}/alive"}
    assert set(seaweedfs.unfinished_uploads(bucket, prefix).values()) == {f"{prefix}-other/left"}


async def test_the_sweep_aborts_uploads_whose_keys_look_encoded(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    """SeaweedFS lists these keys without encoding, and declares that they are encoded."""
    for name in ("a %2Bé+&", "100%25 +plus+.jpg", "plain"):
        seaweedfs.administration.create_multipart_upload(Bucket=bucket, Key=f"{prefix}/{name}")
    backend = await open_backend()
    assert await backend.sweep_leftovers(timedelta(0)) == 3
    assert seaweedfs.unfinished_uploads(bucket, prefix) == {}


async def test_the_sweep_leaves_what_the_store_tells_no_date_of(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    """An object without a date may be a test object in use."""
    probe = f"{prefix}/.mediavault-probe-1.tmp"
    seaweedfs.administration.put_object(Bucket=bucket, Key=probe, Body=b"x")
    backend = await open_backend(endpoint=proxy.endpoint)

    def undated(_request: Recorded, answered: Answered) -> Answered:
        body = re.sub(rb"<LastModified>[^<]*</LastModified>", b"", answered.body)
        return Answered(answered.status, answered.headers, body)

    proxy.faults.append(Fault(lambda request: "list-type" in request.query, rewrite=undated))
    assert await backend.sweep_leftovers(timedelta(days=1)) == 0
    assert set(seaweedfs.objects(bucket, f"{prefix}/")) == {probe}


async def test_keys_that_may_not_be_deleted_are_named(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    for name in ("yes/a", "no/a"):
        seaweedfs.administration.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"x")
    identity = seaweedfs.add_prefix_identity(f"half{prefix[-6:]}", bucket, f"{prefix}/yes")
    backend = await open_backend(identity=identity)
    failed = await backend.delete_objects([Key("yes/a"), Key("no/a")])
    assert set(failed) == {Key("no/a")}
    assert set(seaweedfs.objects(bucket, prefix)) == {f"{prefix}/no/a"}


async def test_no_key_lies_below_another_object(open_backend: OpenBackend) -> None:
    backend = await open_backend()
    await write(backend, "a/b", b"x")
    await write(backend, "c", b"x")
    for key in ("a", "a/b/c", "c/d/e"):
        with pytest.raises(InvalidKey):
            await write(backend, key, b"x")
        with pytest.raises(InvalidKey):
            await backend.copy_object(Key("c"), Key(key))
    await write(backend, "a/bc", b"x")


async def test_memory_stays_flat_while_a_large_object_of_unknown_length_goes_through(
    open_backend: OpenBackend, soak: bool
) -> None:
    pieces = 1024 if soak else 256
    backend = await open_backend()
    process = psutil.Process()
    await write(backend, "warm", DATA)
    before = process.memory_info().rss
    most = before
    piece = bytearray(MIB)
    async with asyncio.timeout(300), backend.write_stream(Key("large")) as writer:
        for number in range(pieces):
            piece[:4] = number.to_bytes(4, "big")
            await writer.write(piece)
            most = max(most, process.memory_info().rss)
    assert (await backend.head(Key("large"))).size == pieces * MIB
    await backend.delete_object(Key("large"))
    assert most - before < 64 * MIB, f"grew by {(most - before) // MIB} MiB"


async def test_a_slow_store_slows_the_writer_down(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.rate = 5_000_000
    started = time.monotonic()
    async with asyncio.timeout(60), backend.write_stream(Key("a")) as writer:
        for taken in range(1, 57):
            await writer.write(bytearray(MIB))
            # Four parts in flight, one being filled, and the sockets' buffers.
            assert taken * MIB < 5_000_000 * (time.monotonic() - started) + 48 * MIB
    assert time.monotonic() - started > 56 * MIB / 5_000_000 * 0.8


async def test_many_writers_share_the_memory_and_all_finish(open_backend: OpenBackend) -> None:
    backend = await open_backend(MEDIAVAULT_S3_WRITE_BUFFER=32 * MIB)

    async def write_slowly(number: int) -> None:
        async with backend.write_stream(Key(f"many/{number}")) as writer:
            for _ in range(18):
                await writer.write(bytearray(MIB // 2))
                await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await asyncio.gather(*(write_slowly(number) for number in range(12)))
    assert [info.size async for info in backend.list_objects("many")] == [9 * MIB] * 12
