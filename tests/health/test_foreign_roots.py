"""A media location that overlaps another program's folder stops the start, before anything is written there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.catalog.catalog import open_catalog
from app.config import Settings
from app.health.foreign_roots import find_overlapping_root
from app.startup import StartupError, open_core_services


@pytest.mark.parametrize(
    ("media", "overlaps"),
    [("own", False), ("immich", True), ("immich/ours", True), (".", True), ("immich2", False), ("link", True)],
)
def test_which_folders_overlap(tmp_path: Path, media: str, *, overlaps: bool) -> None:
    (tmp_path / "immich" / "ours").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "immich" / "ours")
    root = str(tmp_path / "immich")
    assert find_overlapping_root(tmp_path / media, ["/elsewhere", root]) == (root if overlaps else None)


async def test_the_start_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    db_url = f"sqlite:///{tmp_path}/catalogue/1.db"
    media = tmp_path / "immich"
    (media / "upload").mkdir(parents=True)
    catalog = await open_catalog(db_url)
    await catalog.foreign_files.add_root(str(media))
    await catalog.aclose()
    settings = Settings(_env_file=None, db_url=db_url, media_location=media)  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(StartupError, match=f"IMMICH_MEDIA_LOCATION: {media} overlaps {media}"):
        async with open_core_services(settings, process_tasks=False, adopt_markers=True):
            pytest.fail("it has started")
    assert [folder for folder, _, files in os.walk(media) if files] == []
