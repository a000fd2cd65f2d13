"""Queries of assets: pages, search, order, statistics, changes."""

from __future__ import annotations

import asyncio
import random
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from app.catalog.assets.asset_queries import encode_cursor, where_after_cursor
from app.catalog.catalog import Catalog
from app.catalog.errors import InvalidCursor, NotFound
from app.catalog.schema import tables
from app.catalog.schema.records import AccountUsage, Asset, AssetFilters, AssetStatistics, AssetType, Visibility
from tests.catalog.rows import TAKEN, make_user, upload, used_bytes

DAY = timedelta(days=1)


async def all_pages(catalog: Catalog, owner: UUID, limit: int, **filters: Any) -> list[Asset]:
    found: list[Asset] = []
    cursor: str | None = None
    while True:
        page, cursor = await catalog.assets.get_page(owner, cursor=cursor, limit=limit, **filters)
        found += page
        assert len(page) <= limit
        if cursor is None:
            return found
        assert len(page) == limit


@pytest.mark.parametrize("limit", [1, 7, 20, 100])
async def test_pages_show_everything_once_newest_first(catalog: Catalog, limit: int) -> None:
    user = await make_user(catalog)
    # Several assets have the same time: then the id decides the order.
    made = [await upload(catalog, user.id, file_created_at=TAKEN + DAY * (n % 5)) for n in range(20)]
    await upload(catalog, (await make_user(catalog)).id)
    found = await all_pages(catalog, user.id, limit)
    assert found == sorted(made, key=lambda asset: (asset.file_created_at, asset.id), reverse=True)


async def test_pages_have_no_gap_while_others_upload_and_delete(catalog: Catalog) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    user = await make_user(catalog)
    steady = [await upload(catalog, user.id, file_created_at=TAKEN + DAY * chance.randrange(100)) for _ in range(40)]
    reading = True

    async def disturb() -> None:
        while reading:
            asset = await upload(catalog, user.id, file_created_at=TAKEN + DAY * chance.randrange(100))
            if chance.random() < 0.5:
                await catalog.assets.delete(user.id, [asset.id])

    disturbing = asyncio.create_task(disturb())
    async with asyncio.timeout(60):
        for _ in range(2):
            found = [asset.id for asset in await all_pages(catalog, user.id, 3)]
            assert len(found) == len(set(found))
            assert {asset.id for asset in steady} <= set(found)
        reading = False
        await disturbing


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "AAAA", "\0", "A" * 32, "A" * 33, "=" * 8, "a" * 10_000, "f" + "_" * 31]
)
async def test_a_cursor_that_is_none_of_ours_is_refused(catalog: Catalog, cursor: str) -> None:
    if cursor == "A" * 32:
        assert await catalog.assets.get_page(uuid4(), cursor=cursor) == ([], None)  # a valid cursor: the epoch
        return
    with pytest.raises(InvalidCursor):
        await catalog.assets.get_page(uuid4(), cursor=cursor)


@given(cursor=st.text(max_size=60) | st.binary(min_size=24, max_size=24).map(lambda b: b.hex()))
def test_no_text_breaks_the_reading_of_cursors(cursor: str) -> None:
    with suppress(InvalidCursor):
        where_after_cursor(cursor)


async def test_extreme_moments_can_be_kept_and_paged(catalog: Catalog) -> None:
    user = await make_user(catalog)
    moments = [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ]
    for moment in moments:
        await upload(catalog, user.id, file_created_at=moment)
    found = await all_pages(catalog, user.id, 1)
    assert [asset.file_created_at for asset in found] == list(reversed(moments))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moment=st.datetimes(timezones=st.sampled_from([UTC]) | st.timezones()).filter(lambda m: 1 < m.year < 9999),
    name=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50),
    metadata=st.none()
    | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
        max_size=3,
    ),
    duration=st.none() | st.integers(0, 2**62),
)
async def test_what_is_written_is_what_is_read(
    catalog: Catalog, moment: datetime, name: str, metadata: dict[str, object] | None, duration: int | None
) -> None:
    user = await make_user(catalog)
    given_values = {"file_created_at": moment, "original_file_name": name, "duration": duration}
    asset = await upload(catalog, user.id, metadata=metadata, **given_values)
    # In UTC, because a local time that a clock shows twice compares unequal to every other time.
    expected = given_values | {"file_created_at": moment.astimezone(UTC)}
    assert {field: getattr(asset, field) for field in given_values} == expected
    assert asset.file_created_at.tzinfo is UTC
    async with catalog.engine.connect() as connection:
        kept = select(tables.asset.c.metadata).where(tables.asset.c.id == asset.id)
        assert (await connection.execute(kept)).scalar_one() == metadata
    (paged,), _ = await catalog.assets.get_page(user.id)
    assert paged == asset
    assert await catalog.assets.get_page(user.id, cursor=encode_cursor(asset)) == ([], None)


async def test_pages_are_filtered(catalog: Catalog) -> None:
    user = await make_user(catalog)
    photo = await upload(catalog, user.id)
    video = await upload(catalog, user.id, type=AssetType.VIDEO)
    archived = await upload(catalog, user.id, visibility=Visibility.ARCHIVE)
    hidden = await upload(catalog, user.id, visibility=Visibility.HIDDEN)
    locked = await upload(catalog, user.id, visibility=Visibility.LOCKED)

    async def ids(**filters: Any) -> set[UUID]:
        return {asset.id for asset in await all_pages(catalog, user.id, 10, **filters)}

    assert await ids() == {photo.id, video.id, archived.id}
    assert await ids(type=AssetType.VIDEO) == {video.id}
    assert await ids(visibility=Visibility.HIDDEN) == {hidden.id}
    assert await ids(visibility=Visibility.LOCKED) == {locked.id}
    assert await ids(library_id=uuid4()) == set()


async def test_search_finds_by_each_field(catalog: Catalog) -> None:
    user = await make_user(catalog)
    video = await upload(catalog, user.id, type=AssetType.VIDEO, file_created_at=TAKEN - DAY * 9)
    wanted = await upload(
        catalog,
        user.id,
        original_file_name="Holiday_100%.JPG",
        is_favorite=True,
        file_created_at=TAKEN - DAY,
        device_asset_id="d1",
        device_id="cli",
        live_photo_video_id=video.id,
    )
    other = await upload(catalog, user.id, original_file_name="HolidayX100X.png")
    await upload(catalog, (await make_user(catalog)).id, original_file_name="Holiday_100%.JPG", is_favorite=True)

    async def ids(**filters: Any) -> list[UUID]:
        return [asset.id for asset in (await catalog.assets.search(user.id, AssetFilters(**filters)))[0]]

    assert await ids() == [other.id, wanted.id]
    assert await ids(ascending=True) == [wanted.id, other.id]
    for unique in (
        {"ids": (wanted.id, video.id)},
        {"name_contains": "day_100%.jpg"},
        {"is_favorite": True},
        {"is_motion": True},
        {"checksum": wanted.checksum},
        {"device_asset_id": "d1"},
        {"device_id": "cli"},
        {"taken_before": TAKEN - DAY},
        {"taken_after": TAKEN - DAY, "taken_before": TAKEN - DAY / 2},
        {"created_before": wanted.created_at},
        {"updated_after": wanted.updated_at, "updated_before": wanted.updated_at},
    ):
        assert await ids(**unique) == [wanted.id], unique
    assert await ids(type=AssetType.VIDEO) == []
    assert await ids(type=AssetType.VIDEO, visibilities=frozenset({Visibility.HIDDEN})) == [video.id]
    assert await ids(taken_after=TAKEN) == await ids(created_after=other.created_at) == [other.id]
    assert await ids(is_offline=True) == await ids(library_id=uuid4()) == []
    for unfit in ("\0", "\ud800"):
        for field in ("name_contains", "path_contains", "description_contains"):
            assert await ids(**{field: unfit}) == [], (field, unfit)

    await catalog.assets.trash(user.id, [wanted.id])
    assert await ids() == [other.id]
    assert await ids(with_deleted=True) == [other.id, wanted.id]
    assert await ids(trashed_after=TAKEN) == [wanted.id]
    assert await ids(trashed_before=TAKEN) == []


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ("ärger", {"Ärger.jpg", "ärger 2.JPG"}),
        ("ÄRGER", {"Ärger.jpg", "ärger 2.JPG"}),
        ("strasse", {"Straße.jpg", "STRASSE.jpg"}),
        ("STRAẞE", {"Straße.jpg", "STRASSE.jpg"}),
        ("ΌΔΟΣ", {"οδός όδος.jpg"}),
        ("фото", {"ФОТО_1.jpg"}),
        ("_", {"ФОТО_1.jpg"}),
    ],
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
async def test_names_are_found_in_any_case_and_normalization(
    catalog: Catalog, part: str, found: set[str], form: Literal["NFC", "NFD"]
) -> None:
    user = await make_user(catalog)
    names = [
        "Ärger.jpg",
        unicodedata.normalize("NFD", "ärger 2.JPG"),
        "Straße.jpg",
        "STRASSE.jpg",
        "οδός όδος.jpg",
        "ФОТО_1.jpg",
    ]
    for name in names:
        await upload(catalog, user.id, original_file_name=name)

    assets, _ = await catalog.assets.search(user.id, AssetFilters(name_contains=unicodedata.normalize(form, part)))

    assert {unicodedata.normalize("NFC", asset.original_file_name) for asset in assets} == found


async def test_search_counts_pages_from_one(catalog: Catalog) -> None:
    user = await make_user(catalog)
    made = [await upload(catalog, user.id, file_created_at=TAKEN - DAY * n) for n in range(5)]
    pages = [await catalog.assets.search(user.id, AssetFilters(), page, 2) for page in (1, 2, 3, 4)]
    assert pages == [(made[:2], 2), (made[2:4], 3), (made[4:], None), ([], None)]


async def test_statistics_count_what_is_shown(catalog: Catalog) -> None:
    user = await make_user(catalog)
    photo = await upload(catalog, user.id, is_favorite=True)
    await upload(catalog, user.id, type=AssetType.VIDEO)
    await upload(catalog, user.id, visibility=Visibility.HIDDEN)
    trashed = await upload(catalog, user.id)
    await catalog.assets.trash(user.id, [trashed.id])
    count = catalog.counts.get_statistics
    assert await count(user.id) == AssetStatistics(1, 1, 2)
    assert await count(user.id, trashed=True) == AssetStatistics(1, 0, 1)
    assert await count(user.id, is_favorite=True) == AssetStatistics(1, 0, 1)
    assert await count(user.id, visibility=Visibility.HIDDEN) == AssetStatistics(1, 0, 1)
    assert await count(photo.id) == AssetStatistics(0, 0, 0)


async def test_usage_sums_the_originals_of_every_user(catalog: Catalog) -> None:
    user, empty = await make_user(catalog, quota=5000), await make_user(catalog)
    await upload(catalog, user.id, size=100, sidecar_size=9)
    await upload(catalog, user.id, size=2000, mime_type="video/mp4", type=AssetType.VIDEO)
    assert await catalog.counts.get_usage_by_user() == [
        AccountUsage(user.id, "Someone", 1, 1, 2100, 100, 2000, 2109, 5000),
        AccountUsage(empty.id, "Someone", 0, 0, 0, 0, 0, 0, None),
    ]


async def test_changes_show_at_once_and_only_to_their_owner(catalog: Catalog) -> None:
    user = await make_user(catalog)
    asset = await upload(catalog, user.id)
    changed = await catalog.assets.update(user.id, asset.id, {"is_favorite": True, "visibility": Visibility.ARCHIVE})
    assert changed == await catalog.assets.get_owned(user.id, asset.id)
    assert changed is not None
    assert (changed.is_favorite, changed.visibility) == (True, Visibility.ARCHIVE)
    assert changed.updated_at > asset.updated_at
    other = await make_user(catalog)
    assert await catalog.assets.update(other.id, asset.id, {"is_favorite": False}) is None
    assert await catalog.assets.get_owned(other.id, asset.id) is None
    assert await catalog.assets.get(asset.id) == changed
    with pytest.raises(NotFound):
        await catalog.assets.update(user.id, asset.id, {"live_photo_video_id": asset.id})
    assert await used_bytes(catalog, user.id) == 100
