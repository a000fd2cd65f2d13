"""Guarantees for stalled readers: they delay no other reads, and get all their bytes when they go on."""

from __future__ import annotations

import asyncio
import os

from app.storage.backend import StorageBackend
from app.storage.key import Key
from tests.storage.guarantees.content import MEBIBYTE, fetch, pattern, store

STALL_SECONDS = 60.0 if os.environ.get("MEDIAVAULT_TEST_SOAK") == "1" else 12.0
"""Longer than the ten seconds after which a stalled read loses its connection to S3."""

STALLED = 8
OTHERS = 200


class StallGuarantees:
    async def test_readers_that_stall_while_200_others_read(self, backend: StorageBackend) -> None:
        large, small = pattern(24 * MEBIBYTE, seed=3), pattern(100_000, seed=4)
        await store(backend, "large", large)
        await store(backend, "small", small)
        stalling, done = asyncio.Semaphore(0), asyncio.Event()

        async def stall() -> bool:
            body = bytearray()
            async with backend.read_stream(Key("large")) as stream:
                async for chunk in stream.chunks:
                    if not body:
                        stalling.release()
                        await done.wait()
                    body += chunk
            return body == large

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(stall()) for _ in range(STALLED)]
            for _ in readers:
                await asyncio.wait_for(stalling.acquire(), 30)
            stalled_since = asyncio.get_running_loop().time()
            async with asyncio.timeout(30):
                assert await asyncio.gather(*(fetch(backend, "small") for _ in range(OTHERS))) == [small] * OTHERS
            took = asyncio.get_running_loop().time() - stalled_since
            await asyncio.sleep(max(0.0, STALL_SECONDS - took))  # the test needs real time to pass
            done.set()
            async with asyncio.timeout(60):
                assert all([await reader for reader in readers])
