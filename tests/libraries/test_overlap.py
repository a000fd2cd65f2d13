"""mediavault's own folders are never indexed, by whatever link or mount a path leads to them: it would make thumbnails of thumbnails."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from app.catalog.schema.library_records import LibraryState
from app.libraries.import_paths.overlap import ReservedFolder
from app.libraries.import_paths.validation import check_import_paths
from tests.libraries.library_tree import Bind, LibraryTree, Mount, unmount
from tests.libraries.test_events import eventually, is_watched, watched_inodes, watching


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A media location with a thumbnail in it."""
    folder = tmp_path / "disk/media"
    (folder / "thumbs/anna").mkdir(parents=True)
    (folder / "thumbs/anna/thumbnail.webp").write_bytes(b"thumbnail")
    return folder


@pytest.fixture
def reserved_folders(media: Path) -> list[ReservedFolder]:
    return [ReservedFolder("the media location", str(media)), ReservedFolder("the thumbnails", str(media / "thumbs"))]


def rejection_reason(path: Path, reserved_folders: list[ReservedFolder]) -> str | None:
    (checked,) = check_import_paths([str(path)], reserved_folders)
    return checked.rejection_reason


@pytest.mark.parametrize(
    ("bind", "place", "wanted", "said"),
    [
        ("disk/media", "nas", "nas", "is the media location"),
        ("disk/media/thumbs", "nas", "nas", "lies in the media location"),
        ("disk/media/thumbs/anna", "nas", "nas", "lies in the media location"),
        ("disk", "nas", "nas", "holds the media location"),
        ("disk", "nas", "nas/media/thumbs", "lies in the media location"),
        ("disk/media", "nas/below", "nas", "holds the media location"),
        ("disk/media/thumbs/anna", "nas/below/deep", "nas", "holds the media location"),
        ("disk", "nas", "nas/photos", None),
        ("disk/photos", "nas/below", "nas", None),
        ("disk/media-too", "nas", "nas", None),
    ],
)
def test_a_bind_mount_of_the_media_location_is_recognised(
    tmp_path: Path,
    reserved_folders: list[ReservedFolder],
    bind_mount: Bind,
    bind: str,
    place: str,
    wanted: str,
    said: str | None,
) -> None:
    for name in ("disk/photos", "disk/media-too"):
        (tmp_path / name).mkdir(exist_ok=True)
    bind_mount(tmp_path / bind, tmp_path / place)
    assert rejection_reason(tmp_path / wanted, reserved_folders) == (said and f"{tmp_path / wanted} {said}")


def test_a_media_folder_on_a_disk_of_its_own_is_recognised(
    tmp_path: Path, media: Path, reserved_folders: list[ReservedFolder], mount_tmpfs: Mount, bind_mount: Bind
) -> None:
    mount_tmpfs(media / "thumbs")
    bind_mount(media / "thumbs", tmp_path / "nas")
    assert rejection_reason(tmp_path / "nas", reserved_folders) == f"{tmp_path}/nas is the thumbnails"


SYSTEM = ("/proc", "/proc/self", "/sys", "/sys/kernel", "/dev", "/dev/pts", "/run", "/var/run")


@pytest.mark.parametrize("folder", SYSTEM)
@pytest.mark.parametrize("way", ["as it is", "by a link", "below a link", "by a bind mount"])
def test_a_folder_of_the_running_system_is_recognised(
    tmp_path: Path, reserved_folders: list[ReservedFolder], request: pytest.FixtureRequest, folder: str, way: str
) -> None:
    if not Path(folder).is_dir():
        pytest.skip(f"no {folder} here")
    wanted = Path(folder) if way == "as it is" else tmp_path / "nas"
    if way == "by a link":
        wanted.symlink_to(folder)
    elif way == "below a link":
        wanted.symlink_to(Path(folder).parent)
        wanted /= Path(folder).name
    elif way == "by a bind mount":
        request.getfixturevalue("bind_mount")(Path(folder), wanted)
    said = rejection_reason(wanted, reserved_folders)
    assert said is not None
    assert said.startswith(f"{wanted} lies ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write there")
def test_a_folder_of_the_running_system_is_recognised_by_the_way_of_one_below_it(
    reserved_folders: list[ReservedFolder], bind_mount: Bind
) -> None:
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        said = rejection_reason(Path(folder), reserved_folders)
        assert said == f"{folder} lies in /run, which belongs to the running system"


@pytest.mark.parametrize("run", ["/run", "/var/run"])
def test_the_refusal_of_an_unmounted_disk_says_that_it_is_not_mounted(
    reserved_folders: list[ReservedFolder], run: str
) -> None:
    disk = Path(f"{run}/media/nobody-of-the-tests/disk")
    assert rejection_reason(disk, reserved_folders) == (
        f"{disk} lies in /run, which belongs to the running system; if a disk is meant, it is not mounted"
    )


def test_memory_and_disks_that_are_mounted_anywhere_hold_photos(
    tmp_path: Path, reserved_folders: list[ReservedFolder], mount_tmpfs: Mount, bind_mount: Bind
) -> None:
    mount_tmpfs(tmp_path / "memory")
    (tmp_path / "photos").mkdir()
    assert rejection_reason(tmp_path / "memory", reserved_folders) is None
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        assert rejection_reason(Path(shared), reserved_folders) is None
    disk = Path(tempfile.mkdtemp(dir="/run"))
    try:
        bind_mount(tmp_path / "photos", disk / "media")
        assert rejection_reason(disk / "media", reserved_folders) is None
    finally:
        unmount(disk / "media")
        shutil.rmtree(disk)


async def test_a_walk_does_not_enter_the_kernels_files(tree: LibraryTree, bind_mount: Bind) -> None:
    tree.write("a.jpg")
    bind_mount(Path("/proc"), tree.root / "below/it")
    report = await tree.scan()
    assert await tree.names() == {"a.jpg"}
    assert report.unreadable == (f"{tree.root}/below/it: lies on a file system of the kernel (proc)",)


@pytest.mark.parametrize("where", ["thumbs", "thumbs/anna"])
async def test_an_import_path_that_comes_to_lie_in_the_media_location_is_not_scanned(
    tree: LibraryTree, media: Path, reserved_folders: list[ReservedFolder], where: str
) -> None:
    tree.write("a.jpg")
    await tree.scan(reserved_folders=reserved_folders)
    tree.root.rename(tree.root.with_name("away"))
    tree.root.symlink_to(media / where)
    report = await tree.scan(reserved_folders=reserved_folders)
    assert (report.found, report.trashed, report.refused) == (0, 0, f"{tree.root} lies in the media location")
    library = await tree.library()
    assert (library.state, library.state_error) == (LibraryState.UNMOUNTED, report.refused)
    assert await tree.names() == {"a.jpg"}


@pytest.mark.parametrize(
    ("where", "said"),
    [("", "is the media location"), ("thumbs", "is the thumbnails"), ("thumbs/anna", "lies in the media location")],
)
async def test_a_walk_does_not_enter_what_of_the_media_location_was_mounted_below(
    tree: LibraryTree, media: Path, reserved_folders: list[ReservedFolder], bind_mount: Bind, where: str, said: str
) -> None:
    tree.write("a.jpg")
    bind_mount(media / where, tree.root / "below/it")
    report = await tree.scan(reserved_folders=reserved_folders)
    assert await tree.names() == {"a.jpg"}
    assert report.unreadable == (f"{tree.root}/below/it: {said}",)
    assert (await tree.scan(reserved_folders=reserved_folders, scopes=[(f"{tree.root}/below/it", True)])).found == 0


async def test_the_media_location_is_neither_watched_nor_taken_in(
    tree: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bind_mount: Bind
) -> None:
    (tmp_path / "media/thumbs").mkdir(parents=True)
    (tmp_path / "media/thumbs/a.jpg").write_bytes(b"thumbnail")
    bind_mount(tmp_path / "media", tree.root / "below")
    async with watching(tree, db_url, tmp_path, monkeypatch):
        await eventually(lambda: is_watched(tree), "the library is watched")
        assert watched_inodes() == {tree.root.stat().st_ino}
        assert await tree.names() == set()
