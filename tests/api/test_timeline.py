"""The timeline's months and columns, and the view of folders, for an account with assets of several months."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.catalog.catalog import Catalog
from tests.api.photos import clip, photo
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.sql_statements import record_statements
from tests.real.uploads import upload

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"
BUCKETS, BUCKET = "/api/timeline/buckets", "/api/timeline/bucket"
WANTED = {
    # In May where it was taken, and in April in UTC.
    "midnight.jpg": {"fileCreatedAt": "2024-05-01T01:30:00+02:00"},
    "late.jpg": {"fileCreatedAt": "2024-05-31T23:59:59.999Z", "isFavorite": "true"},
    "clip.mp4": {"fileCreatedAt": "2024-05-15T12:00:00Z", "duration": "1500"},
    "archived.jpg": {"fileCreatedAt": "2023-12-31T12:00:00Z", "visibility": "archive"},
    "thrown.jpg": {"fileCreatedAt": "2024-05-02T12:00:00Z"},
    "last.jpg": {"fileCreatedAt": "9999-12-31T12:00:00Z"},
    "first.jpg": {"fileCreatedAt": "0001-01-01T12:00:00Z"},
}


@pytest.fixture(scope="module")
def account(service: Service) -> Account:
    return service.people.add()


@pytest.fixture(scope="module")
def client(service: Service, account: Account) -> Iterator[httpx.Client]:
    with service.client(account) as client:
        yield client


@pytest.fixture(scope="module")
def album(service: Service, account: Account, client: httpx.Client) -> dict[str, str]:
    """The ids of the assets, by name. `thrown.jpg` is in the trash; `clip.mp4` has a size and a place."""
    ids: dict[str, str] = {}
    for name, fields in WANTED.items():
        answer = upload(client, clip() if name == "clip.mp4" else photo(), name, fields=fields)
        assert answer.status_code == 201, answer.text
        ids[name] = answer.json()["id"]
    client.request("DELETE", "/api/assets", json={"ids": [ids["thrown.jpg"]]})
    client.put(f"/api/assets/{ids['clip.mp4']}", json={"latitude": 52.5, "longitude": -13.25})

    async def measure(catalog: Catalog) -> None:
        await catalog.assets.update(
            account.id, UUID(ids["clip.mp4"]), {"width": 1920, "height": 1080, "thumbhash": b"\x01\x02"}
        )

    service.people.call(measure)
    return ids


@pytest.mark.usefixtures("album")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [("9999-12-01", 1), ("2024-05-01", 3), ("2023-12-01", 1), ("0001-01-01", 1)]),
        ({"order": "asc", "visibility": "timeline"}, [("0001-01-01", 1), ("2024-05-01", 3), ("9999-12-01", 1)]),
        ({"isFavorite": "true", "withPartners": "true", "withStacked": "true"}, [("2024-05-01", 1)]),
        ({"isTrashed": "true"}, [("2024-05-01", 1)]),
        ({"visibility": "locked"}, []),
    ],
    ids=str,
)
def test_months_are_counted_by_local_time(
    client: httpx.Client, query: dict[str, str], expected: list[tuple[str, int]]
) -> None:
    months = client.get(BUCKETS, params=query).json()

    assert [(month["timeBucket"], month["count"]) for month in months] == expected


def test_a_month_is_one_list_for_each_field(client: httpx.Client, account: Account, album: dict[str, str]) -> None:
    month = client.get(BUCKET, params={"timeBucket": "2024-05-01"})
    placed = client.get(
        BUCKET,
        params={"timeBucket": "2024-05-01", "withCoordinates": "true", "withStacked": "true", "order": "asc"},
    ).json()

    assert month.headers["content-type"] == "application/json"
    columns = month.json()
    assert columns["id"] == [album[name] for name in ("late.jpg", "clip.mp4", "midnight.jpg")]
    assert {name: column[1] for name, column in columns.items() if name not in ("id", "createdAt")} == {
        "ownerId": str(account.id),
        "isImage": False,
        "isFavorite": False,
        "isTrashed": False,
        "visibility": "timeline",
        "ratio": 1.778,
        "thumbhash": "AQI=",
        "fileCreatedAt": "2024-05-15T12:00:00.000Z",
        "localOffsetHours": 0,
        "duration": 1500,
        "livePhotoVideoId": None,
        "projectionType": None,
        "city": None,
        "country": None,
    }
    assert (columns["fileCreatedAt"][2], columns["localOffsetHours"][2]) == ("2024-04-30T23:30:00.000Z", 2)
    assert columns["isFavorite"] == [True, False, False]
    assert placed["id"] == columns["id"][::-1]
    assert (placed["latitude"], placed["longitude"]) == ([None, 52.5, None], [None, -13.25, None])
    assert placed["stack"] == [None, None, None]


@pytest.mark.parametrize("name", ["first.jpg", "last.jpg", "archived.jpg"])
def test_every_month_of_the_calendar_is_shown(client: httpx.Client, album: dict[str, str], name: str) -> None:
    month = WANTED[name]["fileCreatedAt"]

    assert client.get(BUCKET, params={"timeBucket": month}).json()["id"] == [album[name]]


def test_months_of_the_upload(client: httpx.Client, album: dict[str, str]) -> None:
    (month,) = client.get(BUCKETS, params={"orderBy": "createdAt"}).json()
    shown = client.get(
        BUCKET, params={"orderBy": "createdAt", "order": "asc", "timeBucket": month["timeBucket"]}
    ).json()

    assert month["count"] == len(album) - 1
    assert shown["id"] == [asset for name, asset in album.items() if name != "thrown.jpg"]


def test_a_month_is_read_by_one_query(
    client: httpx.Client, album: dict[str, str], service: Service, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.catalog.browsing import timeline  # noqa: PLC0415
    from app.catalog.browsing.timeline import TimelineFilters  # noqa: PLC0415

    monkeypatch.setattr(timeline, "_PAGE", 2)

    async def read(catalog: Catalog, *, ascending: bool) -> list[list[str]]:
        filters = TimelineFilters(by_upload=True, ascending=ascending)
        ((month, _),) = await catalog.timeline.count_by_month(account.id, filters)
        with record_statements() as statements:
            pages = [
                [str(a.id) for a in page] async for page in catalog.timeline.iter_month(account.id, filters, month)
            ]
        assert len(statements) == 1, statements
        return pages

    forth = service.people.call(lambda catalog: read(catalog, ascending=True))
    back = service.people.call(lambda catalog: read(catalog, ascending=False))

    shown = [asset for name, asset in album.items() if name != "thrown.jpg"]
    assert [len(page) for page in forth] == [2, 2, 2]
    assert [asset for page in forth for asset in page] == shown
    assert [asset for page in back for asset in page] == shown[::-1]


REFUSED: list[tuple[dict[str, str], int, str]] = [
    ({"timeBucket": "yesterday"}, 400, "timeBucket"),
    ({}, 400, "timeBucket"),
    ({"timeBucket": "2024-05-01", "bbox": "1,2,3,4"}, 400, "bbox"),
    ({"timeBucket": "2024-05-01", "albumId": NOBODY}, 404, "Album"),
    ({"timeBucket": "2024-05-01", "tagId": NOBODY}, 404, "Tag"),
    ({"timeBucket": "2024-05-01", "personId": NOBODY}, 404, "Person"),
    ({"timeBucket": "2024-05-01", "userId": NOBODY}, 404, "User"),
]


def test_what_cannot_be_selected_by_is_refused(client: httpx.Client) -> None:
    for query, status, named in REFUSED:
        answer = client.get(BUCKET, params=query)

        assert answer.status_code == status, query
        assert named in answer.json()["message"]


@pytest.mark.usefixtures("album")
def test_nobody_sees_the_timeline_of_others(other_client: httpx.Client) -> None:
    assert other_client.get(BUCKETS).json() == []
    assert other_client.get(BUCKET, params={"timeBucket": "2024-05-01"}).json()["id"] == []
    assert other_client.get("/api/view/folder/unique-paths").json() == []


def test_every_asset_of_the_timeline_is_in_one_folder(client: httpx.Client, album: dict[str, str]) -> None:
    paths = client.get("/api/view/folder/unique-paths").json()
    folders = {path: client.get("/api/view/folder", params={"path": path}).json() for path in paths}
    above = client.get("/api/view/folder", params={"path": paths[0].rpartition("/")[0]}).json()

    assets: list[dict[str, Any]] = [asset for found in folders.values() for asset in found]
    assert sorted(asset["id"] for asset in assets) == sorted(
        asset for name, asset in album.items() if name not in ("thrown.jpg", "archived.jpg")
    )
    assert all(asset["originalPath"].rpartition("/")[0] == path for path in paths for asset in folders[path])
    assert above == []
    assert client.get("/api/view/folder", params={"path": paths[0] + "/"}).json() == folders[paths[0]]
