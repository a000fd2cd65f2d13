"""Copies of foreign files: which row says whose copy it is, and which copies are marked for deletion when that file is gone."""

from __future__ import annotations

from uuid import UUID, uuid4

from sqlalchemy import delete, text, update

from app.catalog.backup.stale_rows import drop_restored_rows
from app.catalog.catalog import Catalog, open_catalog
from app.catalog.files import insert_writing_file
from app.catalog.moves.kept_copies import detach_changed_copies
from app.catalog.moves.move_ledger import TWIN_LEASE_END
from app.catalog.schema import tables
from app.catalog.schema.move_records import CopyOutcome, MoveState, StorageMigration
from app.catalog.schema.records import File, FileKind, FileState, ForeignFile
from app.config import StorageEngine
from tests.catalog.rows import file_states, make_user, upload
from tests.catalog.test_schema_upgrade import OLD_FILE, OLD_ITEM, OLD_MOVE, OLD_USER, USER_ID, upgrade_to
from tests.real.catalogues import Databases, open_older
from tests.real.databases import DatabaseKind

ROOT = "/srv/photos"


async def add_foreign(catalog: Catalog, owner: UUID) -> File:
    await catalog.foreign_files.add_root(ROOT)
    file_id = uuid4()
    file = ForeignFile(file_id, owner, FileKind.ORIGINAL, f"{ROOT}/{file_id}.jpg", 100, "image/jpeg", sha1=b"1" * 20)
    await catalog.foreign_files.insert([file])
    return await get(catalog, file_id)


async def get(catalog: Catalog, file_id: UUID) -> File:
    file = await catalog.files.get(file_id)
    assert file is not None
    return file


async def plan(catalog: Catalog, migration: StorageMigration, file: File, path: str) -> UUID:
    """Returns the id of the twin."""
    assert await catalog.moves.plan_moves(migration.id, [(file, path)]) == set()
    twin = await catalog.files.get_by_path(path)
    assert twin is not None
    return twin.id


async def copy(catalog: Catalog, migration: StorageMigration, file: File, path: str) -> UUID:
    """Plan, verify and keep a copy. Returns the id of its row."""
    twin = await plan(catalog, migration, file, path)
    await catalog.moves.record_outcomes(migration.id, [CopyOutcome(file.id, MoveState.VERIFIED)])
    assert await catalog.kept_copies.keep(migration.id, {file.id: file.sha1 or b""}) == {file.id}
    return twin


async def change(catalog: Catalog, file: File, sha1: bytes) -> File:
    async with catalog.database.write() as connection:
        changed = update(tables.file).where(tables.file.c.id == file.id)
        await detach_changed_copies(connection, [file.id])
        await connection.execute(changed.values(sha1=sha1))
    return await get(catalog, file.id)


async def delete_row(catalog: Catalog, file: File) -> None:
    async with catalog.database.write() as connection:
        await connection.execute(delete(tables.file).where(tables.file.c.id == file.id))


async def test_all_former_copies_go_with_their_file_and_nothing_else_does(catalog: Catalog) -> None:
    """While the migration stays unfinished, each copy's item takes the place of the one before it."""
    user = await make_user(catalog)
    gone, stays, copied = [await add_foreign(catalog, user.id) for _ in range(3)]
    migration = await catalog.moves.begin_migration(StorageEngine.S3)
    former: set[UUID] = set()
    for number in range(3):
        former.add(await copy(catalog, migration, gone, f"s3://bucket/{gone.id}-{number}"))
        gone = await change(catalog, gone, bytes([number]) * 20)
    kept = {await copy(catalog, migration, stays, f"s3://bucket/{stays.id}-0")}
    stays = await change(catalog, stays, b"2" * 20)
    kept.add(await copy(catalog, migration, stays, f"s3://bucket/{stays.id}-1"))
    kept.add(await plan(catalog, migration, copied, f"s3://bucket/{copied.id}-0"))
    moved = (await upload(catalog, user.id)).file
    kept.add(await plan(catalog, migration, moved, f"s3://bucket/{moved.id}"))
    async with catalog.database.write() as connection:
        unfinished = await insert_writing_file(
            connection, user.id, FileKind.ORIGINAL, f"/media/upload/{gone.id}.jpg", "image/jpeg", TWIN_LEASE_END
        )
    kept.add(unfinished.id)
    assert await catalog.kept_copies.drop_ownerless(100) == 0

    for file in (gone, copied):  # what a run still copies is the ledger's, which waits for that run
        await delete_row(catalog, file)

    assert await catalog.kept_copies.drop_ownerless(2) == 2
    assert await catalog.kept_copies.drop_ownerless(100) == 1
    states = await file_states(catalog)
    assert {file_id for file_id, state in states.items() if state is FileState.DOOMED} == former
    assert {file_id for file_id, state in states.items() if state is FileState.WRITING} == kept


async def test_a_copy_that_an_older_program_has_kept_goes_by_its_item(catalog: Catalog) -> None:
    user = await make_user(catalog)
    file = await add_foreign(catalog, user.id)
    migration = await catalog.moves.begin_migration(StorageEngine.S3)
    twin = await copy(catalog, migration, file, "s3://bucket/copy")
    async with catalog.database.write() as connection:
        await connection.execute(update(tables.file).values(copy_of=None))
    await change(catalog, file, b"2" * 20)
    assert await catalog.kept_copies.drop_ownerless(100) == 0
    await delete_row(catalog, file)
    assert await catalog.kept_copies.drop_ownerless(100) == 1
    assert await file_states(catalog) == {twin: FileState.DOOMED}


async def test_a_restored_catalogue_accounts_for_former_copies(catalog: Catalog) -> None:
    """But for those whose files it does not have: a verification reports them."""
    user = await make_user(catalog)
    files = [await add_foreign(catalog, user.id) for _ in range(2)]
    migration = await catalog.moves.begin_migration(StorageEngine.S3)
    former = [await copy(catalog, migration, file, f"s3://bucket/{file.id}-0") for file in files]
    for file in files:
        await change(catalog, file, b"2" * 20)
    await delete_row(catalog, files[1])

    async with catalog.database.write() as connection:
        dropped = await drop_restored_rows(connection)

    assert dropped.files == 1
    assert await file_states(catalog) == {files[0].id: FileState.LIVE, former[0]: FileState.WRITING}


async def test_the_upgrade_records_whose_copies_there_are(database: DatabaseKind, databases: Databases) -> None:
    db_url = databases.empty(database)
    older = open_older(db_url)
    source, changed, copied, moved, *twins = [uuid4() for _ in range(8)]
    states = {source: "kept", changed: "kept", copied: "copying", moved: "verified"}
    async with older.write() as connection:
        await connection.run_sync(upgrade_to, "0021")
        for statement in (OLD_USER, OLD_MOVE):
            await connection.execute(text(statement))
        for file_id in (source, copied, moved, *twins):
            await connection.execute(text(OLD_FILE), {"id": file_id.hex, "path": f"{ROOT}/{file_id}"})
        for twin_id, (file_id, state) in zip(twins, states.items(), strict=True):
            values = {"id": file_id.hex, "name": str(file_id), "state": state, "problem": None}
            await connection.execute(text(OLD_ITEM), values)
            linked = "UPDATE migration_item SET twin_id = :twin WHERE file_id = :id"
            await connection.execute(text(linked), {"twin": twin_id.hex, "id": file_id.hex})
            writing = "UPDATE file SET state = 'writing' WHERE id = :id"
            await connection.execute(text(writing), {"id": twin_id.hex})
        is_foreign = "UPDATE file SET is_foreign = true WHERE id IN (:source, :copied)"
        await connection.execute(text(is_foreign), {"source": source.hex, "copied": copied.hex})
    await older.aclose()

    catalog = await open_catalog(db_url)
    try:
        assert [(await get(catalog, twin)).copy_of for twin in twins] == [source, changed, copied, None]
        assert [(await get(catalog, file_id)).copy_of for file_id in (source, copied, moved)] == [None] * 3
        assert {file.owner_id for file in [await get(catalog, twin) for twin in twins]} == {UUID(USER_ID)}
        assert await catalog.kept_copies.drop_ownerless(100) == 1, "of the file that is gone"
    finally:
        await catalog.aclose()
