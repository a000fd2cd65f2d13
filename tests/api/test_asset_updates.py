"""Changes of many assets at once, and of the time and the time zone in which a photo was taken."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.photos import photo
from tests.real.uploads import upload

NOBODY = "0d4c1d0e-0000-4000-8000-000000000000"
CREATED = "2024-03-31T00:30:00.000Z"


def test_all_of_the_assets_change_alike_and_no_other(client: httpx.Client) -> None:
    ids, untouched = [_new(client) for _ in range(3)], _new(client)
    client.put(f"/api/assets/{ids[0]}", json={"description": "stays", "rating": 2})
    changes = {"isFavorite": True, "visibility": "archive", "rating": 5, "latitude": 1.5, "longitude": -2.5}

    answer = client.put("/api/assets", json={"ids": ids, **changes})

    assert (answer.status_code, answer.content) == (204, b"")
    for asset in (_get(client, each) for each in ids):
        exif = asset["exifInfo"]
        assert (asset["isFavorite"], asset["visibility"]) == (True, "archive")
        assert (exif["rating"], exif["latitude"], exif["longitude"]) == (5, 1.5, -2.5)
    assert _get(client, ids[0])["exifInfo"]["description"] == "stays"
    other = _get(client, untouched)
    assert (other["isFavorite"], other["visibility"], other["exifInfo"]["rating"]) == (False, "timeline", None)


def test_what_is_not_yours_changes_nothing(client: httpx.Client, other_client: httpx.Client) -> None:
    mine, others = _new(client), _new(other_client)

    answers = [client.put("/api/assets", json={"ids": [mine, each], "isFavorite": True}) for each in (others, NOBODY)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert _get(client, mine)["isFavorite"] is False
    assert _get(other_client, others)["isFavorite"] is False


@pytest.mark.parametrize(
    ("sent", "moment", "local", "zone"),
    [
        ("2020-02-29T23:30:00+01:00", "2020-02-29T22:30:00.000Z", "2020-02-29T23:30:00.000Z", "UTC+1"),
        ("2020-02-29T23:30:00-03:30", "2020-03-01T03:00:00.000Z", "2020-02-29T23:30:00.000Z", "UTC-3:30"),
        ("2020-02-29T23:30:00Z", "2020-02-29T23:30:00.000Z", "2020-02-29T23:30:00.000Z", "UTC"),
        ("2020-02-29T23:30:00", "2020-02-29T23:30:00.000Z", "2020-03-01T08:30:00.000Z", "Asia/Tokyo"),
    ],
)
def test_a_date_with_an_offset_sets_the_zone_too(
    client: httpx.Client, sent: str, moment: str, local: str, zone: str
) -> None:
    one, many = _new(client), _new(client)
    client.put("/api/assets", json={"ids": [one, many], "timeZone": "Asia/Tokyo"})

    changed = client.put(f"/api/assets/{one}", json={"dateTimeOriginal": sent}).json()
    client.put("/api/assets", json={"ids": [many], "dateTimeOriginal": sent})

    assert _dates(changed) == {"fileCreatedAt": moment, "localDateTime": local, "exif": moment, "timeZone": zone}
    assert _dates(_get(client, one)) == _dates(_get(client, many)) == _dates(changed)


def test_each_date_moves_by_the_same_difference(client: httpx.Client) -> None:
    berlin, unknown = _new(client), _new(client, "2023-12-31T23:59:59.500+05:45")
    client.put("/api/assets", json={"ids": [berlin], "timeZone": "Europe/Berlin"})

    later = client.put("/api/assets", json={"ids": [berlin, unknown], "dateTimeRelative": 60})

    assert later.status_code == 204
    # Summer time began meanwhile: 01:30 and an hour is 03:30.
    assert _dates(_get(client, berlin)) == {
        "fileCreatedAt": "2024-03-31T01:30:00.000Z",
        "localDateTime": "2024-03-31T03:30:00.000Z",
        "exif": "2024-03-31T01:30:00.000Z",
        "timeZone": "Europe/Berlin",
    }
    shown = _get(client, unknown)
    assert (shown["fileCreatedAt"], shown["localDateTime"]) == ("2023-12-31T19:14:59.500Z", "2024-01-01T00:59:59.500Z")
    client.put("/api/assets", json={"ids": [berlin, unknown], "dateTimeRelative": -60})
    assert _get(client, berlin)["fileCreatedAt"] == CREATED


def test_a_zone_keeps_the_moment(client: httpx.Client) -> None:
    asset = _new(client)

    client.put("/api/assets", json={"ids": [asset], "timeZone": "America/St_Johns"})
    zoned = _dates(_get(client, asset))
    client.put("/api/assets", json={"ids": [asset], "timeZone": "UTC+2", "dateTimeOriginal": "2001-02-03T04:05:06"})

    assert zoned == {
        "fileCreatedAt": CREATED,
        "localDateTime": "2024-03-30T22:00:00.000Z",
        "exif": CREATED,
        "timeZone": "America/St_Johns",
    }
    assert _dates(_get(client, asset)) == {
        "fileCreatedAt": "2001-02-03T02:05:06.000Z",
        "localDateTime": "2001-02-03T04:05:06.000Z",
        "exif": "2001-02-03T02:05:06.000Z",
        "timeZone": "UTC+2",
    }


NONSENSE: list[tuple[dict[str, Any], str]] = [
    ({"timeZone": "Mars/Olympus"}, "timeZone"),
    ({"timeZone": "../../etc/passwd"}, "timeZone"),
    ({"timeZone": "Europe"}, "timeZone"),
    ({"dateTimeRelative": 1.5}, "dateTimeRelative"),
    ({"dateTimeRelative": 10**12}, "dateTimeRelative"),
    ({"dateTimeRelative": 5 * 10**9}, "calendar"),
    ({"dateTimeOriginal": "9999-12-31T23:59:00Z", "dateTimeRelative": 1}, "calendar"),
    ({"dateTimeOriginal": "9999-12-31T23:59:00Z", "timeZone": "Asia/Tokyo"}, "calendar"),
    ({"latitude": 1.5}, "longitude"),
    ({"latitude": 1.5, "longitude": None}, "longitude"),
    ({"visibility": "everywhere"}, "visibility"),
    ({"ids": None}, "ids"),
]


def test_a_change_that_makes_no_sense_says_why_and_changes_nothing(client: httpx.Client) -> None:
    asset_id = _new(client)

    for change, named in NONSENSE:
        answer = client.put("/api/assets", json={"ids": [asset_id], "isFavorite": True, **change})

        assert answer.status_code == 400, change
        assert named in answer.json()["message"]
    after = _get(client, asset_id)
    assert (after["isFavorite"], after["fileCreatedAt"], after["exifInfo"]["latitude"]) == (False, CREATED, None)


def _new(client: httpx.Client, created: str = CREATED) -> str:
    answer = upload(client, photo(), fields={"fileCreatedAt": created})
    assert answer.status_code == 201
    return answer.json()["id"]


def _get(client: httpx.Client, asset_id: str) -> dict[str, Any]:
    return client.get(f"/api/assets/{asset_id}").json()


def _dates(asset: dict[str, Any]) -> dict[str, str | None]:
    exif = asset["exifInfo"]
    return {name: asset[name] for name in ("fileCreatedAt", "localDateTime")} | {
        "exif": exif["dateTimeOriginal"],
        "timeZone": exif["timeZone"],
    }
