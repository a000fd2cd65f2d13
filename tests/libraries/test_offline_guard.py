"""A disk that is away is not a folder of deleted photos: root missing, mounts gone, too much lost; and the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.catalog.schema.library_records import LibraryState
from app.libraries.import_paths.mount_table import Mount as Mounted
from app.libraries.import_paths.mount_table import (
    find_lost_mounts,
    find_mount_point,
    find_tree_mounts,
    is_network_type,
    parse_mounts,
)
from app.libraries.scanning.offline_guard import LibraryAvailability, mass_loss_reason
from tests.libraries.library_tree import LibraryTree, Mount, unmount
from tests.libraries.test_scan import process_all, tasks_of


@pytest.mark.parametrize(
    ("gone", "known", "suspicious"),
    [(19, 19, False), (20, 39, True), (20, 40, False), (21, 40, True), (0, 0, False), (5000, 9999, True)],
)
def test_more_than_half_and_at_least_twenty(gone: int, known: int, suspicious: bool) -> None:
    assert (mass_loss_reason(gone, known) is not None) is suspicious


def test_what_a_person_is_told_of_a_loss() -> None:
    assert mass_loss_reason(20, 39) == "20 of 39 known files are missing, more than half"


@pytest.mark.parametrize(
    ("sight", "reason"),
    [
        (LibraryAvailability(), None),
        (LibraryAvailability(root_errors=("/a: gone",)), "/a: gone"),
        (
            LibraryAvailability(root_errors=("/a: gone", "/b: gone", "/c: gone"), lost_mounts=("/d",)),
            "/a: gone and 2 more",
        ),
        (LibraryAvailability(lost_mounts=("/d",)), "/d: was a mount point at the last complete scan and is none now"),
        (
            LibraryAvailability(lost_mounts=("/d", "/e")),
            "/d and 1 more: was a mount point at the last complete scan and is none now",
        ),
    ],
)
def test_what_a_person_is_told_of_folders_that_are_away(sight: LibraryAvailability, reason: str | None) -> None:
    assert sight.offline_reason == reason


async def test_a_root_that_is_missing_trashes_nothing(shelf: LibraryTree) -> None:
    shelf.fill(5)
    await shelf.scan()
    before = await shelf.assets()
    moved = shelf.root.rename(shelf.root.with_name("elsewhere"))
    report = await shelf.scan()
    assert (report.trashed, report.complete) == (0, False)
    assert report.refused == f"{shelf.root}: No such file or directory"
    library = await shelf.library()
    assert (library.state, library.state_error) == (LibraryState.UNMOUNTED, report.refused)
    since = library.state_since
    assert (await shelf.scan()).trashed == 0
    assert (await shelf.library()).state_since == since
    assert await shelf.assets() == before
    moved.rename(shelf.root)
    await shelf.scan()
    assert (await shelf.library()).state is LibraryState.OK
    assert await shelf.assets() == before


@pytest.mark.parametrize("below", ["", "photos"], ids=["the mount point itself", "a folder on it"])
async def test_an_unmounted_disk_is_recognised_and_comes_back_as_it_was(
    shelf: LibraryTree, mounted: Mount, tmp_path: Path, below: str
) -> None:
    """The folder below the mount point is there, readable and empty: as after a reboot without the disk."""
    disk = tmp_path / "disk"
    root = disk / below if below else disk
    root.mkdir(parents=True)
    mounted(disk)
    root.mkdir(exist_ok=True)
    await shelf.change(import_paths=(str(root),))
    shelf.root = root
    shelf.fill(5)
    await shelf.scan()
    await process_all(shelf.catalog)
    before, tasks = await shelf.assets(), await tasks_of(shelf.catalog)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copy2)
    unmount(disk)
    report = await shelf.scan()
    assert report.trashed == 0
    assert report.refused == f"{disk}: was a mount point at the last complete scan and is none now"
    assert (await shelf.library()).state is LibraryState.UNMOUNTED
    assert await shelf.assets() == before
    # Back, with other device and inode numbers: the same files all the same.
    mounted(disk)
    shutil.copytree(copy, root, copy_function=shutil.copy2, dirs_exist_ok=True)
    report = await shelf.scan()
    assert (report.new, report.changed, report.renamed, report.trashed, report.refused) == (0, 0, 0, 0, None)
    assert (await shelf.library()).state is LibraryState.OK
    assert await shelf.assets() == before
    assert await tasks_of(shelf.catalog) == tasks


async def test_a_nested_mount_is_guarded_too(shelf: LibraryTree, mounted: Mount) -> None:
    shelf.fill(100, "own")
    mounted(shelf.root / "second")
    shelf.fill(3, "second")
    mounted(shelf.root / "of no photos")
    await shelf.scan()
    assert len(await shelf.names()) == 103
    unmount(shelf.root / "of no photos")
    assert (await shelf.scan()).refused is None
    unmount(shelf.root / "second")
    report = await shelf.scan()
    assert (report.trashed, report.complete) == (0, False)
    assert f"{shelf.root}/second: was a mount point" in (report.refused or "")
    assert len(await shelf.names()) == 103
    report = await shelf.scan(accept_missing=True)
    assert (report.trashed, report.refused, report.complete) == (3, None, True)
    assert (await shelf.library()).state is LibraryState.OK
    report = await shelf.scan()
    assert (report.trashed, report.refused) == (0, None)


async def test_losing_more_than_half_is_taken_for_an_unmounted_disk_until_somebody_says_otherwise(
    shelf: LibraryTree,
) -> None:
    paths = shelf.fill(40)
    await shelf.scan()
    for path in paths[:21]:
        path.unlink()
    shelf.write("new.jpg")
    report = await shelf.scan()
    assert (report.trashed, report.new) == (0, 1)
    assert report.refused == "21 of 40 known files are missing, more than half"
    assert (await shelf.library()).state is LibraryState.UNMOUNTED
    assert len(await shelf.names()) == 41
    report = await shelf.scan(accept_missing=True)
    assert (report.trashed, report.refused) == (21, None)
    assert (await shelf.library()).state is LibraryState.OK
    assert len(await shelf.names(trashed=True)) == 21


async def test_losses_that_come_bit_by_bit_count_together(shelf: LibraryTree) -> None:
    """As a watch sees them: no single look loses much."""
    paths = shelf.fill(40)
    await shelf.scan()
    scopes = [(f"{shelf.root}/album", False)]
    for path in paths[:15]:
        path.unlink()
    assert (await shelf.scan(scopes=scopes)).trashed == 15
    for path in paths[15:25]:
        path.unlink()
    report = await shelf.scan(scopes=scopes)
    assert (report.trashed, report.refused is not None) == (0, True)
    assert (await shelf.library()).state is LibraryState.UNMOUNTED


async def test_what_is_away_is_not_trashed_folder_by_folder(shelf: LibraryTree) -> None:
    """A watch looks at single folders of a library that has lost too much."""
    for folder in range(10):
        shelf.fill(4, f"{folder}")
    await shelf.scan()
    for folder in range(7):
        shutil.rmtree(shelf.root / f"{folder}")
    assert (await shelf.scan()).refused == "28 of 40 known files are missing, more than half"
    (shelf.root / "9/IMG_00000.jpg").unlink()
    shelf.write("9/new.jpg")
    report = await shelf.scan(scopes=[(f"{shelf.root}/3", True), (f"{shelf.root}/9", False)])
    assert (report.new, report.trashed) == (1, 0)
    assert (await shelf.library()).state is LibraryState.UNMOUNTED
    assert len(await shelf.names()) == 41
    assert (await shelf.scan(accept_missing=True)).trashed == 29


async def test_a_library_that_has_grown_since_is_not_measured_by_its_old_size(shelf: LibraryTree) -> None:
    """What a watch took in since the last complete scan does not count among what that scan saw."""
    shelf.fill(10, "old")
    await shelf.scan()
    new = shelf.fill(200, "new")
    await shelf.scan(scopes=[(f"{shelf.root}/new", True)])
    for path in new[:50]:
        path.unlink()
    report = await shelf.scan()
    assert (report.trashed, report.refused) == (50, None)


async def test_losing_what_came_since_the_last_complete_scan_is_guarded_too(shelf: LibraryTree) -> None:
    shelf.fill(10, "old")
    await shelf.scan()
    new = shelf.fill(200, "new")
    await shelf.scan(scopes=[(f"{shelf.root}/new", True)])
    for path in new[:150]:
        path.unlink()
    assert (await shelf.scan()).refused == "150 of 210 known files are missing, more than half"


async def test_other_paths_are_scanned_while_one_is_away(shelf: LibraryTree, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await shelf.change(import_paths=(str(shelf.root), str(other)))
    shelf.fill(3)
    await shelf.scan()
    shelf.root.rename(tmp_path / "away")
    (other / "new.jpg").write_bytes(b"new")
    report = await shelf.scan()
    assert (report.new, report.trashed) == (1, 0)
    assert report.refused is not None


def test_the_kernels_table_is_read() -> None:
    table = (
        "22 27 0:21 / / rw,relatime - ext4 /dev/sda1 rw\n"
        "25 24 0:23 / /mnt/nas rw shared:5 - nfs4 nas:/photos rw\n"
        "26 24 0:24 /a /mnt/with\\040space\\011tab rw - fuse.sshfs a@b:/ rw\n"
        "27 24 0:25 / /mnt/nas/sub rw - tmpfs none rw\n"
        "garbage\n"
    )
    mounts = parse_mounts(table)
    assert mounts == {
        "/": Mounted(22, "0:21", "/", "ext4"),
        "/mnt/nas": Mounted(25, "0:23", "/", "nfs4"),
        "/mnt/with space\ttab": Mounted(26, "0:24", "/a", "fuse.sshfs"),
        "/mnt/nas/sub": Mounted(27, "0:25", "/", "tmpfs"),
    }
    assert find_tree_mounts("/mnt/nas", mounts) == ("/mnt/nas", "/mnt/nas/sub")
    assert find_tree_mounts("/mnt/nas/photos", mounts) == ("/mnt/nas",)
    assert find_tree_mounts("/mnt/nasty", mounts) == ()
    assert find_mount_point("/mnt/nas/sub/x", mounts) == "/mnt/nas/sub"
    assert find_lost_mounts(["/mnt/nas", "/mnt/gone"], mounts) == ["/mnt/gone"]
    assert [is_network_type(kind) for kind in ("nfs4", "fuse.sshfs", "cifs", "ext4", "tmpfs", "fuseblk")] == [
        *[True] * 3,
        *[False] * 3,
    ]
