"""Searches by parts of names find the same with an index as without, whatever the names and wherever they are in the index."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import Engine, delete, event, text, update

from app.catalog.assets import name_index
from app.catalog.assets.name_index import build_trigram_query
from app.catalog.catalog import Catalog, open_catalog
from app.catalog.schema import tables
from app.catalog.schema.column_types import replace_unstorable
from app.catalog.schema.records import AssetFilters
from app.jobs.search_indexer import SearchIndexer
from app.unicode_folding import fold_case
from tests.catalog.rows import TAKEN, make_user, upload
from tests.real.catalogues import Databases
from tests.real.waiting import eventually_so

LETTERS = [
    "a",
    "b",
    "A",
    "B",
    "ab",
    "img",
    ".jpg",
    "%",
    "_",
    '"',
    "'",
    "/",
    "\\",
    "*",
    "^",
    ":",
    " ",
    "-",
    "(",
    "AND",
    "\0",
]
WIDE = ["ä", "Ä", "a\u0308", "ß", "ẞ", "ς", "Σ", "海", "浜辺", "🏖", "\u0301", "\ufffd", "ё", "Ё"]
ROUNDS, LONG_ROUNDS = 4, 200
TERMS = 40
asset = tables.asset


class Names:
    """The assets of one user, by name, and changes of them."""

    def __init__(self, catalog: Catalog, owner: UUID, dice: random.Random) -> None:
        self.catalog = catalog
        self.owner = owner
        self.dice = dice
        self.by_id: dict[UUID, str] = {}

    def make_text(self, most: int, *, is_ascii: bool = False) -> str:
        choices = LETTERS if is_ascii else LETTERS + WIDE
        return "".join(self.dice.choices(choices, k=self.dice.randrange(1, most)))

    async def change(self) -> None:
        for _ in range(6):
            name = self.make_text(8)
            self.by_id[(await upload(self.catalog, self.owner, original_file_name=name)).id] = name
        gone, renamed, unfolded = self.dice.sample(sorted(self.by_id), 3)
        name, plain = self.make_text(8), self.make_text(8, is_ascii=True)
        async with self.catalog.engine.begin() as connection:
            await connection.execute(delete(asset).where(asset.c.id == gone))
            for asset_id, new, folded in ((renamed, name, fold_case(name)), (unfolded, plain, None)):
                values = {"original_file_name": new, "folded_name": folded}
                await connection.execute(update(asset).where(asset.c.id == asset_id).values(values))
        del self.by_id[gone]
        self.by_id |= {renamed: name, unfolded: plain}

    def make_term(self) -> str:
        if self.dice.random() < 0.5:
            return self.make_text(4)
        name = self.dice.choice(sorted(self.by_id.values()))
        begin = self.dice.randrange(len(name))
        part = name[begin : begin + self.dice.randrange(1, 7)]
        return self.dice.choice([part, part.upper(), unicodedata.normalize("NFD", part)])

    async def check(self) -> None:
        folded = {asset_id: replace_unstorable(fold_case(name)) for asset_id, name in self.by_id.items()}
        for _ in range(TERMS):
            term = self.make_term()
            expected = {asset_id for asset_id, name in folded.items() if replace_unstorable(fold_case(term)) in name}
            assert await self.find(term) == expected, (term, {self.by_id.get(each) for each in expected})

    async def find(self, term: str) -> set[UUID]:
        """By each kind of search, which all find the same."""
        filters = AssetFilters(name_contains=term)
        found = {each.id for each in (await self.catalog.assets.search(self.owner, filters, size=1000))[0]}
        assert await self.catalog.searches.count(self.owner, filters) == len(found)
        assert {each.id for each in await self.catalog.searches.choose(self.owner, filters, 1000)} == found
        return found


@pytest.fixture
async def names(catalog: Catalog, seed: int) -> AsyncIterator[Names]:
    owner = await make_user(catalog)
    other = Names(catalog, (await make_user(catalog)).id, random.Random(seed + 1))
    await other.change()
    yield Names(catalog, owner.id, random.Random(seed))
    await other.check()


@pytest.mark.parametrize("most", [name_index.MOST_CANDIDATES, 3])
async def test_parts_of_any_names_are_found_while_they_change(
    names: Names, most: int, monkeypatch: pytest.MonkeyPatch, *, soak: bool
) -> None:
    monkeypatch.setattr(name_index, "MOST_CANDIDATES", most)
    for _ in range(LONG_ROUNDS if soak else ROUNDS):
        await names.change()
        await names.check()
        if names.dice.random() < 0.7:
            await names.catalog.name_index.update()
            await names.check()


async def test_the_index_is_filled_in_batches(names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_index, "SQLITE_BATCH", 4)
    await names.change()
    await names.change()
    await names.catalog.name_index.update()
    await names.check()


async def test_the_last_asset_that_is_in_the_index_may_be_deleted(names: Names) -> None:
    """SQLite gives the next one the same number."""
    for number in range(4):
        name = f"gone {number}.jpg"
        made = await upload(names.catalog, names.owner, original_file_name=name)
        await names.catalog.name_index.update()
        async with names.catalog.engine.begin() as connection:
            await connection.execute(delete(asset).where(asset.c.id == made.id))
        later = await upload(names.catalog, names.owner, original_file_name=f"there {number}.jpg")
        assert await names.find(f"there {number}") == {later.id}
        assert await names.find(f"gone {number}") == set()


async def test_pages_of_a_name_are_in_order(catalog: Catalog) -> None:
    owner = (await make_user(catalog)).id
    made = [
        await upload(
            catalog, owner, original_file_name=f"beach {n}.jpg", file_created_at=TAKEN - timedelta(days=n * 7 % 5)
        )
        for n in range(5)
    ]
    await upload(catalog, owner, original_file_name="hill.jpg")
    await catalog.name_index.update()
    newest = sorted(made, key=lambda each: each.file_created_at, reverse=True)
    filters = AssetFilters(name_contains="each ")
    pages = [await catalog.assets.search(owner, filters, page, 2) for page in (1, 2, 3)]
    assert pages == [(newest[:2], 2), (newest[2:4], 3), (newest[4:], None)]


async def test_a_running_service_makes_the_index(catalog: Catalog) -> None:
    owner = (await make_user(catalog)).id
    await upload(catalog, owner, original_file_name="beach.jpg")
    is_sqlite = catalog.name_index.is_filled_in_batches
    count = (
        "SELECT last_row FROM asset_name_progress"
        if is_sqlite
        else ("SELECT count(*) FROM pg_indexes WHERE indexname = 'ix_asset_folded_name_trigram'")
    )

    async def is_made() -> bool:
        async with catalog.engine.connect() as connection:
            return (await connection.execute(text(count))).scalar_one() > 0

    assert not await is_made()
    async with SearchIndexer(catalog).running():
        await eventually_so(is_made, "the index is made")


async def test_sqlites_rows_may_be_numbered_anew(databases: Databases, seed: int) -> None:
    catalog = await open_catalog(databases.ready("sqlite"))
    names = Names(catalog, (await make_user(catalog)).id, random.Random(seed))
    await names.change()
    await names.catalog.name_index.update()
    async with names.catalog.engine.begin() as connection:
        await connection.execute(text("UPDATE asset SET rowid = 1000 - rowid"))
    for _ in range(2):
        await names.check()
        await names.change()
    await names.catalog.name_index.update()
    await names.check()
    await names.change()
    await names.check()
    await catalog.aclose()


async def test_sqlite_without_trigrams_is_searched_all_the_same(
    databases: Databases, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    def forget_trigrams(*arguments: object) -> tuple[object, object]:
        return str(arguments[2]).replace("'trigram case_sensitive 1'", "'unknown'"), arguments[3]

    url = databases.empty("sqlite")
    event.listen(Engine, "before_cursor_execute", forget_trigrams, retval=True)
    try:
        catalog = await open_catalog(url)
    finally:
        event.remove(Engine, "before_cursor_execute", forget_trigrams)
    assert "SQLite has no FTS5 with trigrams" in caplog.text
    names = Names(catalog, (await make_user(catalog)).id, random.Random(seed))
    await names.change()
    await names.catalog.name_index.update()
    await names.check()
    await catalog.aclose()


async def test_an_index_whose_build_was_broken_off_is_made_again(databases: Databases) -> None:
    catalog = await open_catalog(databases.ready("postgresql"))
    await catalog.name_index.update()
    of_index = "WHERE indexrelid = 'ix_asset_folded_name_trigram'::regclass"
    async with catalog.engine.begin() as connection:
        await connection.execute(text(f"UPDATE pg_index SET indisvalid = false {of_index}"))
    await catalog.name_index.update()
    async with catalog.engine.connect() as connection:
        assert (await connection.execute(text(f"SELECT indisvalid FROM pg_index {of_index}"))).scalar_one()
    await catalog.aclose()


async def test_a_user_who_may_not_create_the_extension_can_upgrade_and_search(
    databases: Databases, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    admin_url = databases.empty("postgresql")
    role = f"limited_{seed}"
    async with await psycopg.AsyncConnection.connect(admin_url, autocommit=True) as admin:
        await admin.execute(f"CREATE ROLE {role} LOGIN".encode())
        await admin.execute(f"GRANT ALL ON SCHEMA public TO {role}".encode())
        catalog = await open_catalog(admin_url.replace("//postgres:@", f"//{role}:@"))
        names = Names(catalog, (await make_user(catalog)).id, random.Random(seed))
        for _ in range(2):
            await names.change()
            await catalog.name_index.update()
            await names.check()
        assert caplog.text.count("pg_trgm cannot be created") == 1
        await admin.execute(b"CREATE EXTENSION pg_trgm")
        await catalog.name_index.update()
        await names.check()
        found = await admin.execute(b"SELECT 1 FROM pg_indexes WHERE indexname = 'ix_asset_folded_name_trigram'")
        assert await found.fetchall()
        await catalog.aclose()
        await admin.execute(f"REASSIGN OWNED BY {role} TO postgres".encode())
        await admin.execute(f"DROP OWNED BY {role}".encode())
        await admin.execute(f"DROP ROLE {role}".encode())


QUERIES: Mapping[str, str | None] = {
    "": None,
    "ab": None,
    "ABC": '"abc"',
    'a"b"': '"a""b" AND """b"""',
    "aaaa": '"aaa"',
    "a\0bc": '"a\ufffdb" AND "\ufffdbc"',
    "ßxy": '"ssx" AND "sxy"',
    "浜辺🏖": '"浜辺🏖"',
}


@pytest.mark.parametrize(("name", "query"), QUERIES.items())
def test_a_name_is_looked_up_by_its_trigrams(name: str, query: str | None) -> None:
    assert build_trigram_query(name) == query
