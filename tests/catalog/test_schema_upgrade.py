"""Schema upgrades: they run once, however many processes start at the same time, and their result equals the
definitions."""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, MetaData, delete, func, select, text, update

from app.catalog import migrations
from app.catalog.assets import folded_name_backfill
from app.catalog.catalog import Catalog, open_catalog, upgrade_catalog
from app.catalog.database.locations import PostgresLocation, SqliteLocation, parse_url
from app.catalog.database.schema_upgrade import OLDEST_PROGRAM_FLAG
from app.catalog.errors import CatalogError, CatalogUnavailable, InvalidDatabaseUrl, SchemaMismatch
from app.catalog.schema import tables
from app.catalog.schema.move_records import MoveState
from app.catalog.schema.records import AssetFilters
from tests.real.catalogues import Databases, open_older
from tests.real.databases import DatabaseKind
from tests.real.waiting import eventually_so

START = """
import asyncio, sys
from app.catalog.catalog import open_catalog
async def main():
    catalog = await open_catalog(sys.argv[1])
    print(await catalog.installation.get_id(), "alembic" in sys.modules)
    await catalog.aclose()
asyncio.run(main())
"""


async def open_in_new_process(db_url: str) -> tuple[str, bool]:
    """Open the catalogue in another process. Returns the installation's id, and whether that process imported Alembic."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        START,
        db_url,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    installation, alembic = out.decode().split()
    return installation, alembic == "True"


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index ix_asset_exif_")
async def test_migrations_and_definitions_agree(catalog: Catalog) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"compare_server_default": True, "include_name": is_defined}
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, tables.metadata)

    async with catalog.engine.connect() as connection:
        assert await connection.run_sync(differences) == []


@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index ix_asset_exif_")
async def test_migrations_agree_where_alembic_does_not_compare(catalog: Catalog) -> None:
    """Conditions of partial indexes, and the actions of foreign keys on deletion."""

    def reflected(connection: Connection) -> MetaData:
        made = MetaData()
        made.reflect(connection, only=lambda name, _: is_defined(name, "table", {}))
        return made

    async with catalog.engine.connect() as connection:
        made = await connection.run_sync(reflected)
        dialect = connection.dialect.name
    assert deletions(made) == deletions(tables.metadata)
    assert conditions(made, dialect) == conditions(tables.metadata, dialect)
    assert conditions(made, dialect)["uq_asset_owner_id_checksum"] == "library_id IS NULL"


def is_defined(name: str | None, kind: str, _parents: object) -> bool:
    """Not so are Alembic's table, and those of SQLite's full-text index (`app.catalog.assets.name_index`)."""
    return kind != "table" or not str(name).startswith(("alembic_version", "asset_name_"))


def deletions(metadata: MetaData) -> dict[tuple[str, str], str | None]:
    columns = [column for table in metadata.tables.values() for column in table.c]
    return {(column.table.name, column.name): key.ondelete for column in columns for key in column.foreign_keys}


def conditions(metadata: MetaData, dialect: str) -> dict[str, str]:
    indexes = [index for table in metadata.tables.values() for index in table.indexes]
    where = {str(index.name): index.dialect_options[dialect]["where"] for index in indexes}
    return {
        name: str(condition).strip("()").rpartition(".")[2]
        for name, condition in where.items()
        if condition is not None
    }


async def test_an_older_catalogue_keeps_what_it_holds(database: DatabaseKind, databases: Databases) -> None:
    db_url = databases.empty(database)
    older = open_older(db_url)
    async with older.write() as connection:
        await connection.run_sync(upgrade_to, "0002")
        await connection.execute(text(OLD_USER))
        await connection.execute(text(OLD_KEY))
        await connection.execute(text(OLD_SESSION))
    await older.aclose()

    catalog = await open_catalog(db_url)

    (user,) = await catalog.users.list()
    assert [key.name for key in await catalog.api_keys.list(user.id)] == ["kept"]
    assert [session.api_key_id for session in await catalog.sessions.list(user.id)] == [None]
    assert user.profile_file_id is None
    await catalog.aclose()


async def test_what_an_older_program_planned_may_have_been_copied(database: DatabaseKind, databases: Databases) -> None:
    db_url = databases.empty(database)
    older = open_older(db_url)
    async with older.write() as connection:
        await connection.run_sync(upgrade_to, "0005")
        await connection.execute(text(OLD_MOVE))
        for name, state, problem in OLD_ITEMS:
            await connection.execute(
                text(OLD_ITEM), {"id": uuid4().hex, "name": name, "state": state, "problem": problem}
            )
    await older.aclose()

    catalog = await open_catalog(db_url)

    found = await catalog.moves.get_moves(UUID(USER_ID), tuple(MoveState), limit=10)
    assert {move.item.source_path: move.item.state.value for move in found} == {
        "planned": "copying",
        "away": "copying",
        "occupied": "planned",
        "verified": "verified",
    }
    await catalog.aclose()


async def test_names_of_an_older_program_are_found_before_and_after_they_are_filled_in(
    database: DatabaseKind, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upgrade changes no row of an asset: there may be a million, and readers would wait."""
    db_url = databases.empty(database)
    older = open_older(db_url)
    async with older.write() as connection:
        await connection.run_sync(upgrade_to, "0006")
        await connection.execute(text(OLD_USER))
        for number in range(OLD_ASSETS):
            await connection.execute(text(OLD_FILE), {"id": UUID(int=number).hex, "path": f"/media/{number}"})
            await connection.execute(text(OLD_ASSET), {"id": UUID(int=number).hex, "name": f"ÄRGER {number}.jpg"})
    await older.aclose()

    catalog = await open_catalog(db_url)

    async def found(part: str) -> list[int]:
        assets, _ = await catalog.assets.search(UUID(USER_ID), AssetFilters(name_contains=part))
        return sorted(asset.id.int for asset in assets)

    async def unfilled() -> int:
        counted = select(func.count()).where(tables.asset.c.folded_name.is_(None))
        async with catalog.engine.connect() as connection:
            return (await connection.execute(counted)).scalar_one()

    last = OLD_ASSETS - 1
    assert await unfilled() == OLD_ASSETS
    assert [await found(part) for part in (f"Er {last}.J", f"ÄRGER {last}.", "_")] == [[last], [last], []]

    folding = folded_name_backfill.fold_case

    def killed(name: str) -> str:
        if name == f"ÄRGER {last}.jpg":
            raise asyncio.CancelledError
        return folding(name)

    with monkeypatch.context() as patched:
        patched.setattr(folded_name_backfill, "fold_case", killed)
        with pytest.raises(asyncio.CancelledError):
            await catalog.folded_names.fill_missing()
    left = await unfilled()
    assert 0 < left < OLD_ASSETS, "each batch is a transaction of its own"
    assert [await found(f"er {number}.j") for number in (0, last)] == [[0], [last]]

    monkeypatch.setattr(folded_name_backfill, "SCAN_BATCH_SIZE", 7)
    counts = await asyncio.gather(catalog.folded_names.fill_missing(), catalog.folded_names.fill_missing())
    assert await unfilled() == 0
    assert sum(counts) == left
    assert [await found(f"ärger {number}.") for number in (0, last)] == [[0], [last]]
    assert await catalog.folded_names.fill_missing() == 0
    await catalog.aclose()


OLD_ASSETS = 1002
"""More than one batch of `fill_missing`."""
USER_ID = "0123456789abcdef0123456789abcdef"
OLD_USER = f"""INSERT INTO "user" (id, email, name, is_admin, used, created_at, updated_at)
    VALUES ('{USER_ID}', 'a@example.org', 'A', true, 0, '2026-01-01 00:00:00', '2026-01-01 00:00:00')"""
OLD_KEY = f"""INSERT INTO api_key (id, user_id, name, permissions, key_hash, created_at, updated_at)
    VALUES ('{USER_ID}', '{USER_ID}', 'kept', '[]', 'hash', '2026-01-01 00:00:00', '2026-01-01 00:00:00')"""

OLD_SESSION = f"""INSERT INTO session (id, user_id, token_hash, expires_at, created_at)
    VALUES ('{USER_ID}', '{USER_ID}', 'hash', '2126-01-01 00:00:00', '2026-01-01 00:00:00')"""

OLD_FILE = f"""INSERT INTO file (id, owner_id, kind, path, state, mime_type, created_at, not_before)
    VALUES (:id, '{USER_ID}', 'original', :path, 'live', 'image/jpeg', '2026-01-01 00:00:00', '2026-01-01 00:00:00')"""
OLD_ASSET = f"""INSERT INTO asset (id, owner_id, type, file_id, original_file_name, file_created_at, file_modified_at,
    local_date_time, created_at, updated_at, is_favorite, visibility, is_offline)
    VALUES (:id, '{USER_ID}', 'IMAGE', :id, :name, '2026-01-01 00:00:00', '2026-01-01 00:00:00',
    '2026-01-01 00:00:00', '2026-01-01 00:00:00', '2026-01-01 00:00:00', false, 'timeline', false)"""

OLD_MOVE = f"""INSERT INTO migration (id, target, created_at) VALUES ('{USER_ID}', 's3', '2026-01-01 00:00:00')"""
OLD_ITEM = f"""INSERT INTO migration_item
    (migration_id, file_id, twin_id, owner_id, kind, source_path, target_path, size, state, problem)
    VALUES ('{USER_ID}', :id, :id, '{USER_ID}', 'original', :name, :name, 1, :state, :problem)"""
OLD_ITEMS = [
    ("planned", "planned", None),
    ("away", "planned", "unavailable: s3: away"),
    ("occupied", "planned", "occupied: the target holds other bytes, which are left alone"),
    ("verified", "verified", None),
]


def upgrade_to(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def test_the_head_is_known_without_alembic() -> None:
    folder = Path(migrations.__file__).parent
    assert ScriptDirectory(str(folder)).get_heads() == [migrations.HEAD]


async def test_processes_that_start_together_make_the_tables_once(database: DatabaseKind, databases: Databases) -> None:
    db_url = databases.empty(database)
    started = await asyncio.gather(*(open_in_new_process(db_url) for _ in range(3)))
    assert len({installation for installation, _ in started}) == 1


async def test_a_second_start_is_quick(db_url: str) -> None:
    began = time.perf_counter()
    _, alembic = await open_in_new_process(db_url)
    assert not alembic, "its import alone takes longer than all the rest"
    assert time.perf_counter() - began < 15, "three seconds on a machine that is not busy with tests"


async def test_upgrading_by_hand_says_whether_there_was_anything_to_do(
    database: DatabaseKind, databases: Databases
) -> None:
    db_url = databases.empty(database)
    with pytest.raises(SchemaMismatch, match="mediavault db upgrade"):
        await open_catalog(db_url, upgrade=False)
    assert await upgrade_catalog(db_url)
    assert not await upgrade_catalog(db_url)
    catalog = await open_catalog(db_url, upgrade=False)
    await catalog.aclose()


@pytest.mark.parametrize("oldest", [None, "9998", migrations.HEAD, "0001"])
async def test_a_newer_catalogue_is_used_only_if_it_suits_this_program(db_url: str, oldest: str | None) -> None:
    """`oldest`: the oldest revision whose program works with the tables, as the newer program's upgrade stored it."""
    catalog = await open_catalog(db_url)
    flag = tables.installation.c.name == OLDEST_PROGRAM_FLAG
    async with catalog.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        if oldest is None:
            await connection.execute(delete(tables.installation).where(flag))
        else:
            await connection.execute(update(tables.installation).where(flag).values(value=oldest))
    await catalog.aclose()
    if oldest in (None, "9998"):
        with pytest.raises(SchemaMismatch, match="newer"):
            await open_catalog(db_url)
        return
    assert not await upgrade_catalog(db_url)
    catalog = await open_catalog(db_url, upgrade=False)
    assert await catalog.users.list() == []
    await catalog.aclose()


def test_the_program_before_works_with_each_upgrade() -> None:
    """Old and new processes run side by side during an upgrade."""
    assert int(migrations.OLDEST_PROGRAM) < int(migrations.HEAD)


async def test_queries_do_not_wait_for_an_upgrade_that_waits(
    databases: Databases, caplog: pytest.LogCaptureFixture
) -> None:
    """An upgrade that waits for a long query's table lets other queries pass in between, and ends when it can."""
    db_url = databases.empty("postgresql")
    older = open_older(db_url)
    async with older.write() as connection:
        await connection.run_sync(upgrade_to, "0015")
    caplog.set_level("INFO", "app.catalog.database.schema_upgrade")
    async with asyncio.timeout(60), older.write() as slow:
        await slow.execute(select(tables.session.c.id))
        upgrade = asyncio.create_task(upgrade_catalog(db_url))
        await eventually_so(lambda: _has_begun_again(caplog), "the upgrade begins again")
        async with older.read() as other:
            await other.execute(select(tables.session.c.id))
        assert not upgrade.done()
    assert await upgrade
    await older.aclose()


async def _has_begun_again(caplog: pytest.LogCaptureFixture) -> bool:
    return "begins again" in caplog.text


async def test_sqlite_is_set_up_to_survive_a_power_loss(tmp_path: Path) -> None:
    catalog = await open_catalog(f"sqlite:///{tmp_path}/a/b/catalogue.db")
    async with catalog.engine.connect() as connection:
        pragmas = {
            name: (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "temp_store")
        }
    await catalog.aclose()
    in_memory = 2
    durable = {"journal_mode": "wal", "synchronous": 2}
    assert pragmas == {**durable, "foreign_keys": 1, "busy_timeout": 15000, "temp_store": in_memory}


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CatalogError, match=str(tmp_path)):
        await open_catalog(f"sqlite:///{tmp_path}/file/catalogue.db")


async def test_a_file_that_is_no_database_is_an_error_of_the_catalogue(tmp_path: Path) -> None:
    (tmp_path / "catalogue.db").write_text("this is no database" * 1000)
    with pytest.raises(CatalogError):
        await open_catalog(f"sqlite:///{tmp_path}/catalogue.db")


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable) as failure:
        await open_catalog(f"postgresql://user:secret@/database?host={tmp_path}")
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("db_url", "path"),
    [
        ("sqlite:///./data/catalogue.db", Path.cwd() / "data/catalogue.db"),
        ("sqlite:///catalogue.db", Path.cwd() / "catalogue.db"),
        ("sqlite:////var/lib/a b%.db", Path("/var/lib/a b%.db")),
        ("sqlite+aiosqlite:////x.db", Path("/x.db")),
        ("sqlite+pysqlite:////x.db", Path("/x.db")),
    ],
)
def test_addresses_of_sqlite(db_url: str, path: Path) -> None:
    assert parse_url(db_url) == SqliteLocation(path)


@pytest.mark.parametrize(
    "scheme", ["postgresql", "postgres", "postgresql+psycopg", "postgresql+asyncpg"], ids=str.upper
)
def test_addresses_of_postgresql_keep_their_parameters(scheme: str) -> None:
    location = parse_url(f"{scheme}://me:p%40ss@db:6543/name?sslmode=require&application_name=x&host=/run/postgres")
    assert isinstance(location, PostgresLocation)
    url = location.url
    assert (url.drivername, url.username, url.password) == ("postgresql+psycopg", "me", "p@ss")
    assert (url.host, url.port, url.database) == ("db", 6543, "name")
    assert url.query == {"sslmode": "require", "application_name": "x", "host": "/run/postgres"}


@pytest.mark.parametrize(
    "db_url",
    [
        "",
        "catalogue.db",
        "mysql://u:secret@h/d",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://host/x",
        "sqlite:///x.db?mode=ro",
        "postgresql://u:secret@h:port/d",
    ],
)
def test_other_addresses_are_refused_without_their_secrets(db_url: str) -> None:
    with pytest.raises(InvalidDatabaseUrl) as refused:
        parse_url(db_url)
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("user", ["me", "m@e", "m/e", "m#e", "m:e", "m?e"])
@pytest.mark.parametrize("between", ["@", "#", "/", "?", ":", "%", "[", "@/", "/@", "?@", "#@", ":@", "@@", "@:", "@?"])
async def test_no_part_of_a_password_that_is_not_escaped_is_told(user: str, between: str) -> None:
    """Neither when the address is refused, nor when the connection fails."""
    parts = ("qXzJv", "WkYpR")
    db_url = f"postgresql://{user}:{between.join(parts)}@127.0.0.1:9/photos?connect_timeout=2"
    with pytest.raises(CatalogError) as refused:
        await open_catalog(db_url)
    shown = "".join(traceback.format_exception(refused.value))
    assert not any(part in shown for part in parts), str(refused.value)


async def test_parameters_of_the_address_reach_the_server(databases: Databases) -> None:
    db_url = databases.empty("postgresql") + "&application_name=mine&options=-c%20work_mem%3D7MB"
    catalog = await open_catalog(db_url)
    async with catalog.engine.connect() as connection:
        shown = [
            (await connection.execute(text(f"SHOW {name}"))).scalar_one()
            for name in ("application_name", "work_mem", "TimeZone", "lock_timeout")
        ]
    await catalog.aclose()
    assert shown == ["mine", "7MB", "UTC", "15s"]
