"""mediavault's own folders are never taken in, by whatever link or mount one comes to them: it would make thumbnails of thumbnails."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.catalog.library_records import LibraryState
from app.libraries.apart import Place
from app.libraries.paths import check_paths
from tests.libraries.shelves import Bind, Mount, Shelf
from tests.libraries.test_watch import eventually, watched, watched_inodes, watching


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """With a thumbnail in it."""
    folder = tmp_path / "disk/media"
    (folder / "thumbs/anna").mkdir(parents=True)
    (folder / "thumbs/anna/thumbnail.webp").write_bytes(b"thumbnail")
    return folder


@pytest.fixture
def own(media: Path) -> list[Place]:
    return [Place("the media location", str(media)), Place("the thumbnails", str(media / "thumbs"))]


def fault(path: Path, own: list[Place]) -> str | None:
    (checked,) = check_paths([str(path)], own)
    return checked.fault


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
    tmp_path: Path, own: list[Place], bound: Bind, bind: str, place: str, wanted: str, said: str | None
) -> None:
    for name in ("disk/photos", "disk/media-too"):
        (tmp_path / name).mkdir(exist_ok=True)
    bound(tmp_path / bind, tmp_path / place)
    assert fault(tmp_path / wanted, own) == (said and f"{tmp_path / wanted} {said}")


def test_a_media_folder_on_a_disk_of_its_own_is_recognised(
    tmp_path: Path, media: Path, own: list[Place], mounted: Mount, bound: Bind
) -> None:
    mounted(media / "thumbs")
    bound(media / "thumbs", tmp_path / "nas")
    assert fault(tmp_path / "nas", own) == f"{tmp_path}/nas is the thumbnails"


@pytest.mark.parametrize("where", ["thumbs", "thumbs/anna"])
async def test_an_import_path_that_comes_to_lie_in_the_media_location_is_not_scanned(
    shelf: Shelf, media: Path, own: list[Place], where: str
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
    shelf: Shelf, media: Path, own: list[Place], bound: Bind, where: str, said: str
) -> None:
    shelf.write("a.jpg")
    bound(media / where, shelf.root / "below/it")
    report = await shelf.scan(own=own)
    assert await shelf.names() == {"a.jpg"}
    assert report.unreadable == (f"{shelf.root}/below/it: {said}",)
    assert (await shelf.scan(own=own, scopes=[(f"{shelf.root}/below/it", True)])).found == 0


async def test_the_media_location_is_neither_watched_nor_taken_in(
    shelf: Shelf, db_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: Bind
) -> None:
    (tmp_path / "media/thumbs").mkdir(parents=True)
    (tmp_path / "media/thumbs/a.jpg").write_bytes(b"thumbnail")
    bound(tmp_path / "media", shelf.root / "below")
    async with watching(shelf, db_url, tmp_path, monkeypatch):
        await eventually(lambda: watched(shelf), "the library is watched")
        assert watched_inodes() == {shelf.root.stat().st_ino}
        assert await shelf.names() == set()
