"""What a client stored with an upload, and processing again."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import UUID

import httpx

from app.catalog.catalog import Catalog
from tests.api.photos import clip, photo
from tests.real.service import Service
from tests.real.uploads import upload


def test_what_a_client_sent_with_the_upload_is_told_again(client: httpx.Client) -> None:
    sent = [{"key": "mobile-app", "value": {"iCloudId": "A1", "parts": [1, None]}}, {"key": "note", "value": {}}]
    asset = _new(client, fields={"metadata": json.dumps(sent)})

    items = client.get(f"/api/assets/{asset}/metadata").json()

    assert [{name: item[name] for name in ("key", "value")} for item in items] == sent
    assert all(item["updatedAt"] == client.get(f"/api/assets/{asset}").json()["createdAt"] for item in items)
    assert client.get(f"/api/assets/{asset}/metadata/note").json() == items[1]
    assert client.get(f"/api/assets/{asset}/metadata/other").status_code == 404
    assert client.get(f"/api/assets/{_new(client)}/metadata").json() == []


def test_assets_are_processed_again(service: Service, client: httpx.Client) -> None:
    still, video = _new(client), _new(client, clip(), "clip.mp4")
    names = ("refresh-metadata", "regenerate-thumbnail", "transcode-video")
    requested: list[set[str]] = []

    for name in names:
        before = _requested_at(service, still, video)
        answer = client.post("/api/assets/jobs", json={"assetIds": [still, video], "name": name})
        assert answer.status_code == 204
        after = _requested_at(service, still, video)
        requested.append({asset for asset, moment in after.items() if moment > before[asset]})

    assert requested == [{still, video}, {still, video}, {video}]
    refused = client.post("/api/assets/jobs", json={"assetIds": [still], "name": "refresh-faces"})
    assert (refused.status_code, "name" in refused.json()["message"]) == (400, True)


def _requested_at(service: Service, *assets: str) -> dict[str, datetime]:
    async def look(catalog: Catalog) -> dict[str, datetime]:
        tasks = await catalog.tasks.get_for_assets([UUID(asset) for asset in assets])
        return {str(task.asset_id): task.requested_at for task in tasks}

    return service.people.call(look)


def _new(
    client: httpx.Client, content: bytes | None = None, name: str = "photo.jpg", fields: dict[str, str] | None = None
) -> str:
    answer = upload(client, content or photo(), name, fields=fields)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]
