"""Foreign files through the API and the command line, on both stacks: served as they lie, and not a byte, time or inode of them changes."""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.catalog.catalog import Catalog
from app.catalog.schema.records import FileKind
from tests.api.consistency import assert_consistent
from tests.api.photos import photo
from tests.migration.commands import mediavault
from tests.real.accounts import Account
from tests.real.archives import make_link
from tests.real.foreign_files import ForeignAsset, ForeignTree
from tests.real.processing import wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import upload
from tests.real.waiting import eventually

OPERATIONS, LONG_OPERATIONS = 20, 2000
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


@pytest.fixture(scope="module")
def service(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that also works on tasks."""
    with Service(stacks.create(stack, tmp_path_factory.mktemp(f"foreign-{stack}")), program=WORKING) as running:
        yield running


@pytest.fixture(scope="module")
def tree(service: Service, tmp_path_factory: pytest.TempPathFactory) -> ForeignTree:
    return ForeignTree(tmp_path_factory.mktemp("immich"))


@pytest.fixture
def add(service: Service, account: Account, tree: ForeignTree) -> Callable[..., ForeignAsset]:
    """Adds an asset of `account` whose files lie in the tree."""

    def add(owner: Account = account, **wishes: object) -> ForeignAsset:
        async def insert(catalog: Catalog) -> ForeignAsset:
            return await tree.add(catalog, owner.id, **wishes)  # pyright: ignore[reportArgumentType]

        return service.people.call(insert)

    return add


def _see_root(client: httpx.Client, asset: ForeignAsset) -> None:
    """Wait until the service has read the list of folders again."""
    eventually(lambda: client.get(f"/api/assets/{asset.id}/original").status_code == 200, "the folder is known")


def test_originals_and_thumbnails_are_served_as_they_lie(
    service: Service,
    client: httpx.Client,
    account: Account,
    other_client: httpx.Client,
    add: Callable[..., ForeignAsset],
) -> None:
    asset = add()
    _see_root(client, asset)
    address = f"/api/assets/{asset.id}/original"
    whole = client.get(address)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, asset.content, "image/jpeg")
    part = client.get(address, headers={"range": "bytes=10-19", "if-range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, asset.content[10:20])
    assert client.get(address, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
    head = client.head(address)
    assert (head.headers["content-length"], head.headers["etag"]) == (
        str(len(asset.content)),
        whole.headers["etag"],
    )
    for size in ("preview", "thumbnail"):
        shown = client.get(f"/api/assets/{asset.id}/thumbnail", params={"size": size})
        assert (shown.status_code, shown.content) == (200, asset.paths[FileKind(size)].read_bytes())
        assert shown.headers["etag"] != whole.headers["etag"]
    assert other_client.get(address).status_code == 404
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == len(asset.content)
    with service.client(service.people.add(is_admin=True)) as admin:
        usage = {each["userId"]: each for each in admin.get("/api/server/statistics").json()["usageByUser"]}
    assert (usage[str(account.id)]["photos"], usage[str(account.id)]["usage"]) == (1, len(asset.content))


def test_the_etag_is_that_of_the_same_bytes_uploaded(
    client: httpx.Client, other_client: httpx.Client, add: Callable[..., ForeignAsset]
) -> None:
    asset = add()
    _see_root(client, asset)
    copy = upload(other_client, asset.content).json()["id"]
    etags = [
        client.get(f"/api/assets/{asset.id}/original").headers["etag"],
        other_client.get(f"/api/assets/{copy}/original").headers["etag"],
    ]
    assert etags[0] == etags[1]
    assert upload(client, asset.content).json() == {"id": str(asset.id), "status": "duplicate"}


def test_foreign_files_are_zipped_and_the_zip_resumes(client: httpx.Client, add: Callable[..., ForeignAsset]) -> None:
    assets = [add() for _ in range(3)]
    _see_root(client, assets[0])
    link = make_link(client, [str(asset.id) for asset in assets])
    assert link.resumable
    whole = client.get(link.path)
    with zipfile.ZipFile(io.BytesIO(whole.content)) as opened:
        assert opened.testzip() is None
        assert {opened.read(name) for name in opened.namelist()} == {asset.content for asset in assets}
    assert client.get(link.path, headers={"range": "bytes=100-"}).content == whole.content[100:]


def _find_state(admin: httpx.Client, tree: ForeignTree) -> str:
    mounts = {each["name"]: each for each in admin.get("/api/server/mounts").json() if each["kind"] == "foreign"}
    return mounts[str(tree.root)]["state"]


def test_a_changed_file_is_not_sent_and_an_absent_folder_is_not_lost(
    service: Service, client: httpx.Client, tree: ForeignTree, add: Callable[..., ForeignAsset]
) -> None:
    asset = add()
    _see_root(client, asset)
    address = f"/api/assets/{asset.id}/original"
    away = tree.root.rename(tree.root.with_name(f"away-{uuid4()}"))
    for refused in (client.get(address), client.get(f"/api/assets/{asset.id}/thumbnail")):
        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    with service.client(service.people.add(is_admin=True)) as admin:
        eventually(lambda: _find_state(admin, tree) == "unmounted", "the mounts tell of it")
        ready = admin.get("/readyz")
        assert (ready.status_code, ready.json()["details"]["foreign folders"]["status"]) == (200, "failing")
        away.rename(tree.root)
        assert _find_state(admin, tree) == "ok"
    assert client.get(address).content == asset.content
    asset.path.write_bytes(asset.content + b"longer")
    assert client.get(address).status_code >= 400
    asset.path.unlink()
    assert client.get(address).status_code == 404
    asset.path.write_bytes(asset.content)


def test_a_library_may_not_lie_in_the_folder(
    service: Service, tree: ForeignTree, add: Callable[..., ForeignAsset]
) -> None:
    add()
    admin = service.people.add(is_admin=True)
    with service.client(admin) as client:
        wanted = {"ownerId": str(admin.id), "importPaths": [str(tree.root / "library")]}
        refused = client.post("/api/libraries", json=wanted)
    assert refused.status_code == 400
    assert "lies in a folder of another program's files" in refused.json()["message"]


def test_nothing_changes_a_foreign_file(
    service: Service, tree: ForeignTree, add: Callable[..., ForeignAsset], seed: int, *, soak: bool
) -> None:
    """After each of any operations in any order, all bytes, times and inodes are those from before."""
    operations = RandomOperations(service, random.Random(seed), [add(sidecar=number % 2 == 0) for number in range(6)])
    operations.share(add)
    _see_root(operations.client, operations.assets[0])
    before = tree.state()
    with closing(operations.client), closing(operations.admin):
        for _ in range(LONG_OPERATIONS if soak else OPERATIONS):
            name = operations.run_one()
            assert tree.state() == before, f"{name} has changed a file"
        for name in operations.list_unsuccessful():  # by chance, or as all assets were gone
            operations.chosen = [add(sidecar=True), add()]
            operations.assets += operations.chosen
            before = tree.state()
            operations.run(name)
            assert tree.state() == before, f"{name} has changed a file"
        assert operations.list_unsuccessful() == []
        operations.command_copy()
        operations.command_export()
        assert operations.copied or not service.stack.bucket
        operations.remove_everything()
        # A task under way has files that no sweep removes.
        wait_until_idle(service, service.people.add(is_admin=True).key)
        sweep_everything(service)
        assert tree.state() == before
    assert_consistent(service.stack, exact=True)


class RandomOperations:
    """Operations of a user and of an administrator on foreign assets: `operate_…` of the API, `command_…` of the command line."""

    def __init__(self, service: Service, dice: random.Random, assets: list[ForeignAsset]) -> None:
        self.service = service
        self.dice = dice
        self.assets = assets
        self.owner = assets[0].owner_id
        self.client = service.client()
        self.client.headers["x-api-key"] = service.people.add_key(self.owner)
        self.copied = 0
        self.chosen: list[ForeignAsset] = []
        """Choose among these only, if there are any."""
        self.running = ""
        self.succeeded: set[str] = set()
        self.admin = service.client(service.people.add(is_admin=True))

    def share(self, add: Callable[..., ForeignAsset]) -> None:
        """A second user, who is removed."""
        other = self.service.people.add()
        add(other)
        self.other = str(other.id)

    def run_one(self) -> str:
        names = self.list_names()
        weights = [3 if name.startswith("operate_") else 1 for name in names]
        (name,) = self.dice.choices(names, weights)
        self.run(name)
        return name

    def list_names(self) -> list[str]:
        return [name for name in dir(self) if name.startswith(("operate_", "command_"))]

    def list_unsuccessful(self) -> list[str]:
        return [name for name in self.list_names() if name not in self.succeeded]

    def run(self, name: str) -> None:
        self.running = name
        getattr(self, name)()

    def note(self, answer: httpx.Response) -> httpx.Response:
        """No operation may fail in the service; one that the assets' state refuses has not succeeded."""
        assert answer.status_code < 500, f"{self.running}: {answer.status_code} {answer.text}"
        if answer.is_success:
            self.succeeded.add(self.running)
        return answer

    def send(self, method: str, path: str, **content: Any) -> httpx.Response:
        return self.note(self.client.request(method, path, **content))

    def choose(self) -> list[str]:
        """Ids of two assets, which may be in the trash or gone."""
        return [str(each.id) for each in self.dice.sample(self.chosen or self.assets, 2)]

    def operate_read(self) -> None:
        for asset_id in self.choose():
            for rest in ("original", "thumbnail", "thumbnail?size=preview", "video/playback"):
                self.send("GET", f"/api/assets/{asset_id}/{rest}", headers={"range": "bytes=0-5"})

    def operate_zip(self) -> None:
        self.send("POST", "/api/download/archive", json={"assetIds": self.choose()})

    def operate_edit(self) -> None:
        changes = {"isFavorite": True, "description": "ours", "dateTimeOriginal": "2020-01-02T03:04:05Z"}
        self.send("PUT", f"/api/assets/{self.choose()[0]}", json=changes)

    def operate_edit_many(self) -> None:
        self.send("PUT", "/api/assets", json={"ids": self.choose(), "visibility": "archive"})

    def operate_trash(self) -> None:
        self.send("DELETE", "/api/assets", json={"ids": self.choose()[:1]})

    def operate_remove(self) -> None:
        self.send("DELETE", "/api/assets", json={"ids": self.choose()[:1], "force": True})

    def operate_restore(self) -> None:
        self.send("POST", "/api/trash/restore")

    def operate_empty_trash(self) -> None:
        self.send("POST", "/api/trash/empty")

    def operate_upload(self) -> None:
        """The bytes of a foreign file, with a sidecar, and others."""
        self.note(upload(self.client, self.dice.choice(self.assets).content, sidecar=XMP))
        self.note(upload(self.client, photo()))

    def operate_process(self) -> None:
        """Derivatives of ours take the place of the foreign ones."""
        for name in ("regenerate-thumbnail", "refresh-metadata"):
            self.send("POST", "/api/assets/jobs", json={"assetIds": self.choose(), "name": name})

    def operate_sweep(self) -> None:
        sweep_everything(self.service)
        self.succeeded.add(self.running)

    def operate_remove_user(self) -> None:
        self.note(self.admin.request("DELETE", f"/api/admin/users/{self.other}", json={"force": True}))

    def call(self, *arguments: str, statuses: Collection[int] = (0,)) -> CompletedProcess[str]:
        """The command ends with one of the statuses. Fails where it raises an error of its own."""
        ended = mediavault(self.service, *arguments)
        assert ended.returncode in statuses, f"{arguments}: {ended.returncode} {ended.stdout} {ended.stderr}"
        self.succeeded.add(self.running)
        return ended

    def command_verify(self) -> None:
        flags = self.dice.sample(["--checksums", "--repair", "--quarantine"], 2)
        self.call("verify", "--format", "json", *flags, statuses=(0, 1, 3))

    def command_process(self) -> None:
        self.call("process", "--all", "--no-wait")

    def command_back_up(self) -> None:
        self.call("backup", "create")

    def command_copy(self) -> None:
        """Copies to S3 are kept; refused where there is no bucket."""
        self.service.stack.media.mkdir(parents=True, exist_ok=True)
        for step in ("plan", "run", "switch", "rollback", "cleanup"):
            done = (0,) if step in ("plan", "run") else (0, 2)  # of copies only, nothing is under way after the run
            statuses = done if self.service.stack.bucket else (2,)
            ended = self.call("migrate", step, "--to", "s3", "--json", statuses=statuses)
            if self.service.stack.bucket and step == "run":
                self.copied = json.loads(ended.stdout)["states"].get("kept", {}).get("files", 0) or self.copied

    def command_move_back(self) -> None:
        """Refused, as new files go elsewhere."""
        for step in ("plan", "run", "switch", "rollback"):
            self.call("migrate", step, "--to", "local", "--json", statuses=(0, 2) if step == "plan" else (2,))

    def command_export(self) -> None:
        folder = self.service.stack.folder / "exported"
        folder.mkdir(exist_ok=True)
        self.call("export", "--user", str(self.owner), "--to", str(folder), "--trash", "--json")

    def remove_everything(self) -> None:
        """Also the users of other tests of the module: the copies of their files are kept, too."""
        users = {user["id"] for user in self.admin.get("/api/admin/users").json()}
        me = self.admin.get("/api/users/me").json()["id"]
        for user_id in users - {me, str(self.owner)}:
            self.admin.request("DELETE", f"/api/admin/users/{user_id}", json={"force": True}).raise_for_status()
        ids = [str(each.id) for each in self.assets]
        for asset_id in ids:
            self.client.request("DELETE", "/api/assets", json={"ids": [asset_id], "force": True})
        left = self.client.get("/api/assets", params={"limit": 1000}).json()["items"]
        self.client.request("DELETE", "/api/assets", json={"ids": [each["id"] for each in left], "force": True})
        eventually(
            lambda: all(self.client.get(f"/api/assets/{each}").status_code >= 400 for each in ids), "they are gone"
        )
