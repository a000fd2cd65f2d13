"""Guarantees of `check_marker` and `disk_space`."""

from __future__ import annotations

import pytest

from app.storage.backend import StorageBackend
from app.storage.errors import ObjectChanged, ObjectNotFound
from app.storage.key import Key
from tests.storage.guarantees.content import fetch, store

WITNESS = Key("folder/.witness")


class LocationGuarantees:
    async def test_a_place_is_recognised_by_its_witness(self, backend: StorageBackend) -> None:
        for text in (b"ours", b"ours\n", b" ours \r\n"):
            await backend.put_object(WITNESS, text)
            await backend.check_marker(WITNESS, b"ours\n")
        await store(backend, "folder/file", b"written")
        assert await fetch(backend, "folder/file") == b"written"

    @pytest.mark.parametrize(
        "text", [b"", b"their", b"ours too", b"our", b"ours" + 100 * b" " + b"not", 100_000 * b"x"]
    )
    async def test_another_text_is_another_place(self, backend: StorageBackend, text: bytes) -> None:
        await backend.put_object(WITNESS, text)
        with pytest.raises(ObjectChanged) as failure:
            await backend.check_marker(WITNESS, b"ours\n")
        assert (failure.value.key, failure.value.backend) == (WITNESS.value, backend.name)

    async def test_a_place_without_its_witness_is_not_recognised(self, backend: StorageBackend) -> None:
        await store(backend, "folder/file", b"written")
        for witness in (WITNESS, Key("none/.witness"), Key(".witness"), Key("folder/file/.witness")):
            with pytest.raises(ObjectNotFound):
                await backend.check_marker(witness, b"ours\n")

    async def test_it_tells_how_much_room_there_is_where_there_is_an_end(self, backend: StorageBackend) -> None:
        await backend.ensure_prefix("folder")
        for prefix in ("", "folder"):
            room = await backend.disk_space(prefix)
            assert (room is None) is (backend.name == "s3")
            if room is not None:
                assert 0 < room.free <= room.total
                assert 0 < room.used < room.total
