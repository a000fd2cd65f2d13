"""Hashing of bytes on their way to a store, in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

INLINE_BYTES = 16 * 1024
"""So few bytes are hashed in less time than a thread takes to be woken."""

UpdateDigest = Callable[[memoryview], None]


@asynccontextmanager
async def digesting(data: bytes | bytearray | memoryview, update_digest: UpdateDigest | None) -> AsyncGenerator[None]:
    """Calls `update_digest` with `data` in a thread while the block runs, and waits for its end."""
    view = memoryview(data)
    if update_digest is None or view.nbytes <= INLINE_BYTES:
        if update_digest is not None:
            update_digest(view)
        yield
        return
    hashing = asyncio.get_running_loop().run_in_executor(None, update_digest, view)
    try:
        yield
    finally:
        await hashing
