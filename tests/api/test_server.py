"""Routes about the server and the caller's user, with and without a key."""

from __future__ import annotations

import re
import shutil
from typing import Any

import httpx
import pytest

from app import __version__
from app.health.markers import MEDIA_FOLDERS
from tests.api.photos import clip, photo
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.stacks import Engine
from tests.real.uploads import upload, uploaded

OPEN = [
    "/.well-known/immich",
    "/api/server/ping",
    "/api/server/version",
    "/api/server/features",
    "/api/server/media-types",
    "/api/server/version-history",
    "/api/server/config",
    "/api/server/theme",
]
KEYED = [
    "/api/server/about",
    "/api/server/version-check",
    "/api/server/storage",
    "/api/server/statistics",
    "/api/server/mounts",
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
CONFIG = {
    *("externalDomain", "isInitialized", "isOnboarded", "loginPageMessage", "maintenanceMode", "mapDarkStyleUrl"),
    *("mapLightStyleUrl", "minFaces", "oauthButtonText", "publicUsers", "trashDays", "userDeleteDelay"),
}
SIDECAR = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
MOMENTS = {"fileCreatedAt": "2024-01-01T00:00:00Z", "fileModifiedAt": "2024-01-01T00:00:00Z"}
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


def test_it_tells_the_level_of_the_api_and_its_own_version(client: httpx.Client) -> None:
    version = client.get("/api/server/version").json()
    about = client.get("/api/server/about").json()

    assert version == {"major": 3, "minor": 2, "patch": 2, "prerelease": None}
    assert about == {"version": f"v{__version__}", "versionUrl": "/docs", "licensed": False}
    assert client.get("/api/server/version-check").json() == {"checkedAt": None, "releaseVersion": None}
    assert client.get("/api/server/version-history").json() == []


def test_it_tells_how_it_is_set_up(anonymous: httpx.Client) -> None:
    config = anonymous.get("/api/server/config").json()

    assert config.keys() == CONFIG
    assert (config["isInitialized"], config["isOnboarded"], config["trashDays"]) == (True, True, 30)
    assert anonymous.get("/api/server/theme").json() == {"customCss": ""}


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
        assert before["diskUseRaw"] == 0, "nobody else's files count"
        assert after["diskUseRaw"] >= len(content)
        with service.client(service.people.add(is_admin=True)) as administrator:
            everybodys = administrator.get("/api/server/storage").json()["diskUseRaw"]
        assert everybodys >= len(content) + len(others)
        assert (after["diskSizeRaw"], after["diskAvailableRaw"], after["diskUsagePercentage"]) == (0, 0, 0)


def test_an_administrator_sees_what_everybody_keeps(service: Service) -> None:
    administrator, member = service.people.add(is_admin=True), service.people.add(quota=10**9)
    picture, film = photo(), clip() + b"longer"
    with service.client(member) as client:
        sidecar = {"assetData": ("a.jpg", picture), "sidecarData": ("a.xmp", SIDECAR)}
        assert client.post("/api/assets", data=MOMENTS, files=sidecar).status_code == 201
        uploaded(client, film, "b.mp4")

    with service.client(administrator) as client:
        statistics = client.get("/api/server/statistics").json()

    users: dict[str, dict[str, Any]] = {user["userId"]: user for user in statistics["usageByUser"]}
    assert users[str(member.id)] == {
        "userId": str(member.id),
        "userName": member.email.partition("@")[0],
        "photos": 1,
        "videos": 1,
        "usage": len(picture) + len(film),
        "usagePhotos": len(picture),
        "usageVideos": len(film),
        "usageByKind": {"original": len(picture) + len(film), "sidecar": len(SIDECAR)},
        "quotaSizeInBytes": 10**9,
    }
    assert users[str(administrator.id)]["usage"] == 0
    kinds = {kind for user in users.values() for kind in user["usageByKind"]}
    assert statistics["usageByKind"] == {
        kind: sum(user["usageByKind"].get(kind, 0) for user in users.values()) for kind in kinds
    }
    for name in ("photos", "videos", "usage", "usagePhotos", "usageVideos"):
        assert statistics[name] == sum(user[name] for user in users.values())


@pytest.mark.parametrize("path", ["/api/server/statistics", "/api/server/mounts"])
def test_nobody_else_sees_it(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 403


def test_an_administrator_sees_every_place(service: Service, stack: Engine) -> None:
    with service.client(service.people.add(is_admin=True)) as administrator:
        mounts = administrator.get("/api/server/mounts").json()

    bucket = service.stack.bucket
    expected = [f"s3://{bucket.name}/{bucket.prefix}"] if bucket else list(MEDIA_FOLDERS)
    assert [mount["name"] for mount in mounts if mount["kind"] == "media"] == expected
    for mount in mounts:
        assert (mount["state"], mount["error"]) == ("ok", None)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", mount["since"])
        if stack == "local":
            disk = shutil.disk_usage(service.stack.media / mount["name"])
            assert 0 < mount["freeBytes"] <= mount["totalBytes"] == disk.total
        else:
            assert (mount["freeBytes"], mount["totalBytes"]) == (None, None)


def test_a_refusal_for_the_quota_tells_the_figures(service: Service) -> None:
    content = photo()
    with service.client(service.people.add(quota=len(content) + 10)) as client:
        uploaded(client, content)
        refused = upload(client, photo())

        assert refused.status_code == 400
        assert refused.json()["message"] == "Quota has been exceeded!"
        assert refused.json()["detail"] == (
            f"{len(content)} bytes are used, and {len(content)} or more in addition exceed the quota of {len(content) + 10}"
        )
        assert client.get("/api/users/me").json()["quotaUsageInBytes"] == len(content)


def test_readiness_tells_each_part_and_since_when(anonymous: httpx.Client) -> None:
    ready = anonymous.get("/readyz").json()

    assert ready["status"] == "ready"
    assert ready["checks"].keys() == {"catalogue", "media location", "staging folder"}
    assert ready["details"].keys() >= {"ffmpeg", "workers"}
    # This service leaves its tasks alone: after a while that shows, and takes nothing from its readiness.
    assert ready["details"]["workers"]["status"] in ("ok", "failing")
    for part in (*ready["checks"].values(), ready["details"]["ffmpeg"]):
        assert part["status"] == "ok"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", part["since"])


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


def test_a_quota_can_be_changed_and_lifted(service: Service) -> None:
    member, content = service.people.add(quota=10), photo()
    with service.client(member) as client:
        assert upload(client, content).status_code == 400
        changed = service.run("user", "quota", member.email, str(len(content)))
        assert changed.returncode == 0, changed.stderr
        assert client.get("/api/users/me").json()["quotaSizeInBytes"] == len(content)
        uploaded(client, content)
        assert upload(client, photo()).status_code == 400
        assert service.run("user", "quota", str(member.id), "none").returncode == 0
        assert client.get("/api/users/me").json()["quotaSizeInBytes"] is None
        uploaded(client, photo())
    for wrong in ("-1", "10GB", str(2**63), ""):
        refused = service.run("user", "quota", member.email, "--", wrong)
        assert (refused.returncode, "neither a number of bytes" in refused.stderr) == (2, True), refused.stderr
    assert "there is no user" in service.run("user", "quota", "nobody@example.org", "1").stderr


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
