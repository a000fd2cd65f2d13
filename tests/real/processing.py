"""Waits until a service has processed its uploads, and downloads thumbnails as decoded images."""

from __future__ import annotations

import io
from typing import Any

import httpx
from PIL import Image

from tests.real.service import Service
from tests.real.waiting import eventually

WITHIN_SECONDS = 90.0
QUEUES = ("thumbnailGeneration", "videoConversion")


def queues(service: Service, key: str) -> dict[str, Any]:
    """`GET /jobs`, with an administrator's key."""
    with service.client() as client:
        return _fetch_queues(client, key)


def wait_until_idle(service: Service, key: str, *, within: float = WITHIN_SECONDS) -> dict[str, Any]:
    """Wait until every task has succeeded or failed; returns `queues`."""

    current: dict[str, Any] = {}

    def idle() -> bool:
        current.update(_fetch_queues(client, key))
        counts = [current[name]["jobCounts"] for name in QUEUES]
        return not any(each["active"] + each["waiting"] + each["delayed"] for each in counts)

    with service.client() as client:
        eventually(idle, "all tasks have ended", within=within)
    return current


def _fetch_queues(client: httpx.Client, key: str) -> dict[str, Any]:
    answer = client.get("/api/jobs", headers={"x-api-key": key})
    assert answer.status_code == 200, answer.text
    return answer.json()


def fetch_image(client: httpx.Client, asset_id: str, size: str) -> Image.Image:
    """Download and decode the thumbnail of this size; asserts that the content type matches the content."""
    answer = client.get(f"/api/assets/{asset_id}/thumbnail", params={"size": size}, follow_redirects=True)
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    image.load()
    assert answer.headers["content-type"] == Image.MIME[image.format or ""]
    return image
