"""Sidecars of uploads through the API, on both stacks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.formats import MAX_SIDECAR_BYTES
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

        dates: dict[str, tuple[str, str]] = {}

        def read() -> dict[str, tuple[int | None, str | None]]:
            before = snapshot(nas)
            scan(client, library)
            wait_until_idle(working, account.key)
            assert snapshot(nas) == before
            items = client.get("/api/assets", params={"library": library}).json()["items"]
            assert not any("sidecarError" in each for each in items)
            dates.update({each["originalFileName"]: (each["fileCreatedAt"], each["fileModifiedAt"]) for each in items})
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
        (nas / "b.xmp").write_bytes(make_sidecar(1, "changed", taken="2001-02-03T04:05:06Z"))
        (nas / "a.jpg.xmp").unlink()
        assert read() == {"a.jpg": (2, "of a.xmp"), "b.jpg": (1, "changed")}
        assert dates["b.jpg"][0] == "2001-02-03T04:05:06.000Z"
        (nas / "a.xmp").unlink()
        (nas / "b.xmp").unlink()
        assert read() == {"a.jpg": nothing, "b.jpg": nothing}
        assert dates["b.jpg"][0] == dates["b.jpg"][1], "the date went with the sidecar"
        assert client.delete(f"/api/libraries/{library}").status_code == 204
        eventually(lambda: client.get(f"/api/libraries/{library}").status_code == 404, "the library is removed")
    assert_consistent(working.stack)


INPUTS = Path(__file__).parents[1] / "inputs"
FROM_SIDECAR = {"latitude": 28.1844781, "longitude": -14.16067}
"""What `b-sidecar.xmp` says about `photo.jpg`."""
FAULTY = {
    "cut.xmp": make_sidecar()[:200],
    "empty.xmp": b"",
    "half-utf-16.xmp": b"\xff\xfe" + make_sidecar().decode().encode("utf-16-le")[:-1],
    "bomb.xmp": b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    + make_sidecar(4, "&b;"),
    "deep.xmp": b"<a>" * 100_000 + b"</a>" * 100_000,
    "large.xmp": make_sidecar() + b" " * MAX_SIDECAR_BYTES,
}


def test_a_fault_of_a_sidecar_is_its_own_and_the_inputs_are_read(working: Service, tmp_path: Path) -> None:
    """As uploads and beside the files of a library. All but the largest, which an upload refuses."""
    nas = tmp_path / "nas"
    nas.mkdir()
    account = working.people.add(is_admin=True)
    photo, sidecar = ((INPUTS / name).read_bytes() for name in ("photo.jpg", "b-sidecar.xmp"))
    good = {"photo.xmp": sidecar, "utf-16.xmp": sidecar.decode().encode("utf-16"), "bom.xmp": b"\xef\xbb\xbf" + sidecar}
    with working.client(account) as client:
        for name, data in {**good, **FAULTY}.items():
            own = photo + name.encode()
            file_name = name.replace(".xmp", ".jpg")
            (nas / file_name).write_bytes(own)
            (nas / (f"{file_name}.xmp" if name == "bom.xmp" else name)).write_bytes(data)
            status = upload(client, own, file_name, sidecar=data).status_code
            assert status == (413 if len(data) > MAX_SIDECAR_BYTES else 201), name
        body = {"ownerId": str(account.id), "name": "NAS", "importPaths": [str(nas)]}
        library = client.post("/api/libraries", json=body).json()["id"]
        scan(client, library)
        wait_until_idle(working, account.key)
        items = client.get("/api/assets", params={"limit": 1000}).json()["items"]
        assert len(items) == 2 * len(good) + 2 * len(FAULTY) - 1
        for each in items:
            name = each["originalFileName"].replace(".jpg", ".xmp")
            assert each["thumbhash"], name
            assert "processingError" not in each, name
            assert ("sidecarError" in each) is (name in FAULTY), (name, each.get("sidecarError"))
            position = {key: each["exifInfo"][key] for key in FROM_SIDECAR}
            assert position == (pytest.approx(FROM_SIDECAR) if name in good else dict.fromkeys(FROM_SIDECAR)), name
            assert each["exifInfo"]["description"] in (None, ""), name
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
