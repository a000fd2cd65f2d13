"""Names that were planned for the parts of a download."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from app.catalog.catalog import Catalog
from app.catalog.download_parts import part_digest
from tests.catalog.making import make_user

WEEK = timedelta(days=7)


async def test_the_latest_plan_of_a_part_counts_until_it_expires(catalog: Catalog) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    parts, now = catalog.download_parts, datetime.now(UTC)
    one, two = uuid4(), uuid4()
    digest = part_digest([one, two])
    assert digest == part_digest([two, one]) != part_digest([one])

    await parts.keep(user.id, {digest: {one: "a+1.jpg"}, part_digest([one]): {one: "b.jpg"}}, now + WEEK)
    await parts.keep(user.id, {digest: {two: "a+2.jpg"}, part_digest([uuid4()]): {}}, now + WEEK)

    assert await parts.names(user.id, digest, now) == {two: "a+2.jpg"}
    assert await parts.names(user.id, part_digest([one]), now) == {one: "b.jpg"}
    assert await parts.names(other.id, digest, now) == await parts.names(user.id, digest, now + WEEK) == {}
    assert await parts.delete_expired(now) == 0
    assert await parts.delete_expired(now + WEEK) == 2


async def test_plans_at_once_do_not_get_into_each_others_way(catalog: Catalog) -> None:
    user, asset_id = await make_user(catalog), uuid4()
    digest, until = part_digest([asset_id]), datetime.now(UTC) + WEEK

    await asyncio.gather(
        *(catalog.download_parts.keep(user.id, {digest: {asset_id: f"{n}.jpg"}}, until) for n in range(8))
    )

    assert (await catalog.download_parts.names(user.id, digest, datetime.now(UTC))).keys() == {asset_id}
