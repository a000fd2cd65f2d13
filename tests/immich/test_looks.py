"""A look of `follow` reads what Immich has written since the last one, and not everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.catalog.catalog import Catalog
from app.immich.errors import ImportRefused
from app.immich.source.reader import SourceReader
from app.immich.source.records import SourceAsset, SourcePerson
from app.immich.source.update_ids import build_least_id
from tests.immich.conftest import MakeInstallation
from tests.immich.installation import Installation
from tests.immich.runs import import_all, run
from tests.immich.tables import Generation

TIMED = ("asset", "asset_file", "asset_exif", "person")
LONG_AGO = "2016-01-01 00:00:00+00"


class RecordingReads:
    """What a run has read: assets, persons, and how often it compared ids."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.assets: set[UUID] = set()
        self.persons: set[UUID] = set()
        self.compared = 0
        get_assets, iterate_persons, list_ids = (
            SourceReader.get_assets,
            SourceReader.iterate_persons,
            SourceReader.list_ids,
        )

        async def read_assets(reader: SourceReader, asset_ids: Iterable[UUID]) -> list[SourceAsset]:
            rows = await get_assets(reader, asset_ids)
            self.assets |= {row.id for row in rows}
            return rows

        async def read_persons(
            reader: SourceReader, since: datetime | None = None
        ) -> AsyncIterator[list[SourcePerson]]:
            async for page in iterate_persons(reader, since):
                self.persons |= {person.id for person in page}
                yield page

        async def compare(reader: SourceReader, *arguments: Any) -> set[UUID]:
            self.compared += 1
            return await list_ids(reader, *arguments)

        patch.setattr(SourceReader, "get_assets", read_assets)
        patch.setattr(SourceReader, "iterate_persons", read_persons)
        patch.setattr(SourceReader, "list_ids", compare)


@pytest.fixture(scope="module")
def installation(make_installation: MakeInstallation) -> Installation:
    """All rows were written long ago."""
    made = make_installation(Generation.V3, assets=20)
    for table in TIMED:
        written = f"{build_least_id(datetime.fromisoformat(LONG_AGO)).hex[:12]}70008000000000000000"
        values = f"\"updatedAt\" = '{LONG_AGO}', \"updateId\" = '{written}'"
        made.execute(f"SET session_replication_role = replica; UPDATE {table} SET {values}")
    return made


@pytest.fixture
async def followed(installation: Installation, tmp_path: Path) -> AsyncIterator[Catalog]:
    async with import_all(installation, tmp_path) as catalog:
        yield catalog


async def test_a_look_reads_what_has_changed(
    followed: Catalog, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = RecordingReads(monkeypatch)
    await run(followed, installation, is_follow=True)
    assert (reads.assets, reads.persons, reads.compared) == (set(), set(), 0)

    changed, described, gone = installation.plain[:3]
    installation.execute('UPDATE asset SET "isFavorite" = NOT "isFavorite" WHERE id = %s', [changed])
    installation.execute("UPDATE asset_exif SET description = 'another' WHERE \"assetId\" = %s", [described])
    installation.execute("DELETE FROM asset WHERE id = %s", [gone])
    ((person,),) = installation.execute(
        "UPDATE person SET name = 'Another' WHERE name = %s RETURNING id", ["ada's friend"]
    )
    report = await run(followed, installation, is_follow=True)

    assert (report.changed, report.trashed) == (2, 1)
    assert (reads.assets, reads.persons, reads.compared) == ({changed, described}, {person}, 0)
    trashed = await followed.assets.get(gone)
    assert trashed is not None
    assert trashed.deleted_at is not None
    assert (await run(followed, installation, is_follow=True)).trashed == 0


async def test_without_a_record_of_deletions_all_ids_are_compared(
    followed: Catalog, installation: Installation
) -> None:
    gone = installation.plain[3]
    installation.execute("ALTER TABLE asset DISABLE TRIGGER asset_delete_audit; ALTER TABLE asset_audit RENAME TO away")
    try:
        installation.execute("DELETE FROM asset WHERE id = %s", [gone])
        assert (await run(followed, installation, is_follow=True)).trashed == 1
    finally:
        installation.execute(
            "ALTER TABLE away RENAME TO asset_audit; ALTER TABLE asset ENABLE TRIGGER asset_delete_audit"
        )


async def test_many_deletions_are_compared_with_all(
    followed: Catalog, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that another database empties nothing."""
    installation.execute("DELETE FROM asset")
    reads = RecordingReads(monkeypatch)
    with pytest.raises(ImportRefused, match="another installation"):
        await run(followed, installation, is_follow=True)
    assert reads.compared > 0
    assert await followed.vanished_assets.list_shown(installation.plain[4:])
