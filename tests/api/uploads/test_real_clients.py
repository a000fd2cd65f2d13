"""Clients of resumable uploads by others, unmodified: tus-js-client in its three protocols, tuspy, aiotus, and curl as documented."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.start_service import StartService
from tests.api.uploads.upload_clients import TUS, asset_data, sha1_digest
from tests.real.accounts import Account
from tests.real.chosen import crossed
from tests.real.cutting_proxy import CuttingProxy
from tests.real.databases import DatabaseKind
from tests.real.foreign_clients import FOLDER, foreign_clients_python
from tests.real.npm import node, npm_packages
from tests.real.service import ROOT, Service
from tests.real.stacks import Database, Engine
from tests.real.uploads import FIELDS, fresh_bytes

__all__ = ["crossed"]

RUN_SECONDS = 120
TUS_CLIENT = ROOT / "tests/real/tus_client"
KIBIBYTE = 1024
PROTOCOLS = ["tus-v1", "ietf-draft-03", "ietf-draft-05"]


def assert_one_asset(client: httpx.Client, data: bytes) -> None:
    """Assert that the account has one asset, of these bytes."""
    (asset,) = client.get("/api/assets").json()["items"]
    original = client.get(f"/api/assets/{asset['id']}/original")
    assert hashlib.sha1(original.content).digest() == hashlib.sha1(data).digest()


def run(command: Sequence[Path | str], home: Path) -> dict[str, Any]:
    """The last line that the command prints, as JSON."""
    done = subprocess.run(
        command,
        env={"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_tus_js(
    port: int,
    account: Account,
    folder: Path,
    data: bytes,
    protocol: str,
    chunk_size: int,
    *,
    with_creation: bool = False,
    is_deferred: bool = False,
) -> dict[str, Any]:
    """Upload `data` with tus-js-client through `port`; returns its report."""
    (folder / "photo.jpg").write_bytes(data)
    is_tus = protocol == "tus-v1"
    path = "uploads" if is_tus else "upload"
    headers = {"x-api-key": account.key}
    if not is_tus:
        headers |= {"x-immich-asset-data": asset_data(), "repr-digest": sha1_digest(data)}
    metadata = {"filename": "photo.jpg", "filetype": "image/jpeg", **FIELDS}
    return run(
        [
            *(node(), TUS_CLIENT / "upload.mjs", npm_packages(TUS_CLIENT, "tus-js-client")),
            *(f"http://127.0.0.1:{port}/api/{path}", protocol, str(chunk_size)),
            *(str(with_creation).lower(), str(is_deferred).lower(), json.dumps(headers), json.dumps(metadata)),
            folder / "photo.jpg",
        ],
        folder,
    )


@pytest.fixture
def crossed_service(crossed: tuple[Engine, DatabaseKind], start_service: StartService) -> Service:
    engine, database = crossed
    return start_service(engine, database=database)


def upload_by_tus_js(service: Service, account: Account, folder: Path, protocol: str) -> None:
    data = fresh_bytes(500 * KIBIBYTE)
    report = run_tus_js(service.port, account, folder, data, protocol, 200 * KIBIBYTE)
    assert "error" not in report
    assert report["requests"] == ["POST", "PATCH", "PATCH", "PATCH"]
    with service.client(account) as client:
        assert_one_asset(client, data)
        assert report["asset"] == client.get("/api/assets").json()["items"][0]["id"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tus_js_client(service: Service, account: Account, tmp_path: Path, protocol: str) -> None:
    upload_by_tus_js(service, account, tmp_path, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tus_js_client_on_other_pairs(crossed_service: Service, tmp_path: Path, protocol: str) -> None:
    """Of storage and database; `service` has the usual pairs."""
    upload_by_tus_js(crossed_service, crossed_service.people.add(), tmp_path, protocol)


@pytest.mark.parametrize(("with_creation", "is_deferred"), [(True, False), (False, True), (True, True)])
def test_tus_js_client_with_extensions(
    service: Service, client: httpx.Client, account: Account, tmp_path: Path, *, with_creation: bool, is_deferred: bool
) -> None:
    data = fresh_bytes(500 * KIBIBYTE)
    report = run_tus_js(
        service.port,
        account,
        tmp_path,
        data,
        "tus-v1",
        200 * KIBIBYTE,
        with_creation=with_creation,
        is_deferred=is_deferred,
    )
    assert "error" not in report
    assert_one_asset(client, data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tus_js_client_on_a_network_that_breaks(
    service: Service, client: httpx.Client, account: Account, tmp_path: Path, seed: int, protocol: str, *, soak: bool
) -> None:
    size, cuts = (40_000 * KIBIBYTE, 8) if soak else (2_000 * KIBIBYTE, 4)
    chance = random.Random(seed)
    data = fresh_bytes(size)
    limits = iter([chance.randrange(1, size // 2) for _ in range(cuts)])
    with CuttingProxy(service.port, limits) as proxy:
        report = run_tus_js(proxy.port, account, tmp_path, data, protocol, size)
        assert proxy.cut > 0
    assert "error" not in report
    assert "HEAD" in report["requests"]
    assert_one_asset(client, data)


def test_tuspy(service: Service, client: httpx.Client, account: Account, tmp_path: Path) -> None:
    data = fresh_bytes(500 * KIBIBYTE)
    report = run_python("use_tuspy.py", service, account, tmp_path, data)
    assert report["offset"] == len(data)
    assert_one_asset(client, data)


@pytest.mark.parametrize(("engine", "database"), [("local", "postgresql"), ("s3", "sqlite")])
def test_aiotus(start_service: StartService, tmp_path: Path, engine: Engine, database: Database) -> None:
    """It takes a location for an absolute address, or one below the endpoint. The other tests have the usual pairs of storage and
    database."""
    service = start_service(engine, database=database, begin=False)
    service.settings["MEDIAVAULT_PUBLIC_URL"] = service.url
    service.start()
    account = service.people.add()
    data = fresh_bytes(500 * KIBIBYTE)
    report = run_python("use_aiotus.py", service, account, tmp_path, data)
    assert report["metadata"]["filename"] == "photo.jpg"
    with service.client(account) as client:
        assert "mediavault-asset-id" in client.head(report["url"], headers=TUS).headers
        assert_one_asset(client, data)


def run_python(script: str, service: Service, account: Account, folder: Path, data: bytes) -> dict[str, Any]:
    (folder / "photo.jpg").write_bytes(data)
    metadata = json.dumps({"filename": "photo.jpg", **FIELDS})
    address = f"{service.url}/api/uploads"
    command = (foreign_clients_python(), FOLDER / script, address, account.key, str(200 * KIBIBYTE), metadata)
    return run([*command, folder / "photo.jpg"], folder)


def run_documented_examples(service: Service, account: Account, folder: Path) -> None:
    text = (ROOT / "docs/uploads.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(examples) == 7
    data = fresh_bytes(200 * KIBIBYTE)
    halves = data[: len(data) // 2], data[len(data) // 2 :]
    for name, content in (("photo", data), ("photo.1", halves[0]), ("photo.2", halves[1])):
        (folder / name).write_bytes(content)

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(examples)],
        env={"PATH": os.environ["PATH"], "SERVER": service.url, "KEY": account.key, "FILE": str(folder / "photo")},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"created"') == 3
    with service.client(account) as client:
        stored = {
            hashlib.sha1(client.get(f"/api/assets/{asset['id']}/original").content).digest()
            for asset in client.get("/api/assets").json()["items"]
        }
    assert stored == {hashlib.sha1(content).digest() for content in (data, *halves)}


def test_the_documented_examples(service: Service, account: Account, tmp_path: Path) -> None:
    run_documented_examples(service, account, tmp_path)


def test_the_documented_examples_on_other_pairs(crossed_service: Service, tmp_path: Path) -> None:
    run_documented_examples(crossed_service, crossed_service.people.add(), tmp_path)
