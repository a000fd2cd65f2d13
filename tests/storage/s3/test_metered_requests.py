"""What the S3 backend's wrapper counts: requests that repeat others, and connections."""

from __future__ import annotations

import asyncio

from app.metrics.exposition import sum_segments
from app.metrics.families import S3_CONNECTIONS, STORAGE_RETRIES
from app.metrics.instruments import ProcessMetrics
from app.metrics.segments import SharedSegments
from app.storage.key import Key
from app.storage.metered.s3_requests import meter_s3_requests
from tests.real.proxy import Fault, Proxy
from tests.storage.s3.conftest import OpenBackend, read, write


def make_metrics() -> ProcessMetrics:
    segments = SharedSegments(1)
    return ProcessMetrics(segments, segments.acquire())


def retries(metrics: ProcessMetrics) -> float:
    return sum_segments(metrics.segments.segments)[STORAGE_RETRIES]["s3",][0]


async def test_each_repeated_request_counts(open_backend: OpenBackend, proxy: Proxy) -> None:
    """Of reads, and of the calls that the SDK repeats by itself."""
    backend = await open_backend(endpoint=proxy.endpoint)
    metrics = make_metrics()
    meter_s3_requests(backend, metrics)
    await write(backend, "photo.jpg", b"x" * 1000)
    assert await read(backend, "photo.jpg") == b"x" * 1000
    assert retries(metrics) == 0
    proxy.faults.append(Fault(lambda request: request.method == "GET", times=2, status=503, code="SlowDown"))
    assert await read(backend, "photo.jpg") == b"x" * 1000
    assert retries(metrics) == 2
    proxy.faults[:] = [Fault(lambda request: request.method == "HEAD", times=1, status=503, code="SlowDown")]
    assert await backend.exists(Key("photo.jpg"))
    assert retries(metrics) == 3


async def test_connections_and_those_who_wait_are_told(open_backend: OpenBackend) -> None:
    backend = await open_backend(MEDIAVAULT_S3_CONNECTIONS="4")
    metrics = make_metrics()
    meter_s3_requests(backend, metrics)
    await write(backend, "film.mp4", bytes(8 << 20))

    def connections() -> dict[tuple[str, str], float]:
        metrics.sample_gauges()
        sums = sum_segments(metrics.segments.segments)[S3_CONNECTIONS]
        return {(pool, state): value for (pool, state), (value,) in sums.items() if value}

    assert connections() == {}
    async with backend.read_stream(Key("film.mp4")) as stream:
        await anext(aiter(stream.chunks))
        assert connections() == {("reads", "in_use"): 1}
    calls = [asyncio.create_task(backend.head(Key("film.mp4"))) for _ in range(6)]
    await asyncio.sleep(0)  # all of them have begun
    assert connections() == {("calls", "in_use"): 4, ("calls", "waiting"): 2}
    await asyncio.gather(*calls)
    assert connections() == {}
