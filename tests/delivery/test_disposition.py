"""`Content-Disposition` for any file name, read back by an independent parser (RFC 6266, RFC 8187)."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.delivery.disposition import MAX_EXTENSION_BYTES, MAX_NAME_BYTES, content_disposition, sanitize_file_name

PARAMETER = re.compile(
    r'; (filename|filename\*)=(?:"([\x20-\x21\x23-\x5b\x5d-\x7e]*)"|UTF-8\'\'((?:[!#$&+.^_`|~A-Za-z0-9-]|%[0-9A-F]{2})+))'
)


def parsed(value: bytes) -> tuple[str, dict[str, str]]:
    """Disposition type and parameters; fails on a value outside the grammar."""
    text = value.decode("ascii")
    kind, found, position = re.split(";", text, maxsplit=1)[0], dict[str, str](), 0
    position = len(kind)
    while position < len(text):
        match = PARAMETER.match(text, position)
        assert match, f"outside the grammar: {text[position:]!r}"
        assert match[1] not in found
        found[match[1]] = match[2] if match[2] is not None else unquote_to_bytes(match[3]).decode("utf-8")
        position = match.end()
    return kind, found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("photo.jpg", 'inline; filename="photo.jpg"'),
        ("my photo (1).jpg", 'inline; filename="my photo (1).jpg"'),
        ("Ünïcödé.jpg", "inline; filename=\"_n_c_d_.jpg\"; filename*=UTF-8''%C3%9Cn%C3%AFc%C3%B6d%C3%A9.jpg"),
        ("写真.heic", "inline; filename=\"__.heic\"; filename*=UTF-8''%E5%86%99%E7%9C%9F.heic"),
        ("😀.png", "inline; filename=\"_.png\"; filename*=UTF-8''%F0%9F%98%80.png"),
        ('a"b.jpg', "inline; filename=\"a_b.jpg\"; filename*=UTF-8''a%22b.jpg"),
        ("100%25.jpg", "inline; filename=\"100_25.jpg\"; filename*=UTF-8''100%2525.jpg"),
        ("a;b=c.jpg", 'inline; filename="a;b=c.jpg"'),
        ("a'b.jpg", 'inline; filename="a\'b.jpg"'),
        ("a'é.jpg", "inline; filename=\"a'_.jpg\"; filename*=UTF-8''a%27%C3%A9.jpg"),
        ("../../etc/passwd", 'inline; filename=".._.._etc_passwd"'),
        ("C:\\Users\\me.jpg", 'inline; filename="C:_Users_me.jpg"'),
        ("a\r\nSet-Cookie: x=1\r\n\r\n.jpg", 'inline; filename="aSet-Cookie: x=1.jpg"'),
        ("nul\x00tab\tdel\x7fc1\x85.jpg", 'inline; filename="nultabdelc1.jpg"'),
        ("\u202egpj.exe", 'inline; filename="gpj.exe"'),
        ("a\u2028b\u2066c\ufeff.jpg", 'inline; filename="abc.jpg"'),
        ("\udcff.jpg", "inline; filename=\"_.jpg\"; filename*=UTF-8''%EF%BF%BD.jpg"),
        ("", 'inline; filename="download"'),
        ("..", 'inline; filename="download"'),
        ("\u202e\x00 ", 'inline; filename="download"'),
    ],
)
def test_table(name: str, value: str) -> None:
    assert content_disposition(name, attachment=False).decode() == value


def test_attachment() -> None:
    assert content_disposition("a.jpg", attachment=True) == b'attachment; filename="a.jpg"'


@pytest.mark.parametrize(
    "name",
    [
        "x" * 5000 + ".jpg",
        "é" * 5000 + ".jpg",
        "😀" * 5000,
        "." * 3 + "y" * 5000,
        "a." + "z" * 5000,
        "é" * 119 + ".jpeg",
    ],
)
def test_long_names_are_cut_and_keep_their_extension(name: str) -> None:
    short = sanitize_file_name(name)
    assert len(short.encode()) <= MAX_NAME_BYTES
    assert len(content_disposition(name, attachment=True)) < 1100
    assert short.endswith((".jpg", ".jpeg")) or ".jp" not in name
    assert name.startswith(short[:50])


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("x" * (MAX_NAME_BYTES - 4) + ".jpg", "x" * (MAX_NAME_BYTES - 4) + ".jpg"),
        ("x" * (MAX_NAME_BYTES - 5) + " .jpg", "x" * (MAX_NAME_BYTES - 5) + " .jpg"),
        ("x" * (MAX_NAME_BYTES - 3) + ".jpg", "x" * (MAX_NAME_BYTES - 4) + ".jpg"),
        ("a." + "x" * 300 + ".jpg", "a." + "x" * (MAX_NAME_BYTES - 6) + ".jpg"),
        ("x" * 300 + "." + "e" * (MAX_EXTENSION_BYTES - 1), "x" * 220 + "." + "e" * (MAX_EXTENSION_BYTES - 1)),
        ("x" * 300 + "." + "e" * MAX_EXTENSION_BYTES, "x" * MAX_NAME_BYTES),
        ("é" * 118 + " " + "x" * 300, "é" * 118 + " xxx"),
        ("x" * 235 + " yyyyyy.jpg", "x" * 235 + ".jpg"),
    ],
    ids=[
        "fits",
        "fits with a space",
        "one too long",
        "two dots",
        "longest extension",
        "no extension",
        "no dot",
        "a space at the cut",
    ],
)
def test_where_a_name_is_cut(name: str, short: str) -> None:
    assert sanitize_file_name(name) == short


def test_what_need_not_be_quoted_is_not() -> None:
    assert b"''%C3%A9!#$&+-.^_`|~.jpg" in content_disposition("é!#$&+-.^_`|~.jpg", attachment=True)


def test_emoji_made_of_several_keep_their_joiner() -> None:
    family = "👨\u200d👩\u200d👧.jpg"
    assert parsed(content_disposition(family, attachment=False))[1]["filename*"] == family


@given(st.text(alphabet=st.characters(), max_size=400), st.booleans())
@example("\ud800\udc00.jpg", True)
def test_reads_back_as_the_safe_name(name: str, attachment: bool) -> None:
    kind, parameters = parsed(content_disposition(name, attachment=attachment))
    assert kind == ("attachment" if attachment else "inline")
    assert parameters.get("filename*", parameters["filename"]) == sanitize_file_name(name)


@given(st.text(alphabet=st.characters(), max_size=400))
def test_safe_names_are_safe(name: str) -> None:
    safe = sanitize_file_name(name)
    assert 0 < len(safe.encode("utf-8")) <= MAX_NAME_BYTES
    assert not set(safe) & set("/\\")
    assert not any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in safe)
    assert sanitize_file_name(safe) == safe


@given(
    st.text(alphabet="abc XYZ09_-.()äß写", min_size=1, max_size=40).filter(
        lambda name: name.strip(" .") and name == name.strip()
    )
)
def test_harmless_names_are_kept(name: str) -> None:
    assert sanitize_file_name(name) == name
