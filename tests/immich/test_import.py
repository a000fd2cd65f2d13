"""`mediavault immich import`: ids, checksums, keys and passwords work as at Immich, what Immich made is served as it is, and nothing of
Immich's changes."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image

from tests.api.consistency import assert_consistent
from tests.immich.conftest import COMBINATION_IDS, COMBINATIONS, MakeTakeover
from tests.immich.installation import PASSWORD, PASSWORD_HASH
from tests.immich.takeover import Takeover
from tests.migration.commands import mediavault
from tests.real.processing import wait_until_idle
from tests.real.sdk_reader import read_with_sdk


@pytest.fixture(scope="module", params=list(COMBINATIONS), ids=COMBINATION_IDS)
def imported(request: pytest.FixtureRequest, make_takeover: MakeTakeover) -> Iterator[Takeover]:
    """Imported twice, and served. At the end nothing of Immich's has changed."""
    takeover = make_takeover(request.param)
    before = takeover.installation.fingerprint()
    dry = takeover.report("import", "--dry-run")
    first = takeover.report("import")
    assert first == dry
    assert first["new"] > 0
    again = takeover.report("import")
    assert (again["new"], again["changed"], again["trashed"]) == (0, 0, 0), again
    assert again["unchanged"] == first["new"]
    takeover.service.start()
    wait_until_idle(takeover.service, takeover.installation.keys["ada"])
    yield takeover
    takeover.service.stop()
    assert_consistent(takeover.service.stack, exact=True)
    assert takeover.installation.fingerprint() == before, "a byte, time, inode or row of Immich's has changed"


@pytest.fixture
def ada(imported: Takeover) -> Iterator[httpx.Client]:
    with imported.client("ada") as client:
        yield client


def _get(takeover: Takeover, asset_id: UUID, path: str = "", **options: Any) -> httpx.Response:
    """As the owner, with the key of Immich where it shows the asset."""
    name = takeover.owner_of(asset_id)
    with takeover.own_client(name) if takeover.is_locked(asset_id) else takeover.client(name) as client:
        return client.get(f"/api/assets/{asset_id}{path}", **options)


def test_assets_are_what_the_rows_say(imported: Takeover) -> None:
    installation = imported.installation
    rows = installation.execute(
        'SELECT a.id, "ownerId", type::text, encode(checksum, \'base64\'), "originalFileName", "isFavorite", visibility::text, '
        '"deletedAt" IS NOT NULL, "livePhotoVideoId", "libraryId", encode(thumbhash, \'base64\'), "fileCreatedAt", "localDateTime", make, '
        'city, "fileSizeInByte" FROM asset AS a JOIN asset_exif ON "assetId" = a.id WHERE a.id = ANY(%s)',
        [installation.plain],
    )
    assert len(rows) == len(installation.plain)
    for row in rows:
        asset = _get(imported, row[0]).json()
        checksum = (
            row[3]
            if row[9] is None
            else base64.b64encode(hashlib.sha1(installation.contents[row[0]]).digest()).decode()
        )
        assert [asset["id"], asset["ownerId"], asset["type"], asset["checksum"]] == [
            str(row[0]),
            str(row[1]),
            row[2],
            checksum,
        ]
        assert (asset["originalFileName"], asset["isFavorite"], asset["visibility"], asset["isTrashed"]) == row[4:8]
        linked = [None if each is None else str(each) for each in row[8:10]]
        assert [asset["livePhotoVideoId"], asset["libraryId"]] == linked
        assert asset["thumbhash"] == row[10]
        assert datetime.fromisoformat(asset["fileCreatedAt"]) == row[11]
        assert datetime.fromisoformat(asset["localDateTime"]) == row[12]
        exif = asset["exifInfo"]
        assert (exif["make"], exif["city"], exif["fileSizeInByte"]) == row[13:16]
        assert exif["exifImageWidth"] == asset["width"] == 32


def test_originals_are_sent_by_range_with_tags(imported: Takeover) -> None:
    for asset_id in imported.installation.plain[:10]:
        content = imported.installation.contents[asset_id]
        whole = _get(imported, asset_id, "/original")
        assert (whole.status_code, whole.content) == (200, content)
        part = _get(imported, asset_id, "/original", headers={"range": "bytes=5-9"})
        assert (part.status_code, part.content) == (206, content[5:10])
        again = _get(imported, asset_id, "/original", headers={"if-none-match": whole.headers["etag"]})
        assert again.status_code == 304


def test_what_immich_made_is_served_as_it_is(imported: Takeover) -> None:
    installation = imported.installation
    paths = dict(
        installation.execute(
            "SELECT (\"assetId\", type)::text, path FROM asset_file WHERE type IN ('thumbnail', 'preview')"
        )
    )
    for asset_id in installation.plain[:10]:
        for size in ("thumbnail", "preview"):
            expected = installation.to_host(paths[f"({asset_id},{size})"]).read_bytes()
            assert _get(imported, asset_id, "/thumbnail", params={"size": size}).content == expected
    video = next(each for each in installation.plain if installation.contents[each].startswith(b"a video"))
    assert _get(imported, video, "/video/playback").content == b"playable " + installation.contents[video]


def test_what_immich_did_not_make_is_made(imported: Takeover) -> None:
    for name in ("not processed", "no thumbnail"):
        answer = _get(imported, imported.installation.traps[name], "/thumbnail")
        assert answer.status_code == 200, name
        assert Image.open(io.BytesIO(answer.content)).size == (32, 24)


def test_a_placeholder_is_made_also_where_there_are_pictures(imported: Takeover) -> None:
    asset_id, installation = imported.installation.traps["no thumbhash"], imported.installation
    assert _get(imported, asset_id).json()["thumbhash"]
    made = "SELECT path FROM asset_file WHERE \"assetId\" = %s AND type = 'thumbnail'"
    ((path,),) = installation.execute(made, [asset_id])
    assert _get(imported, asset_id, "/thumbnail").content == installation.to_host(path).read_bytes()


def test_keys_have_their_permissions(imported: Takeover, ada: httpx.Client) -> None:
    assert ada.get("/api/api-keys/me").json()["permissions"] == ["all"]
    with imported.client("ben") as ben:
        assert ben.get("/api/users/me").status_code == 403
        assert ben.get("/api/assets").status_code == 200
        mine = ben.get("/api/assets").json()["items"]
        assert {item["ownerId"] for item in mine} == {str(imported.installation.users["ben"])}
    with imported.client("gone") as gone:
        assert gone.get("/api/assets").status_code == 401


def test_a_password_is_that_of_immich(imported: Takeover) -> None:
    with imported.service.client() as client:
        for _ in range(2):  # the second time it is hashed by Argon2id
            body = {"email": "ben@example.org", "password": PASSWORD}
            answer = client.post("/api/auth/login", json=body)
            assert answer.status_code == 201
            assert answer.json()["userId"] == str(imported.installation.users["ben"])
        deleted = {"email": "gone@example.org", "password": PASSWORD}
        assert client.post("/api/auth/login", json=deleted).status_code == 401


def test_a_password_that_cannot_be_checked_is_named(imported: Takeover) -> None:
    assert "unusable password hash" not in imported.report("import", "--dry-run")["problems"]
    row = "UPDATE \"user\" SET password = %s WHERE name = 'Ben'"
    imported.installation.execute(row, ["$2b$04$odd"])
    try:
        for command in (("import", "--dry-run"), ("plan",)):
            problem = imported.report(*command)["problems"]["unusable password hash"]
            assert problem == {"count": 1, "examples": ["ben@example.org"]}
    finally:
        imported.installation.execute(row, [PASSWORD_HASH])


def test_a_password_that_was_hashed_anew_stays(imported: Takeover) -> None:
    imported.report("import")
    with imported.service.client() as client:
        body = {"email": "ben@example.org", "password": PASSWORD}
        assert client.post("/api/auth/login", json=body).status_code == 201


def test_images_of_users_and_persons_are_served(imported: Takeover, ada: httpx.Client) -> None:
    installation = imported.installation
    user_id = installation.users["ada"]
    ((profile,),) = installation.execute('SELECT "profileImagePath" FROM "user" WHERE id = %s', [user_id])
    image = ada.get(f"/api/users/{user_id}/profile-image")
    assert image.content == installation.to_host(profile).read_bytes()
    ((person, path),) = installation.execute('SELECT id, "thumbnailPath" FROM person WHERE "ownerId" = %s', [user_id])
    assert ada.get(f"/api/people/{person}/thumbnail").content == installation.to_host(path).read_bytes()


def test_the_quota_counts_what_there_is(imported: Takeover, ada: httpx.Client) -> None:
    users = {user["email"]: user for user in ada.get("/api/admin/users").json()}
    assert users["ben@example.org"]["quotaSizeInBytes"] == 10**9
    assert users["ada@example.org"]["quotaSizeInBytes"] is None
    assert users["ada@example.org"]["isAdmin"]
    assert "gone@example.org" not in users


def test_traps_are_not_taken_over_and_nothing_outside_is_opened(imported: Takeover) -> None:
    traps = imported.installation.traps
    for name in ("missing file", "outside", "dotdot", "link", "linked folder", "offline", "of a deleted user"):
        with imported.client("ada") as client:
            assert client.get(f"/api/assets/{traps[name]}/original").status_code in (400, 404), name
    lost = _get(imported, traps["lost video"]).json()
    assert lost["livePhotoVideoId"] is None
    late = _get(imported, traps["unusable date"]).json()
    assert late["fileCreatedAt"] == late["fileModifiedAt"]
    assert _get(imported, traps["odd name"]).json()["originalFileName"] == "two\nlines.jpg"


def test_bytes_that_are_not_those_of_immich_are_reported(imported: Takeover) -> None:
    wrong = _get(imported, imported.installation.traps["checksum of other bytes"]).json()
    assert "SHA-1 differs" in wrong["processingError"]
    of_another_size = imported.installation.traps["size differs"]
    content = imported.installation.contents[of_another_size]
    assert _get(imported, of_another_size, "/original").content == content


def test_one_of_two_rows_has_a_path_or_a_checksum(imported: Takeover) -> None:
    report = imported.report("import", "--dry-run")
    assert report["problems"]["path of several rows"]["count"] == 1
    assert report["problems"]["checksum conflict"]["count"] == 1


def test_a_zip_has_the_originals_their_checksums_and_its_length(imported: Takeover, ada: httpx.Client) -> None:
    installation = imported.installation
    mine = [each for each in installation.plain if imported.owner_of(each) == "ada"]
    visible = [each for each in mine if not _get(imported, each).json()["isTrashed"]][:6]
    made = ada.post("/api/download/archive", json={"assetIds": list(map(str, visible))})
    assert (made.status_code, made.headers["content-length"]) == (200, str(len(made.content)))
    with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
        stored = [archive.read(name) for name in archive.namelist()]  # which compares the CRC-32
    assert sorted(stored) == sorted(installation.contents[each] for each in visible)


@pytest.mark.parametrize("name", ["ada", "ben"])
def test_the_sdk_of_immich_reads_what_the_rows_say(imported: Takeover, name: str) -> None:
    """With keys that Immich has issued: Ada's for everything and an asset of the library, Ben's for reading, with a video."""
    installation = imported.installation
    kind = {"ada": '"libraryId" IS NOT NULL', "ben": "type = 'IMAGE' AND \"livePhotoVideoId\" IS NULL"}[name]
    chosen = """SELECT {} FROM asset AS a JOIN asset_exif ON "assetId" = a.id
        WHERE a.id = ANY(%s) AND "ownerId" = %s AND visibility <> 'locked' AND {} ORDER BY a.id LIMIT 1"""
    mine = [installation.plain, installation.users[name]]
    columns = 'a.id, type, "originalFileName", "isFavorite", visibility::text, encode(thumbhash, \'base64\'), make, city, "fileSizeInByte"'
    (row,) = installation.execute(chosen.format(columns, kind), mine)
    videos = installation.execute(chosen.format("a.id", "type = 'VIDEO' AND visibility <> 'hidden'"), mine)
    ids = [row[0], *(video for (video,) in videos)]
    assert len(ids) == {"ada": 1, "ben": 2}[name]

    read = read_with_sdk(imported.service.url, installation.keys[name], *map(str, ids))

    info = read["info"]
    fields = ("id", "type", "originalFileName", "isFavorite", "visibility", "thumbhash")
    assert [*map(info.get, fields), *map(info["exifInfo"].get, ("make", "city", "fileSizeInByte"))] == [
        str(row[0]),
        *row[1:],
    ]
    contents = [installation.contents[each] for each in ids]
    assert info["checksum"] == base64.b64encode(hashlib.sha1(contents[0]).digest()).decode()
    made = dict(installation.execute('SELECT type, path FROM asset_file WHERE "assetId" = %s', [row[0]]))
    expected = {
        "original": contents[0],
        **{size: installation.to_host(made[size]).read_bytes() for size in ("thumbnail", "preview")},
    }
    if videos:
        expected["playback"] = b"playable " + contents[1]
    with imported.client(name) as client:
        archive = client.post("/api/download/archive", json={"assetIds": list(map(str, ids))}).content
    assert {name: read[name] for name in [*expected, "archive"]} == {
        name: hashlib.sha1(content).hexdigest() for name, content in {**expected, "archive": archive}.items()
    }
    with zipfile.ZipFile(io.BytesIO(archive)) as unpacked:
        assert sorted(unpacked.read(member) for member in unpacked.namelist()) == sorted(contents)
    assert [each["assetIds"] for each in read["sizes"]["archives"]] == [list(map(str, ids))]
    assert read["sizes"]["totalSize"] == sum(map(len, contents))


def test_a_library_is_not_scanned_by_us(imported: Takeover, ada: httpx.Client) -> None:
    (library,) = ada.get("/api/libraries").json()
    assert library["id"] == str(imported.installation.library)
    assert library["importPaths"] == [str(imported.installation.photos)]
    ended = mediavault(imported.service, "library", "scan", library["id"])
    assert ended.returncode != 0
    assert "Immich scans the library" in ended.stderr


def test_only_chosen_users_are_taken_over(make_takeover: MakeTakeover) -> None:
    takeover = make_takeover("v3-s3", assets=20, database="sqlite")
    report = takeover.report("import", "--user", "ben@example.org")
    assert report["users"] == report["api_keys"] == report["persons"] == 1
    assert report["libraries"] == 0
    owned = takeover.installation.execute(
        'SELECT count(*) FROM asset WHERE "ownerId" = %s', [takeover.installation.users["ben"]]
    )
    assert report["new"] + report["skipped"] == owned[0][0]
    ended = takeover.run("import", "--user", "nobody@example.org")
    assert (ended.returncode, "no user nobody@example.org" in ended.stderr) == (2, True)
