"""Time and memory of the service, by the number of downloads at once."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from bench.curves.measured_service import MeasuredService, measured_service
from tests.real.process_usage import PeakMemory
from tests.real.uploads import some_bytes, upload

FILE_BYTES = 4 * 1024 * 1024
ALL_BYTES = 5000 * 1024 * 1024
"""Of all downloads together, so that each measurement moves about the same."""
LEAST_BYTES = 1024 * 1024
WITHIN_SECONDS = 300.0

Sample = dict[str, float]


def measure_downloads(folder: Path, counts: Iterable[int], settings: dict[str, str]) -> Iterator[Sample]:
    """All connections are opened first, then each reads its file while all the others do, a little at a time."""
    with measured_service(folder / "downloads", "sqlite", settings) as running:
        answer = upload(running.client, b"\xff\xd8\xff\xe0" + some_bytes(FILE_BYTES, 2))
        answer.raise_for_status()
        path = f"/api/assets/{answer.json()['id']}/original"
        for count in counts:
            sample = _measure(running, path, count)
            print(f"{count} downloads: {sample}", flush=True)
            yield sample


def _measure(running: MeasuredService, path: str, count: int) -> Sample:
    before, began = running.cpu_seconds(), time.monotonic()
    with PeakMemory(running.service.process) as memory:
        received = asyncio.run(_download_all(running, path, count))
    cpu = running.cpu_seconds() - before
    return {
        "downloads": count,
        "seconds": time.monotonic() - began,
        "cpu_seconds_per_gib": cpu / (received / 1024**3),
        "memory_growth_mib": memory.growth / 1024**2,
        "kib_per_download": memory.growth / 1024 / count,
        "load_average": os.getloadavg()[0],
    }


async def _download_all(running: MeasuredService, path: str, count: int) -> int:
    size = max(LEAST_BYTES, min(FILE_BYTES, ALL_BYTES // count))
    request = (
        f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {running.account.key}\r\n"
        f"range: bytes=0-{size - 1}\r\nconnection: close\r\n\r\n"
    ).encode()
    all_open = asyncio.Event()
    opened = 0

    async def download() -> int:
        nonlocal opened
        reader, writer = await asyncio.open_connection("127.0.0.1", running.service.port, limit=64 * 1024)
        opened += 1
        if opened == count:
            all_open.set()
        await all_open.wait()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 206 " not in head:
            raise SystemExit(head.decode())
        received = 0
        while piece := await reader.read(64 * 1024):
            received += len(piece)
            await asyncio.sleep(0)  # the others' turn
        writer.close()
        if received != size:
            raise SystemExit(f"{received} of {size} bytes came")
        return received

    async with asyncio.timeout(WITHIN_SECONDS):
        return sum(await asyncio.gather(*(download() for _ in range(count))))
