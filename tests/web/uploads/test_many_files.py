"""Thousands of files in one drop: the page stays usable, and draws no more than can be seen."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.real.sample_media import make_jpeg
from tests.real.uploads import uploaded
from tests.real.web_page import WebPage

SHORT_COUNT, SOAK_COUNT = 3000, 10_000
LONGEST_TASK_MS = 1500
"""Generous: on an idle machine it is a twentieth of that."""


@pytest.fixture
def count(*, soak: bool) -> int:
    return SOAK_COUNT if soak else SHORT_COUNT


@pytest.fixture
def folder(tmp_path: Path, client: httpx.Client, count: int, *, soak: bool) -> Path:
    """Many photos: in the long campaign each is another one, otherwise all are a photo that is there already."""
    folder = tmp_path / "many"
    folder.mkdir()
    photo = make_jpeg(16, 12)
    if not soak:
        uploaded(client, photo)
    for index in range(count):
        (folder / f"{index}.jpg").write_bytes(photo + index.to_bytes(4, "big") if soak else photo)
    return folder


async def test_thousands_of_files_do_not_freeze_the_page(
    web_page: WebPage, folder: Path, count: int, *, soak: bool
) -> None:
    await web_page.open()

    await web_page.drop(folder)

    outcome, milliseconds = ("uploaded", 1_800_000) if soak else ("already here", 280_000)
    await web_page.expect_uploads(f"{count:,} {outcome}", timeout=milliseconds)
    assert await web_page.page.locator(".upload-row").count() < 40
    assert await web_page.get_longest_task() < LONGEST_TASK_MS
    await web_page.page.locator(".virtual-list").focus()
    await web_page.page.keyboard.press("End")
    await web_page.page.locator(f".upload-row[aria-posinset='{count}']").wait_for()
