"""The media location is unmounted or replaced while the service runs: `/readyz` fails, uploads are refused, and the service recovers
without a restart."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from app.health.markers import MEDIA_FOLDERS
from tests.api.consistency import assert_consistent
from tests.api.photos import photo
from tests.api.start_service import StartService
from tests.media.photo_files import encode_jpeg, make_quarters
from tests.real.accounts import Account
from tests.real.mounts import DiskMounts, disks_below
from tests.real.processing import queues, wait_until_idle
from tests.real.service import COMMAND, WORKING, Service
from tests.real.stacks import Engine
from tests.real.sweeping import sweep_everything
from tests.real.uploads import FORM_TAIL, UploadConnection, fresh_bytes, upload, uploaded
from tests.real.waiting import eventually

PATIENCE = 60.0
MEBIBYTE = 1024 * 1024


class Marker:
    """Direct access to the marker of the upload folder, on disk or in S3."""

    def __init__(self, service: Service) -> None:
        self._bucket = service.stack.bucket
        self._file = service.stack.media / "upload" / ".immich"
        self._key = f"{self._bucket.prefix}/.immich" if self._bucket else ""

    def read(self) -> bytes:
        if self._bucket is None:
            return self._file.read_bytes()
        client = self._bucket.server.client()
        return client.get_object(Bucket=self._bucket.name, Key=self._key)["Body"].read()

    def write(self, text: bytes) -> None:
        if self._bucket is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_bytes(text)
        else:
            self._bucket.server.client().put_object(Bucket=self._bucket.name, Key=self._key, Body=text)

    def remove(self) -> None:
        if self._bucket is None:
            self._file.unlink()
        else:
            self._bucket.server.client().delete_object(Bucket=self._bucket.name, Key=self._key)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[DiskMounts]:
    with disks_below(tmp_path) as disks:
        yield disks


@pytest.mark.parametrize("engine", ["local", "s3"])
def test_uploads_are_refused_while_the_marker_is_not_ours(start_service: StartService, engine: Engine) -> None:
    service = start_service(engine)
    marker = Marker(service)
    ours = marker.read()
    with service.client(service.people.add(is_admin=True)) as client:
        assert upload(client, photo()).status_code == 201
        marker.write(b"1732300000000\n")
        eventually(lambda: upload(client, photo()).status_code == 503, "uploads are refused")
        refused = upload(client, photo())
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        eventually(lambda: client.get("/readyz").status_code == 503, "the service is not ready")
        assert "media location" in client.get("/readyz").json()["message"]
        assert "not_ours" in states(client).values()
        marker.remove()
        eventually(lambda: "unmounted" in states(client).values(), "an emptied place is told apart")
        assert upload(client, photo()).status_code == 503
        marker.write(ours)
        eventually(lambda: upload(client, photo()).status_code == 201, "uploads are taken again")
        eventually(lambda: client.get("/readyz").status_code == 200, "the service is ready again")
        assert set(states(client).values()) == {"ok"}


def is_at_work(service: Service, admin: Account) -> bool:
    counts = queues(service, admin.key)["thumbnailGeneration"]["jobCounts"]
    return bool(counts["active"] or counts["waiting"])


@pytest.mark.parametrize("engine", ["local", "s3"])
def test_nothing_is_made_or_removed_while_the_marker_is_not_ours(start_service: StartService, engine: Engine) -> None:
    """Thumbnails, portraits and the sweeper stop too: files written to a foreign place would be lost; files missing there still exist."""
    service = start_service(engine, program=WORKING)
    marker, account = Marker(service), service.people.add(is_admin=True)
    ours = marker.read()
    with service.client(account) as client:
        kept, removed = (uploaded(client, encode_jpeg(make_quarters()) + fresh_bytes(8)) for _ in range(2))
        person = f"/api/people/{uuid4()}/thumbnail"
        wait_until_idle(service, account.key)

        marker.write(b"1732300000000\n")
        eventually(lambda: upload(client, photo()).status_code == 503, "uploads are refused")
        eventually(lambda: not is_at_work(service, account), "what was taken before is processed or put off", within=60)
        before = service.stack.objects()
        put_off = service.log.count("the sweep is put off")
        failed = service.log.count("an attempt failed")
        portraits = {"a person's": cut_out(client, person, kept), "a user's": show_user(client)}
        assert {whose: answer.status_code for whose, answer in portraits.items()} == dict.fromkeys(portraits, 503)
        assert all(answer.headers["retry-after"] for answer in portraits.values())
        regenerate(client)
        delete(client, removed)
        eventually(lambda: service.log.count("an attempt failed") > failed, "no thumbnail can be stored", within=60)
        eventually(lambda: service.log.count("the sweep is put off") > put_off, "the sweeper has looked", within=60)
        assert service.stack.objects() == before
        assert client.get(f"/api/assets/{kept}/thumbnail").status_code == 200

        marker.write(ours)
        eventually(lambda: upload(client, photo()).status_code == 201, "uploads are taken again")
        delete(client, uploaded(client, photo()))
        # A picture that was being made of it meanwhile is given up late, and found by the sweep of the next minute.
        eventually(lambda: not any(removed in path for path in service.stack.objects()), "it is swept", within=90)
        assert cut_out(client, person, kept).status_code == 204
        assert show_user(client).status_code == 201
        wait_until_idle(service, account.key)
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)


@pytest.mark.parametrize("folder", ["", "thumbs"], ids=["the whole", "thumbs"])
def test_a_disk_goes_and_comes_back(disks: DiskMounts, start_service: StartService, folder: str) -> None:
    """One folder's disk comes back as it was; the whole as another device with the same files, as a network share does."""
    service = start_service("local", begin=False)
    disk, spot = disks.make(), service.stack.media / folder
    disk.mount(spot)
    service.start()
    content = photo()
    with service.client(service.people.add(is_admin=True)) as client:
        kept = uploaded(client, content)
        well_since = max(mount["since"] for mount in client.get("/api/server/mounts").json())

        disk.unmount(spot)
        eventually(lambda: upload(client, photo()).status_code == 503, "uploads are refused")
        refused = upload(client, photo())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        eventually(lambda: client.get("/readyz").status_code == 503, "the service is not ready")
        part = client.get("/readyz").json()["checks"]["media location"]
        assert part["error"] == "looks unmounted, emptied or not ours"
        eventually(lambda: "unmounted" in states(client).values(), "the mounts show it")
        mounts = {mount["name"]: mount for mount in client.get("/api/server/mounts").json()}
        away = {name for name, mount in mounts.items() if mount["state"] == "unmounted"}
        assert away == ({folder} if folder else set(MEDIA_FOLDERS))
        for name in away:
            assert mounts[name]["error"].startswith(f"{service.stack.media}/{name}/.immich is missing")
            assert (mounts[name]["freeBytes"], mounts[name]["totalBytes"]) == (None, None)
            assert mounts[name]["since"] > well_since
        assert list(spot.rglob("*")) == [], "nothing is written below the mount point"

        back = disk if folder else disks.make()
        if not folder:
            shutil.copytree(disk.content, back.content, dirs_exist_ok=True)
        back.mount(spot)
        eventually(lambda: upload(client, photo()).status_code == 201, "uploads are taken again")
        eventually(lambda: client.get("/readyz").status_code == 200, "the service is ready again")
        assert set(states(client).values()) == {"ok"}
        assert client.get(f"/api/assets/{kept}/original").content == content
        if not folder:
            disk.eject()  # fails while the service holds anything of the old one open


@pytest.mark.parametrize("folder", ["", "upload"], ids=["the whole", "upload"])
def test_an_upload_whose_disk_goes_meanwhile_is_refused_and_nothing_of_it_kept(
    disks: DiskMounts, start_service: StartService, folder: str
) -> None:
    service = start_service("local", begin=False)
    disk, spot = disks.make(), service.stack.media / folder
    disk.mount(spot)
    service.start()
    account = service.people.add()
    content = fresh_bytes(8 * MEBIBYTE)
    with service.client(account) as client:
        with UploadConnection(service.port) as wire:
            wire.begin_upload(len(content), account.headers)
            wire.send(content[:MEBIBYTE])
            eventually(lambda: bool(service.stack.leftovers()), "the first bytes are written")
            disk.unmount(spot)
            wire.send_while_accepted([content[MEBIBYTE:], FORM_TAIL])
            refused = wire.answer()
        assert (refused.status, refused.headers["retry-after"]) == (503, "5"), refused.body
        assert list(spot.rglob("*")) == [], "nothing is written below the mount point"
        assert client.get("/api/assets/statistics").json()["total"] == 0

        disk.mount(spot)
        eventually(lambda: upload(client, photo()).status_code == 201, "uploads are taken again")
        uploaded(client, content)
        assert client.get("/api/assets/statistics").json()["total"] == 2
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)
    assert service.stack.leftovers() == []


def test_a_start_without_the_disk_is_refused(disks: DiskMounts, start_service: StartService) -> None:
    service = start_service("local", begin=False)
    disk, media = disks.make(), service.stack.media
    disk.mount(media)
    service.start()
    service.stop()
    disk.unmount(media, lazily=False)

    assert service.launch().wait(PATIENCE) == 3
    assert f"mediavault: {media}/upload/.immich is missing: the media location looks unmounted" in read_log(service)
    assert list(media.rglob("*")) == [], "nothing is written below the mount point"
    media.rmdir()
    assert service.launch().wait(PATIENCE) == 3
    assert f"mediavault: {media} is missing" in read_log(service)
    assert not media.exists(), "nor is it made again"


@pytest.mark.parametrize("engine", ["local", "s3"])
def test_a_person_starts_in_spite_of_it_or_takes_it_over(start_service: StartService, engine: Engine) -> None:
    service = start_service(engine, begin=False)
    marker = Marker(service)
    marker.write(b"1732300000000\n")
    assert service.launch().wait(PATIENCE) == 3
    assert "names another installation: the media location is not ours" in read_log(service)

    service.settings["IMMICH_IGNORE_MOUNT_CHECK_ERRORS"] = "true"
    service.start()
    with service.client(service.people.add(is_admin=True)) as client:
        assert upload(client, photo()).status_code == 201
        assert "not_ours" in states(client).values(), "it is not hidden"
    service.stop()
    assert marker.read() == b"1732300000000\n"

    del service.settings["IMMICH_IGNORE_MOUNT_CHECK_ERRORS"]
    adopting = Service(service.stack, settings={"IMMICH_PORT": str(service.port)}, program=(*COMMAND, "--adopt"))
    adopting.port = service.port
    adopting.start()
    with adopting.client(service.people.add(is_admin=True)) as client:
        assert set(states(client).values()) == {"ok"}
    adopting.close()


def cut_out(client: httpx.Client, person: str, asset: str) -> httpx.Response:
    box = {"x": 1, "y": 1, "width": 160, "height": 160, "imageWidth": 640, "imageHeight": 480}
    return client.put(person, json={"assetId": asset, **box})


def show_user(client: httpx.Client) -> httpx.Response:
    return client.post(
        "/api/users/profile-image", files={"file": ("me.jpg", encode_jpeg(make_quarters()), "image/jpeg")}
    )


def regenerate(client: httpx.Client) -> None:
    command = {"command": "start", "force": True}
    assert client.put("/api/jobs/thumbnailGeneration", json=command).status_code == 200


def delete(client: httpx.Client, asset: str) -> None:
    gone = client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True})
    assert gone.status_code == 204


def read_log(service: Service) -> str:
    return service.log + service.output


def states(client: httpx.Client) -> dict[str, str]:
    return {mount["name"]: mount["state"] for mount in client.get("/api/server/mounts").json()}
