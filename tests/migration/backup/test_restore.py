"""Restore is atomic, and only into an empty catalogue."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text, update

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.database.schema_upgrade import OLDEST_PROGRAM_FLAG
from app.catalog.errors import CatalogError, CatalogNotEmpty, SchemaMismatch
from app.catalog.migrations import HEAD, OLDEST_PROGRAM
from app.catalog.schema import tables
from app.catalog.schema.records import Asset, File, FileKind
from app.config import Settings
from app.health.markers import MediaLocationCheck
from app.jobs.sweeper import sweep
from app.migration.backups.backup_format import BackupDamaged
from app.migration.backups.path_relocation import MediaLocationDiffers
from app.migration.backups.restore import RestoreResult, restore_backup
from app.migration.consistency.consistency_check import ConsistencyCheck
from app.migration.consistency.findings import ConsistencyFinding, FindingKind
from app.storage.key import Key
from app.storage.opening import open_storage
from app.storage.service import StorageService
from tests.catalog.rows import LEASE, make_user, new_asset, stored
from tests.migration.backup.conftest import MakeSettings
from tests.migration.backup.rows import contents
from tests.migration.backup.test_round_trip import back_up
from tests.migration.verify.damaged_library import IgnoredProgress
from tests.real.catalogues import Databases
from tests.real.databases import DatabaseKind

NOBODY = UUID(int=0)
INFINITE = "1e999"
"""A number that JSON and Python accept."""
Change = Callable[[list[Any]], list[Any]]
OLD = Path(__file__).parent / "backup-0002.jsonl"


async def restored(settings: Settings, data: bytes, *, relocate: bool = False) -> RestoreResult:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 1000):
            yield data[start : start + 1000]

    return await restore_backup(settings, chunks(), relocate=relocate)


def changed(data: bytes, change: Change) -> bytes:
    """A backup with changed lines, and with matching checksum and counts."""
    *lines, last = [json.loads(line) for line in gzip.decompress(data).splitlines()]
    lines = change(lines)
    text_ = b"".join(json.dumps(line).replace(f'"{INFINITE}"', INFINITE).encode() + b"\n" for line in lines)
    last["sha256"] = hashlib.sha256(text_).hexdigest()
    return gzip.compress(text_ + json.dumps(last).encode() + b"\n")


@pytest.fixture
async def backup(catalog: Catalog, db_url: str, make_settings: MakeSettings) -> bytes:
    """A backup of a small library below the media location of `make_settings`."""
    settings = make_settings(db_url)
    await make_user(catalog)
    owner = await make_user(catalog)
    storage = await open_storage(settings)
    await MediaLocationCheck(catalog, storage).verify()
    for name in ("a", "b"):
        path = storage.managed_path(Key(f"upload/{owner.id}/{name}.jpg"))
        async with storage.write(path) as writer:
            await writer.write(name.encode())
        file = await catalog.files.begin_write(owner.id, FileKind.ORIGINAL, path, "image/jpeg", LEASE)
        kept = stored(file, name.encode())
        await catalog.assets.insert(new_asset(owner.id, kept.sha1), kept)
    await storage.aclose()
    return Path((await back_up(settings, catalog)).path).read_bytes()


@pytest.fixture
def empty(database: DatabaseKind, databases: Databases, make_settings: MakeSettings) -> Settings:
    """Settings with a database without tables, and the same media location."""
    return make_settings(databases.empty(database))


async def opened(settings: Settings) -> Catalog:
    return await open_catalog(settings.db_url.get_secret_value())


async def is_untouched(settings: Settings) -> bool:
    """True where no table has a row: nothing was restored, not even in part."""
    catalog = await opened(settings)
    found = await contents(catalog)
    await catalog.aclose()
    return found.pop("alembic_version") == [(HEAD,)] and not any(found.values())


async def test_a_damaged_backup_leaves_nothing_behind(backup: bytes, empty: Settings) -> None:
    flipped = bytearray(backup)
    flipped[len(backup) // 2] ^= 1
    lost_row = changed(backup, lambda lines: [line for line in lines if not is_row_of(line, lines, "file")])
    for data in (backup[:-1], backup[: len(backup) // 2], bytes(flipped), b"", lost_row):
        with pytest.raises((BackupDamaged, CatalogError)) as refused:
            await restored(empty, data)
        assert "\n" not in str(refused.value)
        assert await is_untouched(empty)

    assert (await restored(empty, backup)).row_counts["asset"] == 2


def is_row_of(line: Any, lines: list[Any], table: str) -> bool:
    """Whether the line is a row of that table."""
    if not isinstance(line, list):
        return False
    heads = [each["table"] for each in lines[: lines.index(line)] if isinstance(each, dict) and "table" in each]
    return heads[-1] == table


@pytest.mark.parametrize(
    ("what", "value"), [("a reference to nothing", "0190f0c4-0000-7000-8000-000000000000"), ("a wrong value", "no id")]
)
async def test_rows_that_do_not_fit_leave_nothing_behind(backup: bytes, empty: Settings, what: str, value: str) -> None:
    def change(lines: list[Any]) -> list[Any]:
        columns = next(line["columns"] for line in lines if isinstance(line, dict) and line.get("table") == "asset")
        place = [name for name, _ in columns].index("file_id")
        return [
            [*line[:place], value, *line[place + 1 :]] if is_row_of(line, lines, "asset") else line for line in lines
        ]

    with pytest.raises(CatalogError):
        await restored(empty, changed(backup, change))
    assert await is_untouched(empty)


def with_header(**values: Any) -> Change:
    return lambda lines: [{**lines[0], **values}, *lines[1:]]


def with_file_cells(**values: Any) -> Change:
    """Changes cells in every row of the table `file`."""

    def change(lines: list[Any]) -> list[Any]:
        head = next(line for line in lines if isinstance(line, dict) and line.get("table") == "file")
        names = [name for name, _ in head["columns"]]
        rows = [line for line in lines if is_row_of(line, lines, "file")]
        for row in rows:
            for name, value in values.items():
                row[names.index(name)] = value
        return lines

    return change


def with_file_table(**values: Any) -> Change:
    """Changes the description of the table `file`."""

    def change(lines: list[Any]) -> list[Any]:
        return [
            {**line, **values} if isinstance(line, dict) and line.get("table") == "file" else line for line in lines
        ]

    return change


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


FORGERIES: dict[str, Change] = {
    "media location": with_header(media_location=5),
    "bucket location": with_header(bucket_location=["s3://b"]),
    "revision": with_header(revision=5),
    "no revision": with_header(revision=None),
    "revision by a word": with_header(revision="head"),
    "revision relative": with_header(revision="+1"),
    "moment": with_header(created_at=5),
    "moment before all": with_header(created_at="0001-01-01T00:00:00+23:59"),
    "unknown member": with_header(more=1),
    "columns": with_file_table(columns=5),
    "column without kind": with_file_table(columns=[["id"]]),
    "no columns": with_file_table(columns=[]),
    "Alembic's table": with_file_table(table="alembic_version"),
    "another program's table": with_file_table(table="procrastinate_jobs"),
    "no table": with_file_table(table=None),
    "number": with_file_cells(size=2**70),
    "infinity": with_file_cells(size=INFINITE),
    "moment without zone": with_file_cells(created_at="2024-01-01T00:00:00"),
    "path with NUL": with_file_cells(path="a\0b"),
    "path with half a character": with_file_cells(path="\ud800"),
    "path of lists": with_file_cells(path=nested(500)),
}


async def test_what_nobody_wrote_is_refused_with_one_line(backup: bytes, empty: Settings) -> None:
    forged = {name: changed(backup, forgery) for name, forgery in FORGERIES.items()}
    forged["depth"] = gzip.compress(b"[" * 200_000 + b"\n")
    forged["endless line"] = gzip.compress(b" " * 2_000_000)
    for name, data in forged.items():
        print(name)  # shown when the test fails
        with pytest.raises((BackupDamaged, CatalogError)) as refused:
            await restored(empty, data)
        assert "\n" not in str(refused.value), name
        assert await is_untouched(empty), name


async def test_it_goes_into_an_empty_catalogue_only(backup: bytes, empty: Settings) -> None:
    catalog = await opened(empty)
    user = await make_user(catalog)
    before = await contents(catalog)

    with pytest.raises(CatalogNotEmpty, match="user"):
        await restored(empty, backup)

    assert await contents(catalog) == before
    assert (await catalog.users.get(user.id)) is not None
    await catalog.aclose()


async def test_the_media_location_is_known_again_on_a_new_host(
    backup: bytes, catalog: Catalog, empty: Settings
) -> None:
    """The new database already has another installation id, from a service that was started there before."""
    fresh = await opened(empty)
    assert await fresh.installation.get_id() != await catalog.installation.get_id()
    await fresh.aclose()

    await restored(empty, backup)

    now = await opened(empty)
    assert await now.installation.get_id() == await catalog.installation.get_id()
    storage = await open_storage(empty)
    await MediaLocationCheck(now, storage).verify()
    Path(empty.media_location, "upload", ".immich").unlink()
    with pytest.raises(Exception, match="unmounted"):
        await MediaLocationCheck(now, storage).verify()
    await storage.aclose()
    await now.aclose()


async def test_one_of_an_older_program_is_brought_up_to_date(
    empty: Settings, database: DatabaseKind, make_settings: MakeSettings
) -> None:
    old = gzip.compress(OLD.read_bytes())
    at_media = empty.model_copy(update={"media_location": Path("/media")})

    came = await restored(at_media, old)

    assert came.header.revision == "0002"
    catalog = await opened(empty)
    found = await contents(catalog)
    assert found["alembic_version"] == [(HEAD,)]
    assert {name: len(found[name]) for name in ("user", "asset", "file", "installation")} == came_rows(came)
    assert await catalog.installation.get_flag(OLDEST_PROGRAM_FLAG) == OLDEST_PROGRAM
    photos = [row for row in found["asset"] if row[6] == "photo.jpg"]
    assert photos[0][19] in {row[0] for row in found["asset"]}, "the motion video that follows it"
    await catalog.aclose()


def came_rows(came: RestoreResult) -> dict[str, int]:
    return {name: came.row_counts[name] for name in ("user", "asset", "file", "installation")}


async def test_an_older_one_goes_into_tables_that_were_made_and_not_used(empty: Settings) -> None:
    await (await opened(empty)).aclose()
    at_media = empty.model_copy(update={"media_location": Path("/media")})

    await restored(at_media, gzip.compress(OLD.read_bytes()))

    catalog = await opened(empty)
    assert len((await contents(catalog))["asset"]) == 3
    await catalog.aclose()


@pytest.mark.parametrize("old", [False, True], ids=["of-today", "of-an-older-program"])
async def test_what_is_true_of_a_database_stays_with_it(
    backup: bytes, catalog: Catalog, db_url: str, make_settings: MakeSettings, empty: Settings, old: bool
) -> None:
    """The record of another program's tables belongs to the database, and is not restored."""
    await catalog.installation.set_flag("procrastinate", "of the old database")
    data = Path((await back_up(make_settings(db_url), catalog)).path).read_bytes()
    fresh = await opened(empty)
    await fresh.installation.set_flag("procrastinate", "of the new database")
    await fresh.aclose()

    if old:
        await restored(empty.model_copy(update={"media_location": Path("/media")}), gzip.compress(OLD.read_bytes()))
    else:
        await restored(empty, data)

    now = await opened(empty)
    assert await now.installation.get_flag("procrastinate") == "of the new database"
    await now.aclose()


async def test_one_of_a_newer_program_is_refused(backup: bytes, empty: Settings) -> None:
    def newer(lines: list[Any]) -> list[Any]:
        return [{**lines[0], "revision": "9999"}, *lines[1:]]

    with pytest.raises(SchemaMismatch, match="newer"):
        await restored(empty, changed(backup, newer))
    assert await is_untouched(empty)


async def test_paths_follow_the_media_location_when_asked(backup: bytes, empty: Settings, tmp_path: Path) -> None:
    elsewhere = empty.model_copy(update={"media_location": tmp_path / "other"})
    with pytest.raises(MediaLocationDiffers, match=r"IMMICH_MEDIA_LOCATION.*--relocate"):
        await restored(elsewhere, backup)
    assert await is_untouched(empty)

    came = await restored(elsewhere, backup, relocate=True)

    assert came.relocated_paths == 2
    catalog = await opened(empty)
    paths = [file.path async for file in catalog.files.iterate_all()]
    assert {path.rsplit("/", 1)[1] for path in paths} == {"a.jpg", "b.jpg"}
    assert all(path.startswith(f"{tmp_path}/other/upload/") for path in paths)
    await catalog.aclose()


async def test_no_reference_stays_unchecked(backup: bytes, empty: Settings) -> None:
    await restored(empty, backup)
    catalog = await opened(empty)
    async with catalog.engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            deferrable = await connection.execute(
                text("SELECT conname FROM pg_constraint WHERE contype = 'f' AND condeferrable")
            )
            assert deferrable.all() == []
    with pytest.raises(CatalogError):
        await catalog.files.begin_write(NOBODY, FileKind.ORIGINAL, "/x", "image/jpeg", LEASE)
    await catalog.aclose()


async def stored_photo(catalog: Catalog, storage: StorageService, begun: File) -> Asset:
    """A stored photo, by the later steps of an upload."""
    async with storage.write(begun.path) as writer:
        await writer.write(begun.path.encode())
    kept = stored(begun, begun.path.encode())
    return await catalog.assets.insert(new_asset(begun.owner_id, kept.sha1), kept)


async def test_nothing_that_is_stored_is_removed_for_what_was_true_at_the_backup(
    catalog: Catalog, db_url: str, make_settings: MakeSettings, empty: Settings
) -> None:
    """Files that were being written, doomed or in the trash at the backup may be in use again."""
    settings = make_settings(db_url)
    owner = (await make_user(catalog)).id
    storage = await open_storage(settings)
    await MediaLocationCheck(catalog, storage).verify()
    uploading, deleted, binned = [
        await catalog.files.begin_write(owner, FileKind.ORIGINAL, storage.managed_path(Key(key)), "image/jpeg", LEASE)
        for key in ("upload/uploading.jpg", "upload/deleted.jpg", "upload/binned.jpg")
    ]
    asset = await stored_photo(catalog, storage, deleted)
    await catalog.assets.delete(owner, [asset.id])
    in_trash = await stored_photo(catalog, storage, binned)
    async with catalog.engine.begin() as connection:
        await connection.execute(update(tables.asset).values(deleted_at=datetime(2020, 1, 1, tzinfo=UTC)))
    made = await back_up(settings, catalog)
    await stored_photo(catalog, storage, uploading)
    await catalog.assets.restore(owner, [in_trash.id])

    came = await restored(empty, Path(made.path).read_bytes())

    again = await opened(empty)
    later = datetime.now(UTC) + timedelta(days=29)
    await sweep(again, storage, now=later, trashed_before=later - timedelta(days=30))
    for file in (uploading, deleted, binned):
        assert await storage.exists(file.path), file.path
    assert (came.dropped_rows.files, came.dropped_rows.trashed) == (2, 1)
    found: list[ConsistencyFinding] = []
    await ConsistencyCheck(again, storage, on_finding=found.append, progress=IgnoredProgress()).run()
    assert {finding.path: finding.problem for finding in found} == {
        uploading.path: FindingKind.ORPHAN,
        deleted.path: FindingKind.ORPHAN,
    }
    later += timedelta(days=2)
    await sweep(again, storage, now=later, trashed_before=later - timedelta(days=30))
    assert not await storage.exists(binned.path), "the trash is emptied by age again"
    await again.aclose()
    await storage.aclose()
