"""Guarantees of resumable writes: bytes that a saved state counts are kept, all others are forgotten, and nothing is seen before the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta

import pytest

from app.storage.backend import StorageBackend
from app.storage.errors import ObjectExists, ObjectIncomplete, ObjectNotFound, ObjectTooLarge
from app.storage.key import Key
from app.storage.resumable import ResumableWriteState, SaveState
from tests.storage.guarantees.content import MEBIBYTE, fetch, keys_of, pattern, store
from tests.storage.guarantees.resumable_row import TakenOver

KEY = Key("folder/resumed file+%2B.mp4")


class SavedState:
    """The row of an upload session: the last saved state, and which append is the newest."""

    def __init__(self, state: ResumableWriteState) -> None:
        self.state = state
        self.generation = 0

    def begin_append(self) -> SaveState:
        """The `save` of a newer append; those of older ones raise from now on."""
        self.generation += 1
        generation = self.generation

        async def save(state: ResumableWriteState) -> None:
            await asyncio.sleep(0)
            if generation != self.generation:
                raise TakenOver
            self.state = state

        return save


async def begin(backend: StorageBackend, size: int | None, key: Key = KEY) -> SavedState:
    return SavedState(await backend.resumable_writes.begin(key, size=size, content_type="video/mp4"))


async def append(backend: StorageBackend, saved: SavedState, data: bytes, size: int | None, key: Key = KEY) -> None:
    """One append with a checkpoint at its end, in pieces as they come from a socket."""
    async with backend.resumable_writes.append(
        key, saved.state, size=size, save=saved.begin_append(), is_contested=False
    ) as appender:
        for first in range(0, len(data), 200_000):
            await appender.write(memoryview(data)[first : first + 200_000])
        await appender.checkpoint()
        assert appender.offset == saved.state.offset


async def commit(backend: StorageBackend, saved: SavedState, size: int) -> None:
    await backend.resumable_writes.commit(KEY, saved.state, size)


async def assert_nothing_is_left(backend: StorageBackend) -> None:
    assert await backend.sweep_leftovers(timedelta(0)) == 0


class ResumableGuarantees:
    @pytest.mark.parametrize("is_size_known", [True, False])
    async def test_appended_bytes_make_the_object_and_nothing_is_seen_before(
        self, backend: StorageBackend, is_size_known: bool
    ) -> None:
        chunks = [1, 1024, 5 * MEBIBYTE - 1, 4 * MEBIBYTE, 0, 7]
        data = pattern(sum(chunks))
        saved = await begin(backend, len(data) if is_size_known else None)
        for chunk in chunks:
            first = saved.state.offset
            await append(backend, saved, data[first : first + chunk], len(data) if is_size_known else None)
            assert saved.state.offset == first + chunk
            assert not await backend.exists(KEY)
            await backend.resumable_writes.check(KEY, saved.state)
        assert await keys_of(backend) == []
        await commit(backend, saved, len(data))
        assert await fetch(backend, KEY.value) == data
        assert await keys_of(backend) == [KEY.value]
        await assert_nothing_is_left(backend)

    @pytest.mark.parametrize("size", [0, 1, 8 * MEBIBYTE])
    async def test_a_length_told_last(self, backend: StorageBackend, size: int) -> None:
        data = pattern(size)
        saved = await begin(backend, None)
        await append(backend, saved, data, None)
        await commit(backend, saved, size)
        await commit(backend, saved, size)
        assert await fetch(backend, KEY.value) == data
        await assert_nothing_is_left(backend)

    async def test_bytes_without_a_checkpoint_are_forgotten(self, backend: StorageBackend) -> None:
        data, wrong = pattern(11 * MEBIBYTE), bytes(7 * MEBIBYTE)
        saved = await begin(backend, len(data))
        await append(backend, saved, data[: 3 * MEBIBYTE], len(data))
        async with backend.resumable_writes.append(
            KEY, saved.state, size=len(data), save=saved.begin_append(), is_contested=False
        ) as appender:
            await appender.write(wrong)
            assert appender.offset == 10 * MEBIBYTE
            await appender.discard()
            assert appender.offset == 3 * MEBIBYTE
            await appender.write(data[3 * MEBIBYTE : 10 * MEBIBYTE])
            await appender.checkpoint()
            await appender.write(b"wrong")
        assert saved.state.offset == 10 * MEBIBYTE
        await append(backend, saved, data[10 * MEBIBYTE :], len(data))
        await commit(backend, saved, len(data))
        assert await fetch(backend, KEY.value) == data
        await assert_nothing_is_left(backend)

    async def test_a_commit_can_be_asked_for_again(self, backend: StorageBackend) -> None:
        data = pattern(9 * MEBIBYTE)
        saved = await begin(backend, len(data))
        await append(backend, saved, data, len(data))
        await commit(backend, saved, len(data))
        await commit(backend, saved, len(data))
        await backend.resumable_writes.check(KEY, saved.state)
        assert await fetch(backend, KEY.value) == data
        await backend.resumable_writes.abort(KEY, saved.state)
        assert await fetch(backend, KEY.value) == data

    async def test_a_commit_of_another_length_is_refused(self, backend: StorageBackend) -> None:
        saved = await begin(backend, 100)
        await append(backend, saved, bytes(99), 100)
        for size in (98, 100):
            with pytest.raises(ObjectIncomplete):
                await commit(backend, saved, size)
        assert not await backend.exists(KEY)
        await append(backend, saved, b"x", 100)
        await commit(backend, saved, 100)
        assert await fetch(backend, KEY.value) == bytes(99) + b"x"

    async def test_more_than_the_size_is_refused(self, backend: StorageBackend) -> None:
        saved = await begin(backend, 10)
        with pytest.raises(ObjectTooLarge):
            await append(backend, saved, bytes(11), 10)
        assert saved.state.offset == 0
        await append(backend, saved, b"0123456789", 10)
        await commit(backend, saved, 10)
        assert await fetch(backend, KEY.value) == b"0123456789"

    async def test_a_taken_key_is_refused(self, backend: StorageBackend) -> None:
        saved = await begin(backend, 9 * MEBIBYTE)
        await append(backend, saved, pattern(9 * MEBIBYTE), 9 * MEBIBYTE)
        await store(backend, KEY.value, pattern(9 * MEBIBYTE, seed=1))
        with pytest.raises(ObjectExists):
            await begin(backend, 9 * MEBIBYTE)
        with pytest.raises(ObjectExists):
            await commit(backend, saved, 9 * MEBIBYTE)
        await backend.resumable_writes.abort(KEY, saved.state)
        assert await fetch(backend, KEY.value) == pattern(9 * MEBIBYTE, seed=1)
        await assert_nothing_is_left(backend)

    @pytest.mark.parametrize("is_state_known", [True, False])
    async def test_an_abort_leaves_nothing(self, backend: StorageBackend, is_state_known: bool) -> None:
        writes = backend.resumable_writes
        other = await begin(backend, None, key=Key(KEY.value + "x"))
        await append(backend, other, b"stays", None, key=Key(KEY.value + "x"))
        saved = await begin(backend, 30 * MEBIBYTE)
        await append(backend, saved, pattern(9 * MEBIBYTE), 30 * MEBIBYTE)
        for _ in range(2):
            await writes.abort(KEY, saved.state if is_state_known else None)
        for refused in (
            writes.check(KEY, saved.state),
            append(backend, saved, pattern(8 * MEBIBYTE), 30 * MEBIBYTE),
            writes.commit(KEY, saved.state, 9 * MEBIBYTE),
        ):
            with pytest.raises(ObjectNotFound):
                await refused
        await writes.check(Key(KEY.value + "x"), other.state)
        await writes.abort(Key(KEY.value + "x"), other.state)
        await assert_nothing_is_left(backend)
        await store(backend, KEY.value, b"free")

    async def test_the_newest_of_two_appends_goes_on(self, backend: StorageBackend) -> None:
        data = pattern(18 * MEBIBYTE)
        saved = await begin(backend, len(data))
        await append(backend, saved, data[: 2 * MEBIBYTE], len(data))

        async def append_late(state: ResumableWriteState, save: SaveState, entered: asyncio.Event) -> None:
            async with backend.resumable_writes.append(
                KEY, state, size=len(data), save=save, is_contested=False
            ) as appender:
                await appender.write(bytes(7 * MEBIBYTE))
                entered.set()
                await superseded.wait()
                await appender.write(bytes(9 * MEBIBYTE))
                await appender.checkpoint()

        superseded, entered = asyncio.Event(), asyncio.Event()
        older = asyncio.create_task(append_late(saved.state, saved.begin_append(), entered))
        await asyncio.wait_for(entered.wait(), 30)
        save = saved.begin_append()
        async with (
            asyncio.timeout(60),
            backend.resumable_writes.append(KEY, saved.state, size=len(data), save=save, is_contested=True) as appender,
        ):
            await appender.write(data[2 * MEBIBYTE : 11 * MEBIBYTE])
            superseded.set()
            with pytest.raises(TakenOver):
                await older
            await appender.write(data[11 * MEBIBYTE :])
            await appender.checkpoint()
        await commit(backend, saved, len(data))
        assert await fetch(backend, KEY.value) == data
        await backend.sweep_leftovers(timedelta(0))
        await assert_nothing_is_left(backend)

    async def test_a_sweep_leaves_what_is_in_use(self, backend: StorageBackend) -> None:
        data = pattern(11 * MEBIBYTE)
        used, unused = await begin(backend, len(data)), await begin(backend, None, key=Key("folder/ended"))
        await append(backend, used, data[: 10 * MEBIBYTE], len(data))
        await append(backend, unused, data[: 10 * MEBIBYTE], None, key=Key("folder/ended"))
        asked: set[str] = set()

        async def find_in_use(keys: Collection[str]) -> Collection[str]:
            asked.update(keys)
            return [KEY.value]

        assert await backend.sweep_leftovers(timedelta(days=1), find_in_use) == 0
        assert await backend.sweep_leftovers(timedelta(0), find_in_use) > 0
        assert asked >= {KEY.value, "folder/ended"}
        with pytest.raises(ObjectNotFound):
            await backend.resumable_writes.check(Key("folder/ended"), unused.state)
        await append(backend, used, data[10 * MEBIBYTE :], len(data))
        await commit(backend, used, len(data))
        assert await fetch(backend, KEY.value) == data
        await assert_nothing_is_left(backend)
