"""Sidecars of uploads through the API, on both stacks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.consistency import assert_consistent
from tests.api.test_libraries import scan, snapshot
from tests.media.photo_files import encode_jpeg, make_quarters
from tests.media.sidecar_files import make_sidecar
from tests.real.processing import wait_until_idle
from tests.real.service import WORKING, Service
from tests.real.stacks import Engine, Stacks
from tests.real.sweeping import sweep_everything
from tests.real.uploads import fresh_bytes, upload, uploaded
from tests.real.waiting import eventually


@pytest.fixture(scope="module")
def working(stack: Engine, stacks: Stacks, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that also works on tasks."""
    with Service(stacks.create(stack, tmp_path_factory.mktemp(f"sidecars-{stack}")), program=WORKING) as running:
        yield running


def test_a_sidecar_wins_over_the_file_and_an_edit_over_both(working: Service) -> None:
    account = working.people.add(is_admin=True)
    with working.client(account) as client:
        data = [encode_jpeg(make_quarters(80, 60)) + random.randbytes(20) for _ in range(2)]
        early = upload(client, data[0], sidecar=make_sidecar(3, "from the start")).json()["id"]
        late = uploaded(client, data[1])
        wait_until_idle(working, account.key)
        thumbnail = client.get(f"/api/assets/{late}/thumbnail").headers["etag"]

        assert upload(client, data[1], sidecar=make_sidecar(4, "later")).json()["added"] == ["sidecar"]
        edited = client.put(f"/api/assets/{early}", json={"description": "edited"})
        wait_until_idle(working, account.key)

        assert edited.status_code == 200
        found = {asset: client.get(f"/api/assets/{asset}").json() for asset in (early, late)}
        exif = {asset: (each["exifInfo"]["rating"], each["exifInfo"]["description"]) for asset, each in found.items()}
        assert exif == {early: (3, "edited"), late: (4, "later")}
        assert not any("sidecarError" in each or "processingError" in each for each in found.values())
        assert client.get(f"/api/assets/{late}/thumbnail").headers["etag"] == thumbnail, "made once"
        assert client.get("/api/server/features").json()["sidecar"]
    assert_consistent(working.stack)


def test_sidecars_beside_the_files_of_a_library(working: Service, tmp_path: Path) -> None:
    """They are read as they come, change and go, and never touched."""
    nas = tmp_path / "nas"
    nas.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (nas / name).write_bytes(encode_jpeg(make_quarters(80, 60)) + name.encode())
    (nas / "a.xmp").write_bytes(make_sidecar(2, "of a.xmp"))
    (nas / "b.xmp").symlink_to(tmp_path / "secret.xmp")
    (tmp_path / "secret.xmp").write_bytes(make_sidecar(5, "secret"))
    account = working.people.add(is_admin=True)
    with working.client(account) as client:
        body = {"ownerId": str(account.id), "name": "NAS", "importPaths": [str(nas)]}
        library = client.post("/api/libraries", json=body).json()["id"]

        def read() -> dict[str, tuple[int | None, str | None]]:
            before = snapshot(nas)
            scan(client, library)
            wait_until_idle(working, account.key)
            assert snapshot(nas) == before
            items = client.get("/api/assets", params={"library": library}).json()["items"]
            assert not any("sidecarError" in each for each in items)
            return {
                each["originalFileName"]: (each["exifInfo"]["rating"], each["exifInfo"]["description"])
                for each in items
            }

        nothing = read()["b.jpg"]
        assert read() == {"a.jpg": (2, "of a.xmp"), "b.jpg": nothing}
        (nas / "a.jpg.xmp").write_bytes(make_sidecar(3, "of a.jpg.xmp"))
        (nas / "b.xmp").unlink()
        (nas / "b.xmp").write_bytes(make_sidecar(4, "of b.xmp"))
        assert read() == {"a.jpg": (3, "of a.jpg.xmp"), "b.jpg": (4, "of b.xmp")}
        (nas / "b.xmp").write_bytes(make_sidecar(1, "changed"))
        (nas / "a.jpg.xmp").unlink()
        assert read() == {"a.jpg": (2, "of a.xmp"), "b.jpg": (1, "changed")}
        (nas / "a.xmp").unlink()
        (nas / "b.xmp").unlink()
        assert read() == {"a.jpg": nothing, "b.jpg": nothing}
        assert client.delete(f"/api/libraries/{library}").status_code == 204
        eventually(lambda: client.get(f"/api/libraries/{library}").status_code == 404, "the library is removed")
    assert_consistent(working.stack)


def test_a_duplicate_adds_a_sidecar_and_a_favourite_and_says_so(service: Service, client: httpx.Client) -> None:
    data, sidecar = fresh_bytes(5000), b"<x:xmpmeta/>"
    asset = uploaded(client, data)
    charged = client.get("/api/users/me").json()["quotaUsageInBytes"]

    plain = upload(client, data)
    added = upload(client, data, fields={"isFavorite": "true"}, sidecar=sidecar)
    again = upload(client, data, fields={"isFavorite": "true"}, sidecar=b"<other/>")

    assert [each.status_code for each in (plain, added, again)] == [200, 200, 200]
    assert plain.json() == again.json() == {"id": asset, "status": "duplicate"}
    assert added.json() == {"id": asset, "status": "duplicate", "added": ["sidecar", "favorite"]}
    assert client.get(f"/api/assets/{asset}").json()["isFavorite"]
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == charged + len(sidecar)
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)

    assert client.request("DELETE", "/api/assets", json={"ids": [asset], "force": True}).status_code == 204
    assert client.get("/api/users/me").json()["quotaUsageInBytes"] == charged - len(data)
    sweep_everything(service)
    assert_consistent(service.stack, exact=True)
