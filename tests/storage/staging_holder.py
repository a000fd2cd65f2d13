"""A process that stages the given path and makes an output folder, prints both paths, and keeps them. Its settings are in its environment."""

from __future__ import annotations

import asyncio
import sys

from app.config import Settings
from app.storage.opening import open_storage


async def main(path: str) -> None:
    storage = await open_storage(Settings(_env_file=None))  # pyright: ignore[reportCallIssue]
    async with storage.stage_to_temp(path) as staged, storage.staging.temporary_folder() as folder:
        (folder / "output").write_bytes(b"half done")
        print(staged, folder, sep="\n", flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
