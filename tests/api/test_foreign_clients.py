"""Clients of Immich's API by others, unmodified, against the service: a folder goes up and comes down again, and every answer is understood.

Immich's own command-line client is in `test_immich_client`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.api.photos import photo
from tests.api.start_service import StartService
from tests.real.foreign_clients import FOLDER, foreign_clients_python
from tests.real.immich import CLIENT_FOLDER, immich_packages
from tests.real.npm import node

RUN_SECONDS = 120
OWN_ROUTES = {
    # That Immich has not, or had in version 2 only.
    *("GET /api/assets", "GET /api/assets/random", "GET /api/server/mounts", "GET /api/server/theme"),
    *("GET /api/server/backups", "GET /api/server/move", "POST /api/auth/sign-in-key", "POST /api/auth/sign-in-token"),
    *("GET /api/download/links", "POST /api/download/links", "DELETE /api/download/links"),
    "PUT /api/people/{id}/thumbnail",
    *(f"{method} /api/{path}" for path in ("uploads", "upload") for method in ("OPTIONS", "POST")),
    *(f"{method} /api/{path}/{{upload_id}}" for path in ("uploads", "upload") for method in ("DELETE", "PATCH")),
}
OUTSIDE = re.compile(r"^HEAD |/api/download/archives/| /(?!api/)")
"""HEAD, links to archives, and what is not below `/api`."""


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, bytes]:
    """Photos in `tmp_path / "photos"`, by name."""
    photos = {"one.jpg": photo(), "two words.jpg": photo(), "drei-ü.jpg": photo()}
    for name, content in photos.items():
        path = tmp_path / "photos" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "target").mkdir()
    return photos


def test_every_function_of_immichs_sdk(start_service: StartService, tmp_path: Path) -> None:
    service = start_service("local")
    admin = service.people.add(is_admin=True)
    (tmp_path / "photo.jpg").write_bytes(photo())
    (tmp_path / "library").mkdir()
    script = CLIENT_FOLDER / "call_every_function.mjs"
    arguments = (immich_packages(), service.url, admin.key, tmp_path / "library", tmp_path / "photo.jpg")

    report = _run([node(), script, *arguments], tmp_path)

    results = report["results"]
    assert results["getServerVersion"]["major"] == 3
    assert results["getAssetMetadata"][0]["value"] == {"from": "sdk"}
    assert results["emptyTrash"] == {"count": 1}
    assert results["getTimeBucket"]["id"]
    assert results["createAlbum"] == "There are no albums here"
    described = {
        f"{method.upper()} {path}"
        for path, operations in httpx.get(f"{service.url}/openapi.json").json()["paths"].items()
        for method in operations
    }
    uncalled = {operation for operation in described if not _is_called(operation, report["requests"])}
    assert {operation for operation in uncalled if not OUTSIDE.search(operation)} == OWN_ROUTES


def test_aioimmich_of_home_assistant(start_service: StartService, folder: dict[str, bytes], tmp_path: Path) -> None:
    service = start_service("local")
    admin = service.people.add(is_admin=True)
    address = httpx.URL(service.url)
    script = FOLDER / "use_aioimmich.py"
    arguments = (str(address.host), str(address.port), admin.key, tmp_path / "photos", tmp_path / "target")

    report = _run([foreign_clients_python(), script, *arguments], tmp_path)

    assert report["email"] == admin.email
    assert (report["version"], report["about"][:2], report["release"], report["empty"]) == ([3, 2], "v0", None, [])
    assert report["photos"] == len(folder)
    # The client's HTTP library percent-encodes names, to Immich as well.
    assert _read(tmp_path / "target") == {quote(name): content for name, content in folder.items()}


def test_immichpy(start_service: StartService, folder: dict[str, bytes], tmp_path: Path) -> None:
    service = start_service("local")
    admin = service.people.add(is_admin=True)
    arguments = (service.url, admin.key, tmp_path / "photos", tmp_path / "target")

    report = _run([foreign_clients_python(), FOLDER / "use_immichpy.py", *arguments], tmp_path)

    count = len(folder)
    assert report == {
        "uploaded": count,
        "again": [0, count],
        "listed": count,
        "bucket": [count, count],
        "total": count,
        "version": [3, 2],
        "email": admin.email,
        "empty": [],
    }
    assert sorted(_read(tmp_path / "target").values()) == sorted(folder.values())  # names: see aioimmich


def test_pymmich(start_service: StartService, folder: dict[str, bytes], tmp_path: Path) -> None:
    service = start_service("local")
    account = service.people.add()
    pymmich = (foreign_clients_python(), "-m", "pymmich")
    login = {"PYMMICH_URL": service.url, "PYMMICH_API_KEY": account.key}

    # A folder as such becomes an album.
    refused = _execute([*pymmich, "upload", tmp_path / "photos"], tmp_path, login)
    assert refused.returncode == 1
    assert "There are no albums here" in refused.stdout + refused.stderr

    sent = _execute([*pymmich, "upload", *(tmp_path / "photos").iterdir()], tmp_path, login)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    received = _execute([*pymmich, "download", "*.jpg", "--dir", tmp_path / "target"], tmp_path, login)
    assert received.returncode == 0, received.stdout + received.stderr
    assert _read(tmp_path / "target") == folder


def _is_called(operation: str, requests: Sequence[str]) -> bool:
    pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", operation))
    return any(pattern.fullmatch(request) for request in requests)


def _read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _run(command: Sequence[Path | str], home: Path) -> dict[str, Any]:
    """What the command prints as JSON."""
    done = _execute(command, home, {})
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _execute(
    command: Sequence[Path | str], home: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
