"""Scans of real folders, on both databases: what is new, changed, gone, back and renamed."""

from __future__ import annotations

import asyncio
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from app.catalog.catalog import Catalog
from app.catalog.errors import NotFound
from app.catalog.schema import tables
from app.catalog.schema.library_records import Library
from app.catalog.schema.records import AssetType, FileKind, TaskState
from app.cli import cli
from app.config import Settings
from app.libraries import service
from app.libraries.scanning import walk
from app.libraries.scanning.scan import LibraryScan
from app.libraries.service import LibraryService
from tests.libraries.library_tree import LibraryTree, drop_capabilities


async def tasks_of(catalog: Catalog) -> dict[str, tuple[str, str]]:
    """Asset id -> the task's id and state."""
    async with catalog.engine.connect() as connection:
        task = tables.task
        rows = await connection.execute(sa.select(task.c.asset_id, task.c.id, task.c.state))
        return {str(asset): (str(id_), str(state)) for asset, id_, state in rows}


async def process_all(catalog: Catalog) -> None:
    async with catalog.engine.begin() as connection:
        await connection.execute(sa.update(tables.task).values(state=TaskState.DONE))
        await connection.execute(sa.update(tables.file).values(sha1=b"s" * 20, crc32=7))
        await connection.execute(sa.update(tables.asset).values(checksum=b"s" * 20))


async def test_a_first_scan_takes_in_photos_and_videos_and_nothing_else(shelf: LibraryTree) -> None:
    photo = shelf.write("2024/Ünïcode 😀 #1%.JPG", b"photo!")
    shelf.write("2024/film.mp4", b"a longer film")
    for left_out in ("notes.txt", "a.xmp", "._IMG.jpg", "@eaDir/thumb.jpg", "2024/#recycle/old.jpg", "noextension"):
        shelf.write(left_out)
    os.mkfifo(shelf.root / "pipe.jpg")
    report = await shelf.scan()
    assert (report.new, report.found, report.complete, report.unreadable_count) == (2, 2, True, 0)
    assets = await shelf.assets()
    assert set(assets) == {"2024/Ünïcode 😀 #1%.JPG", "2024/film.mp4"}
    asset, library = assets["2024/Ünïcode 😀 #1%.JPG"], await shelf.library()
    assert (asset.type, asset.original_file_name, asset.library_id) == (AssetType.IMAGE, photo.name, shelf.id)
    assert (asset.file.kind, asset.file.size, asset.file.sha1) == (FileKind.EXTERNAL, 6, None)
    moment = datetime.fromtimestamp(photo.stat().st_mtime_ns // 1000 / 1e6, UTC)
    assert abs(asset.file_modified_at - moment) <= timedelta(microseconds=1)
    assert assets["2024/film.mp4"].type is AssetType.VIDEO
    assert set(await tasks_of(shelf.catalog)) == {str(asset.id) for asset in assets.values()}
    assert library.files == 2
    assert library.scanned_at is not None
    assert library.last_scan == report
    owner = await shelf.catalog.users.get(library.owner_id)
    assert owner is not None
    assert owner.used == 0


async def test_a_scan_without_changes_writes_nothing_and_processes_nothing(shelf: LibraryTree) -> None:
    shelf.fill(30)
    await shelf.scan()
    before, tasks = await shelf.assets(), await tasks_of(shelf.catalog)
    report = await shelf.scan()
    assert (report.found, report.new, report.changed, report.back, report.trashed) == (30, 0, 0, 0, 0)
    assert await shelf.assets() == before
    assert await tasks_of(shelf.catalog) == tasks


@pytest.mark.parametrize("what", ["size", "time"])
async def test_a_changed_file_keeps_its_asset_and_is_processed_again(shelf: LibraryTree, what: str) -> None:
    path = shelf.write("a/photo.jpg", b"before")
    other = shelf.write("a/other.jpg")
    await shelf.scan()
    await process_all(shelf.catalog)
    before, tasks = await shelf.assets(), await tasks_of(shelf.catalog)
    status = path.stat()
    path.write_bytes(b"afterwards" if what == "size" else b"beyond")
    times = (status.st_atime_ns, status.st_mtime_ns + (0 if what == "size" else 1000))
    os.utime(path, ns=times)
    report = await shelf.scan()
    assert (report.changed, report.new, report.trashed) == (1, 0, 0)
    after = await shelf.assets()
    changed = after["a/photo.jpg"]
    assert changed.id == before["a/photo.jpg"].id
    assert (changed.file.size, changed.file.sha1, changed.file.crc32, changed.checksum) == (
        path.stat().st_size,
        None,
        None,
        None,
    )
    assert after["a/other.jpg"] == before["a/other.jpg"]
    renewed = await tasks_of(shelf.catalog)
    assert renewed[str(changed.id)] != tasks[str(changed.id)]
    assert renewed[str(changed.id)][1] == TaskState.PENDING
    assert renewed[str(after["a/other.jpg"].id)] == tasks[str(after["a/other.jpg"].id)]
    assert other.exists()


async def test_a_gone_file_goes_to_the_trash_and_comes_back_with_its_identity(shelf: LibraryTree) -> None:
    paths = shelf.fill(3)
    await shelf.scan()
    await process_all(shelf.catalog)
    before, tasks = await shelf.assets(), await tasks_of(shelf.catalog)
    content, times = paths[1].read_bytes(), paths[1].stat()
    paths[1].unlink()
    assert (await shelf.scan()).trashed == 1
    trashed = (await shelf.assets(trashed=True))["album/IMG_00001.jpg"]
    assert trashed.is_offline
    assert await shelf.names() == {"album/IMG_00000.jpg", "album/IMG_00002.jpg"}
    assert (await shelf.scan()).trashed == 0
    shelf.write("album/IMG_00001.jpg", content)
    os.utime(paths[1], ns=(times.st_atime_ns, times.st_mtime_ns))
    report = await shelf.scan()
    assert (report.back, report.new, report.changed) == (1, 0, 0)
    after = (await shelf.assets())["album/IMG_00001.jpg"]
    assert (after.id, after.is_offline, after.deleted_at) == (before["album/IMG_00001.jpg"].id, False, None)
    assert after.file == before["album/IMG_00001.jpg"].file
    assert await tasks_of(shelf.catalog) == tasks


async def test_what_a_scan_trashed_is_never_purged_by_age(shelf: LibraryTree) -> None:
    paths = shelf.fill(2)
    await shelf.scan()
    paths[0].unlink()
    await shelf.scan()
    assert await shelf.catalog.assets.purge_trash(datetime.now(UTC) + timedelta(days=400)) == 0
    assert await shelf.names(trashed=True) == {"album/IMG_00000.jpg"}


async def test_what_its_owner_trashed_stays_there_when_the_file_went_and_came_back(shelf: LibraryTree) -> None:
    path = shelf.write("photo.jpg")
    await shelf.scan()
    (asset,) = (await shelf.assets()).values()
    await shelf.catalog.assets.trash(asset.owner_id, [asset.id])
    content = path.read_bytes()
    path.unlink()
    await shelf.scan()
    path.write_bytes(content)
    assert (await shelf.scan()).back == 1
    assert await shelf.names() == set()
    assert await shelf.names(trashed=True) == {"photo.jpg"}


async def test_a_removed_asset_whose_file_is_there_is_taken_in_again(shelf: LibraryTree) -> None:
    shelf.fill(3)
    await shelf.scan()
    asset = (await shelf.assets())["album/IMG_00001.jpg"]
    await shelf.catalog.assets.delete(asset.owner_id, [asset.id])
    assert [file.path async for file in shelf.catalog.files.iterate_all() if file.id == asset.file.id] == []
    assert (await shelf.scan()).new == 1
    assert (await shelf.assets())["album/IMG_00001.jpg"].id != asset.id


@pytest.mark.parametrize("order", [("a", "z"), ("z", "a")], ids=["to a later folder", "to an earlier folder"])
async def test_a_renamed_file_keeps_its_asset(shelf: LibraryTree, order: tuple[str, str]) -> None:
    old, new = order
    path = shelf.write(f"{old}/IMG_1.jpg")
    shelf.write(f"{old}/stays.jpg")
    (shelf.root / new).mkdir()
    await shelf.scan()
    await process_all(shelf.catalog)
    before, tasks = (await shelf.assets())[f"{old}/IMG_1.jpg"], await tasks_of(shelf.catalog)
    path.rename(shelf.root / new / "Holiday.jpeg")
    report = await shelf.scan()
    assert (report.renamed, report.new, report.trashed) == (1, 0, 0)
    after = (await shelf.assets())[f"{new}/Holiday.jpeg"]
    assert (after.id, after.original_file_name, after.file.sha1) == (before.id, "Holiday.jpeg", before.file.sha1)
    assert await tasks_of(shelf.catalog) == tasks
    report = await shelf.scan()
    assert (report.new, report.changed, report.renamed, report.trashed) == (0, 0, 0, 0)


async def test_a_renamed_folder_keeps_its_assets(shelf: LibraryTree) -> None:
    shelf.fill(50, "old/deep")
    await shelf.scan()
    before = {asset.original_file_name: asset.id for asset in (await shelf.assets()).values()}
    (shelf.root / "old").rename(shelf.root / "new")
    report = await shelf.scan()
    assert (report.renamed, report.new, report.trashed, report.refused) == (50, 0, 0, None)
    after = await shelf.assets()
    assert {asset.original_file_name: asset.id for asset in after.values()} == before
    assert all(path.startswith("new/deep/") for path in after)


async def test_a_file_that_comes_back_under_another_name_keeps_its_asset(shelf: LibraryTree, tmp_path: Path) -> None:
    path = shelf.write("a.jpg")
    shelf.write("b.jpg")
    await shelf.scan()
    before = (await shelf.assets())["a.jpg"].id
    path.rename(tmp_path / "away.jpg")
    await shelf.scan()
    assert await shelf.names(trashed=True) == {"a.jpg"}
    (tmp_path / "away.jpg").rename(shelf.root / "c.jpg")
    report = await shelf.scan()
    assert (report.renamed, report.back) == (1, 1)
    assert (await shelf.assets())["c.jpg"].id == before
    assert await shelf.names(trashed=True) == set()


@pytest.mark.parametrize("way", ["a link that leads out", "a folder that is left out"])
async def test_a_look_at_some_folders_goes_no_way_that_a_scan_of_all_does_not_go(
    shelf: LibraryTree, tmp_path: Path, way: str
) -> None:
    """As a watch asks for: something happened there, or the link was just made."""
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/deep/secret.jpg").write_bytes(b"secret")
    if way == "a link that leads out":
        (shelf.root / "way").symlink_to(tmp_path / "outside")
    else:
        shutil.copytree(tmp_path / "outside", shelf.root / "way")
        await shelf.change(exclusion_patterns=("**/way/**",))
    for scope in ("way", "way/deep"):
        report = await shelf.scan(scopes=[(f"{shelf.root}/{scope}", True)])
        assert (report.found, report.new) == (0, 0)


async def test_a_hard_link_is_an_asset_of_its_own(shelf: LibraryTree) -> None:
    path = shelf.write("a.jpg")
    await shelf.scan()
    (shelf.root / "b.jpg").hardlink_to(path)
    (shelf.root / "c.jpg").hardlink_to(path)
    assert (await shelf.scan()).new == 2
    path.unlink()
    report = await shelf.scan()
    assert (report.new, report.renamed, report.trashed) == (0, 0, 1)
    assert await shelf.names() == {"b.jpg", "c.jpg"}


async def test_links_are_followed_only_inside_and_loops_end(shelf: LibraryTree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    shelf.write("real/photo.jpg")
    links = {
        "photo-link.jpg": shelf.root / "real/photo.jpg",
        "out.jpg": outside / "secret.jpg",
        "outward": outside,
        "real/up": shelf.root,
        "real/self": shelf.root / "real",
        "circle-a": shelf.root / "circle-b",
        "circle-b": shelf.root / "circle-a",
        "nowhere.jpg": shelf.root / "nowhere-else.jpg",
        "album": shelf.root / "real",
    }
    for name, target in links.items():
        (shelf.root / name).symlink_to(target)
    shelf.write("a/x.jpg")
    shelf.write("b/y.jpg")
    (shelf.root / "a/to-b").symlink_to(shelf.root / "b")
    (shelf.root / "b/to-a").symlink_to(shelf.root / "a")
    await shelf.scan()
    assert await shelf.names() == {
        "real/photo.jpg",
        "photo-link.jpg",
        "album/photo.jpg",
        "a/x.jpg",
        "b/y.jpg",
        "a/to-b/y.jpg",
        "b/to-a/x.jpg",
    }
    assert (await shelf.scan()).new == 0
    (shelf.root / "photo-link.jpg").unlink()
    (shelf.root / "photo-link.jpg").symlink_to(outside / "secret.jpg")
    await shelf.scan()
    assert "photo-link.jpg" not in await shelf.names()


async def test_what_cannot_be_read_is_named_and_not_taken_for_deleted(shelf: LibraryTree) -> None:
    shelf.write("open/a.jpg")
    shelf.fill(3, "closed/deep")
    await shelf.scan()
    (shelf.root / "closed").chmod(0)
    odd = os.fsencode(shelf.root) + b"/caf\xe9.jpg"
    with open(odd, "wb") as file:  # noqa: PTH123 - no Path can name it
        file.write(b"x")
    shelf.write("open/b.jpg")
    try:
        with ThreadPoolExecutor(1, initializer=drop_capabilities) as threads:
            report = await LibraryScan(shelf.catalog, await shelf.library(), threads).run()
    finally:
        (shelf.root / "closed").chmod(0o755)
    assert (report.new, report.trashed, report.unreadable_count) == (1, 0, 2)
    named = " ".join(report.unreadable)
    assert f"{shelf.root}/closed: Permission denied" in named
    assert "caf\\udce9.jpg: has a name that is not UTF-8" in named
    assert len(await shelf.names()) == 5
    library = await shelf.library()
    assert library.last_scan == report


async def test_what_its_owner_put_into_the_trash_stays_there_whatever_a_scan_did_before(shelf: LibraryTree) -> None:
    path = shelf.write("a.jpg")
    await shelf.scan()
    owner, asset_id = (await shelf.library()).owner_id, (await shelf.assets())["a.jpg"].id
    path.unlink()
    assert (await shelf.scan()).trashed == 1
    await shelf.catalog.assets.restore(owner, [asset_id])
    await shelf.catalog.assets.trash(owner, [asset_id])
    shelf.write("a.jpg")
    assert (await shelf.scan()).back == 1
    (asset,) = (await shelf.assets(trashed=True)).values()
    assert (asset.id, asset.is_offline) == (asset_id, False)


@pytest.mark.parametrize("of_all", [False, True])
async def test_what_is_restored_without_its_file_comes_back_with_it(shelf: LibraryTree, of_all: bool) -> None:
    scanned, own = shelf.write("scanned.jpg"), shelf.write("own.jpg")
    shelf.write("there.jpg")
    await shelf.scan()
    owner = (await shelf.library()).owner_id
    ids = {name: asset.id for name, asset in (await shelf.assets()).items()}
    await shelf.catalog.assets.trash(owner, [ids["own.jpg"], ids["there.jpg"]])
    scanned.unlink()
    own.unlink()
    assert (await shelf.scan()).trashed == 2
    assert await shelf.catalog.assets.restore(owner, None if of_all else ids.values()) == 1
    assert await shelf.names() == {"there.jpg"}
    assert (await shelf.scan()).trashed == 0
    assert await shelf.names(trashed=True) == {"scanned.jpg", "own.jpg"}
    shelf.write("scanned.jpg")
    shelf.write("own.jpg")
    await shelf.scan()
    assert {name: (asset.id, asset.is_offline) for name, asset in (await shelf.assets()).items()} == {
        name: (asset_id, False) for name, asset_id in ids.items()
    }


async def test_a_pattern_that_an_older_version_took_does_nothing_and_is_named(shelf: LibraryTree) -> None:
    shelf.write("a.jpg")
    shelf.write("b.jpg")
    await shelf.change(exclusion_patterns=("**/!(a).jpg", "**/a.jpg"))
    report = await shelf.scan()
    assert await shelf.names() == {"b.jpg"}
    assert report.unreadable == ("the exclusion pattern '**/!(a).jpg' has !(…), which is not known here",)


async def test_what_is_hidden_is_not_taken_in(shelf: LibraryTree) -> None:
    for name in ("a.jpg", ".b.jpg", ".folder/c.jpg", "folder/.d/e.jpg"):
        shelf.write(name)
    (shelf.root / ".link").symlink_to(shelf.root / "folder")
    assert (await shelf.scan()).found == 1
    assert await shelf.names() == {"a.jpg"}


async def test_settings_that_leave_files_out_move_them_to_the_trash_and_back(shelf: LibraryTree) -> None:
    shelf.fill(60, "raw")
    shelf.fill(5, "jpeg")
    await shelf.scan()
    await shelf.change(exclusion_patterns=("**/raw/**",))
    report = await shelf.scan()
    assert (report.trashed, report.refused) == (60, None)
    assert {name.split("/")[0] for name in await shelf.names()} == {"jpeg"}
    await shelf.change(exclusion_patterns=())
    assert (await shelf.scan()).back == 60


async def test_a_removed_import_path_moves_its_files_to_the_trash(shelf: LibraryTree, tmp_path: Path) -> None:
    shelf.fill(30)
    await shelf.scan()
    other = tmp_path / "other"
    other.mkdir()
    await shelf.change(import_paths=(str(other),))
    report = await shelf.scan()
    assert (report.trashed, report.refused) == (30, None)


async def test_a_folder_of_many_files_is_compared_in_parts(shelf: LibraryTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PART_FILES", 7)
    paths = shelf.fill(40)
    assert (await shelf.scan()).new == 40
    assert (await shelf.scan()).new == 0
    paths[3].unlink()
    paths[4].write_bytes(b"something else")
    shelf.write("album/new.jpg")
    report = await shelf.scan()
    assert (report.new, report.changed, report.trashed) == (1, 1, 1)
    assert len(await shelf.names()) == 40


async def test_partial_scans_look_only_where_they_are_told_to(shelf: LibraryTree) -> None:
    shelf.fill(5, "a/b")
    shelf.fill(5, "a/c")
    await shelf.scan()
    for folder in ("a/b", "a/c"):
        (shelf.root / folder / "IMG_00000.jpg").unlink()
        shelf.write(f"{folder}/new.jpg")
    report = await shelf.scan(scopes=[(f"{shelf.root}/a/b", False)])
    assert (report.new, report.trashed) == (1, 1)
    assert "a/c/IMG_00000.jpg" in await shelf.names()
    shutil.rmtree(shelf.root / "a/c")
    report = await shelf.scan(scopes=[(f"{shelf.root}/a/c", True), (f"{shelf.root}/a", False)])
    assert (report.new, report.trashed) == (0, 5)
    assert {name.split("/")[1] for name in await shelf.names()} == {"b"}


async def test_a_partial_scan_may_be_of_a_thousand_folders(shelf: LibraryTree) -> None:
    for number in range(400):
        shelf.write(f"d{number}/a.jpg")
        shelf.write(f"d{number}/deep/b.jpg")
    shelf.write("d7-2/a.jpg")
    await shelf.scan()
    for number in range(100):
        shutil.rmtree(shelf.root / f"d{number}")
    deep = [(f"{shelf.root}/d{number}", True) for number in range(400)]
    # Some folders twice, by themselves and with one above them: what was in them counts once.
    below = [(f"{shelf.root}/d{number}/deep", True) for number in range(400)]
    report = await shelf.scan(scopes=[*below, (f"{shelf.root}/d7-2", True), *deep, *deep])
    assert (report.trashed, report.refused) == (200, None)
    assert len(await shelf.names()) == 601


async def test_files_that_do_not_rest_are_left_alone(shelf: LibraryTree) -> None:
    shelf.write("a.jpg")
    await shelf.scan()
    await process_all(shelf.catalog)
    before, complete_since = await shelf.assets(), (await shelf.library()).scanned_at
    written = shelf.write("a.jpg", b"half of a photo")
    shelf.write("b.jpg")
    scan = LibraryScan(shelf.catalog, await shelf.library(), shelf.threads, settled_before=written.stat().st_ctime - 60)
    report = await scan.run()
    assert (report.new, report.changed, report.trashed) == (0, 0, 0)
    assert scan.unsettled_folders == {str(shelf.root)}
    # It did not see all, and is nothing to measure losses by.
    assert not report.complete
    assert (await shelf.library()).scanned_at == complete_since
    assert await shelf.assets() == before
    report = await shelf.scan(rest_before=written.stat().st_ctime + 60)
    assert (report.new, report.changed, report.complete) == (1, 1, True)


async def test_a_library_that_is_being_removed_takes_nothing_in(
    shelf: LibraryTree, library: Library, catalog: Catalog
) -> None:
    shelf.fill(3)
    await catalog.libraries.mark_for_removal(library.id)
    with pytest.raises(NotFound):
        await LibraryScan(catalog, library, shelf.threads).run()
    assert [file async for file in catalog.files.iterate_all()] == []


async def test_a_removal_that_was_broken_off_can_be_ended_by_command(
    shelf: LibraryTree, db_url: str, tmp_path: Path, catalog: Catalog
) -> None:
    shelf.fill(3)
    await shelf.scan()
    await catalog.libraries.mark_for_removal(shelf.id)
    settings = {"DB_URL": db_url, "IMMICH_MEDIA_LOCATION": str(tmp_path / "media")}
    arguments = ["library", "remove", str(shelf.id)]
    done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env={**os.environ, **settings})
    assert done.stdout == "3 assets removed\n", done.output
    assert await catalog.libraries.list() == []


async def test_two_who_remove_a_library_at_once_do_not_collide(
    shelf: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REMOVAL_BATCH", 10)
    shelf.fill(100)
    await shelf.scan()
    values = {"DB_URL": db_url, "IMMICH_MEDIA_LOCATION": str(tmp_path / "media")}
    settings = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    removers = [LibraryService(shelf.catalog, settings) for _ in range(3)]
    removed = await asyncio.gather(*(each.remove_and_wait(shelf.id) for each in removers))
    for each in removers:
        each.close()
    assert sum(removed) == 100
    assert await shelf.catalog.libraries.list() == []


async def test_a_scan_that_was_cut_off_goes_on_where_it_was(
    shelf: LibraryTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.libraries.scanning.scan.BATCH_FILES", 5)
    for folder in range(6):
        shelf.fill(5, f"{folder}")
    seen = 0

    class Cut(Exception):
        pass

    def progress(report: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise Cut

    with pytest.raises(Cut):
        await LibraryScan(shelf.catalog, await shelf.library(), shelf.threads, on_progress=progress).run()
    assert len(await shelf.names()) == 15
    assert (await shelf.library()).scanned_at is None
    report = await shelf.scan()
    assert (report.new, report.found, report.trashed) == (15, 30, 0)


async def test_what_was_read_of_a_file_is_noted_unless_it_was_changed_meanwhile(shelf: LibraryTree) -> None:
    path = shelf.write("a.jpg", b"before")
    await shelf.scan()
    read = (await shelf.assets())["a.jpg"]
    note = shelf.catalog.library_files.store_checksums
    assert not await note(read, 5, read.file_modified_at, b"s" * 20, 7)
    assert not await note(read, 6, read.file_modified_at + timedelta(microseconds=1), b"s" * 20, 7)
    assert await note(read, 6, read.file_modified_at, b"s" * 20, 7)
    noted = (await shelf.assets())["a.jpg"]
    assert (noted.file.sha1, noted.file.crc32, noted.checksum) == (b"s" * 20, 7, b"s" * 20)
    path.write_bytes(b"beyond")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10_000))
    await shelf.scan()
    assert not await note(read, 6, read.file_modified_at, b"s" * 20, 7)
    assert (await shelf.assets())["a.jpg"].file.sha1 is None


async def test_two_of_the_same_content_are_two_assets(shelf: LibraryTree) -> None:
    shelf.write("a.jpg")
    shelf.write("b.jpg")
    await shelf.scan()
    await process_all(shelf.catalog)
    assert await shelf.names() == {"a.jpg", "b.jpg"}
    assert await shelf.catalog.assets.get_by_checksum((await shelf.library()).owner_id, b"s" * 20) is None
