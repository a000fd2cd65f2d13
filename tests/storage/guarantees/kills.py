"""A writer that is killed leaves nothing that readers see, and its leftovers are swept."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from app.storage.backend import StorageBackend
from app.storage.key import Key
from tests.real.spawning import spawner
from tests.real.waiting import eventually_so
from tests.storage.conftest import Place
from tests.storage.guarantees.content import MEBIBYTE, fetch, keys_of, pattern, store


class KillGuarantees:
    async def test_a_killed_writer_leaves_nothing_that_is_seen(
        self, backend: StorageBackend, place: Place, tmp_path: Path
    ) -> None:
        output = tmp_path / "output"
        writer = spawner().spawn(
            ("tests.storage.guarantees.uncommitted_writer", "folder/killed"),
            tmp_path,
            os.environ | dict(place),
            output,
            output,
        )

        async def has_written() -> bool:
            assert writer.poll() is None, "it ended"
            return "written\n" in output.read_text()  # its log lines come first

        try:
            await eventually_so(has_written, "the writer has written")
        finally:
            writer.kill()
            writer.wait(10)
        assert not await backend.exists(Key("folder/killed"))
        assert await keys_of(backend) == []
        assert await backend.sweep_leftovers(timedelta(days=1)) == 0
        assert await backend.sweep_leftovers(timedelta(0)) == 1
        assert await backend.sweep_leftovers(timedelta(0)) == 0
        await store(backend, "folder/killed", b"second try")
        assert await fetch(backend, "folder/killed") == b"second try"

    async def test_a_sweep_of_what_is_a_day_old_leaves_the_living_alone(self, backend: StorageBackend) -> None:
        data = pattern(20 * MEBIBYTE)
        async with backend.write_stream(Key("living")) as writer:
            await writer.write(data)
            assert await backend.sweep_leftovers(timedelta(days=1)) == 0
        assert await fetch(backend, "living") == data
