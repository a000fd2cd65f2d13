"""Immich's command-line client: its calls replayed one by one, and the unmodified client itself against the service."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest

from tests.api.photos import photo
from tests.real.accounts import Account
from tests.real.immich import immich_packages
from tests.real.npm import node
from tests.real.service import Service

RUN_SECONDS = 60

RunClient = Callable[..., str]


def test_it_logs_in(service: Service, client: httpx.Client, account: Account) -> None:
    discovered = client.get("/.well-known/immich")
    api = urljoin(f"{service.url}/", discovered.json()["api"]["endpoint"])
    user = client.get(f"{api}/users/me")
    key = client.get(f"{api}/api-keys/me")

    assert discovered.status_code == user.status_code == key.status_code == 200
    assert api == f"{service.url}/api"
    assert user.json()["email"] == account.email
    assert {"user.read", "all"} & set(key.json()["permissions"])


def test_it_shows_what_the_server_is(client: httpx.Client) -> None:
    version = client.get("/api/server/version").json()
    media_types = client.get("/api/server/media-types").json()
    statistics = client.get("/api/assets/statistics").json()

    assert all(type(version[part]) is int for part in ("major", "minor", "patch"))
    assert {".jpg", ".jpeg", ".png", ".heic"} <= set(media_types["image"])
    assert {".mp4", ".mov"} <= set(media_types["video"])
    assert ".xmp" in media_types["sidecar"]
    assert statistics == {"images": 0, "videos": 0, "total": 0}


def test_it_uploads_and_finds_everything_there_the_second_time(client: httpx.Client) -> None:
    photos = {f"/home/anna/photos/{name}.jpg": photo() for name in ("a", "b", "ä b")}

    accepted = _check(client, photos)
    assert accepted == [{"id": path, "action": "accept"} for path in photos]

    ids = {}
    for path, content in photos.items():
        answer = _send(client, path, content)
        assert answer.status_code == 201
        assert answer.json()["status"] == "created"
        ids[path] = answer.json()["id"]

    assert _check(client, photos) == [
        {"id": path, "action": "reject", "reason": "duplicate", "assetId": ids[path], "isTrashed": False}
        for path in photos
    ]
    again = _send(client, "/elsewhere/a.jpg", photos["/home/anna/photos/a.jpg"])
    assert again.status_code == 200
    assert again.json() == {"id": ids["/home/anna/photos/a.jpg"], "status": "duplicate"}
    assert client.get("/api/assets/statistics").json() == {"images": 3, "videos": 0, "total": 3}


def test_it_reads_why_it_was_refused(anonymous: httpx.Client) -> None:
    answer = _send(anonymous, "/home/anna/photos/a.jpg", photo())

    assert answer.status_code == 401
    assert "json" in answer.headers["content-type"]
    assert answer.json()["message"] == "Authentication required"
    assert answer.headers["x-correlation-id"] == answer.json()["correlationId"]


def test_the_client_itself(
    run_client: RunClient, service: Service, client: httpx.Client, account: Account, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    photos = {"one.jpg": photo(), "below/two words.jpg": photo(), "below/deeper/drei-ü.JPG": photo()}
    for name, content in photos.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    sidecar = "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"
    (folder / "one.xmp").write_text(sidecar)
    (folder / "notes.txt").write_text("no photo")

    assert account.email in run_client("login-key", "--", service.url, account.key)
    shown = run_client("server-info")
    assert f"Url: {service.url}/api" in shown
    assert "Version: 3.2." in shown
    upload = ("upload", "--recursive", "--concurrency", "4", "--json-output", "--no-progress", str(folder))
    first = run_client(*upload)
    second = run_client(*upload)

    listed = client.get("/api/assets").json()["items"]
    by_name = {asset["originalFileName"]: asset for asset in listed}
    assert set(by_name) == {Path(name).name for name in photos}
    for name, content in photos.items():
        asset = by_name[Path(name).name]
        assert base64.b64decode(asset["checksum"]) == hashlib.sha1(content).digest()
        assert client.get(f"/api/assets/{asset['id']}/original").content == content
    kept = sum(map(len, photos.values())) + len(sidecar)
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == kept
    assert {new["id"] for new in _report(first)["newAssets"]} == {asset["id"] for asset in listed}
    assert _report(first)["duplicates"] == []
    assert _report(second)["newAssets"] == []
    assert {known["id"] for known in _report(second)["duplicates"]} == {asset["id"] for asset in listed}


@pytest.fixture
def run_client(immich_client: Path, tmp_path: Path) -> RunClient:
    """Runs the client with these arguments; returns its output. The client stores its login in a folder of the test."""

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [node(), immich_client, "--config-directory", tmp_path / "login", *arguments],
            env={"HOME": str(tmp_path), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def immich_client() -> Path:
    """The client's script."""
    return immich_packages() / "@immich/cli/bin/immich"


def _check(client: httpx.Client, files: dict[str, bytes]) -> list[dict[str, Any]]:
    assets = [{"id": path, "checksum": hashlib.sha1(content).hexdigest()} for path, content in files.items()]
    answer = client.post("/api/assets/bulk-upload-check", json={"assets": assets})
    assert answer.status_code == 200
    return answer.json()["results"]


def _send(client: httpx.Client, path: str, content: bytes) -> httpx.Response:
    """Upload as the client's `FormData` does: the fields first, one of them unknown to the API, then the file."""
    fields = {
        "fileCreatedAt": "2024-05-01T10:00:00.000Z",
        "fileModifiedAt": "2024-05-01T10:00:00.000Z",
        "fileSize": str(len(content)),
        "isFavorite": "false",
    }
    part = (Path(path).name, content, "application/octet-stream")
    return client.post("/api/assets", data=fields, files={"assetData": part})


def _report(output: str) -> dict[str, Any]:
    """The JSON in the client's output."""
    return json.loads(output[output.index("{\n") : output.rindex("\n}") + 2])
