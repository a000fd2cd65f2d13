"""A process that writes 20 MiB to the given key, prints a line, and never commits. Its storage settings are in its environment."""

from __future__ import annotations

import asyncio
import sys

from app.config import Settings
from app.storage.key import Key
from app.storage.opening import open_storage
from tests.storage.guarantees.content import MEBIBYTE, pattern


async def main(key: str) -> None:
    storage = await open_storage(Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    async with storage.write(storage.managed_path(Key(key))) as writer:
        for _ in range(20):
            await writer.write(pattern(MEBIBYTE))
        print("written", flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
