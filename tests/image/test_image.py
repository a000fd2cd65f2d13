"""The image as an operator runs it: minimal privileges, a read-only root, as its own user and as an arbitrary one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import psutil
import pytest

from tests.image.container import Image, build_image, start
from tests.real.notes import Note
from tests.real.postgres import Postgres
from tests.real.sample_media import make_jpeg, make_video
from tests.real.secrets import record_log, record_secret
from tests.real.service import free_port
from tests.real.uploads import UploadConnection, fresh_bytes, uploaded
from tests.real.waiting import eventually

pytestmark = pytest.mark.soak  # building an image takes minutes

MOST_ADDED = 500 * 1000**2
"""Limit on the bytes beyond the base image."""
STOP_SECONDS = 10
START_SECONDS = 60
COMMAND_SECONDS = 60
MEDIA_SECONDS = 120
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    with TemporaryDirectory(prefix="mediavault-image-", ignore_cleanup_errors=True) as folder:
        yield build_image(Path(folder))


def test_is_small(image: Image, note: Note) -> None:
    note(f"image: {image.added / 1000**2:.0f} MB beyond its base")
    assert image.added < MOST_ADDED


@pytest.mark.parametrize(("uid", "gid"), [(1000, 1000), (123456, 0)])
def test_serves_with_few_rights(image: Image, uid: int, gid: int, tmp_path: Path) -> None:
    data = _create_data(image, tmp_path)
    port = free_port()
    settings = {"IMMICH_PORT": str(port), "MEDIAVAULT_DRAIN_DELAY": "1", "MEDIAVAULT_DRAIN_SECONDS": "2"}
    log = record_log(tmp_path / "service.log")
    service = start(image, data, uid, gid, settings, log)
    try:
        eventually(lambda: _ready(port, service), f"it is ready: {log}", within=START_SECONDS)
        assert "Users: none yet" in log.read_text()
        assert _finished(start(image, data, uid, gid, settings, log, "python", "-m", "app.health.livez")) == 0
        key = _first_key(image, data, uid, gid, settings, tmp_path)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"x-api-key": key}, timeout=30) as client:
            photo = uploaded(client, make_jpeg(1200, 800), "photo.jpg")
            film = uploaded(client, make_video(tmp_path), "film.avi")
            eventually(lambda: _there(client, f"{photo}/thumbnail"), f"thumbnail: {log}", within=MEDIA_SECONDS)
            eventually(lambda: _there(client, f"{film}/video/playback"), f"video: {log}", within=MEDIA_SECONDS)
            facts = client.get("/readyz").json()
        assert "fail" not in str(facts).lower(), facts
        with UploadConnection(port) as uploading:
            uploading.begin_upload(64 * MEBIBYTE, {"x-api-key": key})
            uploading.send(fresh_bytes(MEBIBYTE))
            began = time.monotonic()
            service.send_signal(signal.SIGTERM)
            service.wait(STOP_SECONDS)
        assert time.monotonic() - began < STOP_SECONDS
    finally:
        _end(service)
    log_text = log.read_text()
    assert "Traceback" not in log_text, log_text
    assert "well again" not in log_text


def test_the_first_run_prints_an_address_that_signs_in(image: Image, tmp_path: Path) -> None:
    """As `docker-compose.yml` starts it."""
    data = _create_data(image, tmp_path)
    port = free_port()
    settings = {"IMMICH_PORT": str(port), "MEDIAVAULT_DRAIN_DELAY": "0"}
    printed = tmp_path / "printed.txt"  # not a log: it holds the token and the key, as it must
    service = start(image, data, 1000, 0, settings, printed, "mediavault", "serve", "--first-run")
    try:
        eventually(lambda: _ready(port, service), "it is ready", within=START_SECONDS)
        address = re.compile(r"/#signin=(\w{64})\n")
        eventually(
            lambda: address.search(printed.read_text()) is not None, "the address is printed", within=START_SECONDS
        )
        found = address.search(printed.read_text())
        assert found is not None
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            assert "<title>" in client.get("/").text
            made = client.post("/api/auth/sign-in-token", json={"token": record_secret(found[1])})
            assert made.status_code == 201, made.text
            token = record_secret(made.json()["accessToken"])
            mine = client.get("/api/users/me", headers={"x-immich-session-token": token})
            assert mine.json()["isAdmin"] is True
        service.send_signal(signal.SIGTERM)
        assert service.wait(STOP_SECONDS) == 0
    finally:
        _end(service)


def test_processes_and_a_worker_serve_and_drain(image: Image, tmp_path: Path) -> None:
    """On PostgreSQL: two serving processes that make no thumbnails, and a worker that does. A stop fails no request."""
    data = _create_data(image, tmp_path)
    port = free_port()
    with Postgres() as postgres:
        url = postgres.create_database()
        sockets = Path(url.partition("?host=")[2])
        sockets.chmod(0o711)
        settings = {
            "IMMICH_PORT": str(port),
            "MEDIAVAULT_DRAIN_DELAY": "2",
            "MEDIAVAULT_DRAIN_SECONDS": "5",
            "DB_URL": url.replace(str(sockets), "/run/postgresql"),
        }
        run = partial(start, image, data, 1000, 0, settings, sockets=sockets)
        log, worker_log = record_log(tmp_path / "service.log"), record_log(tmp_path / "worker.log")
        service = run(log, "mediavault", "serve", "--no-worker", "--processes", "2")
        worker = None
        try:
            eventually(lambda: _ready(port, service), f"it is ready: {log}", within=START_SECONDS)
            answer = tmp_path / "answer.txt"
            for command in ("user add me@example.org --admin", "key add me@example.org"):
                answer.unlink(missing_ok=True)
                assert _finished(run(answer, "mediavault", *command.split())) == 0
            key = {"x-api-key": record_secret(answer.read_text().strip())}
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=key, timeout=30) as client:
                photo = uploaded(client, make_jpeg(1200, 800), "photo.jpg")
                assert not _there(client, f"{photo}/thumbnail")
                worker = run(worker_log, "mediavault", "worker")
                eventually(
                    lambda: _there(client, f"{photo}/thumbnail"), f"thumbnail: {worker_log}", within=MEDIA_SECONDS
                )
                assert len(psutil.Process(service.pid).children()) == 2
                _check_drain(service, port, f"/api/assets/{photo}/original", key)
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(STOP_SECONDS) == 0
        finally:
            _end(service)
            if worker is not None:
                _end(worker)
    assert "Traceback" not in log.read_text() + worker_log.read_text()


def _check_drain(service: subprocess.Popen[bytes], port: int, path: str, headers: dict[str, str]) -> None:
    """After SIGTERM it is not ready, still serves, and then ends with status 0."""
    url = f"http://127.0.0.1:{port}"
    service.send_signal(signal.SIGTERM)
    eventually(lambda: httpx.get(f"{url}/readyz", timeout=5).status_code == 503, "it is not ready", within=STOP_SECONDS)
    assert httpx.get(f"{url}{path}", headers=headers, timeout=5).status_code == 200
    assert service.wait(STOP_SECONDS) == 0


def _create_data(image: Image, folder: Path) -> Path:
    """The folder `/data` with the owner and the mode that it has in the image."""
    data = folder / "data"
    data.mkdir()
    os.chown(data, 1000, 0)
    data.chmod((image.root / "data").stat().st_mode)
    return data


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()


def _first_key(image: Image, data: Path, uid: int, gid: int, settings: dict[str, str], folder: Path) -> str:
    for command in ("user add me@example.org --admin", "key add me@example.org"):
        answer = folder / "answer.txt"
        answer.unlink(missing_ok=True)
        assert _finished(start(image, data, uid, gid, settings, answer, "mediavault", *command.split())) == 0
    return record_secret(answer.read_text().strip())


def _finished(process: subprocess.Popen[bytes]) -> int:
    return process.wait(COMMAND_SECONDS)


def _ready(port: int, service: subprocess.Popen[bytes]) -> bool:
    assert service.poll() is None, "it has ended"
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def _there(client: httpx.Client, part: str) -> bool:
    return client.get(f"/api/assets/{part}").status_code == 200
