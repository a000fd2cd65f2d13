"""The wrapper that measures calls records what they did. That it keeps every guarantee is in `test_conformance_stores`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.metrics.exposition import sum_segments
from app.metrics.families import STORAGE_BYTES, STORAGE_DURATION
from app.metrics.instruments import ProcessMetrics
from app.metrics.segments import SharedSegments
from app.storage.backend import StorageBackend
from app.storage.errors import ObjectExists, ObjectNotFound
from app.storage.key import Key
from app.storage.opening import open_storage
from tests.storage.conftest import Place, settings_of


@pytest.fixture
def place(tmp_path: Path) -> Place:
    (tmp_path / "media").mkdir()
    return {"IMMICH_MEDIA_LOCATION": str(tmp_path / "media"), "MEDIAVAULT_STAGING_FOLDER": str(tmp_path / "staging")}


@pytest.fixture
def metrics() -> ProcessMetrics:
    return ProcessMetrics(SharedSegments(1), 0)


@pytest.fixture
async def backend(place: Place, metrics: ProcessMetrics) -> AsyncIterator[StorageBackend]:
    service = await open_storage(settings_of(place), metrics)
    yield service.primary_backend
    await service.aclose()


def outcomes(metrics: ProcessMetrics) -> dict[tuple[str, str], float]:
    """By operation and outcome: how many calls ended so."""
    durations = sum_segments(metrics.segments.segments)[STORAGE_DURATION]
    return {(operation, outcome): sum(counts) for (_, operation, outcome), (*counts, _) in durations.items()}


async def test_each_outcome_is_recorded(backend: StorageBackend, metrics: ProcessMetrics) -> None:
    key, data = Key("a/b"), b"x" * 300_000
    async with backend.write_stream(key) as writer:
        await writer.write(data)
    with pytest.raises(ObjectExists):
        async with backend.write_stream(key):
            pass
    with pytest.raises(ZeroDivisionError):
        async with backend.write_stream(Key("c")):
            raise ZeroDivisionError
    async with backend.read_stream(key) as stream:
        assert b"".join([chunk async for chunk in stream.chunks]) == data
    with pytest.raises(ObjectNotFound):
        async with backend.read_stream(Key("none")):
            pass
    assert not await backend.exists(Key("none"))
    assert [info.key async for info in backend.list_objects()] == ["a/b"]
    assert outcomes(metrics) == {
        ("write", "ok"): 1,
        ("write", "exists"): 1,
        ("write", "abandoned"): 1,
        ("read", "ok"): 1,
        ("read", "not_found"): 1,
        ("exists", "ok"): 1,
        ("list", "ok"): 1,
    }
    moved = {labels: value for labels, (value,) in sum_segments(metrics.segments.segments)[STORAGE_BYTES].items()}
    assert moved["local", "write"] == len(data)
    assert moved["local", "read"] == len(data)


async def test_the_time_of_a_slow_client_is_not_the_storages(backend: StorageBackend, metrics: ProcessMetrics) -> None:
    pause = 0.3
    async with backend.write_stream(Key("slow")) as writer:
        await asyncio.sleep(pause)
        await writer.write(b"x")
    (series,) = sum_segments(metrics.segments.segments)[STORAGE_DURATION].values()
    assert series[-1] < pause
