"""Writes fail while reads work: a catalogue that is full, read-only or moved away, and a read-only media location.

`/readyz` names the failing part, uploads are refused, existing files are served, and the service recovers without a restart.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.api.photos import photo
from tests.api.start_service import StartService
from tests.real.mounts import DiskMounts, disks_below, fill_up
from tests.real.service import Service
from tests.real.uploads import upload, uploaded
from tests.real.waiting import eventually


class Photographer:
    """A user with one photo who uploads more."""

    def __init__(self, service: Service, client: httpx.Client) -> None:
        self.service = service
        self.client = client
        self.content = photo()
        self.kept = uploaded(client, self.content)

    def assert_refused(self, part: str, reason: str, *, state: int = 503) -> None:
        """Readiness and uploads report the failure, while the photo is still served."""
        eventually(lambda: upload(self.client, photo()).status_code == state, "uploads are refused")
        eventually(lambda: self.client.get("/readyz").status_code == 503, "the service is not ready")
        check = self.client.get("/readyz").json()["checks"][part]
        assert (check["status"], check["error"]) == ("failing", reason)
        refused = upload(self.client, photo())
        assert (refused.status_code, refused.json()["message"]) == (state, reason)
        assert int(refused.headers["retry-after"]) > 0
        self.assert_served()

    def assert_served(self) -> None:
        assert self.client.get(f"/api/assets/{self.kept}/original").content == self.content

    def assert_well(self) -> None:
        eventually(lambda: upload(self.client, photo()).status_code == 201, "uploads are taken again", within=40)
        eventually(lambda: self.client.get("/readyz").status_code == 200, "the service is ready again", within=40)


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[DiskMounts]:
    with disks_below(tmp_path) as disks:
        yield disks


@pytest.fixture
def somebody(start_service: StartService) -> Iterator[Photographer]:
    service = start_service("local")
    with service.client(service.people.add()) as client:
        yield Photographer(service, client)


def catalogue_of(service: Service) -> Path:
    return Path(service.stack.db_url.removeprefix("sqlite:///"))


def assets_in(file: Path) -> int:
    with closing(sqlite3.connect(file)) as catalogue:
        return catalogue.execute("SELECT count(*) FROM asset").fetchone()[0]


@pytest.mark.parametrize("how", ["moved away", "replaced"])
def test_a_catalogue_file_that_is_taken_away(somebody: Photographer, tmp_path: Path, how: str) -> None:
    file, aside = catalogue_of(somebody.service), tmp_path / "aside.db"
    replacement = file.read_bytes()
    os.link(file, aside)
    if how == "moved away":
        file.rename(tmp_path / "moved.db")
    else:
        (tmp_path / "other.db").write_bytes(replacement)
        (tmp_path / "other.db").rename(file)
    somebody.assert_refused("catalogue", "The catalogue's file was moved away or replaced")
    if how == "replaced":
        assert file.read_bytes() == replacement, "the other file is left alone"
        file.unlink()
    assert not file.exists(), "no empty catalogue is made in its place"

    aside.rename(file)
    somebody.assert_well()
    somebody.assert_served()
    statistics = somebody.client.get("/api/assets/statistics").json()
    somebody.service.stop()
    assert assets_in(file) == statistics["total"], "all that was acknowledged is what the next start sees"


def test_a_catalogue_file_that_is_overwritten_in_place(somebody: Photographer, tmp_path: Path) -> None:
    """By a shorter one. This one does not get well by itself: the content is gone."""
    file = catalogue_of(somebody.service)
    with closing(sqlite3.connect(file)) as catalogue:
        catalogue.execute("PRAGMA wal_checkpoint")
    uploaded(somebody.client, photo())  # a commit has seen how long the file is
    kept = file.read_bytes()
    with file.open("r+b") as overwritten:
        overwritten.truncate(len(kept) - 4096)
    reasons = {"The catalogue's file was moved away or replaced", "The catalogue is damaged"}
    refused = upload(somebody.client, photo())
    assert (refused.status_code, refused.json()["message"] in reasons) == (503, True), refused.text
    eventually(lambda: somebody.client.get("/readyz").status_code == 503, "the service is not ready")
    assert somebody.client.get("/readyz").json()["checks"]["catalogue"]["error"] in reasons
    assert upload(somebody.client, photo()).status_code == 503
    somebody.service.kill()
    file.write_bytes(kept)


def test_a_catalogue_whose_disk_is_full(disks: DiskMounts, start_service: StartService, tmp_path: Path) -> None:
    folder = tmp_path / "service-0"
    disks.make().mount(folder)
    service = start_service("local", begin=False)
    disks.make().mount(service.stack.media)  # room for media is left
    service.start()
    with service.client(service.people.add()) as client:
        somebody = Photographer(service, client)
        fill_up(folder)
        try:
            somebody.assert_refused("catalogue", "The catalogue's disk is full")
        finally:
            (folder / "somebody else's").unlink()
        somebody.assert_well()


def test_a_catalogue_in_postgresql_that_turned_read_only(start_service: StartService) -> None:
    """As after a failover to a standby."""
    service = start_service("local", database="postgresql")
    with service.client(service.people.add()) as client:
        somebody = Photographer(service, client)
        with psycopg.connect(service.stack.db_url, autocommit=True) as administrator:
            name = administrator.execute("SELECT quote_ident(current_database())").fetchone()
            assert name
            set_read_only = f"ALTER DATABASE {name[0]} SET default_transaction_read_only = "
            administrator.execute((set_read_only + "on").encode())
            terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            administrator.execute(terminate)
            try:
                somebody.assert_refused("catalogue", "The catalogue can be read only")
            finally:
                administrator.execute((set_read_only + "off").encode())
                administrator.execute(terminate)
        somebody.assert_well()


def test_media_that_turned_read_only(disks: DiskMounts, start_service: StartService) -> None:
    """One folder of them, which is a disk of its own."""
    service = start_service("local", begin=False)
    spot = service.stack.media / "upload"
    disks.make().mount(spot)
    service.start()
    with service.client(service.people.add(is_admin=True)) as client:
        somebody = Photographer(service, client)
        remount(spot, "ro")
        try:
            somebody.assert_refused("media location", "The storage can be read only")
            states = {mount["name"]: mount["state"] for mount in client.get("/api/server/mounts").json()}
            assert (states["upload"], states["thumbs"]) == ("read_only", "ok")
            service.stop()
            service.start(ready=False)
            somebody.assert_refused("media location", "The storage can be read only")
        finally:
            remount(spot, "rw")
        somebody.assert_well()


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,bind,{how}", str(folder)], check=True, timeout=30)
