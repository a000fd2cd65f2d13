"""Scans of real folders, on both databases: new, changed, missing, returned and renamed files."""

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


async def test_a_first_scan_takes_in_photos_and_videos_and_nothing_else(tree: LibraryTree) -> None:
    photo = tree.write("2024/Ünïcode 😀 #1%.JPG", b"photo!")
    tree.write("2024/film.mp4", b"a longer film")
    for left_out in ("notes.txt", "a.xmp", "._IMG.jpg", "@eaDir/thumb.jpg", "2024/#recycle/old.jpg", "noextension"):
        tree.write(left_out)
    os.mkfifo(tree.root / "pipe.jpg")
    report = await tree.scan()
    assert (report.new, report.found, report.complete, report.unreadable_count) == (2, 2, True, 0)
    assets = await tree.assets()
    assert set(assets) == {"2024/Ünïcode 😀 #1%.JPG", "2024/film.mp4"}
    asset, library = assets["2024/Ünïcode 😀 #1%.JPG"], await tree.library()
    assert (asset.type, asset.original_file_name, asset.library_id) == (AssetType.IMAGE, photo.name, tree.id)
    assert (asset.file.kind, asset.file.size, asset.file.sha1) == (FileKind.EXTERNAL, 6, None)
    moment = datetime.fromtimestamp(photo.stat().st_mtime_ns // 1000 / 1e6, UTC)
    assert abs(asset.file_modified_at - moment) <= timedelta(microseconds=1)
    assert assets["2024/film.mp4"].type is AssetType.VIDEO
    assert set(await tasks_of(tree.catalog)) == {str(asset.id) for asset in assets.values()}
    assert library.files == 2
    assert library.scanned_at is not None
    assert library.last_scan == report
    owner = await tree.catalog.users.get(library.owner_id)
    assert owner is not None
    assert owner.used == 0


async def test_a_scan_without_changes_writes_nothing_and_processes_nothing(tree: LibraryTree) -> None:
    tree.fill(30)
    await tree.scan()
    before, tasks = await tree.assets(), await tasks_of(tree.catalog)
    report = await tree.scan()
    assert (report.found, report.new, report.changed, report.back, report.trashed) == (30, 0, 0, 0, 0)
    assert await tree.assets() == before
    assert await tasks_of(tree.catalog) == tasks


@pytest.mark.parametrize("what", ["size", "time"])
async def test_a_changed_file_keeps_its_asset_and_is_processed_again(tree: LibraryTree, what: str) -> None:
    path = tree.write("a/photo.jpg", b"before")
    other = tree.write("a/other.jpg")
    await tree.scan()
    await process_all(tree.catalog)
    before, tasks = await tree.assets(), await tasks_of(tree.catalog)
    status = path.stat()
    path.write_bytes(b"afterwards" if what == "size" else b"beyond")
    times = (status.st_atime_ns, status.st_mtime_ns + (0 if what == "size" else 1000))
    os.utime(path, ns=times)
    report = await tree.scan()
    assert (report.changed, report.new, report.trashed) == (1, 0, 0)
    after = await tree.assets()
    changed = after["a/photo.jpg"]
    assert changed.id == before["a/photo.jpg"].id
    assert (changed.file.size, changed.file.sha1, changed.file.crc32, changed.checksum) == (
        path.stat().st_size,
        None,
        None,
        None,
    )
    assert after["a/other.jpg"] == before["a/other.jpg"]
    renewed = await tasks_of(tree.catalog)
    assert renewed[str(changed.id)] != tasks[str(changed.id)]
    assert renewed[str(changed.id)][1] == TaskState.PENDING
    assert renewed[str(after["a/other.jpg"].id)] == tasks[str(after["a/other.jpg"].id)]
    assert other.exists()


async def test_a_gone_file_goes_to_the_trash_and_comes_back_with_its_identity(tree: LibraryTree) -> None:
    paths = tree.fill(3)
    await tree.scan()
    await process_all(tree.catalog)
    before, tasks = await tree.assets(), await tasks_of(tree.catalog)
    content, times = paths[1].read_bytes(), paths[1].stat()
    paths[1].unlink()
    assert (await tree.scan()).trashed == 1
    trashed = (await tree.assets(trashed=True))["album/IMG_00001.jpg"]
    assert trashed.is_offline
    assert await tree.names() == {"album/IMG_00000.jpg", "album/IMG_00002.jpg"}
    assert (await tree.scan()).trashed == 0
    tree.write("album/IMG_00001.jpg", content)
    os.utime(paths[1], ns=(times.st_atime_ns, times.st_mtime_ns))
    report = await tree.scan()
    assert (report.back, report.new, report.changed) == (1, 0, 0)
    after = (await tree.assets())["album/IMG_00001.jpg"]
    assert (after.id, after.is_offline, after.deleted_at) == (before["album/IMG_00001.jpg"].id, False, None)
    assert after.file == before["album/IMG_00001.jpg"].file
    assert await tasks_of(tree.catalog) == tasks


async def test_what_a_scan_trashed_is_never_purged_by_age(tree: LibraryTree) -> None:
    paths = tree.fill(2)
    await tree.scan()
    paths[0].unlink()
    await tree.scan()
    assert await tree.catalog.assets.purge_trash(datetime.now(UTC) + timedelta(days=400)) == 0
    assert await tree.names(trashed=True) == {"album/IMG_00000.jpg"}


async def test_what_its_owner_trashed_stays_there_when_the_file_went_and_came_back(tree: LibraryTree) -> None:
    path = tree.write("photo.jpg")
    await tree.scan()
    (asset,) = (await tree.assets()).values()
    await tree.catalog.assets.trash(asset.owner_id, [asset.id])
    content = path.read_bytes()
    path.unlink()
    await tree.scan()
    path.write_bytes(content)
    assert (await tree.scan()).back == 1
    assert await tree.names() == set()
    assert await tree.names(trashed=True) == {"photo.jpg"}


async def test_a_removed_asset_whose_file_is_there_is_taken_in_again(tree: LibraryTree) -> None:
    tree.fill(3)
    await tree.scan()
    asset = (await tree.assets())["album/IMG_00001.jpg"]
    await tree.catalog.assets.delete(asset.owner_id, [asset.id])
    assert [file.path async for file in tree.catalog.files.iterate_all() if file.id == asset.file.id] == []
    assert (await tree.scan()).new == 1
    assert (await tree.assets())["album/IMG_00001.jpg"].id != asset.id


@pytest.mark.parametrize("order", [("a", "z"), ("z", "a")], ids=["to a later folder", "to an earlier folder"])
async def test_a_renamed_file_keeps_its_asset(tree: LibraryTree, order: tuple[str, str]) -> None:
    old, new = order
    path = tree.write(f"{old}/IMG_1.jpg")
    tree.write(f"{old}/stays.jpg")
    (tree.root / new).mkdir()
    await tree.scan()
    await process_all(tree.catalog)
    before, tasks = (await tree.assets())[f"{old}/IMG_1.jpg"], await tasks_of(tree.catalog)
    path.rename(tree.root / new / "Holiday.jpeg")
    report = await tree.scan()
    assert (report.renamed, report.new, report.trashed) == (1, 0, 0)
    after = (await tree.assets())[f"{new}/Holiday.jpeg"]
    assert (after.id, after.original_file_name, after.file.sha1) == (before.id, "Holiday.jpeg", before.file.sha1)
    assert await tasks_of(tree.catalog) == tasks
    report = await tree.scan()
    assert (report.new, report.changed, report.renamed, report.trashed) == (0, 0, 0, 0)


async def test_a_renamed_folder_keeps_its_assets(tree: LibraryTree) -> None:
    tree.fill(50, "old/deep")
    await tree.scan()
    before = {asset.original_file_name: asset.id for asset in (await tree.assets()).values()}
    (tree.root / "old").rename(tree.root / "new")
    report = await tree.scan()
    assert (report.renamed, report.new, report.trashed, report.refused) == (50, 0, 0, None)
    after = await tree.assets()
    assert {asset.original_file_name: asset.id for asset in after.values()} == before
    assert all(path.startswith("new/deep/") for path in after)


async def test_a_file_that_comes_back_under_another_name_keeps_its_asset(tree: LibraryTree, tmp_path: Path) -> None:
    path = tree.write("a.jpg")
    tree.write("b.jpg")
    await tree.scan()
    before = (await tree.assets())["a.jpg"].id
    path.rename(tmp_path / "away.jpg")
    await tree.scan()
    assert await tree.names(trashed=True) == {"a.jpg"}
    (tmp_path / "away.jpg").rename(tree.root / "c.jpg")
    report = await tree.scan()
    assert (report.renamed, report.back) == (1, 1)
    assert (await tree.assets())["c.jpg"].id == before
    assert await tree.names(trashed=True) == set()


@pytest.mark.parametrize("way", ["a link that leads out", "a folder that is left out"])
async def test_a_look_at_some_folders_goes_no_way_that_a_scan_of_all_does_not_go(
    tree: LibraryTree, tmp_path: Path, way: str
) -> None:
    """A watch requests such scans: an event came from there, or the link was just created."""
    (tmp_path / "outside/deep").mkdir(parents=True)
    (tmp_path / "outside/deep/secret.jpg").write_bytes(b"secret")
    if way == "a link that leads out":
        (tree.root / "way").symlink_to(tmp_path / "outside")
    else:
        shutil.copytree(tmp_path / "outside", tree.root / "way")
        await tree.change(exclusion_patterns=("**/way/**",))
    for scope in ("way", "way/deep"):
        report = await tree.scan(scopes=[(f"{tree.root}/{scope}", True)])
        assert (report.found, report.new) == (0, 0)


async def test_a_hard_link_is_an_asset_of_its_own(tree: LibraryTree) -> None:
    path = tree.write("a.jpg")
    await tree.scan()
    (tree.root / "b.jpg").hardlink_to(path)
    (tree.root / "c.jpg").hardlink_to(path)
    assert (await tree.scan()).new == 2
    path.unlink()
    report = await tree.scan()
    assert (report.new, report.renamed, report.trashed) == (0, 0, 1)
    assert await tree.names() == {"b.jpg", "c.jpg"}


async def test_links_are_followed_only_inside_and_loops_end(tree: LibraryTree, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.jpg").write_bytes(b"secret")
    tree.write("real/photo.jpg")
    links = {
        "photo-link.jpg": tree.root / "real/photo.jpg",
        "out.jpg": outside / "secret.jpg",
        "outward": outside,
        "real/up": tree.root,
        "real/self": tree.root / "real",
        "circle-a": tree.root / "circle-b",
        "circle-b": tree.root / "circle-a",
        "nowhere.jpg": tree.root / "nowhere-else.jpg",
        "album": tree.root / "real",
    }
    for name, target in links.items():
        (tree.root / name).symlink_to(target)
    tree.write("a/x.jpg")
    tree.write("b/y.jpg")
    (tree.root / "a/to-b").symlink_to(tree.root / "b")
    (tree.root / "b/to-a").symlink_to(tree.root / "a")
    await tree.scan()
    assert await tree.names() == {
        "real/photo.jpg",
        "photo-link.jpg",
        "album/photo.jpg",
        "a/x.jpg",
        "b/y.jpg",
        "a/to-b/y.jpg",
        "b/to-a/x.jpg",
    }
    assert (await tree.scan()).new == 0
    (tree.root / "photo-link.jpg").unlink()
    (tree.root / "photo-link.jpg").symlink_to(outside / "secret.jpg")
    await tree.scan()
    assert "photo-link.jpg" not in await tree.names()


async def test_what_cannot_be_read_is_named_and_not_taken_for_deleted(tree: LibraryTree) -> None:
    tree.write("open/a.jpg")
    tree.fill(3, "closed/deep")
    await tree.scan()
    (tree.root / "closed").chmod(0)
    odd = os.fsencode(tree.root) + b"/caf\xe9.jpg"
    with open(odd, "wb") as file:  # noqa: PTH123 - no Path can name it
        file.write(b"x")
    tree.write("open/b.jpg")
    try:
        with ThreadPoolExecutor(1, initializer=drop_capabilities) as threads:
            report = await LibraryScan(tree.catalog, await tree.library(), threads).run()
    finally:
        (tree.root / "closed").chmod(0o755)
    assert (report.new, report.trashed, report.unreadable_count) == (1, 0, 2)
    named = " ".join(report.unreadable)
    assert f"{tree.root}/closed: Permission denied" in named
    assert "caf\\udce9.jpg: has a name that is not UTF-8" in named
    assert len(await tree.names()) == 5
    library = await tree.library()
    assert library.last_scan == report


async def test_what_its_owner_put_into_the_trash_stays_there_whatever_a_scan_did_before(tree: LibraryTree) -> None:
    path = tree.write("a.jpg")
    await tree.scan()
    owner, asset_id = (await tree.library()).owner_id, (await tree.assets())["a.jpg"].id
    path.unlink()
    assert (await tree.scan()).trashed == 1
    await tree.catalog.assets.restore(owner, [asset_id])
    await tree.catalog.assets.trash(owner, [asset_id])
    tree.write("a.jpg")
    assert (await tree.scan()).back == 1
    (asset,) = (await tree.assets(trashed=True)).values()
    assert (asset.id, asset.is_offline) == (asset_id, False)


@pytest.mark.parametrize("of_all", [False, True])
async def test_what_is_restored_without_its_file_comes_back_with_it(tree: LibraryTree, of_all: bool) -> None:
    scanned, own = tree.write("scanned.jpg"), tree.write("own.jpg")
    tree.write("there.jpg")
    await tree.scan()
    owner = (await tree.library()).owner_id
    ids = {name: asset.id for name, asset in (await tree.assets()).items()}
    await tree.catalog.assets.trash(owner, [ids["own.jpg"], ids["there.jpg"]])
    scanned.unlink()
    own.unlink()
    assert (await tree.scan()).trashed == 2
    assert await tree.catalog.assets.restore(owner, None if of_all else ids.values()) == 1
    assert await tree.names() == {"there.jpg"}
    assert (await tree.scan()).trashed == 0
    assert await tree.names(trashed=True) == {"scanned.jpg", "own.jpg"}
    tree.write("scanned.jpg")
    tree.write("own.jpg")
    await tree.scan()
    assert {name: (asset.id, asset.is_offline) for name, asset in (await tree.assets()).items()} == {
        name: (asset_id, False) for name, asset_id in ids.items()
    }


async def test_a_pattern_that_an_older_version_took_does_nothing_and_is_named(tree: LibraryTree) -> None:
    tree.write("a.jpg")
    tree.write("b.jpg")
    await tree.change(exclusion_patterns=("**/!(a).jpg", "**/a.jpg"))
    report = await tree.scan()
    assert await tree.names() == {"b.jpg"}
    assert report.unreadable == ("the exclusion pattern '**/!(a).jpg' has !(…), which is not known here",)


async def test_what_is_hidden_is_not_taken_in(tree: LibraryTree) -> None:
    for name in ("a.jpg", ".b.jpg", ".folder/c.jpg", "folder/.d/e.jpg"):
        tree.write(name)
    (tree.root / ".link").symlink_to(tree.root / "folder")
    assert (await tree.scan()).found == 1
    assert await tree.names() == {"a.jpg"}


async def test_settings_that_leave_files_out_move_them_to_the_trash_and_back(tree: LibraryTree) -> None:
    tree.fill(60, "raw")
    tree.fill(5, "jpeg")
    await tree.scan()
    await tree.change(exclusion_patterns=("**/raw/**",))
    report = await tree.scan()
    assert (report.trashed, report.refused) == (60, None)
    assert {name.split("/")[0] for name in await tree.names()} == {"jpeg"}
    await tree.change(exclusion_patterns=())
    assert (await tree.scan()).back == 60


async def test_a_removed_import_path_moves_its_files_to_the_trash(tree: LibraryTree, tmp_path: Path) -> None:
    tree.fill(30)
    await tree.scan()
    other = tmp_path / "other"
    other.mkdir()
    await tree.change(import_paths=(str(other),))
    report = await tree.scan()
    assert (report.trashed, report.refused) == (30, None)


async def test_a_folder_of_many_files_is_compared_in_parts(tree: LibraryTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "PART_FILES", 7)
    paths = tree.fill(40)
    assert (await tree.scan()).new == 40
    assert (await tree.scan()).new == 0
    paths[3].unlink()
    paths[4].write_bytes(b"something else")
    tree.write("album/new.jpg")
    report = await tree.scan()
    assert (report.new, report.changed, report.trashed) == (1, 1, 1)
    assert len(await tree.names()) == 40


async def test_partial_scans_look_only_where_they_are_told_to(tree: LibraryTree) -> None:
    tree.fill(5, "a/b")
    tree.fill(5, "a/c")
    await tree.scan()
    for folder in ("a/b", "a/c"):
        (tree.root / folder / "IMG_00000.jpg").unlink()
        tree.write(f"{folder}/new.jpg")
    report = await tree.scan(scopes=[(f"{tree.root}/a/b", False)])
    assert (report.new, report.trashed) == (1, 1)
    assert "a/c/IMG_00000.jpg" in await tree.names()
    shutil.rmtree(tree.root / "a/c")
    report = await tree.scan(scopes=[(f"{tree.root}/a/c", True), (f"{tree.root}/a", False)])
    assert (report.new, report.trashed) == (0, 5)
    assert {name.split("/")[1] for name in await tree.names()} == {"b"}


async def test_a_partial_scan_may_be_of_a_thousand_folders(tree: LibraryTree) -> None:
    for number in range(400):
        tree.write(f"d{number}/a.jpg")
        tree.write(f"d{number}/deep/b.jpg")
    tree.write("d7-2/a.jpg")
    await tree.scan()
    for number in range(100):
        shutil.rmtree(tree.root / f"d{number}")
    deep = [(f"{tree.root}/d{number}", True) for number in range(400)]
    # Some folders are in two scopes, their own and that of a parent; their files count once.
    below = [(f"{tree.root}/d{number}/deep", True) for number in range(400)]
    report = await tree.scan(scopes=[*below, (f"{tree.root}/d7-2", True), *deep, *deep])
    assert (report.trashed, report.refused) == (200, None)
    assert len(await tree.names()) == 601


async def test_files_that_do_not_rest_are_left_alone(tree: LibraryTree) -> None:
    tree.write("a.jpg")
    await tree.scan()
    await process_all(tree.catalog)
    before, complete_since = await tree.assets(), (await tree.library()).scanned_at
    written = tree.write("a.jpg", b"half of a photo")
    tree.write("b.jpg")
    scan = LibraryScan(tree.catalog, await tree.library(), tree.threads, settled_before=written.stat().st_ctime - 60)
    report = await scan.run()
    assert (report.new, report.changed, report.trashed) == (0, 0, 0)
    assert scan.unsettled_folders == {str(tree.root)}
    # An incomplete scan is no base for the offline guard.
    assert not report.complete
    assert (await tree.library()).scanned_at == complete_since
    assert await tree.assets() == before
    report = await tree.scan(settled_before=written.stat().st_ctime + 60)
    assert (report.new, report.changed, report.complete) == (1, 1, True)


async def test_a_library_that_is_being_removed_takes_nothing_in(
    tree: LibraryTree, library: Library, catalog: Catalog
) -> None:
    tree.fill(3)
    await catalog.libraries.mark_for_removal(library.id)
    with pytest.raises(NotFound):
        await LibraryScan(catalog, library, tree.threads).run()
    assert [file async for file in catalog.files.iterate_all()] == []


async def test_a_removal_that_was_broken_off_can_be_ended_by_command(
    tree: LibraryTree, db_url: str, tmp_path: Path, catalog: Catalog
) -> None:
    tree.fill(3)
    await tree.scan()
    await catalog.libraries.mark_for_removal(tree.id)
    settings = {"DB_URL": db_url, "IMMICH_MEDIA_LOCATION": str(tmp_path / "media")}
    arguments = ["library", "remove", str(tree.id)]
    done = await asyncio.to_thread(CliRunner().invoke, cli, arguments, env={**os.environ, **settings})
    assert done.stdout == "3 assets removed\n", done.output
    assert await catalog.libraries.list() == []


async def test_two_who_remove_a_library_at_once_do_not_collide(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "REMOVAL_BATCH", 10)
    tree.fill(100)
    await tree.scan()
    values = {"DB_URL": db_url, "IMMICH_MEDIA_LOCATION": str(tmp_path / "media")}
    settings = Settings(_env_file=None, **values)  # pyright: ignore[reportCallIssue, reportArgumentType]
    removers = [LibraryService(tree.catalog, settings) for _ in range(3)]
    removed = await asyncio.gather(*(each.remove_and_wait(tree.id) for each in removers))
    for each in removers:
        each.close()
    assert sum(removed) == 100
    assert await tree.catalog.libraries.list() == []


async def test_a_scan_that_was_cut_off_goes_on_where_it_was(tree: LibraryTree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.libraries.scanning.scan.BATCH_FILES", 5)
    for folder in range(6):
        tree.fill(5, f"{folder}")
    seen = 0

    class Cut(Exception):
        pass

    def progress(report: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:
            raise Cut

    with pytest.raises(Cut):
        await LibraryScan(tree.catalog, await tree.library(), tree.threads, on_progress=progress).run()
    assert len(await tree.names()) == 15
    assert (await tree.library()).scanned_at is None
    report = await tree.scan()
    assert (report.new, report.found, report.trashed) == (15, 30, 0)


async def test_what_was_read_of_a_file_is_noted_unless_it_was_changed_meanwhile(tree: LibraryTree) -> None:
    path = tree.write("a.jpg", b"before")
    await tree.scan()
    read = (await tree.assets())["a.jpg"]
    note = tree.catalog.library_files.store_checksums
    assert not await note(read, 5, read.file_modified_at, b"s" * 20, 7)
    assert not await note(read, 6, read.file_modified_at + timedelta(microseconds=1), b"s" * 20, 7)
    assert await note(read, 6, read.file_modified_at, b"s" * 20, 7)
    noted = (await tree.assets())["a.jpg"]
    assert (noted.file.sha1, noted.file.crc32, noted.checksum) == (b"s" * 20, 7, b"s" * 20)
    path.write_bytes(b"beyond")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10_000))
    await tree.scan()
    assert not await note(read, 6, read.file_modified_at, b"s" * 20, 7)
    assert (await tree.assets())["a.jpg"].file.sha1 is None


async def test_two_of_the_same_content_are_two_assets(tree: LibraryTree) -> None:
    tree.write("a.jpg")
    tree.write("b.jpg")
    await tree.scan()
    await process_all(tree.catalog)
    assert await tree.names() == {"a.jpg", "b.jpg"}
    assert await tree.catalog.assets.get_by_checksum((await tree.library()).owner_id, b"s" * 20) is None
