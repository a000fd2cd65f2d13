"""Job queues: counts, failures, and processing again. The tests finish the tasks themselves; no worker runs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.records import TaskState
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.stacks import ENGINES, Engine
from tests.real.uploads import fresh_bytes, uploaded

PHOTOS, VIDEOS = "thumbnailGeneration", "videoConversion"
LEASE = timedelta(minutes=5)


def give_up(service: Service, asset_id: str, reason: str) -> None:
    async def fail(catalog: Catalog) -> None:
        task, run = await catalog.tasks.get_for_asset(UUID(asset_id)), uuid4()
        assert task is not None
        assert await catalog.tasks.claim(task.id, run, LEASE)
        assert await catalog.tasks.fail(task.id, run, reason, None)

    service.people.call(fail)


def state_of(service: Service, asset_id: str) -> TaskState:
    async def look(catalog: Catalog) -> TaskState:
        task = await catalog.tasks.get_for_asset(UUID(asset_id))
        assert task is not None
        return task.state

    return service.people.call(look)


@pytest.fixture
def admin(service: Service) -> Account:
    return service.people.add(is_admin=True)


@pytest.fixture
def admin_client(service: Service, admin: Account) -> Iterator[httpx.Client]:
    with service.client(admin) as client:
        yield client


@pytest.mark.parametrize("engine", ENGINES)
def test_what_waits_and_what_failed_is_counted(engine: Engine, start_service: StartService) -> None:
    service = start_service(engine)
    with service.client(service.people.add(is_admin=True)) as client:
        photos = [uploaded(client, fresh_bytes(100), f"{n}.jpg") for n in range(3)]
        film = uploaded(client, fresh_bytes(100), "film.mp4")
        give_up(service, photos[1], "it is torn")
        give_up(service, film, "no picture in it")

        found = client.get("/api/jobs").json()

        zeros = {"active": 0, "completed": 0, "failed": 0, "delayed": 0, "waiting": 0, "paused": 0}
        assert found[PHOTOS]["jobCounts"] == zeros | {"waiting": 2, "failed": 1}
        assert found[VIDEOS]["jobCounts"] == zeros | {"failed": 1}
        assert found["faceDetection"] == {"jobCounts": zeros, "queueStatus": {"isActive": False, "isPaused": False}}
        assert len(found) == 19, "Immich's clients expect all of them"
        (failure,) = found[PHOTOS]["failures"]
        assert failure.pop("failedAt").endswith("Z")
        assert failure == {"assetId": photos[1], "fileName": "1.jpg", "reason": "it is torn", "attempts": 1}
        assert [each["assetId"] for each in found[VIDEOS]["failures"]] == [film]
        listed = {asset["id"]: asset.get("processingError") for asset in client.get("/api/assets").json()["items"]}
        assert listed == {photos[0]: None, photos[1]: "it is torn", photos[2]: None, film: "no picture in it"}
        searched = client.post("/api/search/metadata", json={"id": film}).json()["assets"]["items"]
        assert [asset["processingError"] for asset in searched] == ["no picture in it"]

        answer = client.put(f"/api/jobs/{PHOTOS}", json={"command": "start", "force": False})

        assert answer.json()["jobCounts"] == zeros | {"waiting": 3}
        assert "processingError" not in client.get(f"/api/assets/{photos[1]}").json()
        assert state_of(service, film) is TaskState.FAILED
        assert client.put("/api/jobs/metadataExtraction", json={"command": "start", "force": True}).status_code == 200
        assert state_of(service, film) is TaskState.PENDING


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("metadataExtraction", {"command": "pause"}, 400),
        ("library", {"command": "clear-failed"}, 400),
        (PHOTOS, {"command": "explode"}, 400),
        (PHOTOS, {}, 400),
        ("smartSearch", {"command": "start"}, 400),
        ("noSuchQueue", {"command": "start"}, 400),
    ],
)
def test_commands_that_there_are_not(admin_client: httpx.Client, name: str, body: dict[str, str], status: int) -> None:
    answer = admin_client.put(f"/api/jobs/{name}", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_queue_is_paused_emptied_and_resumed(engine: Engine, start_service: StartService) -> None:
    service = start_service(engine)
    with service.client(service.people.add(is_admin=True)) as client:
        photos = [uploaded(client, fresh_bytes(100)) for _ in range(3)]
        give_up(service, photos[0], "it is torn")

        paused = client.put(f"/api/queues/{PHOTOS}", json={"isPaused": True}).json()

        zeros = {"active": 0, "completed": 0, "failed": 0, "delayed": 0, "waiting": 0, "paused": 0}
        assert paused == {"name": PHOTOS, "isPaused": True, "statistics": zeros | {"paused": 2, "failed": 1}}
        assert client.put(f"/api/jobs/{PHOTOS}", json={"command": "pause"}).json()["queueStatus"]["isPaused"] is True
        queues = {queue.pop("name"): queue for queue in client.get("/api/queues").json()}
        assert len(queues) == 19
        assert queues[PHOTOS] | {"name": PHOTOS} == client.get(f"/api/queues/{PHOTOS}").json() == paused
        assert queues[VIDEOS] == queues["search"] == {"isPaused": False, "statistics": zeros}
        waiting = client.get(f"/api/queues/{PHOTOS}/jobs", params={"status": ["waiting", "active"]}).json()
        assert {job["data"]["id"] for job in waiting} == set(photos[1:])
        assert {job["name"] for job in waiting} == {"AssetGenerateThumbnails"}
        assert [job["data"]["id"] for job in client.get(f"/api/queues/{PHOTOS}/jobs?status=failed").json()] == photos[
            :1
        ]
        assert client.get("/api/queues/ocr/jobs").json() == []

        assert client.request("DELETE", f"/api/queues/{PHOTOS}/jobs", json={}).status_code == 204

        resumed = client.put(f"/api/queues/{PHOTOS}", json={"isPaused": False}).json()
        assert resumed == {"name": PHOTOS, "isPaused": False, "statistics": zeros | {"failed": 1}}
        assert client.get(f"/api/assets/{photos[1]}").status_code == 200
        cleared = client.put(f"/api/jobs/{PHOTOS}", json={"command": "clear-failed"}).json()
        assert cleared["jobCounts"] == zeros
        again = client.put(f"/api/jobs/{PHOTOS}", json={"command": "start"}).json()
        assert again["jobCounts"] == zeros | {"waiting": 3}
        assert client.put("/api/queues/faceDetection", json={"isPaused": True}).status_code == 400
        assert client.get("/api/queues/none").status_code == 400


def test_for_administrators_only(
    client: httpx.Client, anonymous: httpx.Client, service: Service, admin: Account
) -> None:
    command = {"command": "start"}
    routes = {
        ("GET", "/api/jobs"): "job.read",
        ("PUT", f"/api/jobs/{PHOTOS}"): "job.create",
        ("GET", "/api/queues"): "queue.read",
        ("GET", f"/api/queues/{PHOTOS}"): "queue.read",
        ("PUT", f"/api/queues/{PHOTOS}"): "queue.update",
        ("GET", f"/api/queues/{PHOTOS}/jobs"): "queueJob.read",
        ("DELETE", f"/api/queues/{PHOTOS}/jobs"): "queueJob.delete",
    }
    for (method, address), wanted in routes.items():
        assert anonymous.request(method, address, json=command).status_code == 401
        assert client.request(method, address, json=command).status_code == 403
        limited = {"x-api-key": service.people.add_key(admin.id, ("asset.read",))}
        refused = anonymous.request(method, address, headers=limited, json=command)
        assert (refused.status_code, refused.json()["message"]) == (403, f"Missing required permission: {wanted}")
