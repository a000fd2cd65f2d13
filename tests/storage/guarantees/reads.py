"""Guarantees of reads: whole objects, ranges, one version only, missing objects."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.storage.backend import CHUNK_BYTES, StorageBackend
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable, StorageError
from app.storage.key import Key
from app.storage.ranges import ByteRange
from tests.storage.guarantees.content import MEBIBYTE, fetch, pattern, store

SIZE = 2 * CHUNK_BYTES + 17
EDGES = sorted({0, 1, 2, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, SIZE - 2, SIZE - 1})
PAST = (SIZE, SIZE + 1, 10 * SIZE, 2**63)


class ReadGuarantees:
    async def test_every_range_between_edges_gives_just_its_bytes(self, backend: StorageBackend) -> None:
        data = pattern(SIZE)
        await store(backend, "ranges", data)
        for first in EDGES:
            for last in (*(edge for edge in EDGES if edge >= first), *PAST[:3], None):
                async with backend.read_stream(Key("ranges"), ByteRange(first, last)) as stream:
                    body = b"".join([chunk async for chunk in stream.chunks])
                end = SIZE if last is None else min(last + 1, SIZE)
                assert stream.served == ByteRange(first, end - 1)
                assert stream.info.size == SIZE
                assert body == data[first:end], f"bytes {first} to {last}"

    @pytest.mark.parametrize("first", PAST)
    @pytest.mark.parametrize("length", [1, 100, None])
    async def test_a_start_past_the_end_is_refused_with_the_size(
        self, backend: StorageBackend, first: int, length: int | None
    ) -> None:
        await store(backend, "short", pattern(SIZE))
        with pytest.raises(RangeNotSatisfiable) as failure:
            await fetch(backend, "short", ByteRange(first, first + length - 1 if length else None))
        assert failure.value.size == SIZE

    async def test_an_empty_object_is_read_whole_and_has_no_ranges(self, backend: StorageBackend) -> None:
        info = await store(backend, "empty", b"")
        assert info.size == 0
        async with backend.read_stream(Key("empty")) as stream:
            assert stream.served is None
            assert [chunk async for chunk in stream.chunks] == []
        for byte_range in (ByteRange(0), ByteRange(0, 0), ByteRange(5, 9)):
            with pytest.raises(RangeNotSatisfiable) as failure:
                await fetch(backend, "empty", byte_range)
            assert failure.value.size == 0

    @pytest.mark.parametrize("byte_range", [None, ByteRange(0, 9)])
    async def test_a_missing_object_is_told_before_any_byte(
        self, backend: StorageBackend, byte_range: ByteRange | None
    ) -> None:
        with pytest.raises(ObjectNotFound):
            async with backend.read_stream(Key("not/there"), byte_range):
                pytest.fail("the read was opened")

    async def test_errors_carry_key_and_backend(self, backend: StorageBackend) -> None:
        await store(backend, "here", b"abc")
        failures: list[StorageError] = []
        for attempt in (
            backend.head(Key("not/there")),
            fetch(backend, "not/there"),
            fetch(backend, "not/there", if_match="x"),
            backend.copy_object(Key("not/there"), Key("target")),
            backend.move_object(Key("not/there"), Key("target")),
        ):
            with pytest.raises(ObjectNotFound) as failure:
                await attempt
            failures.append(failure.value)
        with pytest.raises(RangeNotSatisfiable) as unsatisfiable:
            await fetch(backend, "here", ByteRange(3))
        assert {error.key for error in failures} == {"not/there"}
        assert unsatisfiable.value.key == "here"
        assert {error.backend for error in [*failures, unsatisfiable.value]} == {backend.name}
        assert not any(error.retryable for error in failures)

    async def test_what_is_known_of_an_object_is_the_same_everywhere(self, backend: StorageBackend) -> None:
        before = datetime.now(UTC)
        info = await store(backend, "folder/file", b"12345")
        assert (info.key, info.size) == ("folder/file", 5)
        assert info.etag
        assert info.last_modified.utcoffset() == timedelta(0)
        assert abs(info.last_modified - before) < timedelta(seconds=60)
        async with backend.read_stream(Key("folder/file")) as stream:
            assert (stream.info.key, stream.info.size, stream.info.etag) == (info.key, info.size, info.etag)
        [listed] = [found async for found in backend.list_objects("folder")]
        assert (listed.key, listed.size, listed.etag) == (info.key, info.size, info.etag)
        assert abs(listed.last_modified - info.last_modified) <= timedelta(seconds=1)
        assert await backend.exists(Key("folder/file"))
        assert not await backend.exists(Key("folder"))
        assert not await backend.exists(Key("folder/file2"))

    async def test_if_match_takes_the_version_that_was_seen_and_no_other(self, backend: StorageBackend) -> None:
        await backend.put_object(Key("marker"), b"one")
        seen = (await backend.head(Key("marker"))).etag
        assert await fetch(backend, "marker", if_match=seen) == b"one"
        assert await fetch(backend, "marker", ByteRange(1, 1), if_match=seen) == b"n"
        await backend.put_object(Key("marker"), b"two!")
        for byte_range in (None, ByteRange(1, 1)):
            with pytest.raises(ObjectChanged):
                await fetch(backend, "marker", byte_range, if_match=seen)
        assert (await backend.head(Key("marker"))).etag != seen
        assert await fetch(backend, "marker") == b"two!"

    async def test_a_read_never_mixes_two_versions(self, backend: StorageBackend) -> None:
        """An object replaced or deleted during a read gives the bytes of its first version, or an error."""
        first, second = pattern(24 * MEBIBYTE, seed=1), pattern(24 * MEBIBYTE, seed=2)
        await backend.put_object(Key("marker"), first)
        read = bytearray()
        try:
            async with backend.read_stream(Key("marker")) as stream:
                async for chunk in stream.chunks:
                    if not read:
                        await backend.put_object(Key("marker"), second)
                    read += chunk
        except (ObjectChanged, ObjectNotFound):
            assert first.startswith(read)
        else:
            assert read == first

    async def test_a_read_that_is_given_up_leaves_the_others_alone(self, backend: StorageBackend) -> None:
        data = pattern(8 * MEBIBYTE)
        await store(backend, "large", data)

        async def give_up() -> None:
            async with backend.read_stream(Key("large")) as stream:
                async for _ in stream.chunks:
                    return

        async with asyncio.timeout(60):
            for _ in range(5):
                await asyncio.gather(*(give_up() for _ in range(30)))
            assert await fetch(backend, "large") == data

    async def test_a_cancelled_read_leaves_the_others_alone(self, backend: StorageBackend) -> None:
        data = pattern(4 * MEBIBYTE)
        await store(backend, "large", data)
        async with asyncio.timeout(60):
            for turns in range(40):
                reader = asyncio.create_task(fetch(backend, "large"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                reader.cancel()
                await asyncio.wait([reader])
            assert await fetch(backend, "large") == data

    async def test_many_read_one_object_at_once(self, backend: StorageBackend) -> None:
        data = pattern(MEBIBYTE + 1)
        await store(backend, "shared", data)
        async with asyncio.timeout(60):
            bodies = await asyncio.gather(*(fetch(backend, "shared", ByteRange(turn)) for turn in range(50)))
        assert all(body == data[turn:] for turn, body in enumerate(bodies))

    async def test_local_paths_and_links_lead_to_the_bytes_where_there_are_any(self, backend: StorageBackend) -> None:
        await store(backend, "folder/a b#c.jpg", b"direct")
        key = Key("folder/a b#c.jpg")
        place = backend.local_path(key)
        link = await backend.presigned_url(key, expires_in=timedelta(minutes=1))
        assert (place is None) != (link is None)
        if place is not None:
            assert place.read_bytes() == b"direct"
