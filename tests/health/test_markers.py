"""The media location's markers: made once, then a missing or foreign one is told, and an operator can say otherwise."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.catalog.catalog import Catalog, open_catalog
from app.config import Settings
from app.health.markers import FOLDERS, MediaLocationCheck, MountCheckFailed
from app.storage.errors import StorageUnavailable
from app.storage.service import StorageService, open_storage


class House:
    """A catalogue and a media folder."""

    def __init__(self, catalog: Catalog, storage: StorageService, media: Path) -> None:
        self.catalog = catalog
        self.storage = storage
        self.media = media

    def check(self, *, ignore_errors: bool = False) -> MediaLocationCheck:
        """As a process that has just started."""
        return MediaLocationCheck(self.catalog, self.storage, ignore_errors=ignore_errors)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    media = tmp_path / "media"
    settings = Settings(_env_file=None, media_location=media, fsync=False)  # pyright: ignore[reportCallIssue]
    catalog = await open_catalog(f"sqlite:///{tmp_path}/catalogue.db")
    storage = await open_storage(settings)
    yield House(catalog, storage, media)
    await storage.aclose()
    await catalog.aclose()


async def test_the_first_start_makes_a_marker_in_every_folder(house: House) -> None:
    await house.check().verify()
    installation = str(await house.catalog.installation.id())
    texts = [(house.media / folder / ".immich").read_text().strip() for folder in FOLDERS]
    assert texts == [installation] * len(FOLDERS)
    await house.check().verify()


@pytest.mark.parametrize("folder", FOLDERS)
async def test_a_marker_that_went_missing_means_unmounted(house: House, folder: str) -> None:
    running = house.check()
    await running.verify()
    (house.media / folder / ".immich").unlink()
    for check in (running.check, house.check().verify):
        with pytest.raises(MountCheckFailed, match=f"{folder}/.immich is missing"):
            await check()
    assert not (house.media / folder / ".immich").exists()


async def test_markers_that_come_back_are_well_again(house: House, tmp_path: Path) -> None:
    running = house.check()
    await running.verify()
    shutil.move(house.media / "upload" / ".immich", tmp_path / "aside")
    with pytest.raises(MountCheckFailed):
        await running.check()
    shutil.move(tmp_path / "aside", house.media / "upload" / ".immich")
    await running.check()


async def test_somebody_elses_marker_is_not_ours(house: House) -> None:
    (house.media / "upload").mkdir()
    (house.media / "upload" / ".immich").write_text("1732300000000")
    with pytest.raises(MountCheckFailed, match="another installation"):
        await house.check().verify()
    assert (house.media / "upload" / ".immich").read_text() == "1732300000000"


async def test_a_person_can_take_the_place_over(house: House) -> None:
    (house.media / "upload").mkdir()
    (house.media / "upload" / ".immich").write_text("1732300000000")
    await house.check().verify(adopt=True)
    await house.check().verify()


async def test_a_person_can_tell_the_check_to_be_quiet(house: House) -> None:
    await house.check().verify()
    (house.media / "upload" / ".immich").unlink()
    quiet = house.check(ignore_errors=True)
    await quiet.verify()
    await quiet.check()


async def test_writes_are_refused_while_the_place_is_not_ours(house: House) -> None:
    running = house.check()
    await running.verify()
    marker = house.media / "upload" / ".immich"
    ours = marker.read_text()
    marker.write_text("1732300000000")
    with pytest.raises(StorageUnavailable, match="another installation"):
        await running.admit_write()
    marker.write_text(ours)
    await running.admit_write()


async def test_what_is_ignored_may_be_written_but_nothing_counts_as_deleted(house: House) -> None:
    await house.check().verify()
    (house.media / "upload" / ".immich").unlink()
    quiet = house.check(ignore_errors=True)
    await quiet.verify()
    await quiet.admit_write()
    with pytest.raises(StorageUnavailable, match="is missing"):
        await quiet.require_intact()
    assert not (house.media / "upload" / ".immich").exists()
