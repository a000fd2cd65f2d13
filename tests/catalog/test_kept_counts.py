"""Kept counts are those of the rows after whatever changes these, also by processes of the version before and beside concurrent changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalog import quota
from app.catalog.assets.date_edits import DateEdit
from app.catalog.browsing.timeline import TimelineFilters
from app.catalog.catalog import Catalog, open_catalog
from app.catalog.counts import kept_counts
from app.catalog.errors import CatalogError
from app.catalog.schema import tables
from app.catalog.schema.library_records import Library, ScanChanges, ScannedFile
from app.catalog.schema.records import AssetType, User, Visibility
from tests.catalog.rows import TAKEN, make_user, upload
from tests.catalog.test_schema_upgrade import OLD_ASSET, OLD_FILE, OLD_USER, USER_ID, upgrade_to
from tests.real.catalogues import Databases, open_older
from tests.real.databases import DatabaseKind
from tests.real.kept_counts import find_wrong_counts

ROUNDS, LONG_ROUNDS = 12, 1500
AT_ONCE = 6
VISIBILITIES = list(Visibility)


async def wrong_counts(catalog: Catalog) -> list[str]:
    async with catalog.engine.connect() as connection:
        return await connection.run_sync(find_wrong_counts)


async def test_counts_are_those_of_the_rows_after_any_changes(catalog: Catalog, seed: int, *, soak: bool) -> None:
    changes = RandomChanges(catalog, random.Random(seed))
    await changes.add_user()
    for _ in range(LONG_ROUNDS if soak else ROUNDS):
        async with asyncio.timeout(60):
            await asyncio.gather(*(changes.make_one() for _ in range(AT_ONCE)), catalog.kept_counts.fold())
        assert await wrong_counts(catalog) == []
    await catalog.kept_counts.fold()
    assert await wrong_counts(catalog) == []
    assert await catalog.kept_counts.find_differences() == []
    assert len(changes.made) > 7, changes.made


@dataclass
class RandomChanges:
    """Makes changes of a few users' assets, each of which a client, a worker or a scan may ask for."""

    catalog: Catalog
    dice: random.Random
    users: list[User] = field(default_factory=list)
    libraries: list[Library] = field(default_factory=list)
    made: set[str] = field(default_factory=set)

    async def add_user(self) -> None:
        user = await make_user(self.catalog)
        self.users.append(user)
        folder = f"/library/{user.id}"
        self.libraries.append(await self.catalog.libraries.create(user.id, "disk", (folder,), ()))

    async def make_one(self) -> None:
        owner = self.dice.choice(self.users).id
        choices: list[Callable[[UUID], Awaitable[None]]] = [
            self.upload, self.upload, self.upload, self.scan, self.scan_again, self.trash, self.restore, self.delete,
            self.change, self.change_many, self.crash, self.remove_user, self.unmount,
        ]  # fmt: skip
        chosen = self.dice.choice(choices)
        try:
            await chosen(owner)
        except CatalogError:
            return  # such as an asset that was removed at the same time, or two scans that found the same: rolled back
        self.made.add(chosen.__name__)

    async def upload(self, owner: UUID) -> None:
        video = self.dice.random() < 0.3
        await upload(
            self.catalog,
            owner,
            size=self.dice.randrange(1, 10**9),
            sidecar_size=self.dice.choice([None, 77]),
            type=AssetType.VIDEO if video else AssetType.IMAGE,
            mime_type="video/mp4" if video else "image/jpeg",
            visibility=self.dice.choice(VISIBILITIES),
            is_favorite=self.dice.random() < 0.5,
            local_date_time=self.choose_time(),
        )

    async def scan(self, owner: UUID) -> None:
        library = next(library for library in self.libraries if library.owner_id == owner)
        names = [f"{uuid4()}.jpg" for _ in range(self.dice.randrange(1, 4))]
        await self.catalog.library_files.apply_changes(
            library, ScanChanges(new=[self.found(library, n) for n in names])
        )

    async def scan_again(self, owner: UUID) -> None:
        """A file of a library was replaced: its size and its date change."""
        library = next(library for library in self.libraries if library.owner_id == owner)
        chosen = await self.choose(owner, in_library=True)
        known = await self.catalog.library_files.get_paths(chosen)
        changed = [(asset_id, self.found(library, path.rpartition("/")[2])) for asset_id, path in known.items()]
        await self.catalog.library_files.apply_changes(library, ScanChanges(changed=changed))

    async def unmount(self, owner: UUID) -> None:
        library = next(library for library in self.libraries if library.owner_id == owner)
        await self.catalog.library_files.trash(library, await self.choose(owner, in_library=True))

    async def trash(self, owner: UUID) -> None:
        await self.catalog.assets.trash(owner, await self.choose(owner))

    async def restore(self, owner: UUID) -> None:
        await self.catalog.assets.restore(owner, self.dice.choice([None, await self.choose(owner)]))

    async def delete(self, owner: UUID) -> None:
        await self.catalog.assets.delete(owner, await self.choose(owner))

    async def change(self, owner: UUID) -> None:
        for asset_id in await self.choose(owner):
            edit = DateEdit(taken_at=self.choose_time())
            await self.catalog.assets.update(owner, asset_id, {"is_favorite": self.dice.random() < 0.5}, edit)

    async def change_many(self, owner: UUID) -> None:
        edit = DateEdit(shift=timedelta(days=self.dice.randrange(-60, 60)))
        visibility = self.dice.choice(VISIBILITIES)
        await self.catalog.bulk_updates.update(owner, await self.choose(owner), {"visibility": visibility}, edit)

    async def crash(self, owner: UUID) -> None:
        """A transaction that changes assets and files ends before its commit."""
        with suppress(asyncio.CancelledError):
            async with self.catalog.database.write() as connection:
                await quota.lock_owner(connection, owner)
                mine = tables.asset.c.owner_id == owner
                await connection.execute(update(tables.asset).where(mine).values(visibility=Visibility.LOCKED))
                await connection.execute(update(tables.file).where(tables.file.c.owner_id == owner).values(size=1))
                raise asyncio.CancelledError

    async def remove_user(self, owner: UUID) -> None:
        if len(self.users) < 3:
            await self.add_user()
            return
        self.users = [user for user in self.users if user.id != owner]
        await self.catalog.user_removal.mark(owner)
        while await self.catalog.user_removal.remove_some(2):
            pass

    async def choose(self, owner: UUID, *, in_library: bool = False) -> list[UUID]:
        asset = tables.asset.c
        some = select(asset.id).where(asset.owner_id == owner).order_by(asset.id).limit(self.dice.randrange(4))
        if in_library:
            some = some.where(asset.library_id.is_not(None))
        async with self.catalog.database.read() as connection:
            return list((await connection.execute(some)).scalars())

    def found(self, library: Library, name: str) -> ScannedFile:
        listed = (name, 1, self.dice.randrange(2**40), self.dice.randrange(10**9), 1)
        return ScannedFile(library.import_paths[0], listed, AssetType.IMAGE, "image/jpeg", self.choose_time())

    def choose_time(self) -> datetime:
        return TAKEN + timedelta(days=self.dice.randrange(100))


async def test_many_changes_are_folded_into_one_row_of_a_group(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_counts, "FOLD_BATCH", 3)
    user = await make_user(catalog)
    assets = [await upload(catalog, user.id) for _ in range(8)]
    await catalog.assets.delete(user.id, [assets[0].id])

    await asyncio.gather(catalog.kept_counts.fold(), catalog.kept_counts.fold())

    assert await wrong_counts(catalog) == []
    async with catalog.engine.connect() as connection:
        for table in (tables.asset_count, tables.file_count):
            assert (await connection.execute(select(func.count()).where(table.c.is_delta))).scalar_one() == 0
    await catalog.assets.delete(user.id, [asset.id for asset in assets[1:]])
    await catalog.kept_counts.fold()
    async with catalog.engine.connect() as connection:
        rows = [(await connection.execute(select(table))).all() for table in (tables.asset_count, tables.file_count)]
    assert rows == [[], []], "nothing is left, so nothing is kept"


async def test_changes_of_one_user_do_not_wait_for_each_other_because_of_the_counts(databases: Databases) -> None:
    """Assets of one month are changed in two open transactions, each other's first."""
    catalog = await open_catalog(databases.ready("postgresql"))
    user = await make_user(catalog)
    first, second = [await upload(catalog, user.id) for _ in range(2)]
    favorite = update(tables.asset).values(is_favorite=True)
    async with asyncio.timeout(10), catalog.engine.begin() as one, catalog.engine.begin() as other:
        await one.execute(favorite.where(tables.asset.c.id == first.id))
        await other.execute(favorite.where(tables.asset.c.id == second.id))
        await catalog.kept_counts.fold()
    assert await wrong_counts(catalog) == []
    assert (await catalog.counts.get_statistics(user.id, is_favorite=True)).total == 2
    await catalog.aclose()


async def test_an_older_catalogue_is_counted_and_so_is_what_an_older_process_changes(
    database: DatabaseKind, databases: Databases
) -> None:
    db_url = databases.empty(database)
    older = open_older(db_url)
    async with older.write() as connection:
        await connection.run_sync(upgrade_to, "0016")
        await connection.execute(text(OLD_USER))
        for number in range(3):
            await insert_as_before(connection, number)

    catalog = await open_catalog(db_url)

    async def months() -> int:
        ((_, count),) = await catalog.timeline.count_by_month(UUID(USER_ID), TimelineFilters())
        return count

    assert await months() == 3
    async with older.write() as connection:
        await insert_as_before(connection, 3)
        await connection.execute(text("UPDATE asset SET visibility = 'archive'"))
    assert await months() == 4
    assert (await catalog.counts.get_statistics(UUID(USER_ID), visibility=Visibility.ARCHIVE)).images == 4
    assert await wrong_counts(catalog) == []
    await older.aclose()
    await catalog.aclose()


async def insert_as_before(connection: AsyncConnection, number: int) -> None:
    await connection.execute(text(OLD_FILE), {"id": UUID(int=number).hex, "path": f"/media/{number}"})
    await connection.execute(text(OLD_ASSET), {"id": UUID(int=number).hex, "name": f"{number}.jpg"})


async def test_wrong_counts_are_found_and_corrected_beside_changes(catalog: Catalog) -> None:
    user, other = await make_user(catalog), await make_user(catalog)
    for owner in (user, user, other):
        await upload(catalog, owner.id)
    moved = {"owner_id": other.id, "month": "1999-12", "type": "IMAGE", "visibility": "timeline", "assets": 5}
    flags = {"is_favorite": False, "is_trashed": False, "is_delta": False}
    async with catalog.engine.begin() as connection:
        await connection.execute(insert(tables.asset_count).values(**moved, **flags))
        await connection.execute(update(tables.file_count).values(bytes=tables.file_count.c.bytes + 1))

    found = {each.table: (each.owners, each.groups) for each in await catalog.kept_counts.find_differences()}
    assert found == {"asset": (1, 1), "file": (2, 2)}

    await asyncio.gather(catalog.kept_counts.correct(), *(upload(catalog, user.id) for _ in range(5)))

    assert await catalog.kept_counts.find_differences() == []
    assert await wrong_counts(catalog) == []
    assert [count for _, count in await catalog.timeline.count_by_month(user.id, TimelineFilters())] == [7]
    assert await catalog.timeline.count_by_month(other.id, TimelineFilters()) == [(TAKEN.date().replace(day=1), 1)]
