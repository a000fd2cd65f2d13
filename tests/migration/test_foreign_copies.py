"""`migrate run` over foreign files: copies are verified and kept beside sources that stay, and later runs copy only what is new."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from app.catalog.catalog import open_catalog
from app.catalog.imports.imported_files import update_files
from app.catalog.schema.import_records import ImportedFile
from app.catalog.schema.move_records import MoveState
from app.catalog.schema.records import File, FileKind
from app.config import StorageEngine
from app.migration.backups.backup_store import BackupStore
from app.migration.backups.restore import restore_backup
from app.migration.reports import MoveReport
from app.migration.steps.cleanup_step import clean_up_move
from app.migration.steps.plan_step import plan_move
from app.migration.steps.rollback_step import roll_back_move
from app.migration.steps.run_step import run_move
from app.migration.steps.switch_step import switch_move
from tests.api.consistency import assert_consistent
from tests.api.photos import photo
from tests.migration.commands import mediavault
from tests.migration.foreign_assets import change_object, get_file, record_anew
from tests.migration.library import Library, open_library, settings_of
from tests.real.databases import DatabaseKind
from tests.real.foreign_files import ForeignAsset, ForeignTree
from tests.real.seaweedfs import SeaweedFS
from tests.real.secrets import record_secret
from tests.real.service import Service
from tests.real.stacks import Stacks


@pytest.fixture
def database() -> DatabaseKind:
    return "sqlite"


@pytest.fixture
async def library(database: DatabaseKind, stacks: Stacks, tmp_path: Path) -> AsyncIterator[Library]:
    async with open_library(stacks, tmp_path, database) as library:
        yield library


@pytest.fixture
async def tree(library: Library, tmp_path: Path) -> ForeignTree:
    """Three assets, each with original, sidecar, preview and thumbnail."""
    tree = ForeignTree(tmp_path / "immich")
    for _ in range(3):
        await tree.add(library.catalog, library.owner, sidecar=True)
    for storage in (library.source, library.storage):
        storage.set_foreign_roots([str(tree.root)])
    return tree


@pytest.fixture
def second_store(seaweedfs: SeaweedFS) -> Iterator[SeaweedFS]:
    """A store that the test may stop."""
    assert seaweedfs, "there is none here"
    with SeaweedFS() as store:
        record_secret(store.admin.secret_key)
        yield store


async def run(library: Library, **options: object) -> MoveReport:
    return await run_move(library.work(**options))


def count(report: MoveReport) -> dict[MoveState, int]:
    return {each.state: each.files for each in report.tallies}


async def read_copy(library: Library, file: File) -> bytes:
    assert file.copy_path is not None
    async with library.storage.read(file.copy_path) as stream:
        return b"".join([chunk async for chunk in stream.chunks])


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_copies_are_kept_beside_their_sources_and_made_once(library: Library, tree: ForeignTree) -> None:
    before = await asyncio.to_thread(tree.state)
    plan = await plan_move(library.work())
    assert (plan.files, plan.by_kind[FileKind.PREVIEW][0], plan.problems.count) == (12, 3, 0)
    assert "12 of these files belong to another program" in plan.notes[-1]
    report = await run(library)
    assert (count(report), report.problems.count) == ({MoveState.KEPT: 12}, 0)
    assert (await plan_move(library.work())).files == 0
    assert await library.catalog.moves.get_unfinished() is None, "nothing is left to switch or to clean up"
    for asset in tree.assets:
        file = await get_file(library, asset)
        assert (file.path, file.is_foreign) == (str(asset.path), True)
        assert await read_copy(library, file) == asset.content
    previews = [file async for file in library.catalog.files.iterate_all() if file.kind is FileKind.PREVIEW]
    assert {file.sha1 for file in previews if file.is_foreign} == {
        hashlib.sha1(asset.paths[FileKind.PREVIEW].read_bytes()).digest() for asset in tree.assets
    }, "what had no checksum has one"

    stored = library.at_target()
    again = await run(library)
    assert (again.files, again.problems.count, library.at_target()) == (0, 0, stored)
    assert await asyncio.to_thread(tree.state) == before
    await tree.add(library.catalog, library.owner, derivatives=False)
    assert (await run(library)).files == 1
    assert len(library.at_target()) == len(stored) + 1
    await library.sweep()
    assert_consistent(library.stack)


async def test_ours_move_and_foreign_ones_stay_in_one_migration(library: Library, tree: ForeignTree) -> None:
    await library.fill((2000, 10))
    before = await asyncio.to_thread(tree.state)
    assert count(await run(library)) == {MoveState.VERIFIED: 2, MoveState.KEPT: 12}
    assert count(await switch_move(library.work())) == {MoveState.KEPT: 12, MoveState.SWITCHED: 2}
    await library.age()
    assert count(await clean_up_move(library.work())) == {MoveState.KEPT: 12, MoveState.REMOVED: 2}
    assert library.at_source() == {}
    assert await asyncio.to_thread(tree.state) == before
    for asset in tree.assets:
        assert await read_copy(library, await get_file(library, asset)) == asset.content
    await library.sweep()
    assert_consistent(library.stack)


async def test_a_rollback_keeps_copies_and_gives_up_those_that_were_not_kept(
    library: Library, tree: ForeignTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    await library.fill((2000,))
    keep = library.catalog.kept_copies.keep

    async def keep_nothing(*_: object) -> frozenset[object]:
        return frozenset()

    monkeypatch.setattr(library.catalog.kept_copies, "keep", keep_nothing)
    assert count(await run(library)) == {MoveState.VERIFIED: 13}
    monkeypatch.setattr(library.catalog.kept_copies, "keep", keep)
    before = await asyncio.to_thread(tree.state)
    await asyncio.to_thread(tree.assets[0].path.unlink)
    report = await roll_back_move(library.work())
    assert count(report) == {MoveState.VERIFIED: 1, MoveState.REVERTED: 12}, "of a source that is gone the copy stays"
    assert count(await run(library))[MoveState.KEPT] == 12
    assert await read_copy(library, await get_file(library, tree.assets[0])) == tree.assets[0].content
    await asyncio.to_thread(tree.assets[0].path.write_bytes, tree.assets[0].content)
    assert set(await asyncio.to_thread(tree.state)) == set(before)


@pytest.mark.parametrize("damage", ["missing", "longer", "other bytes"])
async def test_a_damaged_source_is_told_and_not_copied(library: Library, tree: ForeignTree, damage: str) -> None:
    asset = tree.assets[1]
    if damage == "missing":
        await asyncio.to_thread(asset.path.unlink)
    else:
        other = asset.content + b"1" if damage == "longer" else bytes(len(asset.content))
        await asyncio.to_thread(asset.path.write_bytes, other)
    report = await run(library)
    assert [each.path for each in report.problems.listed] == [str(asset.path)]
    assert count(report)[MoveState.KEPT] == 11
    assert (await get_file(library, asset)).copy_path is None
    await asyncio.to_thread(asset.path.write_bytes, asset.content)
    report = await run(library)
    assert (report.problems.count, count(report)) == (0, {MoveState.KEPT: 12})


async def test_a_source_that_changes_or_vanishes_later_leaves_its_copy(library: Library, tree: ForeignTree) -> None:
    await run(library)
    stored = library.at_target()
    await asyncio.to_thread(tree.assets[0].path.unlink)
    await asyncio.to_thread(tree.assets[1].path.write_bytes, b"other")
    await run(library)
    await library.sweep()
    assert library.at_target() == stored
    for asset in tree.assets:
        assert await read_copy(library, await get_file(library, asset)) == asset.content
        await asyncio.to_thread(asset.path.write_bytes, asset.content)


async def test_removing_an_asset_deletes_its_copies_and_none_of_its_files(library: Library, tree: ForeignTree) -> None:
    await run(library)
    before = await asyncio.to_thread(tree.state)
    await library.catalog.assets.delete(library.owner, [asset.id for asset in tree.assets])
    await library.sweep()
    assert library.at_target() == {}
    assert await asyncio.to_thread(tree.state) == before
    assert_consistent(library.stack, exact=True)


async def test_an_asset_that_is_removed_while_it_is_copied_leaves_nothing(
    library: Library, tree: ForeignTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = library.catalog.kept_copies.keep

    async def remove_first(*arguments: Any) -> frozenset[UUID]:
        await library.catalog.assets.delete(library.owner, [asset.id for asset in tree.assets])
        return await keep(*arguments)

    monkeypatch.setattr(library.catalog.kept_copies, "keep", remove_first)
    assert count(await run(library)) == {MoveState.DROPPED: 12}
    await library.sweep()
    assert library.at_target() == {}
    assert_consistent(library.stack, exact=True)


async def test_the_sweeper_finds_what_a_killed_run_has_left(
    library: Library, tree: ForeignTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its assets are removed, and no other command of the move follows."""

    async def die(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(library.catalog.kept_copies, "keep", die)
    with pytest.raises(asyncio.CancelledError):
        await run(library)
    await library.catalog.assets.delete(library.owner, [asset.id for asset in tree.assets])
    vanished = await library.catalog.kept_copies.find_vanished(100)
    assert len(vanished) == 12
    assert await library.catalog.path_switches.drop_deleted_for_sweeper(vanished) == frozenset()
    await library.sweep()
    assert library.at_target() == {}
    assert_consistent(library.stack, exact=True)


async def test_verify_compares_both_places(library: Library, tree: ForeignTree) -> None:
    await run(library)
    service = Service(library.stack, settings={"IMMICH_STORAGE_ENGINE": "s3"})

    async def verify(*flags: str) -> tuple[set[tuple[str, str, str | None]], dict[str, Any]]:
        ended = await asyncio.to_thread(mediavault, service, "verify", "--format", "json", *flags)
        document = json.loads(ended.stdout)
        return {(each["problem"], each["path"], each["repair"]) for each in document["findings"]}, document["summary"]

    found, summary = await verify("--checksums")
    assert found == set()
    assert (summary["foreign"], summary["copies"], summary["unsettled"]) == (12, 12, 0)
    first, second = [await get_file(library, asset) for asset in tree.assets[:2]]
    assert first.copy_path is not None
    assert second.copy_path is not None
    before = await asyncio.to_thread(tree.state)
    bucket = library.stack.bucket
    assert bucket is not None
    store, name = bucket.server.administration, f"s3://{bucket.name}/"
    store.delete_object(Bucket=bucket.name, Key=first.copy_path.removeprefix(name))
    store.put_object(Bucket=bucket.name, Key=second.copy_path.removeprefix(name), Body=bytes(second.size or 0))
    await asyncio.to_thread(tree.assets[2].path.write_bytes, b"edited")
    edited = await asyncio.to_thread(tree.state)

    found, summary = await verify("--checksums")
    assert found == {
        ("missing", first.copy_path, None),
        ("checksum", second.copy_path, None),
        ("size", str(tree.assets[2].path), None),
    }
    assert (summary["foreign"], summary["copies"]) == (12, 12)
    away = await asyncio.to_thread(tree.assets[0].path.rename, tree.assets[0].path.with_suffix(".away"))
    found, _ = await verify("--repair")
    assert ("missing", first.copy_path, None) in found, "with the source away, a store that errs may have the only copy"
    await asyncio.to_thread(away.rename, tree.assets[0].path)
    edited = await asyncio.to_thread(tree.state)
    found, _ = await verify("--repair")
    assert ("missing", first.copy_path, "forgotten") in found
    await library.sweep()
    assert (await run(library)).files == 1
    assert await read_copy(library, await get_file(library, tree.assets[0])) == tree.assets[0].content
    assert await asyncio.to_thread(tree.state) == edited
    assert edited != before
    await asyncio.to_thread(tree.assets[2].path.write_bytes, tree.assets[2].content)


@pytest.mark.parametrize("preferred", ["local", "s3"])
async def test_either_place_serves_while_the_other_is_away(
    preferred: str, second_store: SeaweedFS, stacks: Stacks, tmp_path: Path
) -> None:
    """A mount that is gone, then a store that is stopped: the same bytes, the same tag."""
    folder = tmp_path / "library"
    folder.mkdir()
    stack = stacks.create("s3", folder, server=second_store, database="sqlite")
    library = await Library.create(stack, StorageEngine.S3)
    tree = ForeignTree(tmp_path / "immich")
    asset = await tree.add(library.catalog, library.owner, content=photo() * 3000)
    for storage in (library.source, library.storage):
        storage.set_foreign_roots([str(tree.root)])
    assert (await run(library)).problems.count == 0
    await library.aclose()
    service = Service(stack, settings={"MEDIAVAULT_FOREIGN_READS": preferred, "MEDIAVAULT_S3_DEADLINE": "2"})
    try:
        await asyncio.to_thread(_read_from_both, service, tree, asset, second_store)
    finally:
        await asyncio.to_thread(service.close)


def _read_from_both(service: Service, tree: ForeignTree, asset: ForeignAsset, store: SeaweedFS) -> None:
    service.start()
    original, shown = f"/api/assets/{asset.id}/original", f"/api/assets/{asset.id}/thumbnail"
    with service.client(timeout=60) as client:
        client.headers["x-api-key"] = service.people.add_key(asset.owner_id)
        there = client.get(original)
        assert (there.status_code, there.content) == (200, asset.content)
        away = tree.root.rename(tree.root.with_name("away"))
        for path, content in ((original, asset.content), (shown, None)):
            copied = client.get(path, headers={"range": "bytes=10-90000"})
            assert copied.status_code == 206, copied.text
            assert content is None or copied.content == content[10:90001]
        assert client.get(original).headers["etag"] == there.headers["etag"]
        away.rename(tree.root)
        store.stop()
        kept = client.get(original)
        assert (kept.status_code, kept.content, kept.headers["etag"]) == (200, asset.content, there.headers["etag"])


async def test_another_content_gets_another_copy_and_an_original_keeps_its_former_one(
    library: Library, tree: ForeignTree
) -> None:
    """What the other program has recorded anew, as an import stores it."""
    await run(library)
    asset = tree.assets[0]
    former = await get_file(library, asset)
    assert former.copy_path is not None
    sidecars = {file.id: file async for file in library.catalog.files.iterate_all() if file.kind is FileKind.SIDECAR}
    sidecar = next(file for file in sidecars.values() if file.path == str(asset.paths[FileKind.SIDECAR]))
    for file, path in ((former, asset.path), (sidecar, asset.paths[FileKind.SIDECAR])):
        changed = file.path.encode() * 9
        await asyncio.to_thread(path.write_bytes, changed)
        imported = ImportedFile(
            file.id, file.kind, file.path, len(changed), file.mime_type, hashlib.sha1(changed).digest()
        )
        async with library.catalog.database.write() as connection:
            await update_files(connection, {file.id: library.owner}, [imported], {file.id: file})

    assert (await get_file(library, asset)).copy_path is None
    assert (await run(library)).files == 2
    current = await get_file(library, asset)
    assert await read_copy(library, current) == str(asset.path).encode() * 9
    await library.sweep()
    stored = library.at_target()
    assert former.copy_path in stored
    assert sidecar.copy_path not in stored
    assert len(stored) == 13
    assert_consistent(library.stack)

    await library.catalog.assets.delete(library.owner, [asset.id for asset in tree.assets])
    assert await library.catalog.kept_copies.drop_ownerless(100) == 1
    await library.sweep()
    assert library.at_target() == {}
    assert_consistent(library.stack, exact=True)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_content_that_comes_back_has_its_former_copy_again(library: Library, tree: ForeignTree) -> None:
    await run(library)
    asset = tree.assets[0]
    first, changed = await get_file(library, asset), b"another photo altogether"
    await record_anew(library, asset, changed)
    assert (await run(library)).files == 1
    second = await get_file(library, asset)
    stored = library.at_target()
    for file, content in ((first, asset.content), (second, changed), (first, asset.content)):
        await record_anew(library, asset, content)

        assert (await run(library)).problems.count == 0

        current = await get_file(library, asset)
        assert current.copy_path == file.copy_path
        assert await read_copy(library, current) == content
        await library.sweep()
        assert library.at_target() == stored, "nothing was copied twice, and nothing is lost"
        assert_consistent(library.stack)
    await library.catalog.assets.delete(library.owner, [each.id for each in tree.assets])
    await library.catalog.kept_copies.drop_ownerless(100)
    await library.sweep()
    assert library.at_target() == {}
    assert_consistent(library.stack, exact=True)


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "damaged"])
@pytest.mark.parametrize("copy", [None, b"\0"], ids=["lost copy", "damaged copy"])
async def test_a_former_copy_that_is_no_good_is_made_anew_from_a_whole_source(
    library: Library, tree: ForeignTree, copy: bytes | None, is_whole: bool
) -> None:
    await run(library)
    asset = tree.assets[0]
    former = (await get_file(library, asset)).copy_path
    assert former is not None
    await record_anew(library, asset, b"another photo altogether")
    await run(library)
    await asyncio.to_thread(change_object, library, former, copy and copy * len(asset.content))
    await record_anew(library, asset, asset.content)
    if not is_whole:
        await asyncio.to_thread(asset.path.write_bytes, bytes(len(asset.content)))

    reports = [await run(library) for _ in range(2)]

    file = await get_file(library, asset)
    if is_whole:
        assert [report.problems.count for report in reports] == [1, 0]
        assert await read_copy(library, file) == asset.content
    else:
        assert [report.problems.count for report in reports] == [1, 1]
        assert file.copy_path is None
        assert (former in library.at_target()) is (copy is not None), "it may be all that is left"
    await asyncio.to_thread(asset.path.write_bytes, asset.content)


async def test_a_former_copy_of_other_bytes_stays_where_the_name_of_the_new_copy_is_its_own(
    library: Library, tree: ForeignTree
) -> None:
    """Names have four bytes of the SHA-1: the former copy is no damaged one of the new content, and all that is left of its own."""
    asset = tree.assets[0]
    former_content, content = _find_contents_of_equal_names()
    await record_anew(library, asset, former_content)
    await run(library)
    former = (await get_file(library, asset)).copy_path
    await record_anew(library, asset, content)

    reports = [await run(library) for _ in range(2)]

    await library.sweep()
    assert [report.problems.count for report in reports] == [1, 1]
    file = await get_file(library, asset)
    assert file.copy_path is None
    assert await read_copy(library, replace(file, copy_path=former)) == former_content
    await record_anew(library, asset, asset.content)


def _find_contents_of_equal_names() -> tuple[bytes, bytes]:
    """Two contents whose SHA-1s begin alike: among 2**18 there are eight such pairs on average."""
    seen: dict[bytes, bytes] = {}
    for number in range(2**18):
        content = b"photo %d" % number
        other = seen.setdefault(hashlib.sha1(content).digest()[:4], content)
        if other != content:
            return other, content
    raise AssertionError("there is none")


async def die(*_: object) -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("killed", ["before copies are kept", "before outcomes are recorded", "before copies begin"])
async def test_a_killed_run_leaves_no_copy_of_former_bytes(
    library: Library, tree: ForeignTree, monkeypatch: pytest.MonkeyPatch, killed: str
) -> None:
    """Between the kill and the next run the other program records another content of an original."""
    if killed == "before copies are kept":
        patched, name = library.catalog.kept_copies, "keep"
    elif killed == "before outcomes are recorded":
        patched, name = library.catalog.moves, "record_outcomes"
    else:
        patched, name = library.catalog.moves, "begin_copying"
    with monkeypatch.context() as patch:
        patch.setattr(patched, name, die)
        with pytest.raises(asyncio.CancelledError):
            await run(library)
    changed = b"another photo altogether"
    await record_anew(library, tree.assets[0], changed)

    report = await run(library)

    assert (report.problems.count, count(report)) == (0, {MoveState.KEPT: 12})
    assert await read_copy(library, await get_file(library, tree.assets[0])) == changed
    assert await read_copy(library, await get_file(library, tree.assets[1])) == tree.assets[1].content
    await library.sweep()
    assert len(library.at_target()) == 12
    assert_consistent(library.stack)


@pytest.mark.parametrize("content", [None, b"another photo altogether"], ids=["moved", "changed"])
async def test_what_the_other_program_does_meanwhile_prevents_no_rollback(
    library: Library, tree: ForeignTree, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(library.catalog.moves, "record_outcomes", die)
        with pytest.raises(asyncio.CancelledError):
            await run(library)
    asset = tree.assets[0]
    path = asset.path.with_name("moved.jpg") if content is None else None
    await record_anew(library, asset, content or asset.content, path)

    report = await roll_back_move(library.work())

    assert (report.problems.count, count(report)) == (0, {MoveState.REVERTED: 12})
    await library.sweep()
    assert library.at_target() == {}
    assert_consistent(library.stack, exact=True)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_former_copy_goes_with_its_user_also_after_a_move_that_stays_open(
    library: Library, tree: ForeignTree
) -> None:
    """A missing source keeps the migration open: the new copy's item takes the place of the former one's."""
    await asyncio.to_thread(tree.assets[1].path.unlink)
    assert (await run(library)).problems.count == 1
    asset = tree.assets[0]
    former = await get_file(library, asset)
    await record_anew(library, asset, b"another photo altogether")
    assert (await run(library)).problems.count == 1
    assert await library.catalog.moves.get_unfinished() is not None
    assert await library.catalog.kept_copies.drop_ownerless(100) == 0
    await library.sweep()
    assert former.copy_path in library.at_target(), "the change may be damage"

    await library.catalog.assets.delete(library.owner, [each.id for each in tree.assets])
    vanished = await library.catalog.kept_copies.find_vanished(100)
    assert await library.catalog.path_switches.drop_deleted_for_sweeper(vanished) == frozenset()
    assert await library.catalog.kept_copies.drop_ownerless(100) == 1
    await library.sweep()
    assert library.at_target() == {}
    assert_consistent(library.stack, exact=True)


async def test_a_restored_catalogue_knows_the_copies(library: Library, tree: ForeignTree, tmp_path: Path) -> None:
    """Nothing is copied twice, and what the backup did not know yet is found again by its name."""
    await run(library)
    settings = settings_of(library.stack, StorageEngine.S3)
    early = await tree.add(library.catalog, library.owner, derivatives=False)
    backup = await BackupStore(library.catalog, library.storage, settings).create()
    await run(library)
    stored = library.at_target()
    db_url = f"sqlite:///{tmp_path}/restored.db"
    restored = settings_of(library.stack, StorageEngine.S3, DB_URL=db_url)
    async with library.storage.read(backup.path) as stream:
        await restore_backup(restored, stream.chunks)
    catalog = await open_catalog(db_url)
    try:
        context = replace(library.work(), catalog=catalog)
        assert (await catalog.kept_copies.find(str(tree.assets[0].path))) is not None
        assert (await run_move(context)).problems.count == 0
        found = await catalog.kept_copies.find(str(early.path))
        assert found is not None
        assert (await get_file(library, early)).copy_path == found.path
    finally:
        await catalog.aclose()
    assert library.at_target() == stored


async def test_a_copy_of_bytes_that_were_recorded_anew_meanwhile_is_not_kept(
    library: Library, tree: ForeignTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = tree.assets[0]
    changed = b"recorded while it was copied"
    keep = library.catalog.kept_copies.keep

    async def record_first(*arguments: Any) -> frozenset[UUID]:
        file = await get_file(library, asset)
        imported = ImportedFile(
            file.id, file.kind, file.path, len(changed), "image/jpeg", hashlib.sha1(changed).digest()
        )
        async with library.catalog.database.write() as connection:
            await update_files(connection, {file.id: library.owner}, [imported], {file.id: file})
        await asyncio.to_thread(asset.path.write_bytes, changed)
        return await keep(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(library.catalog.kept_copies, "keep", record_first)
        assert count(await run(library)) == {MoveState.KEPT: 12}, "the new bytes were copied in the same run"
    assert await read_copy(library, await get_file(library, asset)) == changed
    await library.sweep()
    assert len(library.at_target()) == 12
    assert_consistent(library.stack)
