"""Foreign files in the catalogue: they are inserted live, count against quotas, and no program marks them for deletion."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import text, update

from app.catalog.catalog import Catalog, open_catalog
from app.catalog.errors import CatalogError, ConstraintViolation, OutsideForeignRoots
from app.catalog.schema import tables
from app.catalog.schema.records import File, FileKind, FileState, ForeignFile, User
from tests.catalog.rows import begin, file_states, make_user, used_bytes
from tests.catalog.test_schema_upgrade import OLD_FILE, OLD_USER, USER_ID, upgrade_to
from tests.real.catalogues import Databases, open_older
from tests.real.databases import DatabaseKind

ROOT = "/srv/photos"


def foreign(owner: User, name: str, kind: FileKind = FileKind.ORIGINAL, size: int = 100) -> ForeignFile:
    return ForeignFile(uuid4(), owner.id, kind, f"{ROOT}/{name}", size, "image/jpeg")


async def _get(catalog: Catalog, file_id: UUID) -> File:
    file = await catalog.files.get(file_id)
    assert file is not None
    return file


async def test_foreign_files_are_live_and_count_as_uploads_do(catalog: Catalog) -> None:
    user = await make_user(catalog, quota=150)
    await catalog.foreign_files.add_root(ROOT)
    await catalog.foreign_files.add_root(ROOT)
    kinds = (FileKind.ORIGINAL, FileKind.ORIGINAL, FileKind.SIDECAR, FileKind.PREVIEW)
    files = [foreign(user, f"{number}.jpg", kind) for number, kind in enumerate(kinds)]

    await catalog.foreign_files.insert(files)

    stored = [await _get(catalog, each.id) for each in files]
    assert {(each.state, each.is_foreign, each.size, each.sha1) for each in stored} == {
        (FileState.LIVE, True, 100, None)
    }
    assert await used_bytes(catalog, user.id) == 300, "beyond the quota too: the bytes are there already"
    assert (await catalog.counts.sum_bytes_by_kind())[user.id][FileKind.ORIGINAL] == 200
    assert await catalog.foreign_files.list_roots() == [ROOT]
    assert await catalog.files.find_path_outside(["/media/"]) is None


@pytest.mark.parametrize("path", ["/srv/photos2/1.jpg", "/srv/photos", "/etc/passwd", "/srv/photos/../x.jpg"])
async def test_a_path_outside_the_roots_is_refused_with_all_of_its_batch(catalog: Catalog, path: str) -> None:
    user = await make_user(catalog)
    await catalog.foreign_files.add_root(ROOT)
    outside = ForeignFile(uuid4(), user.id, FileKind.ORIGINAL, path, 1, "image/jpeg")
    with pytest.raises(OutsideForeignRoots, match=path):
        await catalog.foreign_files.insert([foreign(user, "1.jpg"), outside])
    assert await file_states(catalog) == {}
    assert await used_bytes(catalog, user.id) == 0


async def test_two_rows_of_one_path_are_refused(catalog: Catalog) -> None:
    user = await make_user(catalog)
    await catalog.foreign_files.add_root(ROOT)
    with pytest.raises(ConstraintViolation):
        await catalog.foreign_files.insert([foreign(user, "1.jpg"), foreign(user, "1.jpg")])
    assert await used_bytes(catalog, user.id) == 0


async def test_no_program_marks_a_foreign_file_for_deletion(catalog: Catalog) -> None:
    """Whatever its version: the statement is that of programs which know nothing of foreign files."""
    user = await make_user(catalog)
    await catalog.foreign_files.add_root(ROOT)
    file = foreign(user, "1.jpg")
    await catalog.foreign_files.insert([file])
    doom = update(tables.file).where(tables.file.c.id == file.id).values(state=FileState.DOOMED)
    with pytest.raises(CatalogError):
        async with catalog.database.write() as connection:
            await connection.execute(doom)
    assert not await catalog.files.mark_for_deletion(file.id)
    assert (await _get(catalog, file.id)).state is FileState.LIVE


async def test_checksums_are_stored_once_and_only_for_the_same_bytes(catalog: Catalog) -> None:
    user = await make_user(catalog)
    await catalog.foreign_files.add_root(ROOT)
    file = foreign(user, "1.jpg")
    await catalog.foreign_files.insert([file])
    ours = await begin(catalog, user.id)
    assert not await catalog.foreign_files.store_checksums(file.id, file.path, 99, b"1" * 20, 1)
    assert await catalog.foreign_files.store_checksums(file.id, file.path, 100, b"1" * 20, 1)
    assert not await catalog.foreign_files.store_checksums(file.id, file.path, 100, b"2" * 20, 2)
    assert not await catalog.foreign_files.store_checksums(ours.id, ours.path, 100, b"1" * 20, 1)
    stored = await _get(catalog, file.id)
    assert (stored.sha1, stored.crc32) == (b"1" * 20, 1)


async def test_an_older_program_goes_on_inserting_files(database: DatabaseKind, databases: Databases) -> None:
    db_url = databases.empty(database)
    older = open_older(db_url)
    async with older.write() as connection:
        await connection.run_sync(upgrade_to, "0018")
        await connection.execute(text(OLD_USER))
        await connection.execute(text(OLD_FILE), {"id": UUID(int=1).hex, "path": "/media/1"})
    catalog = await open_catalog(db_url)
    async with older.write() as connection:
        await connection.execute(text(OLD_FILE), {"id": UUID(int=2).hex, "path": "/media/2"})
    await older.aclose()
    assert [each.is_foreign async for each in catalog.files.iterate_all()] == [False, False]
    assert await used_bytes(catalog, UUID(USER_ID)) == 0
    await catalog.aclose()
