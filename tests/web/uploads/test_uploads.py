"""Uploads from the page: what is dropped arrives, byte for byte; what is there is not sent again; what cannot be kept says why."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Route, expect

from tests.real.accessibility import list_violations
from tests.real.sample_media import make_jpeg, make_video
from tests.real.web_page import LOST_REQUEST, WebPage

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten photos and a video, some of them in folders of a folder."""
    root = tmp_path / "Ferien 2024"
    (root / "Tag 2" / "abends").mkdir(parents=True)
    for index in range(10):
        place = root / ("Tag 2/abends" if index > 6 else "Tag 2" if index > 3 else "")
        (place / f"Foto {index} ü.jpg").write_bytes(make_jpeg())
    (root / "Film.mp4").write_bytes(make_video(tmp_path, playable=True))
    return root


async def test_dropped_folders_arrive_and_are_not_sent_twice(
    web_page: WebPage, client: httpx.Client, folder: Path
) -> None:
    (folder / ".DS_Store").write_bytes(b"system")
    await web_page.open()

    await web_page.drop(folder)

    await web_page.expect_uploads("11 uploaded")
    assert _digests(client) == {_digest(path) for path in folder.rglob("*.*") if path.suffix in (".jpg", ".mp4")}
    names = {asset["originalFileName"] for asset in client.get("/api/assets").json()["items"]}
    assert names == {"Film.mp4", *(f"Foto {index} ü.jpg" for index in range(10))}

    uploads: list[str] = []
    web_page.page.on("request", lambda request: uploads.append(request.url) if "/api/uploads" in request.url else None)
    await web_page.page.get_by_role("button", name="Close uploads").click()
    await web_page.drop(folder)
    await web_page.expect_uploads("11 already here")
    assert uploads == []


async def test_what_cannot_be_kept_is_listed_with_its_reason(
    web_page: WebPage, client: httpx.Client, tmp_path: Path
) -> None:
    photo = make_jpeg()
    contents = {
        "a.jpg": photo,
        "copy of a.jpg": photo,
        "notes.txt": b"no photo",
        "empty.jpg": b"",
        "lone.xmp": XMP,
        "with.jpg": make_jpeg(),
        "with.jpg.xmp": XMP,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    await web_page.open()

    await web_page.drop(*(tmp_path / name for name in contents))

    await web_page.expect_uploads("2 uploaded · 1 already here · 3 failed")
    assert await list_violations(web_page.page) == []
    names = ("copy of a.jpg", "notes.txt", "empty.jpg", "lone.xmp")
    details = {name: await web_page.row(name).locator(".upload-detail").inner_text() for name in names}
    assert details["notes.txt"] == "Not a photo or video that can be kept here."
    assert details["empty.jpg"] == "The file is empty."
    assert details["lone.xmp"] == "No photo or video with this name came with this XMP file."
    assert "Already here" in details["copy of a.jpg"]
    assert _digests(client) == {_digest(tmp_path / name) for name in ("a.jpg", "with.jpg")}


async def test_what_vanishes_before_it_is_sent_fails_with_its_reason(web_page: WebPage, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("changed.jpg", "with.jpg", "with.jpg.xmp")}
    for path in files.values():
        path.write_bytes(XMP if path.suffix == ".xmp" else make_jpeg())
    await web_page.open()

    async def change_files(route: Route) -> None:
        files["with.jpg.xmp"].unlink(missing_ok=True)
        files["changed.jpg"].write_bytes(make_jpeg())
        later = time.time() + 10  # Chromium compares whole seconds
        os.utime(files["changed.jpg"], (later, later))
        await route.continue_()

    await web_page.page.route("**/bulk-upload-check", change_files)  # they have been read by then
    web_page.allowed.append(LOST_REQUEST)
    await web_page.drop(*files.values())

    await web_page.expect_uploads("2 failed")
    for name in ("changed.jpg", "with.jpg"):
        await expect(web_page.row(name)).to_contain_text("It was moved, changed or removed.")


async def test_a_page_that_was_open_before_an_update_still_uploads(web_page: WebPage, tmp_path: Path) -> None:
    """The scripts that it was made of are not there any more."""
    photo = tmp_path / "a.jpg"
    photo.write_bytes(make_jpeg())
    async with web_page.page.expect_response("**/hash-worker.js"):
        await web_page.open()
    await web_page.page.route("**/web/**", lambda route: route.fulfill(status=404))

    await web_page.drop(photo)

    await web_page.expect_uploads("1 uploaded")


def _digests(client: httpx.Client) -> set[str]:
    return {base64.b64decode(asset["checksum"]).hex() for asset in client.get("/api/assets").json()["items"]}


def _digest(path: Path) -> str:
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()
