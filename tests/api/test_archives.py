"""Archives over HTTP: the split of a selection, zips by POST, download links, and their errors."""

from __future__ import annotations

import io
import random
import unicodedata
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID, uuid4

import httpx
import pytest
import sqlalchemy as sa

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from tests.api.start_service import StartService
from tests.real.accounts import Account
from tests.real.archive_programs import assert_unpacks
from tests.real.archives import DownloadLink, make_link
from tests.real.http_raw import RawResponse, fetch
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.uploads import fresh_bytes, upload, uploaded
from tests.real.waiting import eventually

SIZES = [5, 70_000, 300_000, 2_000_000]


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    return service.people.add()


@pytest.fixture(scope="module")
def client(service: Service, account: Account) -> Iterator[httpx.Client]:
    with service.client(account) as client:
        yield client


@pytest.fixture(scope="module")
def anonymous(service: Service) -> Iterator[httpx.Client]:
    with service.client() as client:
        yield client


@pytest.fixture(scope="module")
def photos(client: httpx.Client) -> dict[str, bytes]:
    """Bytes of the uploaded photos, by asset id."""
    contents = [fresh_bytes(size) for size in SIZES]
    return {uploaded(client, content, f"IMG {number}.jpg"): content for number, content in enumerate(contents)}


@pytest.fixture(scope="module")
def link(client: httpx.Client, photos: dict[str, bytes]) -> DownloadLink:
    return make_link(client, photos)


class TestInfo:
    def test_cuts_by_size_without_exceeding_it(self, client: httpx.Client) -> None:
        sizes = [400, 500, 200, 5000, 300]
        ids = [uploaded(client, fresh_bytes(size)) for size in sizes]

        told = _info(client, assetIds=ids, archiveSize=1000)

        assert told["totalSize"] == sum(sizes)
        assert sorted(asset for part in told["archives"] for asset in part["assetIds"]) == sorted(ids)
        size_of = dict(zip(ids, sizes, strict=True))
        for part in told["archives"]:
            assert part["size"] == sum(size_of[asset] for asset in part["assetIds"])
            assert part["size"] <= 1000 or part["assetIds"] == [ids[3]]

    def test_of_a_user_is_everything_but_the_trash(self, other_client: httpx.Client, other_account: Account) -> None:
        kept, trashed = (uploaded(other_client, fresh_bytes(100)) for _ in range(2))
        other_client.request("DELETE", "/api/assets", json={"ids": [trashed]}).raise_for_status()

        told = _info(other_client, userId=str(other_account.id))

        assert told == {"totalSize": 100, "archives": [{"size": 100, "assetIds": [kept]}]}

    @pytest.mark.parametrize("route", ["archive", "links"])
    def test_all_parts_can_be_unpacked_into_one_folder(
        self, client: httpx.Client, anonymous: httpx.Client, tmp_path: Path, seed: int, route: str
    ) -> None:
        """Where names are the same in any case and normalization, as on the disks of macOS and Windows."""
        nfd = unicodedata.normalize("NFD", "Ärger.jpg")
        names = [
            "img.JPG",
            "IMG.jpg",
            "img+1.JPG",
            "Img+1.jpg",
            "straße.jpg",
            "STRASSE.JPG",
            "Ärger.jpg",
            nfd,
            "ärger+1.JPG",
        ]
        random.Random(seed).shuffle(names)
        contents = {uploaded(client, data, name): data for name, data in ((name, fresh_bytes(400)) for name in names)}
        parts = _info(client, assetIds=[*contents], archiveSize=800)["archives"]
        assert len(parts) > 3

        for part in parts:
            if route == "links":
                zipped = anonymous.get(make_link(client, part["assetIds"]).path)
            else:
                # In whatever order the client gives back what it was told.
                zipped = client.post("/api/download/archive", json={"assetIds": part["assetIds"][::-1]})
            with zipfile.ZipFile(io.BytesIO(zipped.content)) as opened:
                opened.extractall(tmp_path)

        kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert sorted(kept.values()) == sorted(contents.values())
        assert len({unicodedata.normalize("NFC", name).casefold() for name in kept}) == len(names)
        assert {Path(name).suffix.lower() for name in kept} == {".jpg"}
        # Each archive that nobody planned has the plain name.
        alone = client.post("/api/download/archive", json={"assetIds": [*contents]})
        with zipfile.ZipFile(io.BytesIO(alone.content)) as opened:
            assert opened.namelist()[0] == names[0]

    def test_names_follow_the_latest_plan(self, client: httpx.Client) -> None:
        ids = [uploaded(client, fresh_bytes(400), "img.jpg") for _ in range(3)]

        def named(asset: str) -> list[str]:
            zipped = client.post("/api/download/archive", json={"assetIds": [asset]})
            with zipfile.ZipFile(io.BytesIO(zipped.content)) as opened:
                return opened.namelist()

        for order in (ids, ids[::-1], ids[1:] + ids[:1]):
            _info(client, assetIds=order, archiveSize=400)
            assert [named(asset) for asset in order] == [["img.jpg"], ["img+1.jpg"], ["img+2.jpg"]]
        for wanted in ([*ids[:1], uploaded(client, fresh_bytes(400), "other.jpg")], ids[1:2]):
            _info(client, assetIds=wanted, archiveSize=400)
            assert named(wanted[0]) == ["img.jpg"]

    def test_an_asset_that_comes_twice_is_in_one_archive(self, client: httpx.Client) -> None:
        one, two = (uploaded(client, fresh_bytes(100)) for _ in range(2))

        told = _info(client, assetIds=[one, two, one, two])

        assert told == {"totalSize": 200, "archives": [{"size": 200, "assetIds": [one, two]}]}

    def test_the_motion_part_goes_along(self, client: httpx.Client) -> None:
        motion = uploaded(client, fresh_bytes(300), "IMG.mov")
        answer = upload(client, fresh_bytes(100), "IMG.jpg", fields={"livePhotoVideoId": motion})
        assert answer.status_code == 201, answer.text
        photo = answer.json()["id"]

        told = _info(client, assetIds=[photo])

        assert told == {"totalSize": 400, "archives": [{"size": 400, "assetIds": [photo, motion]}]}

    def test_refuses(self, client: httpx.Client) -> None:
        wishes: list[tuple[dict[str, object], int]] = [
            ({}, 400),
            ({"albumId": str(uuid4())}, 404),
            ({"userId": str(uuid4())}, 404),
            ({"assetIds": [str(uuid4())]}, 404),
            ({"assetIds": ["no id"]}, 400),
            ({"assetIds": [], "archiveSize": 0}, 400),
        ]
        for wish, status in wishes:
            assert client.post("/api/download/info", json=wish).status_code == status, wish


@pytest.mark.parametrize("route", ["info", "archive", "links"])
class TestSelections:
    def test_the_trash_is_named(self, client: httpx.Client, route: str) -> None:
        ids = [uploaded(client, fresh_bytes(100), f"{name}.jpg") for name in ("kept", "thrown")]
        client.request("DELETE", "/api/assets", json={"ids": ids[1:]}).raise_for_status()

        answer = client.post(f"/api/download/{route}", json={"assetIds": ids})

        assert answer.status_code == 409
        assert ids[1] in answer.json()["message"]
        assert "thrown.jpg" in answer.json()["message"]
        assert ids[0] not in answer.text

    def test_what_is_somebody_elses_and_what_is_not_there_answer_alike(
        self, client: httpx.Client, other_client: httpx.Client, route: str
    ) -> None:
        foreign = uploaded(other_client, fresh_bytes(100))
        missing = str(uuid4())
        answers = [client.post(f"/api/download/{route}", json={"assetIds": [asset]}) for asset in (foreign, missing)]

        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].json()["message"].replace(foreign, missing) == answers[1].json()["message"]

    def test_needs_a_key_with_the_permission(self, service: Service, anonymous: httpx.Client, route: str) -> None:
        limited = service.people.add(permissions=("asset.read",))
        with service.client(limited) as client:
            assert client.post(f"/api/download/{route}", json={"assetIds": []}).status_code == 403
        assert anonymous.post(f"/api/download/{route}", json={"assetIds": []}).status_code == 401


class TestArchive:
    def test_is_a_zip_of_known_length(self, client: httpx.Client, photos: dict[str, bytes]) -> None:
        answer = client.post("/api/download/archive", json={"assetIds": [*photos, *photos], "archiveName": "Ferien"})

        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/octet-stream"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert "Ferien.zip" in answer.headers["content-disposition"]
        with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
            assert [opened.read(name) for name in opened.namelist()] == list(photos.values())

    def test_conditions_and_ranges_do_not_hold_for_it(self, client: httpx.Client, photos: dict[str, bytes]) -> None:
        whole = client.post("/api/download/archive", json={"assetIds": [*photos]})

        again = client.post(
            "/api/download/archive",
            json={"assetIds": [*photos]},
            headers={"range": "bytes=0-9", "if-none-match": "*", "if-match": '"x"'},
        )

        assert again.status_code == 200
        assert again.content == whole.content


class TestLinks:
    def test_the_zip_needs_no_other_credential(
        self, client: httpx.Client, anonymous: httpx.Client, photos: dict[str, bytes]
    ) -> None:
        link = make_link(client, photos, archiveName="Ferien 2024.zip")

        answer = anonymous.get(link.path)

        assert unquote(link.path).endswith("/Ferien 2024.zip")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/zip"
        assert answer.headers["content-length"] == str(link.size)
        assert answer.headers["etag"] == link.etag
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["content-disposition"].startswith("attachment")
        assert link.resumable
        with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
            assert opened.testzip() is None
            assert [opened.read(name) for name in opened.namelist()] == list(photos.values())

    def test_expires_after_a_day_unless_told(self, client: httpx.Client) -> None:
        for wish, lifetime in (({}, 86_400), ({"expiresIn": 60}, 60)):
            expires = datetime.fromisoformat(make_link(client, [], **wish).expires_at)

            assert abs(expires - datetime.now(UTC) - timedelta(seconds=lifetime)) < timedelta(seconds=30)

    def test_are_listed_and_revoked(
        self, service: Service, anonymous: httpx.Client, other_client: httpx.Client
    ) -> None:
        with service.client(service.people.add()) as client:
            asset = uploaded(client, fresh_bytes(100))
            made = [
                client.post("/api/download/links", json={"assetIds": [asset], "archiveName": name, **more}).json()
                for name, more in (("first", {}), ("second", {"endsWithKey": True, "expiresIn": 60}))
            ]
            for link in made:
                record_secret(link["url"].split("/")[4])
            listed = client.get("/api/download/links").json()

            assert [link["id"] for link in listed] == [link["id"] for link in reversed(made)]
            assert [(link["archiveName"], link["endsWithKey"]) for link in listed] == [
                ("second.zip", True),
                ("first.zip", False),
            ]
            assert [link["expiresAt"] for link in listed] == [link["expiresAt"] for link in reversed(made)]
            assert made[0]["url"].split("/")[4] not in str(listed)
            assert other_client.get("/api/download/links").json() == []

            for chosen, ids in ((other_client, [made[0]["id"]]), (client, [made[0]["id"], str(uuid4())])):
                answer = chosen.request("DELETE", "/api/download/links", json={"ids": ids})
                assert answer.status_code == 404
                assert anonymous.get(made[0]["url"]).status_code == 200
            assert client.request("DELETE", "/api/download/links", json={"ids": [made[0]["id"]]}).status_code == 204

            assert [anonymous.get(link["url"]).status_code for link in made] == [404, 200]
            assert [link["id"] for link in client.get("/api/download/links").json()] == [made[1]["id"]]

    def test_end_with_the_login_that_made_them(self, service: Service, anonymous: httpx.Client) -> None:
        member = service.people.add(password="correct horse battery staple")
        login = anonymous.post("/api/auth/login", json={"email": member.email, "password": member.password}).json()
        headers = {"authorization": f"Bearer {record_secret(login['accessToken'])}"}
        paths = []
        for wish in ({"endsWithKey": True}, {}):
            made = anonymous.post("/api/download/links", json={"assetIds": [], **wish}, headers=headers).json()
            record_secret(made["url"].split("/")[4])
            paths.append(made["url"])
        assert [anonymous.get(path).status_code for path in paths] == [200, 200]

        anonymous.post("/api/auth/logout", headers=headers).raise_for_status()

        eventually(lambda: anonymous.get(paths[0]).status_code == 404, "the link ends")
        assert anonymous.get(paths[1]).status_code == 200

    @pytest.mark.parametrize("force", [False, True], ids=["trash", "removed"])
    def test_do_not_give_out_what_was_thrown_away_since(
        self, client: httpx.Client, anonymous: httpx.Client, *, force: bool
    ) -> None:
        names = ("kept.jpg", "thrown.jpg", "last.jpg")
        contents = {
            uploaded(client, data, name): data for name, data in ((name, fresh_bytes(50_000)) for name in names)
        }
        link = make_link(client, contents)
        whole = anonymous.get(link.path).content
        thrown = list(contents)[1]
        client.request("DELETE", "/api/assets", json={"ids": [thrown], "force": force}).raise_for_status()

        for wanted in ("bytes=0-", "bytes=60000-60009", "bytes=0-70000"):
            answer = anonymous.get(link.path, headers={"range": wanted})
            assert answer.status_code == 410, wanted
            assert answer.headers["content-type"] == "application/problem+json"
            assert thrown in answer.json()["detail"]
            assert "thrown.jpg" in answer.json()["detail"]
        assert anonymous.get(link.path).status_code == 410
        # Download managers ask without the body first.
        assert anonymous.head(link.path).status_code == 410
        for method in ("GET", "HEAD"):
            for condition in ({"if-none-match": link.etag}, {"if-none-match": "*"}):
                assert anonymous.request(method, link.path, headers=condition).status_code == 410, (method, condition)
        # What lies before it is not lost.
        assert anonymous.get(link.path, headers={"range": "bytes=0-40000"}).content == whole[:40_001]
        if not force:
            client.post("/api/trash/restore/assets", json={"ids": [thrown]}).raise_for_status()
            assert anonymous.get(link.path).content == whole
            assert anonymous.head(link.path).status_code == 200
            assert anonymous.get(link.path, headers={"if-none-match": link.etag}).status_code == 304

    def test_does_not_open_anything_else(
        self, anonymous: httpx.Client, link: DownloadLink, photos: dict[str, bytes]
    ) -> None:
        token = link.token

        for path in ("/api/users/me", f"/api/assets/{next(iter(photos))}/original"):
            for headers in ({"x-api-key": token}, {"authorization": f"Bearer {token}"}):
                assert anonymous.get(path, headers=headers).status_code == 401
            assert anonymous.get(path, params={"apiKey": token}).status_code == 401

    def test_an_expired_link_and_an_unknown_one_answer_alike(
        self, service: Service, anonymous: httpx.Client, client: httpx.Client, link: DownloadLink
    ) -> None:
        short = make_link(client, [], expiresIn=1)
        unknown = link.path.replace(link.token, record_secret("A" * 43))
        eventually(lambda: anonymous.get(short.path).status_code == 404, "the link expires")

        for method in ("GET", "HEAD"):
            answers = [anonymous.request(method, path) for path in (short.path, unknown)]
            assert [answer.status_code for answer in answers] == [404, 404]
        bodies = [anonymous.get(path).json() | {"correlationId": ""} for path in (short.path, unknown)]
        assert bodies[0] == bodies[1]

    def test_a_tampered_token_is_unknown(self, anonymous: httpx.Client, link: DownloadLink) -> None:
        token = link.token
        endings = ("A", "=", "%3D", "%2F", "%00", "%C3%A9", "/..")
        for wrong in (token.swapcase(), token[:-1], "", "..", *(token + ending for ending in endings)):
            assert anonymous.get(f"/api/download/archives/{wrong}/a.zip").status_code == 404, wrong

    def test_only_reads(self, anonymous: httpx.Client, link: DownloadLink) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            answer = anonymous.request(method, link.path)

            assert answer.status_code == 405
            assert answer.headers["allow"] == "GET, HEAD, OPTIONS"

    def test_refuses(self, client: httpx.Client) -> None:
        wishes: list[dict[str, object]] = [
            {"expiresIn": 0},
            {"expiresIn": -1},
            {"expiresIn": 10**12},
            {"archiveName": "a" * 300},
            {"assetIds": None},
            {"assetIds": "x"},
        ]
        for wish in wishes:
            assert client.post("/api/download/links", json={"assetIds": []} | wish).status_code == 400, wish

    def test_odd_archive_names_give_links_that_work(self, client: httpx.Client, anonymous: httpx.Client) -> None:
        for name in (
            "../../etc/passwd",
            "..\\..\\windows.zip",
            "C:\\temp\\a.zip",
            "a/b.zip",
            "nul",
            "..",
            ".",
            "",
            " ",
            "?#%2F%00.zip",
            'quote".zip',
            "ümlaut 日本語 🎉.ZIP",
            "line\r\nset-cookie: a=b",
            "á" * 127,
            "a" * 255,
        ):
            link = make_link(client, [], archiveName=name)

            answer = anonymous.get(link.path)

            assert answer.status_code == 200, name
            assert link.path.isascii()
            last = unquote(link.path.rsplit("/", 1)[1])
            assert last.lower().endswith(".zip")
            assert not set(last) & set('/\\:"\r\n')
            assert last not in (".zip", "..zip")
            assert len(last.encode()) <= 255
            assert "set-cookie" not in answer.headers

    def test_are_below_the_public_address(self, start_service: StartService) -> None:
        service = start_service("local", settings={"MEDIAVAULT_PUBLIC_URL": "https://photos.example.org/vault/"})
        with service.client(service.people.add()) as client:
            answer = client.post("/api/download/links", json={"assetIds": []}, headers={"host": "evil.example"})

        url = answer.json()["url"]
        record_secret(urlsplit(url).path.split("/")[5])
        assert url.startswith("https://photos.example.org/vault/api/download/archives/")

    def test_are_relative_without_it(self, client: httpx.Client) -> None:
        answer = client.post("/api/download/links", json={"assetIds": []}, headers={"host": "evil.example"})

        record_secret(answer.json()["url"].split("/")[4])
        assert answer.json()["url"].startswith("/api/download/archives/")


class TestRequests:
    """Conditions and ranges, as for any file."""

    async def test_any_range_is_the_slice_of_the_whole(self, service: Service, link: DownloadLink) -> None:
        whole = (await _ask(service, link)).body
        seed = random.SystemRandom().randrange(2**32)
        print(f"seed {seed}")
        dice = random.Random(seed)
        starts = [0, 1, 29, 30, link.size - 1, link.size - 22, *(dice.randrange(link.size) for _ in range(20))]
        for first in starts:
            last = min(link.size - 1, first + dice.choice([0, 1, 100, 70_000, 1_000_000]))
            answer = await _ask(service, link, ("Range", f"bytes={first}-{last}"))

            assert answer.status == 206
            assert answer.header("content-range") == f"bytes {first}-{last}/{link.size}"
            assert answer.body == whole[first : last + 1]

    async def test_several_ranges(self, service: Service, link: DownloadLink) -> None:
        whole = (await _ask(service, link)).body

        answer = await _ask(service, link, ("Range", "bytes=0-29, 100000-100099, -22"))

        assert answer.status == 206
        assert (answer.header("content-type") or "").startswith("multipart/byteranges; boundary=")
        assert answer.complete
        for part in (whole[:30], whole[100_000:100_100], whole[-22:]):
            assert b"\r\n\r\n" + part + b"\r\n--" in answer.body

    async def test_if_range(self, service: Service, link: DownloadLink) -> None:
        head = await _ask(service, link, method="HEAD")
        modified = head.header("last-modified") or ""
        wanted = ("Range", "bytes=5-9")
        for validator, status in ((link.etag, 206), (modified, 206), ('"other"', 200), (f"W/{link.etag}", 200)):
            answer = await _ask(service, link, wanted, ("If-Range", validator))

            assert answer.status == status, validator
            assert len(answer.body) == (5 if status == 206 else link.size)

    async def test_not_modified_and_precondition_failed(self, service: Service, link: DownloadLink) -> None:
        for method in ("GET", "HEAD"):
            for field, value, status in (
                ("If-None-Match", link.etag, 304),
                ("If-None-Match", '"other"', 200),
                ("If-Match", '"other"', 412),
                ("If-Match", link.etag, 200),
            ):
                answer = await _ask(service, link, (field, value), method=method)

                assert answer.status == status, (method, field, value)
                assert answer.header("etag") == link.etag

    async def test_past_the_end(self, service: Service, link: DownloadLink) -> None:
        answer = await _ask(service, link, ("Range", f"bytes={link.size}-"))

        assert answer.status == 416
        assert answer.header("content-range") == f"bytes */{link.size}"

    async def test_a_head_tells_the_length_and_reads_nothing(self, service: Service, link: DownloadLink) -> None:
        answer = await _ask(service, link, ("Range", "bytes=0-4"), method="HEAD")

        assert answer.status == 200
        assert answer.header("content-length") == str(link.size)
        assert answer.body == b""

    async def test_the_same_selection_gives_the_same_bytes(
        self, service: Service, client: httpx.Client, photos: dict[str, bytes], link: DownloadLink
    ) -> None:
        again = make_link(client, photos)

        assert again.token != link.token
        assert again.etag == link.etag
        assert (await _ask(service, again)).body == (await _ask(service, link)).body


class TestUnknownChecksums:
    def test_the_length_is_exact_and_the_next_link_is_resumable(
        self, service: Service, client: httpx.Client, anonymous: httpx.Client, tmp_path: Path
    ) -> None:
        photos = {uploaded(client, content): content for content in map(fresh_bytes, SIZES)}
        _forget_checksums(service, photos)
        link = make_link(client, photos)

        partial = anonymous.get(link.path, headers={"range": "bytes=0-9"})
        answer = anonymous.get(link.path)
        again = make_link(client, photos)

        assert not link.resumable
        assert partial.status_code == answer.status_code == 200
        assert answer.headers["accept-ranges"] == "none"
        assert len(answer.content) == link.size == int(answer.headers["content-length"])
        (tmp_path / "with-descriptors.zip").write_bytes(answer.content)
        assert_unpacks(tmp_path / "with-descriptors.zip", len(photos), sum(map(len, photos.values())))
        with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
            assert [opened.read(name) for name in opened.namelist()] == list(photos.values())
        assert again.resumable
        assert again.size < link.size
        assert anonymous.get(again.path, headers={"range": "bytes=0-9"}).status_code == 206


def _info(client: httpx.Client, **wish: object) -> dict[str, Any]:
    answer = client.post("/api/download/info", json=wish)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def _ask(service: Service, link: DownloadLink, *headers: tuple[str, str], method: str = "GET") -> RawResponse:
    return await fetch("127.0.0.1", service.port, method, link.path, headers)


def _forget_checksums(service: Service, assets: dict[str, bytes]) -> None:
    """Remove the checksums from the catalogue, as if these were external files that were never read."""

    async def forget(catalog: Catalog) -> None:
        ids = sa.select(tables.asset.c.file_id).where(tables.asset.c.id.in_([UUID(asset) for asset in assets]))
        async with catalog.engine.begin() as connection:
            await connection.execute(sa.update(tables.file).where(tables.file.c.id.in_(ids)).values(crc32=None))

    service.people.call(forget)
