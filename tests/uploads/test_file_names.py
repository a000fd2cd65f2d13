"""Cleaning of file names that clients send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.uploads.file_names import MAX_NAME_CHARACTERS, build_display_name, extract_extension


@pytest.mark.parametrize(
    ("given_name", "shown"),
    [
        ("IMG_0001.JPG", "IMG_0001.JPG"),
        ("../../etc/passwd", "passwd"),
        ("../../etc/passwd.jpg", "passwd.jpg"),
        ("/absolute/photo.jpg", "photo.jpg"),
        (r"C:\Users\me\photo.jpg", "photo.jpg"),
        (r"mixed/..\..\photo.jpg", "photo.jpg"),
        ("nul\0.jpg", "nul_.jpg"),
        ("line\r\nbreak.jpg", "line__break.jpg"),
        ("separator\u2028.jpg", "separator_.jpg"),
        ("\x7f\x85.jpg", "__.jpg"),
        ("lone\ud800surrogate.jpg", "lone_surrogate.jpg"),
        ("photo\u202egpj.exe", "photo\u202egpj.exe"),
        ("  padded.jpg  ", "padded.jpg"),
        ("Ünïcödé ☕ 写真.heic", "Ünïcödé ☕ 写真.heic"),
        ("e\u0301.jpg", "e\u0301.jpg"),
        ("100% #1 ? \"x\" 'y' + z.jpg", "100% #1 ? \"x\" 'y' + z.jpg"),
        (".jpg", ".jpg"),
        ("", "unnamed"),
        (".", "unnamed"),
        ("..", "unnamed"),
        ("folder/", "unnamed"),
        ("x" * 5000 + ".jpg", "x" * 251 + ".jpg"),
        ("x" * 5000, "x" * 255),
        ("x." + "y" * 5000, "x." + "y" * 253),
    ],
)
def test_display_names(given_name: str, shown: str) -> None:
    assert build_display_name(given_name) == shown


@given(st.text(st.characters(exclude_categories=()), max_size=600))
def test_every_name_becomes_one_line_that_both_databases_store(name: str) -> None:
    shown = build_display_name(name)
    assert 0 < len(shown) <= MAX_NAME_CHARACTERS
    assert len(shown.encode("utf-8").decode("utf-8").splitlines()) == 1
    assert not set("/\\\0") & set(shown)
    assert build_display_name(shown) == shown


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("a.JPG", ".jpg"),
        ("a.tar.gz", ".gz"),
        ("a", ""),
        ("a.", ""),
        (".jpg", ""),
        ("b.c/a", ""),
        ("x/.y/a.png", ".png"),
    ],
)
def test_extensions(name: str, ending: str) -> None:
    assert extract_extension(name) == ending
