"""What the server says about itself and about the caller, with and without a key."""

from __future__ import annotations

import re
import shutil
from typing import Any

import httpx
import pytest

from app import __version__
from tests.api.photos import photo
from tests.real.people import Account
from tests.real.service import Service
from tests.real.stacks import Engine
from tests.real.uploading import upload, uploaded

OPEN = [
    "/.well-known/immich",
    "/api/server/ping",
    "/api/server/version",
    "/api/server/features",
    "/api/server/media-types",
]
KEYED = [
    "/api/server/about",
    "/api/server/storage",
    "/api/server/statistics",
    "/api/users/me",
    "/api/api-keys",
    "/api/api-keys/me",
    "/api/assets",
    "/api/assets/statistics",
]
FEATURES = {
    *("configFile", "duplicateDetection", "email", "facialRecognition", "importFaces", "map", "oauth"),
    *("oauthAutoLaunch", "ocr", "passwordLogin", "realtimeTranscoding", "reverseGeocoding", "search", "sidecar"),
    *("smartSearch", "trash"),
}
USER_FIELDS = {
    *("avatarColor", "clusterGroupId", "createdAt", "deletedAt", "email", "id", "isAdmin", "license", "name"),
    *("oauthId", "profileChangedAt", "profileImagePath", "quotaSizeInBytes", "quotaUsageInBytes"),
    *("shouldChangePassword", "status", "storageLabel", "updatedAt"),
}


@pytest.mark.parametrize("path", OPEN)
def test_it_is_open_without_a_key(anonymous: httpx.Client, path: str) -> None:
    answer = anonymous.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", KEYED)
def test_it_needs_a_key(anonymous: httpx.Client, path: str) -> None:
    missing, wrong = anonymous.get(path), anonymous.get(path, headers={"x-api-key": "never-issued"})

    assert missing.status_code == wrong.status_code == 401
    assert missing.json()["message"] == "Authentication required"
    assert wrong.json()["message"] == "Invalid API key"


def test_it_tells_where_the_api_is_and_that_it_lives(anonymous: httpx.Client) -> None:
    assert anonymous.get("/.well-known/immich").json() == {"api": {"endpoint": "/api"}}
    assert anonymous.get("/api/server/ping").json() == {"res": "pong"}


def test_it_tells_its_version(client: httpx.Client) -> None:
    version = client.get("/api/server/version").json()
    about = client.get("/api/server/about").json()

    assert f"{version['major']}.{version['minor']}.{version['patch']}" == __version__
    assert version["prerelease"] is None
    assert about == {"version": f"v{__version__}", "versionUrl": "/docs", "licensed": False}


def test_it_tells_what_it_can_do(anonymous: httpx.Client) -> None:
    features = anonymous.get("/api/server/features").json()

    assert features.keys() == FEATURES
    assert {name for name, there in features.items() if there} == {"passwordLogin", "search", "sidecar", "trash"}


def test_it_tells_which_files_it_takes(client: httpx.Client) -> None:
    types: dict[str, list[str]] = client.get("/api/server/media-types").json()

    assert types.keys() == {"image", "video", "sidecar"}
    assert types["sidecar"] == [".xmp"]
    for extension in (*types["image"], *types["video"]):
        assert upload(client, photo(), f"file{extension}").status_code == 201


def test_storage_figures_fit_the_engine(
    client: httpx.Client, other_client: httpx.Client, service: Service, stack: Engine
) -> None:
    others = photo()
    uploaded(other_client, others)
    before = client.get("/api/server/storage").json()
    content = photo()
    uploaded(client, content)
    after = client.get("/api/server/storage").json()

    for name in ("diskSize", "diskUse", "diskAvailable"):
        assert type(after[f"{name}Raw"]) is int
        assert re.fullmatch(r"\d+ B|\d+\.\d [KMGTPE]iB", after[name])
    if stack == "local":
        disk = shutil.disk_usage(service.stack.media)
        assert after["diskSizeRaw"] == disk.total
        assert 0 < after["diskUseRaw"] < disk.total
        assert 0 < after["diskUsagePercentage"] < 100
    else:
        assert (before["diskUseRaw"], after["diskUseRaw"]) == (0, len(content)), "nobody else's files count"
        with service.client(service.people.add(is_admin=True)) as administrator:
            everybodys = administrator.get("/api/server/storage").json()["diskUseRaw"]
        assert everybodys >= len(content) + len(others)
        assert (after["diskSizeRaw"], after["diskAvailableRaw"], after["diskUsagePercentage"]) == (0, 0, 0)


def test_an_administrator_sees_what_everybody_keeps(service: Service) -> None:
    administrator, member = service.people.add(is_admin=True), service.people.add(quota=10**9)
    picture, clip = photo(), photo() + b"longer"
    with service.client(member) as client:
        uploaded(client, picture, "a.jpg")
        uploaded(client, clip, "b.mp4")

    with service.client(administrator) as client:
        statistics = client.get("/api/server/statistics").json()

    users: dict[str, dict[str, Any]] = {user["userId"]: user for user in statistics["usageByUser"]}
    assert users[str(member.id)] == {
        "userId": str(member.id),
        "userName": member.email.partition("@")[0],
        "photos": 1,
        "videos": 1,
        "usage": len(picture) + len(clip),
        "usagePhotos": len(picture),
        "usageVideos": len(clip),
        "quotaSizeInBytes": 10**9,
    }
    assert users[str(administrator.id)]["usage"] == 0
    for name in ("photos", "videos", "usage", "usagePhotos", "usageVideos"):
        assert statistics[name] == sum(user[name] for user in users.values())


def test_nobody_else_sees_it(client: httpx.Client) -> None:
    assert client.get("/api/server/statistics").status_code == 403


def test_a_user_sees_itself_and_what_it_uses(service: Service) -> None:
    member = service.people.add(quota=5000)
    content = photo()
    with service.client(member) as client:
        fresh = client.get("/api/users/me").json()
        uploaded(client, content)
        used = client.get("/api/users/me").json()

    assert fresh.keys() >= USER_FIELDS
    assert (fresh["id"], fresh["email"], fresh["isAdmin"]) == (str(member.id), member.email, False)
    assert (fresh["quotaSizeInBytes"], fresh["quotaUsageInBytes"]) == (5000, 0)
    assert used["quotaUsageInBytes"] == len(content)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fresh["createdAt"])


def test_a_user_without_a_quota_has_none(client: httpx.Client, account: Account) -> None:
    assert client.get("/api/users/me").json()["quotaSizeInBytes"] is None
    assert client.get("/api/users/me").json()["email"] == account.email


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz"])
def test_health_may_be_asked_for_without_its_body(anonymous: httpx.Client, path: str) -> None:
    answer = anonymous.head(path)

    assert answer.status_code == 200
    assert answer.content == b""


@pytest.mark.parametrize(
    "path", ["/api/users/me", "/api/server/ping", "/api/assets/statistics", "/livez", "/openapi.json"]
)
def test_json_is_kept_by_nobody_and_is_nothing_else(client: httpx.Client, path: str) -> None:
    answer = client.get(path)

    assert answer.status_code == 200
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
