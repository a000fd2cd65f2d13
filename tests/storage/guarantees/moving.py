"""Guarantees that a move between two backends relies on: stored checksums, writes without an existence check,
pruning of empty folders."""

from __future__ import annotations

import zlib

import pytest

from app.storage.backend import StorageBackend, StoredChecksum
from app.storage.errors import ObjectExists, ObjectNotFound
from app.storage.key import Key
from tests.storage.guarantees.content import MEBIBYTE, fetch, pattern, store


class MoveGuarantees:
    @pytest.mark.parametrize("size", [0, 1, 20 * MEBIBYTE])
    async def test_a_store_that_gives_a_checksum_gives_that_of_the_whole(
        self, backend: StorageBackend, size: int
    ) -> None:
        data = pattern(size)
        await store(backend, "folder/some.jpg", data)
        assert await backend.stored_checksum(Key("folder/some.jpg")) in (None, StoredChecksum(size, zlib.crc32(data)))

    async def test_there_is_no_checksum_of_nothing(self, backend: StorageBackend) -> None:
        with pytest.raises(ObjectNotFound):
            await backend.stored_checksum(Key("folder/none.jpg"))

    @pytest.mark.parametrize("size", [5, 9 * MEBIBYTE])
    async def test_who_is_wrong_about_a_free_key_is_refused(self, backend: StorageBackend, size: int) -> None:
        await store(backend, "folder/taken", b"first")
        with pytest.raises(ObjectExists):
            async with backend.write_stream(Key("folder/taken"), size=size, skip_exists_check=True) as writer:
                await writer.write(pattern(size))
        assert await fetch(backend, "folder/taken") == b"first"

    async def test_pruning_takes_no_object_and_no_folder_that_is_used(self, backend: StorageBackend) -> None:
        for key in ("upload/a/b/one", "upload/a/c/two", "thumbs/x/y/three", "top"):
            await store(backend, key, b"data")
        await backend.delete_objects([Key("upload/a/b/one"), Key("thumbs/x/y/three")])

        pruned = await backend.prune_folders()

        root = backend.local_path(Key("top"))
        assert pruned == (0 if root is None else 3)
        assert await fetch(backend, "upload/a/c/two") == b"data"
        if root is not None:
            left = sorted(str(path.relative_to(root.parent)) for path in root.parent.rglob("*") if path.is_dir())
            assert left == ["thumbs", "upload", "upload/a", "upload/a/c"]
        await store(backend, "upload/a/b/one", b"again")
