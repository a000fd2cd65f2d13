"""The markers of the media location: created once; then a missing or foreign one is reported, unless an operator overrides that."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.catalog.catalog import Catalog, open_catalog
from app.config import Settings
from app.health.markers import MEDIA_FOLDERS, MediaLocationCheck, check_root_exists
from app.health.media_folder import MountCheckFailed
from app.health.mount_states import MountCondition, MountKind
from app.storage.errors import StorageUnavailable
from app.storage.opening import open_storage
from app.storage.service import StorageService


class MediaSetup:
    """A catalogue and a media location on disk."""

    def __init__(self, catalog: Catalog, storage: StorageService, media: Path) -> None:
        self.catalog = catalog
        self.storage = storage
        self.media = media

    def check(self, *, ignore_errors: bool = False) -> MediaLocationCheck:
        """A new check, as that of a process that has just started."""
        return MediaLocationCheck(self.catalog, self.storage, ignore_errors=ignore_errors)


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[MediaSetup]:
    media = tmp_path / "media"
    settings = Settings(_env_file=None, media_location=media, fsync=False)  # pyright: ignore[reportCallIssue]
    catalog = await open_catalog(f"sqlite:///{tmp_path}/catalogue.db")
    storage = await open_storage(settings)
    yield MediaSetup(catalog, storage, media)
    await storage.aclose()
    await catalog.aclose()


async def test_the_first_start_makes_a_marker_in_every_folder(setup: MediaSetup) -> None:
    await setup.check().verify()
    installation = str(await setup.catalog.installation.get_id())
    texts = [(setup.media / folder / ".immich").read_text().strip() for folder in MEDIA_FOLDERS]
    assert texts == [installation] * len(MEDIA_FOLDERS)
    await setup.check().verify()


async def test_folders_that_were_never_verified_are_made_beside_those_that_were(setup: MediaSetup) -> None:
    """As after an upgrade from a version that had fewer media folders."""
    installation = str(await setup.catalog.installation.get_id())
    (setup.media / "upload").mkdir()
    (setup.media / "upload" / ".immich").write_text(f"{installation}\n")
    await setup.catalog.installation.set_flag("marker:local:upload/.immich", "verified")
    made = (setup.media / "upload" / ".immich").stat()
    await setup.check().verify()
    assert {(setup.media / folder / ".immich").read_text().strip() for folder in MEDIA_FOLDERS} == {installation}
    assert (setup.media / "upload" / ".immich").stat().st_ino == made.st_ino, "the old one is left alone"


async def test_a_refused_start_makes_no_markers(setup: MediaSetup) -> None:
    (setup.media / "thumbs").mkdir()
    (setup.media / "thumbs" / ".immich").write_text("1732300000000")
    with pytest.raises(MountCheckFailed, match="thumbs"):
        await setup.check().verify()
    assert [path.parent.name for path in setup.media.rglob(".immich")] == ["thumbs"]
    assert await setup.catalog.installation.get_flag("marker:local:upload/.immich") is None


async def test_many_processes_start_at_once(setup: MediaSetup) -> None:
    checks = [setup.check() for _ in range(8)]
    await asyncio.gather(*(check.verify() for check in checks))
    for check in checks:
        await check.check_readiness()
    async with setup.storage.write(f"{setup.media}/upload/photo.jpg") as writer:
        await writer.write(b"photo")


async def test_a_media_location_that_is_gone_is_not_made_again(setup: MediaSetup, tmp_path: Path) -> None:
    await check_root_exists(setup.catalog, tmp_path / "new")
    await setup.check().verify()
    await check_root_exists(setup.catalog, setup.media)
    with pytest.raises(MountCheckFailed, match=f"{tmp_path}/gone is missing"):
        await check_root_exists(setup.catalog, tmp_path / "gone")
    assert not (tmp_path / "gone").exists()


async def test_every_folder_tells_its_state(setup: MediaSetup) -> None:
    running = setup.check()
    await running.verify()
    states = await running.list_mount_states()
    assert [(state.name, state.kind, state.state, state.error) for state in states] == [
        (folder, MountKind.MEDIA, MountCondition.OK, None) for folder in MEDIA_FOLDERS
    ]
    assert all(state.free_bytes and state.total_bytes for state in states)
    (setup.media / "thumbs" / ".immich").unlink()
    (setup.media / "profile" / ".immich").write_text("1732300000000")
    with pytest.raises(MountCheckFailed):
        await running.check_readiness()
    found = {state.name: state.state for state in await setup.check().list_mount_states()}
    assert (found["thumbs"], found["profile"]) == (MountCondition.UNMOUNTED, MountCondition.NOT_OURS)
    assert set(found.values()) == {MountCondition.OK, MountCondition.UNMOUNTED, MountCondition.NOT_OURS}


@pytest.mark.parametrize("folder", MEDIA_FOLDERS)
async def test_a_marker_that_went_missing_means_unmounted(setup: MediaSetup, folder: str) -> None:
    running = setup.check()
    await running.verify()
    (setup.media / folder / ".immich").unlink()
    for check in (running.check_readiness, setup.check().verify):
        with pytest.raises(MountCheckFailed, match=f"{folder}/.immich is missing"):
            await check()
    assert not (setup.media / folder / ".immich").exists()


async def test_markers_that_come_back_are_well_again(setup: MediaSetup, tmp_path: Path) -> None:
    running = setup.check()
    await running.verify()
    shutil.move(setup.media / "upload" / ".immich", tmp_path / "aside")
    with pytest.raises(MountCheckFailed):
        await running.check_readiness()
    shutil.move(tmp_path / "aside", setup.media / "upload" / ".immich")
    await running.check_readiness()


async def test_somebody_elses_marker_is_not_ours(setup: MediaSetup) -> None:
    (setup.media / "upload").mkdir()
    (setup.media / "upload" / ".immich").write_text("1732300000000")
    with pytest.raises(MountCheckFailed, match="another installation"):
        await setup.check().verify()
    assert (setup.media / "upload" / ".immich").read_text() == "1732300000000"


async def test_a_person_can_take_the_place_over(setup: MediaSetup) -> None:
    (setup.media / "upload").mkdir()
    (setup.media / "upload" / ".immich").write_text("1732300000000")
    await setup.check().verify(adopt=True)
    await setup.check().verify()


async def test_a_person_can_tell_the_check_to_be_quiet(setup: MediaSetup) -> None:
    await setup.check().verify()
    (setup.media / "upload" / ".immich").unlink()
    quiet = setup.check(ignore_errors=True)
    await quiet.verify()
    await quiet.check_readiness()


async def test_writes_are_refused_while_the_place_is_not_ours(setup: MediaSetup) -> None:
    running = setup.check()
    await running.verify()
    marker = setup.media / "upload" / ".immich"
    ours = marker.read_text()
    marker.write_text("1732300000000")
    with pytest.raises(StorageUnavailable, match="another installation"):
        await running.check_before_write()
    marker.write_text(ours)
    await running.check_before_write()


async def test_what_is_ignored_may_be_written_but_nothing_counts_as_deleted(setup: MediaSetup) -> None:
    await setup.check().verify()
    (setup.media / "upload" / ".immich").unlink()
    quiet = setup.check(ignore_errors=True)
    await quiet.verify()
    await quiet.check_before_write()
    with pytest.raises(StorageUnavailable, match="is missing"):
        await quiet.check_markers()
    assert not (setup.media / "upload" / ".immich").exists()
