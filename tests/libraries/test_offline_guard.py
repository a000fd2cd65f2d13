"""The offline guard: files of an unmounted disk are not taken for deleted ones (root missing, mounts gone, mass loss), and come back as they were."""

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
    ("availability", "reason"),
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
def test_what_a_person_is_told_of_folders_that_are_away(availability: LibraryAvailability, reason: str | None) -> None:
    assert availability.offline_reason == reason


async def test_a_root_that_is_missing_trashes_nothing(tree: LibraryTree) -> None:
    tree.fill(5)
    await tree.scan()
    before = await tree.assets()
    moved = tree.root.rename(tree.root.with_name("elsewhere"))
    report = await tree.scan()
    assert (report.trashed, report.complete) == (0, False)
    assert report.refused == f"{tree.root}: No such file or directory"
    library = await tree.library()
    assert (library.state, library.state_error) == (LibraryState.UNMOUNTED, report.refused)
    since = library.state_since
    assert (await tree.scan()).trashed == 0
    assert (await tree.library()).state_since == since
    assert await tree.assets() == before
    moved.rename(tree.root)
    await tree.scan()
    assert (await tree.library()).state is LibraryState.OK
    assert await tree.assets() == before


@pytest.mark.parametrize("below", ["", "photos"], ids=["the mount point itself", "a folder on it"])
async def test_an_unmounted_disk_is_recognised_and_comes_back_as_it_was(
    tree: LibraryTree, mount_tmpfs: Mount, tmp_path: Path, below: str
) -> None:
    """The mount point is an empty, readable folder, as after a reboot without the disk."""
    disk = tmp_path / "disk"
    root = disk / below if below else disk
    root.mkdir(parents=True)
    mount_tmpfs(disk)
    root.mkdir(exist_ok=True)
    await tree.change(import_paths=(str(root),))
    tree.root = root
    tree.fill(5)
    await tree.scan()
    await process_all(tree.catalog)
    before, tasks = await tree.assets(), await tasks_of(tree.catalog)
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, copy_function=shutil.copy2)
    unmount(disk)
    report = await tree.scan()
    assert report.trashed == 0
    assert report.refused == f"{disk}: was a mount point at the last complete scan and is none now"
    assert (await tree.library()).state is LibraryState.UNMOUNTED
    assert await tree.assets() == before
    # Mounted again, with other device and inode numbers, but the same files.
    mount_tmpfs(disk)
    shutil.copytree(copy, root, copy_function=shutil.copy2, dirs_exist_ok=True)
    report = await tree.scan()
    assert (report.new, report.changed, report.renamed, report.trashed, report.refused) == (0, 0, 0, 0, None)
    assert (await tree.library()).state is LibraryState.OK
    assert await tree.assets() == before
    assert await tasks_of(tree.catalog) == tasks


async def test_a_nested_mount_is_guarded_too(tree: LibraryTree, mount_tmpfs: Mount) -> None:
    tree.fill(100, "own")
    mount_tmpfs(tree.root / "second")
    tree.fill(3, "second")
    mount_tmpfs(tree.root / "of no photos")
    await tree.scan()
    assert len(await tree.names()) == 103
    unmount(tree.root / "of no photos")
    assert (await tree.scan()).refused is None
    unmount(tree.root / "second")
    report = await tree.scan()
    assert (report.trashed, report.complete) == (0, False)
    assert f"{tree.root}/second: was a mount point" in (report.refused or "")
    assert len(await tree.names()) == 103
    report = await tree.scan(accept_missing=True)
    assert (report.trashed, report.refused, report.complete) == (3, None, True)
    assert (await tree.library()).state is LibraryState.OK
    report = await tree.scan()
    assert (report.trashed, report.refused) == (0, None)


async def test_losing_more_than_half_is_taken_for_an_unmounted_disk_until_somebody_says_otherwise(
    tree: LibraryTree,
) -> None:
    paths = tree.fill(40)
    await tree.scan()
    for path in paths[:21]:
        path.unlink()
    tree.write("new.jpg")
    report = await tree.scan()
    assert (report.trashed, report.new) == (0, 1)
    assert report.refused == "21 of 40 known files are missing, more than half"
    assert (await tree.library()).state is LibraryState.UNMOUNTED
    assert len(await tree.names()) == 41
    report = await tree.scan(accept_missing=True)
    assert (report.trashed, report.refused) == (21, None)
    assert (await tree.library()).state is LibraryState.OK
    assert len(await tree.names(trashed=True)) == 21


async def test_losses_that_come_bit_by_bit_count_together(tree: LibraryTree) -> None:
    """A watch scans single folders, of which none loses many files."""
    paths = tree.fill(40)
    await tree.scan()
    scopes = [(f"{tree.root}/album", False)]
    for path in paths[:15]:
        path.unlink()
    assert (await tree.scan(scopes=scopes)).trashed == 15
    for path in paths[15:25]:
        path.unlink()
    report = await tree.scan(scopes=scopes)
    assert (report.trashed, report.refused is not None) == (0, True)
    assert (await tree.library()).state is LibraryState.UNMOUNTED


async def test_what_is_away_is_not_trashed_folder_by_folder(tree: LibraryTree) -> None:
    """A watch scans single folders of a library that counts as unmounted."""
    for folder in range(10):
        tree.fill(4, f"{folder}")
    await tree.scan()
    for folder in range(7):
        shutil.rmtree(tree.root / f"{folder}")
    assert (await tree.scan()).refused == "28 of 40 known files are missing, more than half"
    (tree.root / "9/IMG_00000.jpg").unlink()
    tree.write("9/new.jpg")
    report = await tree.scan(scopes=[(f"{tree.root}/3", True), (f"{tree.root}/9", False)])
    assert (report.new, report.trashed) == (1, 0)
    assert (await tree.library()).state is LibraryState.UNMOUNTED
    assert len(await tree.names()) == 41
    assert (await tree.scan(accept_missing=True)).trashed == 29


async def test_a_library_that_has_grown_since_is_not_measured_by_its_old_size(tree: LibraryTree) -> None:
    """Files indexed by a watch since the last complete scan do not count among the files of that scan."""
    tree.fill(10, "old")
    await tree.scan()
    new = tree.fill(200, "new")
    await tree.scan(scopes=[(f"{tree.root}/new", True)])
    for path in new[:50]:
        path.unlink()
    report = await tree.scan()
    assert (report.trashed, report.refused) == (50, None)


async def test_losing_what_came_since_the_last_complete_scan_is_guarded_too(tree: LibraryTree) -> None:
    tree.fill(10, "old")
    await tree.scan()
    new = tree.fill(200, "new")
    await tree.scan(scopes=[(f"{tree.root}/new", True)])
    for path in new[:150]:
        path.unlink()
    assert (await tree.scan()).refused == "150 of 210 known files are missing, more than half"


async def test_other_paths_are_scanned_while_one_is_away(tree: LibraryTree, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    await tree.change(import_paths=(str(tree.root), str(other)))
    tree.fill(3)
    await tree.scan()
    tree.root.rename(tmp_path / "away")
    (other / "new.jpg").write_bytes(b"new")
    report = await tree.scan()
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
