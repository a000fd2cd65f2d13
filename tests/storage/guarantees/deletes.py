"""Guarantees of deletes: existing and missing objects, and no others."""

from __future__ import annotations

import asyncio

from app.storage.backend import StorageBackend
from app.storage.key import Key
from tests.storage.guarantees.content import fetch, keys_of, store

STORED, SOAK_STORED = 300, 1100
"""Objects among the 1,500 keys of one call. One request deletes at most 1,000 keys."""


class DeleteGuarantees:
    async def test_a_deleted_object_is_gone_and_its_key_free(self, backend: StorageBackend) -> None:
        await store(backend, "folder/file", b"one")
        await backend.delete_object(Key("folder/file"))
        assert not await backend.exists(Key("folder/file"))
        assert await keys_of(backend) == []
        await store(backend, "folder/file", b"two")
        assert await fetch(backend, "folder/file") == b"two"

    async def test_deleting_what_is_not_there_is_fine(self, backend: StorageBackend) -> None:
        await store(backend, "here/file", b"stays")
        await backend.delete_object(Key("here/other"))
        await backend.delete_object(Key("not/there/at/all"))
        await backend.delete_object(Key("here"))
        assert await backend.delete_objects([Key("here/other"), Key("not/there")]) == {}
        assert await backend.delete_objects([]) == {}
        assert await keys_of(backend) == ["here/file"]

    async def test_a_delete_takes_nothing_with_a_longer_name(self, backend: StorageBackend) -> None:
        for key in ("a/b", "a/bc", "a/b.jpg", "ab/b"):
            await store(backend, key, b"x")
        await backend.delete_object(Key("a/b"))
        assert sorted(await keys_of(backend)) == ["a/b.jpg", "a/bc", "ab/b"]

    async def test_1500_deletes_in_one_call_missing_ones_among_them(
        self, backend: StorageBackend, *, soak: bool
    ) -> None:
        count = SOAK_STORED if soak else STORED
        stored = [Key(f"batch/{n % 11}/{n} & <{n}>") for n in range(count)]
        missing = [Key(f"missing/{n}") for n in range(1500 - count)]
        left = iter(stored)

        async def put() -> None:
            for key in left:
                await backend.put_object(key, b"x")

        await asyncio.gather(*(put() for _ in range(16)))
        await store(backend, "batch/stays", b"stays")
        mixed = [key for pair in zip(stored, missing, strict=False) for key in pair]
        mixed += stored[len(missing) :] + missing[len(stored) :]
        async with asyncio.timeout(60):
            assert await backend.delete_objects(iter(mixed)) == {}
        assert await keys_of(backend) == ["batch/stays"]
