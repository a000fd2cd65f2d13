"""`app.formats`: the table contains all of Immich's file extensions, and odd file names find the right entry."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats import FORMATS, MediaKind, can_run_scripts, find_format, list_media_types

WEB_IMAGES = "avif bmp gif jpeg jpg png webp"
OTHER_IMAGES = "heic heif hif insp jp2 jpe jxl svg tif tiff"
RAW_AND_PSD = "3fr ari arw cap cin cr2 cr3 crw dcr dng erf fff iiq k25 kdc mrw nef nrw orf ori pef psd raf raw rw2 rwl sr2 srf srw x3f"
VIDEOS = "3gp 3gpp avi flv insv m2t m2ts m4v mkv mov mp4 mpe mpeg mpg mts mxf vob webm wmv"


def dotted(names: str) -> list[str]:
    return sorted(f".{name}" for name in names.split())


def test_media_types_are_immichs() -> None:
    assert list_media_types() == {
        "image": dotted(f"{WEB_IMAGES} {OTHER_IMAGES} {RAW_AND_PSD}"),
        "video": dotted(VIDEOS),
        "sidecar": [".xmp"],
    }


@pytest.mark.parametrize(
    ("name", "mime_type", "kind"),
    [
        ("photo.jpg", "image/jpeg", MediaKind.IMAGE),
        ("PHOTO.JPG", "image/jpeg", MediaKind.IMAGE),
        ("IMG_0001.HeIc", "image/heic", MediaKind.IMAGE),
        ("archive.tar.png", "image/png", MediaKind.IMAGE),
        (".webp", "image/webp", MediaKind.IMAGE),
        ("raw.CR3", "image/cr3", MediaKind.IMAGE),
        ("clip.mov", "video/quicktime", MediaKind.VIDEO),
        ("clip.mp4", "video/mp4", MediaKind.VIDEO),
        ("tape.mxf", "application/mxf", MediaKind.VIDEO),
        ("photo.jpg.xmp", "application/xml", MediaKind.SIDECAR),
        ("drawing.svg", "image/svg+xml", MediaKind.IMAGE),
        ("../../etc/passwd.gif", "image/gif", MediaKind.IMAGE),
        ("x" * 5000 + ".jpg", "image/jpeg", MediaKind.IMAGE),
        ("\u202egpj.exe.png", "image/png", MediaKind.IMAGE),
        ("\udcff.jpg", "image/jpeg", MediaKind.IMAGE),
    ],
)
def test_the_last_extension_decides(name: str, mime_type: str, kind: MediaKind) -> None:
    row = find_format(name)
    assert row is not None
    assert (row.mime_type, row.kind) == (mime_type, kind)


@pytest.mark.parametrize(
    "name",
    ["", ".", "jpg", "photo", "photo.", "photo.jpg.", "photo.jpg ", "photo.jpg\x00", "a.jpg/b", "a.exe", "a.jpg\u202e", "a.\uff2a\uff30\uff27",
     "a." + "x" * 100_000, "a.html", "a.mp3"],
)  # fmt: skip
def test_everything_else_is_refused(name: str) -> None:
    assert find_format(name) is None


def test_browsers_show_what_immich_calls_web() -> None:
    shown = {row.extension for row in FORMATS if row.is_web_supported and row.kind is MediaKind.IMAGE}
    assert sorted(shown) == dotted(WEB_IMAGES)
    played = {row.extension for row in FORMATS if row.is_web_supported and row.kind is MediaKind.VIDEO}
    assert played == {".mp4", ".m4v", ".mov", ".webm"}


def test_what_runs_script_is_never_shown() -> None:
    risky = {row.extension for row in FORMATS if row.is_scriptable}
    assert risky == {".svg", ".xmp"}
    assert not any(row.is_web_supported for row in FORMATS if row.is_scriptable)


@pytest.mark.parametrize(
    ("mime_type", "expected"),
    [
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("application/xhtml+xml", True),
        ("image/svg+xml", True),
        ("application/pdf", True),
        ("text/xml", True),
        ("image/jpeg", False),
        ("video/mp4", False),
        ("application/zip", False),
    ],
)
def test_scriptable_types(mime_type: str, expected: bool) -> None:
    assert can_run_scripts(mime_type) is expected


def test_mime_types_are_well_formed_and_of_their_kind() -> None:
    for row in FORMATS:
        assert re.fullmatch(r"[a-z]+/[a-z0-9][a-z0-9.+-]*", row.mime_type)
        if row.kind is MediaKind.IMAGE:
            assert row.mime_type.startswith("image/")


@given(st.text())
def test_any_text_is_answered(name: str) -> None:
    row = find_format(name)
    assert row is None or name.lower().endswith(row.extension)
