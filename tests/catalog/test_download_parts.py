"""Member names of downloads that are split into several archives."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from app.catalog.catalog import Catalog
from app.catalog.downloads import download_parts
from app.catalog.downloads.download_parts import compute_part_digest
from app.catalog.schema.records import User
from tests.catalog.rows import make_user

DAY = timedelta(days=1)


async def test_the_latest_plan_of_a_part_counts_until_it_expires(catalog: Catalog) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    parts, now = catalog.download_parts, datetime.now(UTC)
    one, two = uuid4(), uuid4()
    digest = compute_part_digest([one, two])
    assert digest == compute_part_digest([two, one]) != compute_part_digest([one])

    await parts.store_parts(user.id, {digest: {one: "a+1.jpg"}, compute_part_digest([one]): {one: "b.jpg"}}, now + DAY)
    await parts.store_parts(user.id, {digest: {two: "a+2.jpg"}, compute_part_digest([uuid4()]): {}}, now + DAY)

    assert await parts.get_names(user.id, digest, now) == {two: "a+2.jpg"}
    assert await parts.get_names(user.id, compute_part_digest([one]), now) == {one: "b.jpg"}
    assert await parts.get_names(other.id, digest, now) == await parts.get_names(user.id, digest, now + DAY) == {}
    assert await parts.delete_expired(now) == 0
    assert await parts.delete_expired(now + DAY) == 2


async def test_the_oldest_plans_of_an_owner_go_whole_when_there_are_too_many_names(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_parts, "MAX_NAMES_PER_OWNER", 10)
    user, other = await make_user(catalog), await make_user(catalog)
    parts, now = catalog.download_parts, datetime.now(UTC)
    planned: list[bytes] = []

    async def plan(owner: User, minute: int, *sizes: int) -> None:
        ids = [[uuid4() for _ in range(size)] for size in sizes]
        names = {compute_part_digest(part): {id_: f"{id_}.jpg" for id_ in part} for part in ids}
        planned.extend(names)
        await parts.store_parts(owner.id, names, now + DAY + timedelta(minutes=minute))

    async def kept(owner: User) -> list[int]:
        return [len(await parts.get_names(owner.id, digest, now)) for digest in planned]

    await plan(other, 0, 9)
    await plan(user, 1, 2, 1)
    await plan(user, 2, 3, 1)
    await plan(user, 3, 2, 1)
    assert await kept(user) == [0, 2, 1, 3, 1, 2, 1], "just as many as there may be"
    await plan(user, 4, 1)
    assert await kept(user) == [0, 0, 0, 3, 1, 2, 1, 1]
    await plan(user, 5, 8, 7)
    assert await kept(user) == [0] * 8 + [8, 7], "the latest stays, whatever it holds"
    assert await kept(other) == [9] + [0] * 9


async def test_plans_at_once_do_not_get_into_each_others_way(catalog: Catalog) -> None:
    user, asset_id = await make_user(catalog), uuid4()
    digest, until = compute_part_digest([asset_id]), datetime.now(UTC) + DAY

    await asyncio.gather(
        *(catalog.download_parts.store_parts(user.id, {digest: {asset_id: f"{n}.jpg"}}, until) for n in range(8))
    )

    assert (await catalog.download_parts.get_names(user.id, digest, datetime.now(UTC))).keys() == {asset_id}
