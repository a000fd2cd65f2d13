"""A library whose disk hangs: requests for its files get a 503, all other requests work, and the service can be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.photos import photo
from tests.api.start_service import StartService
from tests.api.test_libraries import assets, scan, thumbnail_of
from tests.real.accounts import Account
from tests.real.archives import make_link
from tests.real.hanging_file_systems import HangingFileSystem, mount_hanging_file_system
from tests.real.service import WORKING, Service
from tests.real.stacks import ENGINES, Engine
from tests.real.waiting import eventually

PATIENCE = 60.0
REQUESTS = 40
LARGE_BYTES = 64 << 20
PHOTO = photo("hung")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[HangingFileSystem]:
    files = {"2024/a.jpg": PHOTO, "2024/b.jpg": photo("other"), "film.mp4": b"\0" * LARGE_BYTES}
    with mount_hanging_file_system(tmp_path / "hanging", files) as disk:
        yield disk


@pytest.fixture
def started(start_service: StartService, engine: Engine, disk: HangingFileSystem) -> Service:
    _ = disk  # is to answer again only when the service has ended
    return start_service(engine, program=WORKING)


@pytest.fixture
def admin(started: Service) -> Account:
    return started.people.add(is_admin=True)


@pytest.fixture
def admin_client(started: Service, admin: Account) -> Iterator[httpx.Client]:
    with started.client(admin, timeout=PATIENCE) as client:
        yield client


def library_at(admin_client: httpx.Client, admin: Account, name: str, folder: Path) -> str:
    made = admin_client.post(
        "/api/libraries", json={"ownerId": str(admin.id), "name": name, "importPaths": [str(folder)]}
    )
    assert made.status_code == 201, made.text
    return made.json()["id"]


@pytest.fixture
def hung(admin_client: httpx.Client, admin: Account, disk: HangingFileSystem) -> str:
    library = library_at(admin_client, admin, "Share", disk.mount)
    assert scan(admin_client, library)["new"] == 3
    return library


@pytest.fixture
def sound(admin_client: httpx.Client, admin: Account, tmp_path: Path) -> Path:
    """The folder of the library "Disk"."""
    folder = tmp_path / "sound"
    folder.mkdir()
    (folder / "sound.jpg").write_bytes(photo("sound"))
    library = library_at(admin_client, admin, "Disk", folder)
    assert scan(admin_client, library)["new"] == 1
    return folder


def test_a_library_that_hangs_keeps_nobody_else_waiting(
    started: Service, admin_client: httpx.Client, admin: Account, disk: HangingFileSystem, hung: str, sound: Path
) -> None:
    ids = assets(admin_client, hung)
    (other,) = (each["id"] for each in admin_client.get("/api/libraries").json() if each["name"] == "Disk")
    shown = thumbnail_of(admin_client, ids["a.jpg"])
    link = make_link(admin_client, [ids["a.jpg"]])
    disk.hang()
    with ThreadPoolExecutor(REQUESTS) as clients:
        address = f"/api/assets/{ids['a.jpg']}/original"
        waiting = [clients.submit(admin_client.get, address) for _ in range(REQUESTS)]
        admin_client.post(f"/api/libraries/{hung}/scan")
        original = admin_client.get(f"/api/assets/{assets(admin_client, other)['sound.jpg']}/original")
        assert original.content == (sound / "sound.jpg").read_bytes()
        (sound / "new.jpg").write_bytes(photo("new"))
        assert scan(admin_client, other)["new"] == 1
        for answer in (each.result() for each in waiting):
            assert answer.status_code == 503
            assert answer.json()["message"] in (
                "The external library 'Share' does not answer",
                "The external library 'Share' is not mounted",
            )
            assert answer.headers["retry-after"]
    assert admin_client.get(f"/api/assets/{ids['a.jpg']}/thumbnail").content == shown
    assert admin_client.get(link.path).status_code == 503

    def told() -> bool:
        mounts = {each["name"]: each for each in admin_client.get("/api/server/mounts").json()}
        share, details = mounts["Share"], admin_client.get("/readyz").json()["details"]
        away = (share["state"], share["error"]) == ("unmounted", f"{disk.mount}: does not answer")
        return away and mounts["Disk"]["state"] == "ok" and details["libraries"]["since"] == share["since"]

    eventually(told, "the mounts and the readiness tell of it", within=PATIENCE)
    made = admin_client.post(
        "/api/libraries", json={"ownerId": str(admin.id), "importPaths": [str(disk.mount / "2024")]}
    )
    assert made.status_code == 400
    disk.answer()
    eventually(lambda: admin_client.get(address).status_code == 200, "its originals are there again", within=PATIENCE)
    assert admin_client.get(address).content == PHOTO
    eventually(
        lambda: admin_client.get(f"/api/libraries/{hung}").json()["state"] == "ok", "it is well again", within=PATIENCE
    )
    assert set(assets(admin_client, hung)) == {"a.jpg", "b.jpg", "film.mp4"}
    assert started.stop() == 0


def test_a_transfer_from_a_disk_that_hangs_is_broken_off(
    started: Service, admin_client: httpx.Client, disk: HangingFileSystem, hung: str
) -> None:
    address = f"/api/assets/{assets(admin_client, hung)['film.mp4']}/original"
    received = 0
    with admin_client.stream("GET", address) as answer:
        assert (answer.status_code, answer.headers["content-length"]) == (200, str(LARGE_BYTES))
        with pytest.raises(httpx.RemoteProtocolError):  # noqa: PT012 - it hangs in the midst of the transfer
            for piece in answer.iter_raw():
                received += len(piece)
                disk.hang()
    assert 0 < received < LARGE_BYTES
    assert admin_client.get("/livez").status_code == 200
    # With threads that wait for the disk still.
    assert started.stop() == 0
