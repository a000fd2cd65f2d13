"""Inserts of many rows: what is stored, and how errors are told, is as with single statements."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from app.catalog.catalog import Catalog
from app.catalog.database.bulk_statements import fetch_any, insert_rows
from app.catalog.errors import CatalogError, ConstraintViolation
from app.catalog.schema import tables
from app.catalog.schema.records import AssetType, FileKind, FileState, Visibility
from tests.catalog.rows import make_user

ODD = "tab\t, line\n, back\\slash, \\N, 'quote', \"quotes\", é, 📷"
TAKEN = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=timezone(timedelta(hours=2)))


def file_row(owner: UUID, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": uuid4(), "owner_id": owner, "kind": FileKind.ORIGINAL, "path": f"/media/{uuid4()}", "state": FileState.LIVE, "size": 2**40,
        "sha1": bytes(range(20)), "crc32": None, "mime_type": "image/jpeg", "created_at": TAKEN, "not_before": TAKEN,
    }  # fmt: skip
    return values | changes


def asset_row(owner: UUID, file_id: UUID, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": uuid4(), "owner_id": owner, "type": AssetType.IMAGE, "file_id": file_id, "checksum": b"\\x00\t\n\xff",
        "original_file_name": ODD, "file_created_at": TAKEN, "file_modified_at": TAKEN, "local_date_time": TAKEN, "created_at": TAKEN,
        "updated_at": TAKEN, "is_favorite": True, "visibility": Visibility.TIMELINE, "is_offline": False, "exif": None, "folded_name": None,
    }  # fmt: skip
    return values | changes


async def test_every_value_is_stored_as_it_is(catalog: Catalog) -> None:
    user = await make_user(catalog)
    files = [file_row(user.id, path=f"/media/{ODD}"), file_row(user.id)]
    exif = {"make": ODD, "iso": 100, "fNumber": 2.8, "nothing": None}
    assets = [asset_row(user.id, files[0]["id"], exif=exif), asset_row(user.id, files[1]["id"], checksum=None)]
    async with catalog.database.write() as connection:
        await insert_rows(connection, tables.file, [])
        await insert_rows(connection, tables.file, files)
        await insert_rows(connection, tables.asset, assets)
    async with catalog.database.read() as connection:
        for table, rows in ((tables.file, files), (tables.asset, assets)):
            fetched = await fetch_any(connection, select(table), table.c.id, [row["id"] for row in rows])
            found = {row.id: row._mapping for row in fetched}
            for row in rows:
                assert {name: found[row["id"]][name] for name in row} == row
                assert found[row["id"]]["created_at"].tzinfo is UTC


async def test_each_value_gets_into_its_column_in_whatever_order_a_row_names_them(catalog: Catalog) -> None:
    user = await make_user(catalog)
    first, second = file_row(user.id), file_row(user.id)
    async with catalog.database.write() as connection:
        await insert_rows(connection, tables.file, [first, dict(reversed(second.items()))])
    stored = await catalog.files.get(second["id"])
    assert stored is not None
    assert (stored.path, stored.mime_type) == (second["path"], second["mime_type"])


async def test_text_that_no_database_can_hold_is_replaced(catalog: Catalog) -> None:
    user = await make_user(catalog)
    row = file_row(user.id, mime_type="image\0/\ud800jpeg")
    async with catalog.database.write() as connection:
        await insert_rows(connection, tables.file, [row])
    stored = await catalog.files.get(row["id"])
    assert stored is not None
    assert stored.mime_type == "image\ufffd/\ufffdjpeg"


async def test_a_row_that_is_refused_undoes_all(catalog: Catalog) -> None:
    user = await make_user(catalog)
    first, second = file_row(user.id), file_row(user.id)
    for refused in ({"path": first["path"]}, {"owner_id": uuid4()}, {"mime_type": None}):
        with pytest.raises(ConstraintViolation):
            async with catalog.database.write() as connection:
                await insert_rows(connection, tables.file, [first, second | refused])
        assert await catalog.files.get(first["id"]) is None
    with pytest.raises(CatalogError):
        async with catalog.database.write() as connection:
            await insert_rows(connection, tables.file, [first, second | {"path": "/media/nul\ud800"}])
    assert await catalog.files.get(first["id"]) is None


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", [UUID(int=number) for number in range(1200)]),
        ("path", [f"/media/{ODD}{number}" for number in range(1200)]),
        ("sha1", [b"\\x00\t\n\xff%d" % number for number in range(1200)]),
    ],
    ids=["id", "path", "sha1"],
)
async def test_any_of_many_values_is_found(catalog: Catalog, column: str, values: list[Any]) -> None:
    user = await make_user(catalog)
    async with catalog.database.write() as connection:
        await insert_rows(connection, tables.file, [file_row(user.id, **{column: values[-1]}), file_row(user.id)])
    async with catalog.database.read() as connection:
        for wanted, expected in ((values, values[-1:]), (values[:-1], []), ([], [])):
            rows = await fetch_any(connection, select(tables.file.c[column]), tables.file.c[column], wanted)
            assert [row[0] for row in rows] == expected
