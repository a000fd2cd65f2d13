"""Removals in batches look for what is to be removed once, or by an index of it: not through all other assets for each batch."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text, update

from app.catalog.assets import bulk_updates
from app.catalog.catalog import Catalog
from app.catalog.schema import tables
from tests.api.test_query_plans import prefer_indexes
from tests.catalog.rows import make_user
from tests.real.generated_rows import insert_assets
from tests.real.sql_statements import explain, record_statements

ASSETS = 300
asset = tables.asset


async def trash_all(catalog: Catalog, owner_id: UUID) -> None:
    async with catalog.engine.begin() as connection:
        moment = datetime.now(UTC)
        await connection.execute(update(asset).where(asset.c.owner_id == owner_id).values(deleted_at=moment))


async def count_left(catalog: Catalog, owner_id: UUID) -> int:
    async with catalog.engine.connect() as connection:
        counted = select(func.count()).where(asset.c.owner_id == owner_id)
        return (await connection.execute(counted)).scalar_one()


async def make_trash(catalog: Catalog) -> UUID:
    owner, other = [(await make_user(catalog)).id for _ in range(2)]
    await insert_assets(catalog, owner, ASSETS)
    await insert_assets(catalog, other, 10, first=ASSETS)
    await trash_all(catalog, owner)
    await trash_all(catalog, other)
    return owner


async def test_a_trash_is_searched_once(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_updates, "REMOVED_AT_ONCE", 50)
    owner = await make_trash(catalog)
    with record_statements() as sent:
        removed = [batch async for batch in catalog.bulk_updates.remove_trashed(owner, datetime.now(UTC))]
    searches = [each for each in sent if "deleted_at <=" in each.text and "asset.id IN" not in each.text]
    assert len(searches) == 1
    assert [len(batch) for batch in removed] == [50] * 6
    assert len({each for batch in removed for each in batch}) == ASSETS
    assert await count_left(catalog, owner) == 0


@pytest.mark.parametrize("at_once", [1, ASSETS - 1, ASSETS, ASSETS + 1])
async def test_a_trash_of_more_than_one_search_is_emptied(
    catalog: Catalog, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_updates, "IDS_AT_ONCE", at_once)
    if at_once == 1:
        monkeypatch.setattr(bulk_updates, "REMOVED_AT_ONCE", 1)
    owner = await make_trash(catalog)
    removed = [batch async for batch in catalog.bulk_updates.remove_trashed(owner, datetime.now(UTC))]
    assert sum(map(len, removed)) == ASSETS
    assert await count_left(catalog, owner) == 0


async def test_what_is_restored_meanwhile_stays(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_updates, "REMOVED_AT_ONCE", 100)
    owner = await make_trash(catalog)
    removals = catalog.bulk_updates.remove_trashed(owner, datetime.now(UTC))
    first = await anext(aiter(removals))
    restored = await catalog.assets.restore(owner)
    assert [batch async for batch in removals] == [[], []]
    assert len(first) == 100
    assert restored == await count_left(catalog, owner) == ASSETS - 100


async def test_a_librarys_assets_are_found_by_their_library(catalog: Catalog) -> None:
    owner = (await make_user(catalog)).id
    large, small = uuid4(), uuid4()
    for library, first, count in ((large, 0, 2000), (small, 2000, 3)):
        await insert_assets(catalog, owner, count, first=first)
        async with catalog.engine.begin() as connection:
            new = asset.c.library_id.is_(None)
            await connection.execute(update(asset).where(new).values(library_id=library))
            await connection.execute(text("ANALYZE asset" if connection.dialect.name == "postgresql" else "SELECT 1"))
    with record_statements() as sent:
        assert await catalog.assets.delete_from_library(owner, small, 500) == 3
    (search,) = [each for each in sent if "library_id =" in each.text]
    async with catalog.engine.connect() as connection:
        await prefer_indexes(connection)
        plan = str(await explain(connection, search))
    assert "ix_asset_library_id" in plan
