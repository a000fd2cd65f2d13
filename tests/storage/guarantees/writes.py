"""Guarantees of writes: atomic, once per key, of any length."""

from __future__ import annotations

import asyncio
import hashlib
import random
from contextlib import suppress
from datetime import timedelta

import pytest

from app.storage.backend import StorageBackend
from app.storage.errors import InvalidKey, ObjectExists, ObjectNotFound, StorageError
from app.storage.key import Key
from tests.storage.guarantees.content import MEBIBYTE, fetch, keys_of, pattern, store

RACERS = 20


class BrokenSource(Exception):
    """An error that the caller raises during a write."""


class WriteGuarantees:
    async def test_nothing_is_seen_before_the_commit(self, backend: StorageBackend) -> None:
        async with backend.write_stream(Key("folder/new")) as writer:
            await writer.write(pattern(9 * MEBIBYTE))
            assert not await backend.exists(Key("folder/new"))
            assert await keys_of(backend) == []
            with pytest.raises(ObjectNotFound):
                await fetch(backend, "folder/new")
        assert await fetch(backend, "folder/new") == pattern(9 * MEBIBYTE)

    @pytest.mark.parametrize("written", [0, 1, MEBIBYTE, 20 * MEBIBYTE])
    async def test_an_exception_leaves_nothing(self, backend: StorageBackend, written: int) -> None:
        async def break_off() -> None:
            async with backend.write_stream(Key("folder/new")) as writer:
                await writer.write(pattern(written))
                raise BrokenSource

        with pytest.raises(BrokenSource):
            await break_off()
        assert await keys_of(backend) == []
        assert await backend.sweep_leftovers(timedelta(0)) == 0
        await store(backend, "folder/new", b"second try")
        assert await fetch(backend, "folder/new") == b"second try"

    @pytest.mark.parametrize("pieces", [0, 1, 4, 20])
    async def test_a_write_cancelled_between_two_pieces_leaves_nothing(
        self, backend: StorageBackend, pieces: int
    ) -> None:
        reached = asyncio.Event()

        async def write() -> None:
            async with backend.write_stream(Key("folder/new")) as writer:
                for _ in range(pieces):
                    await writer.write(pattern(MEBIBYTE))
                reached.set()
                await asyncio.Event().wait()

        await _cancelled(asyncio.create_task(write()), reached)
        assert await keys_of(backend) == []
        assert await backend.sweep_leftovers(timedelta(0)) == 0

    async def test_a_write_cancelled_at_any_moment_is_all_or_nothing(self, backend: StorageBackend) -> None:
        """A write cancelled during its commit may be stored, but only whole, and decided before the cancellation is raised."""
        data = pattern(9 * MEBIBYTE)
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        moments = random.Random(seed)
        for attempt in range(30):
            key = f"attempt/{attempt}"
            task = asyncio.create_task(store(backend, key, data))
            for _ in range(moments.randrange(60)):
                await asyncio.sleep(0)
            await asyncio.wait([task], timeout=moments.random() * 0.05)
            task.cancel()
            await asyncio.wait([task], timeout=30)
            assert task.done()
            if await backend.exists(Key(key)):
                assert await fetch(backend, key) == data
            else:
                assert task.cancelled()
                await store(backend, key, b"second try")
                assert await fetch(backend, key) == b"second try"
        assert await backend.sweep_leftovers(timedelta(0)) == 0

    async def test_a_writer_that_goes_on_after_a_time_out_commits_what_it_says_or_nothing(
        self, backend: StorageBackend
    ) -> None:
        """A piece may have been written in part after a time-out, but a commit must not hide that."""

        async def write(key: str, seconds: float) -> int:
            async with backend.write_stream(Key(key)) as writer:
                for _ in range(6):
                    with suppress(TimeoutError):
                        async with asyncio.timeout(seconds):
                            await writer.write(pattern(3 * MEBIBYTE))
                return writer.size

        for attempt, seconds in enumerate([0.0, 0.0005, 0.001, 0.002, 0.004]):
            try:
                taken = await write(f"attempt/{attempt}", seconds)
            except StorageError:
                assert not await backend.exists(Key(f"attempt/{attempt}"))
            else:
                assert (await backend.head(Key(f"attempt/{attempt}"))).size == taken

    async def test_a_key_is_written_once(self, backend: StorageBackend) -> None:
        await store(backend, "once", b"first")
        with pytest.raises(ObjectExists) as failure:
            await store(backend, "once", b"second")
        assert (failure.value.key, failure.value.backend) == ("once", backend.name)
        assert await fetch(backend, "once") == b"first"

    async def test_a_key_that_is_taken_during_the_write_is_refused(self, backend: StorageBackend) -> None:
        async def come_late() -> None:
            async with backend.write_stream(Key("once")) as writer:
                await writer.write(b"late")
                await store(backend, "once", b"early")

        with pytest.raises(ObjectExists):
            await come_late()
        assert await fetch(backend, "once") == b"early"

    @pytest.mark.parametrize("size", [1000, 9 * MEBIBYTE])
    async def test_of_many_racing_writers_of_a_key_one_wins(self, backend: StorageBackend, size: int) -> None:
        bodies = [pattern(size, seed=racer) for racer in range(RACERS)]
        started = asyncio.Barrier(RACERS)

        async def race(body: bytes) -> None:
            async with backend.write_stream(Key("race")) as writer:
                await writer.write(body)
                await started.wait()

        async with asyncio.timeout(60):
            results = await asyncio.gather(*(race(body) for body in bodies), return_exceptions=True)
        winners = [body for body, result in zip(bodies, results, strict=True) if result is None]
        losses = [result for result in results if result is not None]
        assert all(isinstance(loss, ObjectExists) for loss in losses)
        assert len(winners) == 1
        assert await fetch(backend, "race") == winners[0]
        assert await backend.sweep_leftovers(timedelta(0)) == 0

    @pytest.mark.parametrize(("taken", "below"), [("a", "a/b"), ("a", "a/b/c"), ("a/b", "a/b/c")])
    async def test_no_object_lies_below_another(self, backend: StorageBackend, taken: str, below: str) -> None:
        await store(backend, taken, b"first")
        with pytest.raises(InvalidKey):
            await store(backend, below, b"second")
        assert await keys_of(backend) == [taken]

    async def test_no_object_takes_the_name_of_others_folder(self, backend: StorageBackend) -> None:
        await store(backend, "a/b", b"first")
        with pytest.raises(InvalidKey):
            await store(backend, "a", b"second")
        assert await keys_of(backend) == ["a/b"]

    async def test_a_copy_has_the_bytes_and_leaves_the_source(self, backend: StorageBackend) -> None:
        data = pattern(9 * MEBIBYTE + 3)
        await store(backend, "source", data)
        await backend.copy_object(Key("source"), Key("copies/here"))
        assert await fetch(backend, "copies/here") == data
        assert await fetch(backend, "source") == data

    async def test_a_copy_of_an_empty_object(self, backend: StorageBackend) -> None:
        await store(backend, "source", b"")
        await backend.copy_object(Key("source"), Key("target"))
        assert (await backend.head(Key("target"))).size == 0

    async def test_a_copy_or_move_onto_another_object_is_refused(self, backend: StorageBackend) -> None:
        await store(backend, "source", b"source")
        await store(backend, "target", b"target")
        for attempt in (backend.copy_object, backend.move_object):
            with pytest.raises(ObjectExists) as failure:
                await attempt(Key("source"), Key("target"))
            assert failure.value.key == "target"
        assert await fetch(backend, "source") == b"source"
        assert await fetch(backend, "target") == b"target"

    async def test_a_move_takes_the_source_away(self, backend: StorageBackend) -> None:
        await store(backend, "a/source", b"moved")
        await backend.move_object(Key("a/source"), Key("b/c/target"))
        assert await fetch(backend, "b/c/target") == b"moved"
        assert await keys_of(backend) == ["b/c/target"]

    async def test_put_replaces(self, backend: StorageBackend) -> None:
        for body in (b"one", b"", b"three" * 1000):
            await backend.put_object(Key(".immich"), body, metadata={"owner": "this"})
            assert await fetch(backend, ".immich") == body
        assert await keys_of(backend) == [".immich"]

    async def test_40_mib_of_unknown_length_in_uneven_pieces(self, backend: StorageBackend) -> None:
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        sizes = random.Random(seed)
        source, sent, taken = pattern(MEBIBYTE), hashlib.sha256(), 0
        async with backend.write_stream(Key("long")) as writer:
            while taken < 40 * MEBIBYTE:
                size = sizes.choice([0, 1, 17, 4096, 65536, 100_001, MEBIBYTE])
                await writer.write(source[:size])
                sent.update(source[:size])
                taken += size
                assert writer.size == taken
        received = hashlib.sha256()
        async with backend.read_stream(Key("long")) as stream:
            async for chunk in stream.chunks:
                received.update(chunk)
        assert stream.info.size == taken
        assert received.digest() == sent.digest()

    async def test_the_callers_buffer_may_be_used_again(self, backend: StorageBackend) -> None:
        buffer = bytearray(100_000)
        expected = bytearray()
        async with backend.write_stream(Key("buffer")) as writer:
            for turn in range(30):
                buffer[:] = bytes([turn]) * len(buffer)
                expected += buffer + buffer[: turn * 100]
                await writer.write(buffer)
                await writer.write(memoryview(buffer)[: turn * 100])
            buffer[:] = b"\xff" * len(buffer)
        assert await fetch(backend, "buffer") == expected

    @pytest.mark.parametrize("announced", [0, 1, 999, 1001, 30 * MEBIBYTE])
    async def test_another_size_than_announced_fails(self, backend: StorageBackend, announced: int) -> None:
        with pytest.raises(StorageError) as failure:
            async with backend.write_stream(Key("wrong"), size=announced) as writer:
                await writer.write(pattern(1000))
        assert not failure.value.retryable
        assert await keys_of(backend) == []

    async def test_type_and_metadata_are_taken(self, backend: StorageBackend) -> None:
        async with backend.write_stream(
            Key("typed.jpg"), size=3, content_type="image/jpeg", metadata={"sha1": "0123", "crc32": "89ab"}
        ) as writer:
            await writer.write(b"abc")
        assert await fetch(backend, "typed.jpg") == b"abc"

    async def test_many_write_at_once(self, backend: StorageBackend) -> None:
        async with asyncio.timeout(120):
            await asyncio.gather(
                *(store(backend, f"new/{n % 7}/{n}", pattern(100_000, seed=n)) for n in range(60)),
                *(store(backend, f"large/{n}", pattern(9 * MEBIBYTE, seed=n)) for n in range(6)),
            )
        for n in range(60):
            assert await fetch(backend, f"new/{n % 7}/{n}") == pattern(100_000, seed=n)
        for n in range(6):
            assert await fetch(backend, f"large/{n}") == pattern(9 * MEBIBYTE, seed=n)

    async def test_the_probe_passes_and_leaves_nothing(self, backend: StorageBackend) -> None:
        await backend.probe()
        await asyncio.gather(*(backend.probe() for _ in range(5)))
        assert await keys_of(backend) == []
        assert await backend.sweep_leftovers(timedelta(0)) == 0


async def _cancelled(task: asyncio.Task[None], reached: asyncio.Event) -> None:
    async with asyncio.timeout(30):
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
