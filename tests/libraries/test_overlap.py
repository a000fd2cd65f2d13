"""mediavault's own folders are never taken in, by whatever link or mount one comes to them: it would make thumbnails of thumbnails."""

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
from tests.libraries.test_events import eventually, watched, watched_inodes, watching


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """With a thumbnail in it."""
    folder = tmp_path / "disk/media"
    (folder / "thumbs/anna").mkdir(parents=True)
    (folder / "thumbs/anna/thumbnail.webp").write_bytes(b"thumbnail")
    return folder


@pytest.fixture
def own(media: Path) -> list[ReservedFolder]:
    return [ReservedFolder("the media location", str(media)), ReservedFolder("the thumbnails", str(media / "thumbs"))]


def fault(path: Path, own: list[ReservedFolder]) -> str | None:
    (checked,) = check_import_paths([str(path)], own)
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
    tmp_path: Path, own: list[ReservedFolder], bound: Bind, bind: str, place: str, wanted: str, said: str | None
) -> None:
    for name in ("disk/photos", "disk/media-too"):
        (tmp_path / name).mkdir(exist_ok=True)
    bound(tmp_path / bind, tmp_path / place)
    assert fault(tmp_path / wanted, own) == (said and f"{tmp_path / wanted} {said}")


def test_a_media_folder_on_a_disk_of_its_own_is_recognised(
    tmp_path: Path, media: Path, own: list[ReservedFolder], mounted: Mount, bound: Bind
) -> None:
    mounted(media / "thumbs")
    bound(media / "thumbs", tmp_path / "nas")
    assert fault(tmp_path / "nas", own) == f"{tmp_path}/nas is the thumbnails"


SYSTEM = ("/proc", "/proc/self", "/sys", "/sys/kernel", "/dev", "/dev/pts", "/run", "/var/run")


@pytest.mark.parametrize("folder", SYSTEM)
@pytest.mark.parametrize("way", ["as it is", "by a link", "below a link", "by a bind mount"])
def test_a_folder_of_the_running_system_is_recognised(
    tmp_path: Path, own: list[ReservedFolder], request: pytest.FixtureRequest, folder: str, way: str
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
        request.getfixturevalue("bound")(Path(folder), wanted)
    said = fault(wanted, own)
    assert said is not None
    assert said.startswith(f"{wanted} lies ")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write there")
def test_a_folder_of_the_running_system_is_recognised_by_the_way_of_one_below_it(
    own: list[ReservedFolder], bound: Bind
) -> None:
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        said = fault(Path(folder), own)
        assert said == f"{folder} lies in /run, which belongs to the running system"


@pytest.mark.parametrize("run", ["/run", "/var/run"])
def test_the_refusal_of_an_unmounted_disk_says_that_it_is_not_mounted(own: list[ReservedFolder], run: str) -> None:
    disk = Path(f"{run}/media/nobody-of-the-tests/disk")
    assert fault(disk, own) == (
        f"{disk} lies in /run, which belongs to the running system; if a disk is meant, it is not mounted"
    )


def test_memory_and_disks_that_are_mounted_anywhere_hold_photos(
    tmp_path: Path, own: list[ReservedFolder], mounted: Mount, bound: Bind
) -> None:
    mounted(tmp_path / "memory")
    (tmp_path / "photos").mkdir()
    assert fault(tmp_path / "memory", own) is None
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        assert fault(Path(shared), own) is None
    disk = Path(tempfile.mkdtemp(dir="/run"))
    try:
        bound(tmp_path / "photos", disk / "media")
        assert fault(disk / "media", own) is None
    finally:
        unmount(disk / "media")
        shutil.rmtree(disk)


async def test_a_walk_does_not_enter_the_kernels_files(shelf: LibraryTree, bound: Bind) -> None:
    shelf.write("a.jpg")
    bound(Path("/proc"), shelf.root / "below/it")
    report = await shelf.scan()
    assert await shelf.names() == {"a.jpg"}
    assert report.unreadable == (f"{shelf.root}/below/it: lies on a file system of the kernel (proc)",)


@pytest.mark.parametrize("where", ["thumbs", "thumbs/anna"])
async def test_an_import_path_that_comes_to_lie_in_the_media_location_is_not_scanned(
    shelf: LibraryTree, media: Path, own: list[ReservedFolder], where: str
) -> None:
    shelf.write("a.jpg")
    await shelf.scan(own=own)
    shelf.root.rename(shelf.root.with_name("away"))
    shelf.root.symlink_to(media / where)
    report = await shelf.scan(own=own)
    assert (report.found, report.trashed, report.refused) == (0, 0, f"{shelf.root} lies in the media location")
    library = await shelf.library()
    assert (library.state, library.state_error) == (LibraryState.UNMOUNTED, report.refused)
    assert await shelf.names() == {"a.jpg"}


@pytest.mark.parametrize(
    ("where", "said"),
    [("", "is the media location"), ("thumbs", "is the thumbnails"), ("thumbs/anna", "lies in the media location")],
)
async def test_a_walk_does_not_enter_what_of_the_media_location_was_mounted_below(
    shelf: LibraryTree, media: Path, own: list[ReservedFolder], bound: Bind, where: str, said: str
) -> None:
    shelf.write("a.jpg")
    bound(media / where, shelf.root / "below/it")
    report = await shelf.scan(own=own)
    assert await shelf.names() == {"a.jpg"}
    assert report.unreadable == (f"{shelf.root}/below/it: {said}",)
    assert (await shelf.scan(own=own, scopes=[(f"{shelf.root}/below/it", True)])).found == 0


async def test_the_media_location_is_neither_watched_nor_taken_in(
    shelf: LibraryTree, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: Bind
) -> None:
    (tmp_path / "media/thumbs").mkdir(parents=True)
    (tmp_path / "media/thumbs/a.jpg").write_bytes(b"thumbnail")
    bound(tmp_path / "media", shelf.root / "below")
    async with watching(shelf, db_url, tmp_path, monkeypatch):
        await eventually(lambda: watched(shelf), "the library is watched")
        assert watched_inodes() == {shelf.root.stat().st_ino}
        assert await shelf.names() == set()
