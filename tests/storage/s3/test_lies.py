"""Stores that acknowledge requests without carrying them out: stored, copied and deleted objects are verified."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta

import pytest

from app.storage.errors import ObjectNotFound, StorageUnavailable
from app.storage.key import Key
from app.storage.s3.protocol.capabilities import S3Feature
from tests.real.proxy import Answered, Fault, Proxy, Recorded
from tests.real.seaweedfs import SeaweedFS
from tests.storage.s3.conftest import OpenBackend, read, write

MIB = 1024 * 1024
DATA = random.Random(11).randbytes(9 * MIB)

Spoil = Callable[[str], object]


def completing(request: Recorded) -> bool:
    return request.method == "POST" and "uploadId" in request.query


def copying(request: Recorded) -> bool:
    return request.method == "PUT" and "x-amz-copy-source" in request.headers and "uploadId" not in request.query


def deleting_a_batch(request: Recorded) -> bool:
    return request.method == "POST" and "delete" in request.query


@pytest.fixture(params=["empty", "nothing", "short"])
def spoil(request: pytest.FixtureRequest, seaweedfs: SeaweedFS, bucket: str, prefix: str) -> Spoil:
    """Changes a key after the store has accepted it, before its response is sent."""
    store = seaweedfs.administration
    if request.param == "nothing":
        return lambda key: store.delete_object(Bucket=bucket, Key=f"{prefix}/{key}")
    kept = b"" if request.param == "empty" else DATA[:-1]
    return lambda key: store.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=kept)


async def test_a_multipart_upload_that_is_acknowledged_and_not_kept_is_no_success(
    open_backend: OpenBackend, proxy: Proxy, spoil: Spoil
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)

    def answer(_request: Recorded, answered: Answered) -> Answered:
        spoil("a")
        return answered

    proxy.faults.append(Fault(completing, rewrite=answer))
    with pytest.raises(StorageUnavailable):
        await write(backend, "a", DATA)
    assert proxy.faults[0].seen == 1


@pytest.mark.parametrize("by_parts", [False, True])
async def test_a_move_whose_copy_is_acknowledged_and_not_kept_leaves_the_source(
    open_backend: OpenBackend, proxy: Proxy, spoil: Spoil, by_parts: bool
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await write(backend, "a", DATA)
    if by_parts:
        backend.max_copy_bytes, backend.copy_part_bytes = 6 * MIB, 6 * MIB

    def answer(_request: Recorded, answered: Answered) -> Answered:
        spoil("b")
        return answered

    proxy.faults.append(Fault(completing if by_parts else copying, rewrite=answer))
    with pytest.raises(StorageUnavailable):
        await backend.move_object(Key("a"), Key("b"))
    assert proxy.faults[0].seen == 1
    assert await read(backend, "a") == DATA


async def test_what_is_left_of_an_upload_that_was_not_kept_whole_is_removed_if_it_is_ours(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)

    def answer(_request: Recorded, answered: Answered) -> Answered:
        store, key = seaweedfs.administration, f"{prefix}/a"
        metadata = store.head_object(Bucket=bucket, Key=key)["Metadata"]
        store.put_object(Bucket=bucket, Key=key, Body=b"", Metadata=metadata)
        return answered

    proxy.faults.append(Fault(completing, rewrite=answer))
    with pytest.raises(StorageUnavailable):
        await write(backend, "a", DATA)
    with pytest.raises(ObjectNotFound):
        await backend.head(Key("a"))


@pytest.mark.parametrize("told", ["0", "1", None])
async def test_an_object_is_not_removed_on_the_word_of_a_head_that_tells_a_wrong_length(
    open_backend: OpenBackend, proxy: Proxy, told: str | None
) -> None:
    """The GET of one byte misleads too: it is answered as if that byte were the whole object."""
    backend = await open_backend(endpoint=proxy.endpoint)

    def one_byte(_request: Recorded, answered: Answered) -> Answered:
        return Answered(200, answered.having(content_range=None).headers, answered.body)

    proxy.faults += [
        Fault(
            lambda request: request.method == "HEAD", rewrite=lambda _, answered: answered.having(content_length=told)
        ),
        Fault(lambda request: request.headers.get("range") == "bytes=0-0", rewrite=one_byte),
    ]
    await write(backend, "a", DATA)
    assert (await backend.head(Key("a"))).size == len(DATA)
    proxy.faults.clear()
    assert await read(backend, "a") == DATA


async def test_a_batch_of_deletes_that_is_acknowledged_and_not_carried_out_is_done_one_by_one(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    for name in ("a", "b", "c"):
        await backend.put_object(Key(name), b"x")

    def answer(_request: Recorded, answered: Answered) -> Answered:
        for name in ("a", "b"):
            seaweedfs.administration.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"x")
        return answered

    proxy.faults.append(Fault(deleting_a_batch, rewrite=answer))
    for _ in range(2):
        assert await backend.delete_objects([Key("a"), Key("b")]) == {}
        assert [info.key async for info in backend.list_objects()] == ["c"]
    assert proxy.faults[0].seen == 1
    assert set(backend.client.capabilities.missing) == {S3Feature.BATCH_DELETE}


async def test_a_batch_of_deletes_that_can_not_be_checked_is_done_one_by_one(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    for name in ("a", "b"):
        await backend.put_object(Key(name), b"x")

    def answer(_request: Recorded, answered: Answered) -> Answered:
        for name in ("a", "b"):
            seaweedfs.administration.put_object(Bucket=bucket, Key=f"{prefix}/{name}", Body=b"x")
        return answered

    proxy.faults.append(Fault(deleting_a_batch, rewrite=answer))
    proxy.faults.append(Fault(lambda request: request.method == "HEAD", status=503))
    assert await backend.delete_objects([Key("a"), Key("b")]) == {}
    proxy.faults.clear()
    assert [info.key async for info in backend.list_objects()] == []
    assert not backend.client.capabilities.missing


@pytest.mark.parametrize("named", [[], ["a"]])
async def test_keys_that_the_answer_to_a_batch_does_not_name_are_deleted_one_by_one(
    open_backend: OpenBackend, proxy: Proxy, seaweedfs: SeaweedFS, bucket: str, prefix: str, named: list[str]
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    for name in ("a", "b"):
        await backend.put_object(Key(name), b"x")

    def answer(_request: Recorded, answered: Answered) -> Answered:
        seaweedfs.administration.put_object(Bucket=bucket, Key=f"{prefix}/b", Body=b"x")
        entries = "".join(f"<Deleted><Key>{prefix}/{name}</Key></Deleted>" for name in named)
        return Answered(200, answered.headers, f"<DeleteResult>{entries}</DeleteResult>".encode())

    proxy.faults.append(Fault(deleting_a_batch, rewrite=answer))
    assert await backend.delete_objects([Key("a"), Key("b")]) == {}
    assert [info.key async for info in backend.list_objects()] == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (501, "NotImplemented"),
        (405, "MethodNotAllowed"),
        (400, "InvalidRequest"),
        (400, "InvalidArgument"),
        (400, "MissingContentMD5"),
        (403, "AccessDenied"),
        (404, "NoSuchKey"),
    ],
)
async def test_a_store_that_refuses_batches_of_deletes_is_asked_for_each_key(
    open_backend: OpenBackend, proxy: Proxy, status: int, code: str
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    for name in ("a", "b", "c"):
        await backend.put_object(Key(name), b"x")
    proxy.faults.append(Fault(deleting_a_batch, status=status, code=code))
    for names in (["a", "missing"], ["b", "missing"]):
        assert await backend.delete_objects([Key(name) for name in names]) == {}
    assert [info.key async for info in backend.list_objects()] == ["c"]
    assert proxy.faults[0].seen == 1


async def test_a_store_that_refuses_every_delete_is_not_taken_for_one_without_batches(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)
    await backend.put_object(Key("a"), b"x")
    proxy.faults.append(Fault(lambda request: request.method in ("POST", "DELETE"), status=403, code="AccessDenied"))
    assert set(await backend.delete_objects([Key("a"), Key("b")])) == {Key("a"), Key("b")}
    proxy.faults.clear()
    assert await backend.delete_objects([Key("a"), Key("b")]) == {}
    assert not backend.client.capabilities.missing
    assert len(proxy.of("POST", delete="")) == 2


async def test_a_list_of_unfinished_uploads_whose_pages_go_back_comes_to_an_end(
    open_backend: OpenBackend, proxy: Proxy
) -> None:
    backend = await open_backend(endpoint=proxy.endpoint)

    def answer(request: Recorded, answered: Answered) -> Answered:
        marker = "a" if request.query.get("key-marker") == "b" else "b"
        body = (
            f"<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>{marker}</NextKeyMarker>"
            "<NextUploadIdMarker>1</NextUploadIdMarker></ListMultipartUploadsResult>"
        )
        return Answered(200, answered.headers, body.encode())

    proxy.faults.append(Fault(lambda request: request.method == "GET" and "uploads" in request.query, rewrite=answer))
    async with asyncio.timeout(20):
        assert await backend.sweep_leftovers(timedelta(0)) == 0
    assert proxy.faults[0].seen == 2
