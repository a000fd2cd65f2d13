"""Stores that refuse or ignore parts of S3: detected once per kind of request, and worked around."""

from __future__ import annotations

import asyncio
import random
import re
from datetime import timedelta

import pytest

from app.storage.errors import ObjectExists, StorageError, StorageUnavailable
from app.storage.key import Key
from app.storage.s3 import feature_probe
from app.storage.s3.protocol.capabilities import S3Feature
from app.storage.s3.protocol.errors import S3RequestRefused
from tests.real.moto import Moto
from tests.real.proxy import Answered, Fault, Proxy, Recorded
from tests.real.quirks import LISTING_QUIRKS, NO_WAY_ON
from tests.real.seaweedfs import SeaweedFS
from tests.storage.s3.conftest import OpenBackend, eventually, read, write

MIB = 1024 * 1024
DATA = random.Random(14).randbytes(9 * MIB)
NAMES = ["a", "a b", "a%20c", "a+b", "b/%2B", "b/é", "c&d", "d", "e/f", "e/g"]


def putting(request: Recorded) -> bool:
    return request.method == "PUT" and "uploadId" not in request.query


@pytest.mark.parametrize("status", [400, 501])
@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("x-amz-checksum-type", {S3Feature.FULL_OBJECT_CHECKSUM}),
        ("x-amz-checksum-algorithm", {S3Feature.FULL_OBJECT_CHECKSUM, S3Feature.MULTIPART_CHECKSUM}),
        ("x-amz-checksum-crc32", {S3Feature.PUT_CHECKSUM, S3Feature.PART_CHECKSUM, S3Feature.BATCH_DELETE}),
        (
            "x-amz-checksum-",
            {
                S3Feature.FULL_OBJECT_CHECKSUM,
                S3Feature.MULTIPART_CHECKSUM,
                S3Feature.PUT_CHECKSUM,
                S3Feature.PART_CHECKSUM,
                S3Feature.BATCH_DELETE,
            },
        ),
    ],
)
async def test_checksum_fields_that_are_refused_are_left_out(
    open_backend: OpenBackend, proxy: Proxy, header: str, missing: set[S3Feature], status: int
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    code = "InvalidRequest" if status == 400 else "NotImplemented"
    fault = Fault(lambda request: any(name.startswith(header) for name in request.headers), status=status, code=code)
    proxy.faults.append(fault)
    await write(backend, "small", b"small")
    await write(backend, "large", DATA)
    await write(backend, "gone", b"x")
    assert await backend.delete_objects([Key("gone"), Key("missing")]) == {}
    assert set(backend.client.capabilities.missing) == missing
    found_out = fault.seen
    await write(backend, "small2", b"small")
    await write(backend, "large2", DATA)
    for name, data in (("small", b"small"), ("small2", b"small"), ("large", DATA), ("large2", DATA)):
        assert await read(backend, name) == data
    assert fault.seen == found_out


async def test_a_checksum_type_that_is_taken_and_refused_at_the_end_is_left_out(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    """The store does not find the parts of an upload with a full-object checksum when it is completed."""
    backend = await open_backend(endpoint=proxy.endpoint, trial=True)
    refused: set[str] = set()

    def remember(_request: Recorded, answered: Answered) -> Answered:
        found = re.search(rb"<UploadId>([^<]*)</UploadId>", answered.body)
        assert found
        refused.add(found[1].decode())
        return answered

    proxy.faults.append(
        Fault(lambda request: request.method == "POST" and "x-amz-checksum-type" in request.headers, rewrite=remember)
    )
    proxy.faults.append(
        Fault(
            lambda request: request.method == "POST" and request.query.get("uploadId") in refused,
            status=400,
            code="InvalidPart",
        )
    )
    for name in ("a", "b"):
        await write(backend, name, DATA)
        assert await read(backend, name) == DATA
    assert len(refused) == 1
    assert set(backend.client.capabilities.missing) == {S3Feature.FULL_OBJECT_CHECKSUM, S3Feature.MULTIPART_CHECKSUM}


@pytest.mark.parametrize("code", ["BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"])
async def test_damage_on_the_way_costs_no_checksum(open_backend: OpenBackend, proxy: Proxy, code: str) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(putting, status=400, code=code))
    with pytest.raises(StorageUnavailable):
        await write(backend, "a", b"0123456789")
    assert proxy.faults[0].seen == 1
    assert not backend.client.capabilities.missing


async def test_a_refusal_that_stays_without_the_fields_says_nothing_about_them(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(putting, status=400, code="InvalidRequest"))
    with pytest.raises(S3RequestRefused):
        await write(backend, "a", b"0123456789")
    assert not backend.client.capabilities.missing


@pytest.mark.parametrize(
    ("status", "code"),
    [(501, "NotImplemented"), (405, "MethodNotAllowed"), (404, "NoSuchUpload"), (400, "InvalidRequest")],
)
async def test_the_sweep_of_a_store_that_lists_no_uploads_does_the_rest(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str, status: int, code: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    proxy.faults.append(Fault(lambda request: "uploads" in request.query, status=status, code=code))
    for _ in range(2):
        seaweedfs.administration.put_object(Bucket=bucket, Key=f"{prefix}/.mediavault-probe-1.tmp", Body=b"x")
        assert await backend.sweep_leftovers(timedelta(0)) == 1
    assert proxy.faults[0].seen == 1


@pytest.mark.parametrize("size", [10, 9 * MIB])
@pytest.mark.parametrize("free", [False, True])
async def test_a_key_is_written_once_where_the_store_ignores_the_condition(
    open_backend: OpenBackend, moto: Moto, moto_bucket: str, size: int, free: bool
) -> None:
    with Proxy(moto.port) as proxy:
        proxy.faults.append(Fault(lambda request: True, without=frozenset({"if-none-match"})))
        backend = await open_backend(endpoint=proxy.endpoint, identity=moto.admin, bucket=moto_bucket, trial=True)

        async def come_late() -> None:
            async with backend.write_stream(Key("a"), skip_exists_check=free) as writer:
                await writer.write(DATA[:size])
                await write(backend, "a", b"early")

        with pytest.raises(ObjectExists):
            await come_late()
        with pytest.raises(ObjectExists):
            await write(backend, "a", DATA[:size], skip_exists_check=free)
        bodies = [DATA[racer : racer + 9 * MIB - 8] for racer in range(4)]
        results = await asyncio.gather(*(write(backend, "race", body) for body in bodies), return_exceptions=True)
        winners = [body for body, result in zip(bodies, results, strict=True) if result is None]
        assert winners == [await read(backend, "race")]
        assert await read(backend, "a") == b"early"
        assert S3Feature.CONDITIONAL_PUT in backend.client.capabilities.missing
        assert [info.key async for info in backend.list_objects()] == ["a", "race"]


@pytest.mark.parametrize("quirk", LISTING_QUIRKS)
async def test_a_listing_is_complete_and_goes_on_anywhere(
    open_backend: OpenBackend, moto: Moto, moto_bucket: str, quirk: str
) -> None:
    with Proxy(moto.port) as proxy:
        proxy.faults.extend(LISTING_QUIRKS[quirk]())
        backend = await open_backend(endpoint=proxy.endpoint, identity=moto.admin, bucket=moto_bucket, trial=True)
        for name in NAMES:
            await backend.put_object(Key(name), name.encode())
        listed = [info async for info in backend.list_objects()]
        assert sorted(info.key for info in listed) == sorted(NAMES)
        assert all(info.size == len(info.key.encode()) and info.etag for info in listed)
        order = [info.key for info in listed]
        for place, key in enumerate(order):
            assert [info.key async for info in backend.list_objects(start_after=key)] == order[place + 1 :]
        assert sorted([info.key async for info in backend.list_objects("b")]) == ["b/%2B", "b/é"]
        await backend.delete_object(Key(order[4]))
        assert [info.key async for info in backend.list_objects(start_after=order[4])] == order[5:]


@pytest.mark.parametrize("quirk", NO_WAY_ON)
async def test_a_listing_that_cannot_go_on_fails(
    open_backend: OpenBackend, moto: Moto, moto_bucket: str, quirk: str
) -> None:
    with Proxy(moto.port) as proxy:
        proxy.faults.extend(NO_WAY_ON[quirk]())
        backend = await open_backend(endpoint=proxy.endpoint, identity=moto.admin, bucket=moto_bucket, trial=True)
        for name in NAMES:
            await backend.put_object(Key(name), b"x")
        with pytest.raises(S3RequestRefused):
            async with asyncio.timeout(20):
                assert [info.key async for info in backend.list_objects()]


@pytest.mark.parametrize(
    ("operation", "without"),
    [("uploads", rb"<UploadId>[^<]*</UploadId>"), ("partNumber", b"etag"), ("list-type", rb"<Size>[^<]*</Size>")],
)
async def test_an_answer_without_what_it_is_for_is_a_refusal(
    open_backend: OpenBackend, proxy: Proxy, operation: str, without: bytes
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)

    def rewrite(_request: Recorded, answered: Answered) -> Answered:
        changed = answered.having(etag=None) if without == b"etag" else answered
        return Answered(changed.status, changed.headers, re.sub(without, b"", changed.body))

    await write(backend, "a/b", b"x")
    proxy.faults.append(Fault(lambda request: operation in request.query, rewrite=rewrite))
    with pytest.raises(S3RequestRefused):
        await (anext(backend.list_objects()) if operation == "list-type" else write(backend, "c", DATA))


async def test_trials_leave_nothing_and_find_nothing_missing_at_a_store_that_has_it_all(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, trial=True)
    await backend.feature_probe.probe_all()
    assert not backend.client.capabilities.missing
    assert backend.client.capabilities.confirmed == {
        S3Feature.CONDITIONAL_PUT,
        S3Feature.CONDITIONAL_COMPLETE,
        S3Feature.KEY_ENCODING,
        S3Feature.START_AFTER,
    }
    assert not seaweedfs.objects(bucket, prefix)
    assert not seaweedfs.unfinished_uploads(bucket, prefix)
    asked = len(proxy.requests)
    await backend.feature_probe.probe_all()
    assert len(proxy.requests) == asked


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (403, "AccessDenied")])
async def test_a_trial_that_fails_is_made_again(
    open_backend: OpenBackend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, status: int, code: str
) -> None:
    monkeypatch.setattr(feature_probe, "RETRY_SECONDS", 0)
    backend = await open_backend(endpoint=proxy.endpoint, trial=True, MEDIAVAULT_S3_DEADLINE=0.5)
    proxy.faults.append(Fault(putting, status=status, code=code))
    with pytest.raises(StorageError):
        await write(backend, "a", b"x")
    proxy.faults.clear()
    await write(backend, "a", b"x")
    assert backend.client.capabilities.confirmed == {S3Feature.CONDITIONAL_PUT}


async def test_all_writers_wait_for_one_trial_and_the_next_ones_for_none(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, trial=True, MEDIAVAULT_S3_DEADLINE=0.5)
    trying = Fault(lambda request: putting(request) and "trial-" in request.path, delay=2)
    proxy.faults += [trying, Fault(putting, status=503, code="SlowDown")]
    writes = [write(backend, f"{number}", b"x") for number in range(8)]
    assert [type(error) for error in await asyncio.gather(*writes, return_exceptions=True)] == [StorageUnavailable] * 8
    assert trying.seen == 1
    del proxy.faults[1]
    await write(backend, "after", b"x")
    assert trying.seen == 1


@pytest.mark.parametrize(("data", "commit"), [(b"x", "PUT"), (DATA, "POST")])
async def test_without_a_trial_a_key_is_asked_for_before_each_commit(
    open_backend: OpenBackend, proxy: Proxy, data: bytes, commit: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, trial=True)
    proxy.faults.append(Fault(lambda request: "trial-" in request.path, status=403, code="AccessDenied"))
    await write(backend, "a", data, skip_exists_check=True)
    asked = [request.method for request in proxy.requests if request.path.endswith("/a")]
    assert "HEAD" in asked[: len(asked) - 1 - asked[::-1].index(commit)]


async def test_a_writer_that_is_cancelled_leaves_the_trial_to_the_others(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint, trial=True)
    trying = Fault(lambda request: putting(request) and "trial-" in request.path, times=1, delay=0.3)
    proxy.faults.append(trying)
    first, second = (asyncio.create_task(write(backend, name, b"x")) for name in ("a", "b"))
    await eventually(lambda: trying.seen == 1)
    first.cancel()
    await asyncio.wait_for(second, 30)
    assert S3Feature.CONDITIONAL_PUT in backend.client.capabilities.confirmed
    with pytest.raises(asyncio.CancelledError):
        await first
