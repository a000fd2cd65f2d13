"""A service of two processes that reads from S3 through the cache: the answers are those of the store, and a deleted photo is gone."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.api.start_service import StartService
from tests.real.metrics import MetricsClient
from tests.real.service import free_port
from tests.real.uploads import fresh_bytes, uploaded
from tests.real.waiting import eventually
from tests.storage.cache.block_files import block_paths

PROCESSES = 2
SIZE = 5_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_photos_are_sent_from_the_cache(start_service: StartService, folder: Path) -> None:
    metrics = MetricsClient(free_port())
    settings = {
        "MEDIAVAULT_PROCESSES": str(PROCESSES),
        "MEDIAVAULT_METRICS_PORT": str(metrics.port),
        "MEDIAVAULT_CACHE_FOLDER": str(folder),
        "MEDIAVAULT_CACHE_RESERVE": "0",
        "MEDIAVAULT_CACHE_ORIGINALS": "always",
    }
    service = start_service("s3", settings=settings)
    small, large = fresh_bytes(20_000), fresh_bytes(SIZE)
    with service.client(service.people.add()) as client:
        ids = [uploaded(client, data) for data in (small, large)]
        paths = [f"/api/assets/{each}/original" for each in ids]
        assert [get(client, path).content for path in paths] == [small, large]
        eventually(lambda: len(block_paths(folder)) == 3, "both photos are cached")
        before = metrics.scrape()
        for _ in range(2 * PROCESSES):  # a new connection each, which any of the processes may accept
            assert [get(client, path).content for path in paths] == [small, large]
            ranged = get(client, paths[1], range=f"bytes=4000000-{SIZE}")
            assert (ranged.status_code, ranged.content) == (206, large[4_000_000:])
        after = metrics.scrape()
        sent = {
            source: after.sum("mediavault_sent_bytes_total", source=source)
            - before.sum("mediavault_sent_bytes_total", source=source)
            for source in ("cache", "s3", "disk")
        }
        assert sent == {"cache": 2 * PROCESSES * (20_000 + SIZE + 1_000_000), "s3": 0, "disk": 0}
        delete(client, ids)
        is_refused = "each process refuses what was deleted"
        eventually(lambda: all(get(client, path).status_code == 404 for path in 4 * paths), is_refused, within=30)

        def is_empty() -> bool:
            delete(
                client, [uploaded(client, fresh_bytes(100))]
            )  # wakes the sweeper, if the process that has it answers
            return block_paths(folder) == []

        eventually(is_empty, "what was deleted leaves the cache", within=60)


def get(client: httpx.Client, path: str, **headers: str) -> httpx.Response:
    return client.get(path, headers={"connection": "close", **headers})


def delete(client: httpx.Client, ids: list[str]) -> None:
    body = {"ids": ids, "force": True}
    answer = client.request("DELETE", "/api/assets", json=body, headers={"connection": "close"})
    assert answer.status_code == 204
