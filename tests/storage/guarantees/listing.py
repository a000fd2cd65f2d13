"""Guarantees of listings: complete, by whole segments, resumable with `start_after`."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import pytest

from app.storage.backend import StorageBackend
from app.storage.errors import InvalidKey
from app.storage.key import Key
from tests.storage.guarantees.content import keys_of, store

MANY, SOAK_MANY = 1100, 3000
"""Keys: more than one page of S3 (1,000), and three."""
NESTED = [
    "a",
    "a-b/1",
    "a.b",
    "ab",
    "ab/1",
    "b/a/1",
    "b/a/2",
    "b/a-b/1",
    "b/a.1",
    "b/ab/1",
    "b/b",
    "c/\u00e9/1",
    "c/\u7167",
]


class ListingGuarantees:
    async def test_pages_of_keys_are_listed_once_each_and_from_any_of_them_on(
        self, backend: StorageBackend, *, soak: bool
    ) -> None:
        count = SOAK_MANY if soak else MANY
        keys = [f"upload/user-{n % 3}/{n % 40:02x}/{n:05}.jpg" for n in range(count)]
        await _store_all(backend, keys)
        order = await keys_of(backend)
        assert len(order) == count
        assert set(order) == set(keys)
        assert await keys_of(backend) == order
        seed = random.randrange(2**32)
        print(f"seed {seed}")
        last = count - 1
        for place in [0, 1, 998, 999, 1000, 1001, last - 1, last, *random.Random(seed).sample(range(count), 5)]:
            assert await keys_of(backend, start_after=order[place]) == order[place + 1 :]
        below = [key for key in order if key.startswith("upload/user-1/")]
        assert await keys_of(backend, "upload/user-1") == below
        assert await keys_of(backend, "upload/user-1", below[300]) == below[301:]

    async def test_prefixes_match_by_whole_segments(self, backend: StorageBackend) -> None:
        keys = [key for key in NESTED if key not in ("a", "ab")]
        await _store_all(backend, keys)
        assert sorted(await keys_of(backend)) == sorted(keys)
        for prefix in ("a", "ab", "a-b", "b", "b/a", "b/a.1", "b/ab", "c", "c/\u00e9", "not", "not/there"):
            expected = [key for key in keys if key.startswith(prefix + "/")]
            assert sorted(await keys_of(backend, prefix)) == sorted(expected), prefix
            assert sorted(await keys_of(backend, prefix + "/")) == sorted(expected), prefix

    async def test_a_listing_continues_after_every_key_also_when_that_is_gone(self, backend: StorageBackend) -> None:
        keys = [key for key in NESTED if key not in ("a", "ab")]
        await _store_all(backend, keys)
        order = await keys_of(backend)
        for place, key in enumerate(order):
            assert await keys_of(backend, start_after=key) == order[place + 1 :]
        await backend.delete_object(Key(order[4]))
        assert await keys_of(backend, start_after=order[4]) == order[5:]

    async def test_a_listing_may_be_left_early(self, backend: StorageBackend) -> None:
        keys = [f"upload/{n:02}.jpg" for n in range(50)]
        await _store_all(backend, keys)
        first = await anext(aiter(backend.list_objects()))
        assert first.key in keys

    @pytest.mark.parametrize("prefix", ["../up", "a//b", "/a", "a\0", "a/./b"])
    async def test_a_prefix_that_no_key_can_have_finds_nothing(self, backend: StorageBackend, prefix: str) -> None:
        await _store_all(backend, ["a/b", "up/b", "b"])
        found: list[str] = []
        with suppress(InvalidKey):
            found = await keys_of(backend, prefix)
        assert found == []

    async def test_an_ensured_prefix_is_no_object(self, backend: StorageBackend) -> None:
        await backend.ensure_prefix("upload/user")
        await backend.ensure_prefix("upload/user")
        assert await keys_of(backend) == []
        assert not await backend.exists(Key("upload"))
        await store(backend, "upload/user/1", b"1")
        assert await keys_of(backend) == ["upload/user/1"]


async def _store_all(backend: StorageBackend, keys: list[str]) -> None:
    """Store all keys, sixteen at a time."""
    left = iter(keys)

    async def work() -> None:
        for key in left:
            await backend.put_object(Key(key), key.encode())

    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(work())
