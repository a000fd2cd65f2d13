"""Who is logged in to Immich may view and download here, where the setting says so, until the login ends there."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import func, select

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from app.immich.sessions import LIFETIME
from tests.immich.conftest import COMBINATION_IDS, COMBINATIONS, MakeTakeover
from tests.immich.takeover import Takeover
from tests.migration.commands import mediavault
from tests.real.waiting import eventually

ACCEPTED = {"MEDIAVAULT_IMMICH_SESSIONS": "true"}
ONCE = ("follow", "--once")


@pytest.fixture(scope="module", params=list(COMBINATIONS), ids=COMBINATION_IDS)
def takeover(request: pytest.FixtureRequest, make_takeover: MakeTakeover) -> Iterator[Takeover]:
    """Imported, and served. Each test logs in for itself."""
    takeover = make_takeover(request.param, assets=10, settings=ACCEPTED)
    takeover.report("import")
    takeover.service.start()
    yield takeover
    takeover.service.stop()


def _client(takeover: Takeover, token: str) -> httpx.Client:
    return httpx.Client(
        base_url=takeover.service.url, headers={"authorization": f"Bearer {token}"}, timeout=30, trust_env=False
    )


def _count(takeover: Takeover) -> int:
    """Sessions of Immich in our catalogue."""

    async def count(catalog: Catalog) -> int:
        async with catalog.database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(tables.immich_session))).scalar_one()

    return takeover.service.people.call(count)


def _find_asset(takeover: Takeover, visibility: str = "timeline") -> UUID:
    """An upload of Ben's."""
    query = 'SELECT id FROM asset WHERE id = ANY(%s) AND "ownerId" = %s AND visibility = %s::asset_visibility_enum AND "livePhotoVideoId" IS NULL'
    own = takeover.installation
    return own.execute(f"{query} ORDER BY id", [own.plain, own.users["ben"], visibility])[0][0]


def test_a_login_at_immich_may_view_and_download(takeover: Takeover) -> None:
    asset_id = _find_asset(takeover)
    _, token = takeover.installation.log_in("ben")
    _, other = takeover.installation.log_in("ada")
    address = f"/api/assets/{asset_id}/original"
    assert takeover.report(*ONCE)["sessions"] == 2
    content = takeover.installation.contents[asset_id]
    with takeover.service.client() as anonymous:
        for headers in (
            {"authorization": f"Bearer {token}"},
            {"x-immich-user-token": token},
            {"x-immich-session-token": token},
            {"cookie": f"immich_access_token={token}"},
        ):
            assert anonymous.get(address, headers=headers).content == content
        assert anonymous.get(f"{address}?sessionKey={token}").content == content
        assert anonymous.get(address, headers={"x-api-key": token}).status_code == 401
    with _client(takeover, token) as client, _client(takeover, other) as stranger:
        assert client.get(f"/api/assets/{asset_id}/thumbnail").status_code == 200
        made = client.post("/api/download/archive", json={"assetIds": [str(asset_id)]})
        with zipfile.ZipFile(io.BytesIO(made.content)) as archive:
            assert archive.read(archive.namelist()[0]) == content
        assert stranger.get(address).status_code == 404


REFUSED: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "/api/users/me", None),
    ("GET", "/api/assets/{id}", None),
    ("GET", "/api/sessions", None),
    ("GET", "/api/admin/users", None),
    ("PUT", "/api/assets/{id}", {"isFavorite": True}),
    ("DELETE", "/api/assets", {"ids": ["{id}"]}),
    ("POST", "/api/api-keys", {"name": "mine", "permissions": ["all"]}),
    ("POST", "/api/auth/change-password", {"password": "x" * 12, "newPassword": "y" * 12}),
]


def test_a_login_at_immich_may_do_nothing_else(takeover: Takeover) -> None:
    """Not even an administrator's."""
    _, token = takeover.installation.log_in("ada")
    takeover.report(*ONCE)
    asset_id = _find_asset(takeover)
    with _client(takeover, token) as client:
        for method, path, body in REFUSED:
            answer = client.request(method, path.format(id=asset_id), json=body)
            assert answer.status_code == 403, f"{method} {path}: {answer.text}"


def test_what_needs_a_pin_at_immich_is_not_shown(takeover: Takeover) -> None:
    """The second time, what the first has put into the caches would be sent."""
    locked, shown = _find_asset(takeover, "locked"), _find_asset(takeover)
    _, token = takeover.installation.log_in("ben")
    takeover.report(*ONCE)
    with _client(takeover, token) as client, takeover.own_client("ben") as owner:
        for kind in ("original", "thumbnail", "thumbnail?size=preview"):
            for _ in range(2):
                assert owner.get(f"/api/assets/{locked}/{kind}").status_code == 200
                assert client.get(f"/api/assets/{locked}/{kind}").status_code == 404
                assert client.get(f"/api/assets/{shown}/{kind}").status_code == 200
        ids = {"assetIds": [str(shown), str(locked)]}
        for kind in ("archive", "info", "links"):
            assert client.post(f"/api/download/{kind}", json=ids).status_code in (400, 404), kind
            assert owner.post(f"/api/download/{kind}", json=ids).status_code in (200, 201), kind


def test_what_ends_at_immich_ends_here(takeover: Takeover) -> None:
    """With the links that were made by it, whatever these were asked to outlive."""
    asset_id = _find_asset(takeover)
    (gone, token), (_, kept) = (takeover.installation.log_in("ben") for _ in range(2))
    takeover.report(*ONCE)
    address = f"/api/assets/{asset_id}/original"
    with _client(takeover, token) as client, _client(takeover, kept) as other:
        made = client.post("/api/download/links", json={"assetIds": [str(asset_id)], "endsWithKey": False})
        link = made.json()["url"]
        assert [each.get(address).status_code for each in (client, other)] == [200, 200]
        assert other.get(link).status_code == 200
        takeover.installation.execute("DELETE FROM session WHERE id = %s", [gone])
        takeover.report(*ONCE)
        eventually(lambda: client.get(address).status_code == 401, "the session has ended")
        eventually(lambda: other.get(link).status_code == 404, "its link has ended")
        assert other.get(address).status_code == 200


def test_sessions_of_users_who_are_deleted_and_unusable_ones_are_left_out(takeover: Takeover) -> None:
    installation = takeover.installation
    installation.execute("DELETE FROM session")
    _, token = installation.log_in("gone")
    unusable, _ = installation.log_in("ben")
    installation.execute(
        "UPDATE session SET token = %s WHERE id = %s", [b"short" if installation.is_v3 else "no hash", unusable]
    )
    if installation.is_v3:
        installation.log_in("ben", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert takeover.report(*ONCE)["sessions"] == _count(takeover) == 0
    with _client(takeover, token) as client:
        assert client.get(f"/api/assets/{_find_asset(takeover)}/original").status_code == 401


def test_a_session_ends_when_immich_says_so_and_soon_when_nobody_looks(takeover: Takeover) -> None:
    """The owner sees them among their own logins."""
    installation = takeover.installation
    installation.execute("DELETE FROM session")
    soon = datetime.now(UTC) + timedelta(hours=1)
    ends = [soon, soon + timedelta(days=300), None] if installation.is_v3 else [None]
    ids = [installation.log_in("ada", expires_at=end)[0] for end in ends]
    takeover.report(*ONCE)
    with takeover.client("ada") as client:
        listed = {each["id"]: each for each in client.get("/api/sessions").json()}
    assert listed.keys() == set(map(str, ids))
    assert {each["deviceType"] for each in listed.values()} == {"Android"}
    for session_id, end in zip(ids, ends, strict=True):
        expires_at = datetime.fromisoformat(listed[str(session_id)]["expiresAt"])
        assert expires_at <= datetime.now(UTC) + LIFETIME
        if end == soon:
            assert abs(expires_at - soon) < timedelta(seconds=1)


def test_a_role_that_may_not_read_them_is_named(takeover: Takeover) -> None:
    """Then none is accepted: nobody knows which have ended."""
    own = takeover.installation
    own.log_in("ben")
    assert takeover.report(*ONCE)["sessions"] > 0
    own.execute("ALTER TABLE session RENAME TO away")
    try:
        report = takeover.report(*ONCE)
    finally:
        own.execute("ALTER TABLE away RENAME TO session")
    assert report["problems"]["missing column"]["examples"] == ["session.token"]
    assert report["sessions"] == _count(takeover) == 0


@pytest.mark.parametrize("combination", COMBINATIONS, ids=COMBINATION_IDS)
def test_nothing_is_accepted_or_stored_unless_the_setting_says_so(
    make_takeover: MakeTakeover, combination: str
) -> None:
    takeover = make_takeover(combination, assets=10, settings=ACCEPTED)
    _, token = takeover.installation.log_in("ben")
    takeover.report("import")
    assert _count(takeover) == 1
    del takeover.service.settings["MEDIAVAULT_IMMICH_SESSIONS"]
    takeover.service.start()
    address = f"/api/assets/{_find_asset(takeover)}/original"
    with _client(takeover, token) as client, takeover.client("ben") as owner:
        assert (client.get(address).status_code, owner.get(address).status_code) == (401, 200)
        assert takeover.report(*ONCE)["sessions"] == _count(takeover) == 0
        assert client.get(address).status_code == 401
    takeover.service.stop()


def test_an_adoption_ends_them(make_takeover: MakeTakeover) -> None:
    takeover = make_takeover("v3-s3", assets=5, settings=ACCEPTED)
    takeover.installation.log_in("ben")
    takeover.report("import")
    assert _count(takeover) == 1

    async def count(catalog: Catalog) -> int:
        return (await catalog.foreign_files.count())[0]

    takeover.service.start()  # which makes the media location
    takeover.service.stop()
    typed = f"adopt {takeover.service.people.call(count)}"
    ended = mediavault(takeover.service, "immich", "adopt", "--json", "--without-database", "--confirm", typed)
    assert '"files"' in ended.stdout, ended.stderr
    assert _count(takeover) == 0
