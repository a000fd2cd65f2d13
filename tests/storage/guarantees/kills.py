"""A writer that is killed leaves nothing that readers see, and its leftovers are swept."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta

from app.storage.backend import StorageBackend
from app.storage.key import Key
from tests.storage.conftest import Place
from tests.storage.guarantees.content import MEBIBYTE, fetch, keys_of, pattern, store


class KillGuarantees:
    async def test_a_killed_writer_leaves_nothing_that_is_seen(self, backend: StorageBackend, place: Place) -> None:
        writer = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.storage.guarantees.uncommitted_writer",
            "folder/killed",
            env=os.environ | dict(place),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert writer.stdout is not None
            async with asyncio.timeout(30):
                while (line := await writer.stdout.readline()) != b"written\n":  # its log lines come first
                    assert line, "it ended"
        finally:
            writer.send_signal(signal.SIGKILL)
            await asyncio.wait_for(writer.wait(), 10)
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
