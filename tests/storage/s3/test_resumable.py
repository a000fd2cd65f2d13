"""Resumable writes to a store that fails, answers late or loses what it has acknowledged; and which requests they send."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import timedelta

import pytest

from app.storage.errors import ObjectNotFound, ObjectTooLarge, StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.resumable import ResumableWriteState
from tests.real.proxy import Fault, Hold, Proxy
from tests.real.seaweedfs import SeaweedFS
from tests.storage.guarantees.resumable import KEY, append, begin, commit
from tests.storage.guarantees.resumable_row import TakenOver
from tests.storage.s3.conftest import OpenBackend, eventually, read
from tests.storage.s3.test_writer import completing, putting, sending_a_part

MIB = 1024 * 1024
DATA = random.Random(9).randbytes(18 * MIB + 5)


async def test_chunks_as_large_as_parts_are_sent_once_and_nothing_is_read_back(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    saved = await begin(backend, len(DATA))
    for first in range(0, len(DATA), 8 * MIB):
        await append(backend, saved, DATA[first : first + 8 * MIB], len(DATA))
    await commit(backend, saved, len(DATA))
    lengths = [int(request.headers["content-length"]) for request in proxy.requests if request.method == "PUT"]
    assert lengths == [8 * MIB, 8 * MIB, 2 * MIB + 5]
    assert all("list-type" in request.query for request in proxy.requests if request.method == "GET")
    assert await read(backend, KEY.value) == DATA


@pytest.mark.parametrize("size", [MIB, len(DATA)])
async def test_a_commit_whose_answer_is_lost_is_one(open_backend: OpenBackend, proxy: Proxy, size: int) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    saved = await begin(backend, None)
    await append(backend, saved, DATA[:size], None)
    proxy.faults.append(Fault(completing if size > MIB else putting, lose_answer=True))
    await commit(backend, saved, size)
    assert proxy.faults[0].seen
    proxy.faults.clear()
    await commit(backend, saved, size)
    assert await read(backend, KEY.value) == DATA[:size]


@pytest.mark.parametrize("lose_answer", [False, True])
async def test_an_append_that_the_store_fails_is_repeated_from_the_last_checkpoint(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str, lose_answer: bool
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    saved = await begin(backend, len(DATA))
    await append(backend, saved, DATA[: 3 * MIB], len(DATA))
    for failing in (sending_a_part, putting):
        before = saved.state.offset
        proxy.faults.append(
            Fault(failing, status=None if lose_answer else 400, code="InvalidRequest", lose_answer=lose_answer)
        )
        with pytest.raises(StorageError):
            await append(backend, saved, DATA[before : before + 8 * MIB], len(DATA))
        assert proxy.faults.pop().seen
        assert saved.state.offset == before
        await append(backend, saved, DATA[before : before + 6 * MIB], len(DATA))
    await append(backend, saved, DATA[15 * MIB :], len(DATA))
    await commit(backend, saved, len(DATA))
    assert await read(backend, KEY.value) == DATA
    await backend.sweep_leftovers(timedelta(0))
    assert set(seaweedfs.objects(bucket, prefix)) == {f"{prefix}/{KEY}"}


async def test_a_part_that_arrives_late_replaces_none(open_backend: OpenBackend, proxy: Proxy) -> None:
    """The older writer's part is on its way when a newer one takes over, and arrives right before the commit."""
    older_backend, backend = await open_backend(endpoint=proxy.endpoint), await open_backend()
    saved = await begin(backend, len(DATA))
    await append(backend, saved, DATA[: 9 * MIB], len(DATA))
    late = Hold()
    proxy.faults.append(Fault(sending_a_part, hold=late))
    older = asyncio.create_task(append(older_backend, saved, bytes(len(DATA) - 9 * MIB), len(DATA)))
    assert await asyncio.to_thread(late.arrived.wait, 20)
    await append(backend, saved, DATA[9 * MIB :], len(DATA))
    late.released.set()
    with pytest.raises(TakenOver):
        await older
    await commit(backend, saved, len(DATA))
    assert await read(backend, KEY.value) == DATA


async def test_a_tail_that_holds_other_bytes_is_a_loss(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend()
    saved = await begin(backend, 100)
    await append(backend, saved, bytes(50), 100)
    (tail,) = seaweedfs.objects(bucket, prefix)
    seaweedfs.administration.put_object(Bucket=bucket, Key=tail, Body=b"x" * 50)
    with pytest.raises(ObjectNotFound):
        await append(backend, saved, bytes(50), 100)
    assert saved.state.offset == 50


async def test_a_multipart_upload_that_a_lifecycle_rule_has_aborted_is_a_loss(
    open_backend: OpenBackend, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend()
    saved = await begin(backend, len(DATA))
    await append(backend, saved, DATA[: 16 * MIB], len(DATA))
    await backend.resumable_writes.check(KEY, saved.state)
    for upload_id, key in seaweedfs.unfinished_uploads(bucket, prefix).items():
        seaweedfs.administration.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    for attempt in (
        backend.resumable_writes.check(KEY, saved.state),
        append(backend, saved, DATA[16 * MIB :], len(DATA)),
        commit(backend, saved, 16 * MIB),
    ):
        with pytest.raises(ObjectNotFound):
            await attempt


async def test_when_the_store_is_away_nothing_counts_as_lost(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    saved = await begin(backend, len(DATA))
    await append(backend, saved, DATA[: 9 * MIB], len(DATA))
    proxy.faults.append(Fault(status=503, code="SlowDown"))
    for attempt in (
        backend.resumable_writes.check(KEY, saved.state),
        append(backend, saved, DATA[9 * MIB :], len(DATA)),
        backend.resumable_writes.abort(KEY, saved.state),
        commit(backend, saved, 9 * MIB),
    ):
        with pytest.raises(StorageUnavailable):
            await attempt


async def test_part_numbers_run_out_with_a_clear_error(open_backend: OpenBackend) -> None:
    backend = await open_backend()
    saved = await begin(backend, None)
    await append(backend, saved, DATA[: 9 * MIB], None)
    state = json.loads(saved.state.value) | {"reserved": 10_000}
    saved.state = ResumableWriteState(json.dumps(state))
    with pytest.raises(ObjectTooLarge, match="10000 part numbers"):
        await append(backend, saved, DATA[9 * MIB :], None)


async def test_many_appends_share_the_memory_of_all_writes(open_backend: OpenBackend) -> None:
    """More parts at once than fit into it, the tails that are read back among them."""
    backend = await open_backend(MEDIAVAULT_S3_WRITE_BUFFER=32 * MIB)

    async def upload(number: int) -> None:
        key = Key(f"many/{number}")
        saved = await begin(backend, None, key=key)
        for _ in range(3):
            await append(backend, saved, DATA[: 3 * MIB], None, key=key)
        await backend.resumable_writes.commit(key, saved.state, 9 * MIB)

    async with asyncio.timeout(60):
        await asyncio.gather(*(upload(number) for number in range(8)))
    assert [info.size async for info in backend.list_objects("many")] == [9 * MIB] * 8


async def test_an_append_that_is_cancelled_tells_what_it_took(open_backend: OpenBackend, proxy: Proxy) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    saved = await begin(backend, len(DATA))
    held = Hold()
    proxy.faults.append(Fault(sending_a_part, hold=held))
    async with backend.resumable_writes.append(
        KEY, saved.state, size=len(DATA), save=saved.begin_append(), is_contested=False
    ) as appender:
        writing = asyncio.create_task(appender.write(DATA))
        await eventually(lambda: appender.offset >= 8 * MIB)
        writing.cancel()
        await asyncio.wait([writing])
        held.released.set()
        await appender.write(DATA[appender.offset :])
        await appender.checkpoint()
    await commit(backend, saved, len(DATA))
    assert await read(backend, KEY.value) == DATA
