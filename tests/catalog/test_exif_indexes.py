"""Searches by EXIF values find the same with their indexes as without, whatever the values."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from app.catalog.assets import exif_indexes
from app.catalog.assets.exif_indexes import INDEXES
from app.catalog.catalog import Catalog, open_catalog
from app.catalog.schema.records import AssetFilters, FileKind, SortKey
from tests.catalog.rows import TAKEN, make, make_user, upload
from tests.real.catalogues import Databases

Values = Mapping[str, str | int | None]
LONG = "Lens " * 20
"""As many letters as there are of a value in an index."""
CHOICES: Mapping[str, tuple[str | int | None, ...]] = {
    "make": ("Canon", "canon", "Ca%on", 'O\'Neill: "x"', "\\' OR 1=1 --", "%(x)s %s :x", "Ä", None),
    "model": ("EOS 5D", "5", None),
    "lensModel": (LONG, LONG + "a", LONG + "b", None),
    "city": ("Köln", "浜辺", None),
    "rating": (-1, 0, 5, None),
}


def choose_values(dice: random.Random) -> Values:
    chosen = {name: dice.choice(values) for name, values in CHOICES.items()}
    return {name: value for name, value in chosen.items() if value is not None}


def list_filters(dice: random.Random) -> Iterator[Values]:
    yield from ({name: value} for name, values in CHOICES.items() for value in values)
    for _ in range(20):
        yield {name: dice.choice(CHOICES[name]) for name in dice.sample(sorted(CHOICES), 2)}


async def set_exif(catalog: Catalog, owner: UUID, exif: Values, days: int) -> UUID:
    asset = await upload(catalog, owner, file_created_at=TAKEN - timedelta(days=days))
    await make(catalog, asset, FileKind.THUMBNAIL, exif=dict(exif))
    return asset.id


@pytest.mark.parametrize("most", [exif_indexes.MOST_MATCHES, 2])
async def test_each_search_finds_the_assets_with_the_values(
    catalog: Catalog, seed: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exif_indexes, "MOST_MATCHES", most)
    dice = random.Random(seed)
    owner, other = [(await make_user(catalog)).id for _ in range(2)]
    known: dict[UUID, Values] = {}
    for round_ in range(2):
        for _ in range(20):
            exif = choose_values(dice)
            known[await set_exif(catalog, owner, exif, dice.randrange(5))] = exif
        await set_exif(catalog, other, choose_values(dice), 0)
        for filters in list_filters(dice):
            expected = {
                each for each, exif in known.items() if all(exif.get(name) == value for name, value in filters.items())
            }
            assert await find(catalog, owner, filters) == expected, filters
        if not round_:
            await catalog.exif_indexes.update()


async def find(catalog: Catalog, owner: UUID, exif: Values) -> set[UUID]:
    """By each kind of search, which all find the same."""
    filters = AssetFilters(exif=exif)
    found, _ = await catalog.assets.search(owner, filters, size=1000)
    assert found == sorted(found, key=lambda each: (each.file_created_at, each.id), reverse=True)
    ids = {each.id for each in found}
    for order in SortKey:
        ordered, _ = await catalog.assets.search(owner, AssetFilters(exif=exif, order_by=order, ascending=True))
        assert {each.id for each in ordered} == ids
    assert await catalog.searches.count(owner, filters) == len(ids)
    assert {each.id for each in await catalog.searches.choose(owner, filters, 1000)} == ids
    return ids


async def test_a_value_may_be_longer_than_an_index_can_hold(catalog: Catalog, seed: int) -> None:
    await catalog.exif_indexes.update()
    owner = (await make_user(catalog)).id
    dice = random.Random(seed)
    value = "".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(20_000))
    made = await set_exif(catalog, owner, dict.fromkeys(CHOICES, value), 0)
    assert await find(catalog, owner, {"make": value}) == {made}
    assert await find(catalog, owner, {"make": value[:-1]}) == set()


async def test_an_index_whose_build_was_broken_off_is_made_again(databases: Databases) -> None:
    catalog = await open_catalog(databases.ready("postgresql"))
    await catalog.exif_indexes.update()
    of_index = f"WHERE indexrelid = '{INDEXES['city']}'::regclass"
    async with catalog.engine.begin() as connection:
        await connection.execute(text(f"UPDATE pg_index SET indisvalid = false {of_index}".replace("::", "\\:\\:")))
        await connection.execute(text(f"DROP INDEX {INDEXES['make']}"))
    await catalog.exif_indexes.update()
    valid = text(
        "SELECT count(*) FROM pg_index WHERE indisvalid AND CAST(CAST(indexrelid AS regclass) AS text) = ANY(:names)"
    )
    async with catalog.engine.connect() as connection:
        assert (await connection.execute(valid, {"names": list(INDEXES.values())})).scalar_one() == len(INDEXES)
    await catalog.aclose()
