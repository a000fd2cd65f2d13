"""Dates at the edges of the calendar and of formats: every answer that holds or compares them works, or refuses them clearly."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.api.photos import photo
from tests.real.uploads import upload

DATES = {
    "0001-01-01T00:00:00.000Z": "0001-01-01T14:00:00+14:00",
    "1883-11-18T12:00:00.123Z": "1883-11-18T12:53:28.123456+00:53:28",
    "1901-12-13T20:45:51.999Z": "1901-12-13T20:45:51.999999Z",
    "1979-12-31T23:59:59.999Z": "1979-12-31T12:59:59.999999-11:00",
    "2107-12-31T23:59:59.999Z": "2107-12-31T23:59:59.999999Z",
    "2262-04-11T23:47:16.854Z": "2262-04-11T23:47:16.854776Z",
    "9999-12-31T23:59:59.999Z": "9999-12-31T23:59:59.999999Z",
}
"""In UTC to the millisecond, as answers have it, and as a client sends it."""

EDITS: tuple[Mapping[str, object], ...] = (
    {"dateTimeRelative": 1},
    {"dateTimeRelative": -1},
    {"timeZone": "Europe/Berlin"},
    {"timeZone": "UTC-12"},
)


def test_edge_dates_work_in_every_answer(client: httpx.Client) -> None:
    ids: list[str] = []
    for moment, sent in DATES.items():
        created = upload(client, photo(), fields={"fileCreatedAt": sent, "fileModifiedAt": sent})
        assert created.status_code == 201, created.text
        ids.append(created.json()["id"])
        asset = _get(client, ids[-1])
        assert (asset["fileCreatedAt"], asset["fileModifiedAt"]) == (moment, moment)
        _assert_found(client, asset)
        original = client.get(f"/api/assets/{ids[-1]}/original")
        since = {"if-modified-since": original.headers["last-modified"]}
        assert client.get(f"/api/assets/{ids[-1]}/original", headers=since).status_code == 304

    archive = client.post("/api/download/archive", json={"assetIds": ids})
    with zipfile.ZipFile(io.BytesIO(archive.content)) as members:
        years = [member.date_time[0] for member in members.infolist()]
    assert years == [1980, 1980, 1980, 1980, 2107, 2107, 2107]


@pytest.mark.parametrize("edit", EDITS, ids=str)
def test_an_edge_date_is_edited_or_the_edit_refused(client: httpx.Client, edit: Mapping[str, object]) -> None:
    for sent in DATES.values():
        asset_id = upload(client, photo(), fields={"fileCreatedAt": sent}).json()["id"]
        before = _get(client, asset_id)

        answer = client.put("/api/assets", json={"ids": [asset_id], **edit})

        after = _get(client, asset_id)
        if answer.status_code == 204:
            assert after["exifInfo"] != before["exifInfo"]
        else:
            assert (answer.status_code, "calendar" in answer.json()["message"]) == (400, True)
            assert after == before
        _assert_found(client, after)


def _assert_found(client: httpx.Client, asset: dict[str, Any]) -> None:
    """By the time that its answer tells, and in its month."""
    moment, month = asset["fileCreatedAt"], f"{asset['localDateTime'][:7]}-01"
    # Answers leave out microseconds.
    for condition in ({"takenAfter": moment}, {"takenBefore": moment.replace("Z", "999Z")}):
        answer = client.post("/api/search/metadata", json={"size": 1000, "withExif": True, **condition})
        assert asset["id"] in {item["id"] for item in answer.json()["assets"]["items"]}
    assert asset["id"] in client.get("/api/timeline/bucket", params={"timeBucket": month}).json()["id"]
    assert month in {each["timeBucket"] for each in client.get("/api/timeline/buckets").json()}


def _get(client: httpx.Client, asset_id: str) -> dict[str, Any]:
    answer = client.get(f"/api/assets/{asset_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()
