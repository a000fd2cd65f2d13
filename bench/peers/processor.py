"""mediavault's media processing behind a socket. A request line names a photo and a folder; the answer is the seconds it took."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from app.config import Settings
from app.formats import find_format
from app.media.processor import MediaProcessor


async def main() -> None:
    async with MediaProcessor(Settings()).running() as processor:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                source, folder = map(Path, line.decode().rstrip("\n").split("\t"))
                format = find_format(source.name)
                assert format is not None
                begun = time.perf_counter()
                await processor.make_images(source, format, folder)
                writer.write(f"{time.perf_counter() - begun}\n".encode())
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", int(os.environ["BENCH_PORT"]))
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
