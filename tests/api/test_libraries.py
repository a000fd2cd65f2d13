"""External libraries through the API, for administrators and owners, on both stacks; nothing is ever written to a library."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from typer.testing import CliRunner, Result

from app.catalog.catalog import Catalog
from app.cli import cli
from tests.api.consistency import assert_consistent, differences, read_state
from tests.api.photos import photo
from tests.real.accounts import Account
from tests.real.archives import make_link
from tests.real.service import WORKING, Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.waiting import eventually

Snapshot = dict[str, tuple[int, int, int, int, str]]


@pytest.fixture(scope="module")
def service(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that also works on tasks."""
    with Service(stacks.create(stack, tmp_path_factory.mktemp(f"libraries-{stack}")), program=WORKING) as running:
        yield running


@pytest.fixture
def admin(service: Service) -> Account:
    return service.people.add(is_admin=True)


@pytest.fixture
def admin_client(service: Service, admin: Account) -> Iterator[httpx.Client]:
    """A client with the key of an administrator who also owns the library."""
    with service.client(admin) as client:
        yield client


@pytest.fixture
def nas(tmp_path: Path) -> Path:
    folder = tmp_path / "nas"
    for name in ("2024/a.jpg", "2024/b.jpg", "film.mp4"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(photo(name) * 50)
    return folder


@pytest.fixture
def library(admin_client: httpx.Client, admin: Account, nas: Path) -> Iterator[str]:
    answer = admin_client.post(
        "/api/libraries", json={"ownerId": str(admin.id), "name": "NAS", "importPaths": [str(nas)]}
    )
    assert answer.status_code == 201, answer.text
    yield answer.json()["id"]
    admin_client.delete(f"/api/libraries/{answer.json()['id']}")


def scan(client: httpx.Client, library: str, *, accept_missing: bool = False) -> dict[str, object]:
    """Scan the library, and wait for the report."""
    before = client.get(f"/api/libraries/{library}").json()["lastScan"]
    body = {"acceptMissing": True} if accept_missing else None
    assert client.post(f"/api/libraries/{library}/scan", json=body).status_code == 204

    eventually(lambda: not client.get(f"/api/libraries/{library}").json()["scanning"], "the scan ends")
    report = client.get(f"/api/libraries/{library}").json()["lastScan"]
    assert report != before
    return report


def assets(client: httpx.Client, library: str, *, trashed: bool = False) -> dict[str, str]:
    """Asset ids by file name."""
    query = {"library": library, "limit": 1000, "trashed": str(trashed).lower()}
    return {asset["originalFileName"]: asset["id"] for asset in client.get("/api/assets", params=query).json()["items"]}


def thumbnail_of(client: httpx.Client, asset_id: str) -> bytes:
    """The thumbnail; waits until it has been made."""
    address = f"/api/assets/{asset_id}/thumbnail"
    eventually(lambda: client.get(address).status_code == 200, "the thumbnail is made", within=60)
    return client.get(address).content


def snapshot(folder: Path) -> Snapshot:
    """Mode, inode, size, modification time and content of every file and folder."""
    found: Snapshot = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place), *(Path(place) / name for name in names)):
            status = path.stat()
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (status.st_mode, status.st_ino, status.st_size, status.st_mtime_ns, content)
    return found


def test_libraries_are_made_listed_changed_and_removed(
    admin_client: httpx.Client, admin: Account, nas: Path, tmp_path: Path
) -> None:
    made = admin_client.post("/api/libraries", json={"ownerId": str(admin.id), "importPaths": [f"{nas}/"]})
    assert made.status_code == 201
    library = made.json()
    assert library["name"] == "New External Library"
    assert (library["importPaths"], library["assetCount"], library["refreshedAt"]) == ([str(nas)], 0, None)
    assert "**/@eaDir/**" in library["exclusionPatterns"]
    assert library["id"] in {each["id"] for each in admin_client.get("/api/libraries").json()}
    other = tmp_path / "other"
    other.mkdir()
    changed = admin_client.put(
        f"/api/libraries/{library['id']}",
        json={"name": "Other", "importPaths": [str(other), str(nas)], "exclusionPatterns": ["**/film.*"]},
    )
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["importPaths"]) == ("Other", [str(other), str(nas)])
    scan(admin_client, library["id"])
    assert set(assets(admin_client, library["id"])) == {"a.jpg", "b.jpg"}
    statistics = admin_client.get(f"/api/libraries/{library['id']}/statistics").json()
    size = sum(path.stat().st_size for path in (nas / "2024").iterdir())
    assert statistics == {"photos": 2, "videos": 0, "total": 2, "usage": size}
    assert admin_client.get(f"/api/libraries/{library['id']}").json()["assetCount"] == 2
    assert admin_client.get("/api/users/me").json()["quotaUsageInBytes"] == 0
    assert admin_client.delete(f"/api/libraries/{library['id']}").status_code == 204
    assert admin_client.get(f"/api/libraries/{library['id']}").status_code == 404
    eventually(lambda: assets(admin_client, library["id"]) == {}, "the assets are gone")


def test_paths_and_patterns_that_may_not_be_are_named(
    service: Service, admin_client: httpx.Client, admin: Account, library: str, nas: Path, tmp_path: Path
) -> None:
    inner = nas / "2024"
    (tmp_path / "file").touch()
    (tmp_path / "to-nas").symlink_to(nas)
    media, staging = str(service.stack.media), str(service.stack.folder / "data/staging")
    faults = {
        "relative/path": "'relative/path' is not an absolute path",
        f"{tmp_path}/../x": f"'{tmp_path}/../x' has an empty, '.' or '..' segment",
        f"{tmp_path}/missing": f"{tmp_path}/missing: No such file or directory",
        f"{tmp_path}/file": f"{tmp_path}/file: Not a directory",
        "/": "/ is the whole system",
        media: f"{media} is the media location",
        f"{media}/upload": f"{media}/upload lies in the media location",
        str(service.stack.folder): f"{service.stack.folder} holds the media location",
        staging: f"{staging} is the staging folder",
        str(nas): f"{nas} is an import path of the library 'NAS'",
        str(inner): f"{inner} lies in an import path of the library 'NAS'",
        str(tmp_path): f"{tmp_path} holds an import path of the library 'NAS'",
        f"{tmp_path}/to-nas": f"{tmp_path}/to-nas is an import path of the library 'NAS'",
    }
    for path, fault in faults.items():
        refused = admin_client.post("/api/libraries", json={"ownerId": str(admin.id), "importPaths": [path]})
        assert (refused.status_code, refused.json()["message"]) == (400, f"importPaths: {fault}")
    both = admin_client.put(f"/api/libraries/{library}", json={"importPaths": [str(inner), "x", str(inner), str(nas)]})
    assert both.status_code == 400
    assert both.json()["message"] == (
        f"importPaths: 'x' is not an absolute path; {inner} is another import path; {nas} holds another import path"
    )
    checked = admin_client.post(f"/api/libraries/{library}/validate", json={"importPaths": [str(nas), "x"]})
    assert checked.json()["importPaths"] == [
        {"importPath": str(nas), "isValid": True, "message": None},
        {"importPath": "x", "isValid": False, "message": "'x' is not an absolute path"},
    ]
    for pattern, fault in {
        "": "is empty",
        "**/{a": "has an open brace",
        "**/!(a)": "has !(…), which is not known here",
    }.items():
        refused = admin_client.put(f"/api/libraries/{library}", json={"exclusionPatterns": [pattern]})
        assert refused.status_code == 400
        assert refused.json()["message"] == f"exclusionPatterns: {pattern!r} {fault}"
    unknown = admin_client.post("/api/libraries", json={"ownerId": str(uuid4()), "importPaths": []})
    assert (unknown.status_code, unknown.json()["message"]) == (400, "ownerId: there is no such user")


def test_only_administrators_manage_libraries(
    service: Service, client: httpx.Client, admin: Account, library: str
) -> None:
    for method, path in (("GET", ""), ("POST", f"/{library}/scan"), ("DELETE", f"/{library}")):
        assert client.request(method, f"/api/libraries{path}").status_code == 403
    weak = service.people.add_key(admin.id, ("library.read",))
    with service.client() as keyed:
        keyed.headers["x-api-key"] = weak
        assert keyed.get(f"/api/libraries/{library}").status_code == 200
        refused = keyed.post(f"/api/libraries/{library}/scan")
    assert (refused.status_code, refused.json()["message"]) == (403, "Missing required permission: library.update")


def test_external_files_are_streamed_like_others_and_always_as_they_are_now(
    admin_client: httpx.Client, library: str, nas: Path
) -> None:
    assert scan(admin_client, library)["new"] == 3
    content = (nas / "2024/a.jpg").read_bytes()
    address = f"/api/assets/{assets(admin_client, library)['a.jpg']}/original"
    whole = admin_client.get(address)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, content, "image/jpeg")
    etag = whole.headers["etag"]
    part = admin_client.get(address, headers={"range": "bytes=10-19", "if-range": etag})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert admin_client.get(address, headers={"if-none-match": etag}).status_code == 304
    head = admin_client.head(address)
    assert (head.headers["content-length"], head.headers["etag"]) == (str(len(content)), etag)
    several = admin_client.get(address, headers={"range": "bytes=0-0,5-6"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    longer = content + b"edited by its owner"
    (nas / "2024/a.jpg").write_bytes(longer)
    edited = admin_client.get(address, headers={"range": "bytes=10-19", "if-range": etag})
    assert (edited.status_code, edited.content) == (200, longer)
    assert edited.headers["etag"] != etag
    assert "immutable" not in admin_client.get(address, params={"c": "1"}).headers["cache-control"]


@pytest.mark.parametrize("seconds", [-11_644_473_600, 10_500_000_000])
def test_files_of_another_age_are_processed_served_and_zipped(
    admin_client: httpx.Client, library: str, nas: Path, seconds: int
) -> None:
    """Of 1601 and 2302, or as near to that as the file system keeps."""
    path = nas / "2024/a.jpg"
    os.utime(path, (0, seconds))
    assert scan(admin_client, library)["new"] == 3
    asset_id = assets(admin_client, library)["a.jpg"]
    thumbnail_of(admin_client, asset_id)
    address = f"/api/assets/{asset_id}/original"
    whole = admin_client.get(address)
    assert (whole.status_code, whole.content) == (200, path.read_bytes())
    since = {"if-modified-since": whole.headers["last-modified"]}
    assert admin_client.get(address, headers=since).status_code == 304
    link = make_link(admin_client, [asset_id])
    for archive in (
        admin_client.get(link.path),
        admin_client.post("/api/download/archive", json={"assetIds": [asset_id]}),
    ):
        assert archive.status_code == 200
        with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
            assert opened.read("a.jpg") == path.read_bytes()


def test_external_files_are_zipped_like_others(admin_client: httpx.Client, library: str, nas: Path) -> None:
    scan(admin_client, library)
    ids = list(assets(admin_client, library).values())
    expected = {path.name: path.read_bytes() for path in nas.rglob("*.*")}
    at_once = admin_client.post("/api/download/archive", json={"assetIds": ids})
    assert at_once.headers["content-length"] == str(len(at_once.content))
    # Once they have been processed their checksums are known.
    eventually(lambda: make_link(admin_client, ids).resumable, "an archive of them can be resumed", within=60)
    link = make_link(admin_client, ids)
    by_link = admin_client.get(link.path)
    part = admin_client.get(link.path, headers={"range": "bytes=100-20000"})
    assert (part.status_code, part.content) == (206, by_link.content[100:20001])
    for archive in (at_once, by_link):
        with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
            assert opened.testzip() is None
            assert {name: opened.read(name) for name in opened.namelist()} == expected
    status = (nas / "film.mp4").stat()
    (nas / "film.mp4").write_bytes(b"x" * status.st_size)
    os.utime(nas / "film.mp4", ns=(status.st_atime_ns, status.st_mtime_ns + 5000))
    changed = admin_client.get(link.path)
    assert changed.status_code == 410
    assert "was changed by its owner" in changed.json()["message"]


def test_a_link_that_was_turned_round_gives_nothing_away(admin_client: httpx.Client, library: str, nas: Path) -> None:
    (nas / "link.jpg").symlink_to(nas / "2024/a.jpg")
    scan(admin_client, library)
    address = f"/api/assets/{assets(admin_client, library)['link.jpg']}/original"
    assert admin_client.get(address).content == (nas / "2024/a.jpg").read_bytes()
    (nas / "link.jpg").unlink()
    secret = nas.parent / "secret"
    secret.write_bytes(b"secret")
    (nas / "link.jpg").symlink_to(secret)
    assert admin_client.get(address).status_code == 404
    (nas / "2024").rename(nas / "elsewhere")
    secret.unlink()
    secret.mkdir()
    (secret / "b.jpg").write_bytes(b"secret")
    (nas / "2024").symlink_to(secret)
    assert admin_client.get(f"/api/assets/{assets(admin_client, library)['b.jpg']}/original").status_code == 404


def test_an_unmounted_library_says_so_and_its_derivatives_keep_working(
    admin_client: httpx.Client, library: str, nas: Path
) -> None:
    scan(admin_client, library)
    asset_id = assets(admin_client, library)["a.jpg"]
    thumbnail = thumbnail_of(admin_client, asset_id)
    link = make_link(admin_client, [asset_id])
    original, shown = f"/api/assets/{asset_id}/original", f"/api/assets/{asset_id}/thumbnail"
    before = admin_client.get(f"/api/assets/{asset_id}").json()
    away = nas.rename(nas.with_name("away"))
    refused = admin_client.get(original)
    assert (refused.status_code, refused.json()["message"]) == (503, "The external library 'NAS' is not mounted")
    assert refused.headers["retry-after"]
    assert admin_client.get(link.path).status_code == 503
    seen = admin_client.get(shown)
    assert (seen.status_code, seen.content) == (200, thumbnail), seen.text
    report = scan(admin_client, library)
    assert (report["trashed"], report["refused"]) == (0, f"{nas}: No such file or directory")
    state = admin_client.get(f"/api/libraries/{library}").json()
    assert (state["state"], state["stateError"]) == ("unmounted", f"{nas}: No such file or directory")
    assert state["stateSince"]
    mounts = [
        each for each in admin_client.get("/api/server/mounts").json() if each["kind"] == "library" and each["error"]
    ]
    assert [(each["name"], each["state"]) for each in mounts] == [("NAS", "unmounted")]
    assert (mounts[0]["since"], mounts[0]["error"]) == (state["stateSince"], state["stateError"])

    def detailed() -> bool:
        ready = admin_client.get("/readyz")
        assert ready.status_code == 200
        detail = ready.json()["details"]["libraries"]
        return detail["status"] == "failing" and detail["since"] == state["stateSince"]

    eventually(detailed, "the readiness tells of it")
    zipped = admin_client.post("/api/download/archive", json={"assetIds": [asset_id]})
    assert zipped.status_code == 409
    assert "the library 'NAS' is not mounted" in zipped.json()["message"]
    assert admin_client.get(shown).content == thumbnail
    away.rename(nas)
    report = scan(admin_client, library)
    assert (report["found"], report["new"], report["changed"], report["refused"]) == (3, 0, 0, None)
    assert admin_client.get(f"/api/libraries/{library}").json()["state"] == "ok"
    assert admin_client.get(original).content == (nas / "2024/a.jpg").read_bytes()
    assert admin_client.get(link.path).status_code == 200
    assert admin_client.get(f"/api/assets/{asset_id}").json() == before


def test_a_file_that_is_gone_is_gone_and_not_unmounted(admin_client: httpx.Client, library: str, nas: Path) -> None:
    scan(admin_client, library)
    asset_id = assets(admin_client, library)["a.jpg"]
    (nas / "2024/a.jpg").unlink()
    assert admin_client.get(f"/api/assets/{asset_id}/original").status_code == 404
    assert scan(admin_client, library)["trashed"] == 1
    assert admin_client.get(f"/api/assets/{asset_id}").json()["isOffline"]
    assert assets(admin_client, library, trashed=True) == {"a.jpg": asset_id}


@pytest.mark.parametrize("read_only", [False, True], ids=["a plain folder", "a read-only bind mount"])
def test_nothing_is_ever_written_to_a_library(
    service: Service, admin_client: httpx.Client, admin: Account, nas: Path, read_only: bool
) -> None:
    """After every operation on a library, all bytes, times and inodes of its files are unchanged."""
    if read_only:
        if os.geteuid() != 0:
            pytest.skip("only root may mount")
        subprocess.run(["mount", "--bind", nas, nas], check=True, timeout=30)
    try:
        if read_only:
            subprocess.run(["mount", "-o", "remount,bind,ro", nas], check=True, timeout=30)
            with pytest.raises(OSError, match="Read-only"):
                (nas / "x").touch()
        before = snapshot(nas)
        _use_everything(service, admin_client, admin, nas)
        assert snapshot(nas) == before
    finally:
        if read_only:
            subprocess.run(["umount", nas], check=True, timeout=30)


def _use_everything(service: Service, admin_client: httpx.Client, admin: Account, nas: Path) -> None:
    wanted = {"ownerId": str(admin.id), "name": "NAS", "importPaths": [str(nas)]}
    library = admin_client.post("/api/libraries", json=wanted).json()["id"]
    assert scan(admin_client, library)["new"] == 3
    ids = assets(admin_client, library)
    thumbnail_of(admin_client, ids["a.jpg"])
    admin_client.put(f"/api/assets/{ids['a.jpg']}", json={"isFavorite": True, "description": "on the NAS"})
    for asset_id in ids.values():
        assert admin_client.get(f"/api/assets/{asset_id}/original", params={"download": "true"}).status_code == 200
    assert admin_client.post("/api/download/archive", json={"assetIds": list(ids.values())}).status_code == 200
    admin_client.request("DELETE", "/api/assets", json={"ids": [ids["a.jpg"]]})
    admin_client.post("/api/trash/restore/assets", json={"ids": [ids["a.jpg"]]})
    admin_client.request("DELETE", "/api/assets", json={"ids": [ids["b.jpg"]], "force": True})
    sweep_everything(service)
    assert scan(admin_client, library)["new"] == 1
    admin_client.put(f"/api/libraries/{library}", json={"exclusionPatterns": ["**/film.*"]})
    assert scan(admin_client, library, accept_missing=True)["trashed"] == 1
    done = service.run("library", "scan", library)
    assert done.returncode == 0, done.stderr
    admin_client.delete(f"/api/libraries/{library}")
    eventually(lambda: assets(admin_client, library) == {}, "the assets are gone")
    sweep_everything(service)


def test_removing_a_library_leaves_nothing_of_it(service: Service, admin_client: httpx.Client, library: str) -> None:
    scan(admin_client, library)
    for name in ("a.jpg", "b.jpg"):
        thumbnail_of(admin_client, assets(admin_client, library)[name])
    assert admin_client.delete(f"/api/libraries/{library}").status_code == 204

    async def rows(catalog: Catalog) -> int:
        libraries = [each for each in await catalog.libraries.list() if str(each.id) == library]
        return len(libraries) + (await catalog.counts.count_by_library()).get(UUID(library), 0)

    eventually(lambda: service.people.call(rows) == 0, "the rows are gone")

    def is_swept() -> bool:
        """Again and again: a picture that is being made meanwhile is given up by its task only when it is stored."""
        sweep_everything(service)
        return not differences(read_state(service.stack), exact=True)

    eventually(is_swept, "nothing is left")
    assert_consistent(service.stack, exact=True)


def test_the_command_line_does_the_same(
    service: Service, admin_client: httpx.Client, admin: Account, nas: Path
) -> None:
    def mediavault(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["library", *arguments], env={**os.environ, **service.settings})

    done = mediavault("add", admin.email, str(nas), "--name", "By hand")
    assert done.exit_code == 0, done.output
    library = done.stdout.strip()
    try:
        scanned = mediavault("scan", library)
        assert scanned.exit_code == 0, scanned.output
        assert "By hand" in scanned.stdout
        assert set(assets(admin_client, library)) == {"a.jpg", "b.jpg", "film.mp4"}
        assert library in mediavault("list").stdout
        assert mediavault("statistics", library).exit_code == 0
        assert mediavault("validate", library).exit_code == 0
        nas.rename(nas.with_name("away"))
        assert mediavault("validate", library).exit_code == 1
        refused = mediavault("scan", library)
        assert refused.exit_code == 1
        assert "nothing goes to the trash, it looks unmounted: By hand: " in refused.stderr
        assert set(assets(admin_client, library)) == {"a.jpg", "b.jpg", "film.mp4"}
        accepted = mediavault("scan", library, "--accept-missing")
        assert accepted.exit_code == 0, accepted.output
        assert set(assets(admin_client, library, trashed=True)) == {"a.jpg", "b.jpg", "film.mp4"}
        wrong = mediavault("update", library, "--import-path", "relative")
        assert (wrong.exit_code, "is not an absolute path" in wrong.stderr) == (2, True)
    finally:
        removed = mediavault("remove", library)
    assert removed.stdout == "3 assets removed\n"
    assert mediavault("scan", library).exit_code == 2
