"""Limits of resumable uploads: how many, how large, how much altogether, and for how long a key counts."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import httpx
from sqlalchemy import delete, insert, select

from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from tests.api.start_service import StartService
from tests.api.uploads.upload_clients import (
    TUS,
    append_tus,
    begun_tus,
    create_tus,
    ietf_creation_fields,
    tus_offset,
)
from tests.real.accounts import Account
from tests.real.service import Service
from tests.real.uploads import fresh_bytes


def test_unfinished_uploads_of_one_user_are_bounded(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_UPLOAD_SESSIONS": "2"})
    with service.client(service.people.add()) as client, service.client(service.people.add()) as other:
        location = begun_tus(client, 1000)
        begun_tus(client, 1000)

        by_tus = create_tus(client, 1000)
        by_draft = client.post("/api/upload", headers=ietf_creation_fields(b"x", is_complete=False))

        for answer in (by_tus, by_draft):
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) > 0
        assert create_tus(other, 1000).status_code == 201
        client.delete(location, headers=TUS)
        assert create_tus(client, 1000).status_code == 201


def test_a_user_may_have_a_thousand_unfinished_uploads(
    client: httpx.Client, account: Account, service: Service
) -> None:
    """The default limit; the first 999 are rows only."""
    begun_tus(client, 1000)
    (row,) = service.people.call(lambda catalog: read_rows(catalog, account.id))
    copies = [{**row, "id": uuid4()} for _ in range(998)]
    service.people.call(lambda catalog: insert_rows(catalog, copies))

    assert create_tus(client, 1000).status_code == 201
    for answer in (create_tus(client, 1000), create_tus(client, None, data=fresh_bytes(100))):
        assert (answer.status_code, "location" in answer.headers) == (429, False)
        assert int(answer.headers["retry-after"]) > 0
        assert "1000 unfinished" in answer.json()["message"]
    assert len(service.people.call(lambda catalog: read_rows(catalog, account.id))) == 1000
    service.people.call(lambda catalog: delete_rows(catalog, account.id))


async def read_rows(catalog: Catalog, owner_id: UUID) -> list[dict[str, Any]]:
    async with catalog.database.read() as connection:
        rows = await connection.execute(select(tables.upload).where(tables.upload.c.owner_id == owner_id))
        return [dict(row) for row in rows.mappings()]


async def insert_rows(catalog: Catalog, rows: list[dict[str, Any]]) -> None:
    async with catalog.database.write() as connection:
        await connection.execute(insert(tables.upload), rows)


async def delete_rows(catalog: Catalog, owner_id: UUID) -> None:
    async with catalog.database.write() as connection:
        await connection.execute(delete(tables.upload).where(tables.upload.c.owner_id == owner_id))


def test_the_quota_counts_what_unfinished_uploads_reserve(service: Service) -> None:
    account = service.people.add(quota=10_000)
    with service.client(account) as client:
        location = begun_tus(client, 6_000)
        refused = create_tus(client, 6_000)
        assert (refused.status_code, refused.json()["message"]) == (400, "Quota has been exceeded!")
        client.delete(location, headers=TUS)
        begun_tus(client, 6_000)


def test_a_creation_whose_bytes_exceed_the_quota_leaves_no_upload(start_service: StartService) -> None:
    """Its client never learns the location."""
    service = start_service("local")
    with service.client(service.people.add(quota=5_000)) as client:
        refused = create_tus(client, None, data=fresh_bytes(6_000))
        assert (refused.status_code, refused.json()["message"]) == (400, "Quota has been exceeded!")
    with service.client(service.people.add(is_admin=True)) as admin:
        assert admin.get("/api/server/statistics").json()["uploads"]["unfinished"] == 0


def test_an_upload_whose_key_was_revoked_does_not_complete(client: httpx.Client, service: Service) -> None:
    data = fresh_bytes(1000)
    key = client.post("/api/api-keys", json={"name": "phone", "permissions": ["asset.upload"]}).json()
    with service.client() as phone:
        phone.headers["x-api-key"] = key["secret"]
        location = begun_tus(phone, len(data))
        assert append_tus(phone, location, 0, data[:600]).status_code == 204
        client.delete(f"/api/api-keys/{key['apiKey']['id']}")
        assert append_tus(phone, location, 600, data[600:]).status_code == 401
    assert client.get("/api/assets/statistics").json()["total"] == 0

    assert tus_offset(client, location) == 600  # another key of the same user goes on
    assert append_tus(client, location, 600, data[600:]).status_code == 200


def test_a_key_without_the_permission(client: httpx.Client, service: Service) -> None:
    key = client.post("/api/api-keys", json={"name": "viewer", "permissions": ["asset.view"]}).json()
    with service.client() as viewer:
        viewer.headers["x-api-key"] = key["secret"]
        answer = create_tus(viewer, 1000)
    assert answer.status_code == 403
    assert "asset.upload" in answer.json()["message"]


def test_a_larger_upload_than_the_limit(start_service: StartService) -> None:
    service = start_service("local", settings={"MEDIAVAULT_UPLOAD_LIMIT": "1000"})
    with service.client(service.people.add()) as client:
        assert client.options("/api/uploads").headers["tus-max-size"] == "1000"
        assert create_tus(client, 1001).status_code == 413
        location = begun_tus(client, None)
        assert append_tus(client, location, 0, b"x" * 1001).status_code == 413
        assert tus_offset(client, location) <= 1000
