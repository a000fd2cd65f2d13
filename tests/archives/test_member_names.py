"""Member names: a table of hostile names, and properties for any names (hypothesis)."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.archives.member_names import MAX_EXTENSION_BYTES, MAX_NAME_BYTES, assign_member_names, clean_member_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("photo.jpg", "photo.jpg"),
        ("Ein Foto (1).JPG", "Ein Foto (1).JPG"),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("/etc/passwd", "_etc_passwd"),
        ("..", "file"),
        (".", "file"),
        ("...", "file"),
        ("", "file"),
        ("   ", "file"),
        ("C:\\Windows\\win.ini", "_Windows_win.ini"),
        ("c:/x.jpg", "_x.jpg"),
        ("C:", "file"),
        ("C:x.jpg", "C_x.jpg"),
        ("\\\\server\\share\\x.jpg", "__server_share_x.jpg"),
        ("a\x00b.jpg", "a_b.jpg"),
        ("a\r\nb.jpg", "a__b.jpg"),
        ("a\x7fb\x85.jpg", "a_b_.jpg"),
        ("what?*.jpg", "what__.jpg"),
        ("a.jpg.", "a.jpg"),
        ("a.jpg . ", "a.jpg"),
        (".hidden", ".hidden"),
        ("CON", "_CON"),
        ("nul.jpg", "_nul.jpg"),
        ("lpt1 .jpg", "_lpt1 .jpg"),
        ("console.jpg", "console.jpg"),
        ("holiday\u202egpj.exe", "holidaygpj.exe"),
        ("a\uff0fb.jpg", "a_b.jpg"),
        ("\ud800.jpg", "?.jpg".replace("?", "_")),
        ("e\u0301.jpg", "e\u0301.jpg"),
        ("👩‍👩‍👧.jpg", "👩‍👩‍👧.jpg"),
        ("x" * 300 + ".jpeg", "x" * 250 + ".jpeg"),
        ("é" * 300 + ".jpg", "é" * 125 + ".jpg"),
        ("x." + "y" * 300, "x." + "y" * 253),
    ],
)
def test_a_name_is_cleaned(name: str, expected: str) -> None:
    assert clean_member_name(name) == expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "a.jpg", "a.jpg"], ["a.jpg", "a+1.jpg", "a+2.jpg"]),
        # A real `IMG+1.jpg` collides in Immich.
        (["IMG.jpg", "IMG+1.jpg", "IMG.jpg"], ["IMG.jpg", "IMG+1.jpg", "IMG+2.jpg"]),
        (["IMG+1.jpg", "IMG.jpg", "IMG.jpg"], ["IMG+1.jpg", "IMG.jpg", "IMG+2.jpg"]),
        (["IMG.jpg", "IMG.jpg", "IMG+1.jpg"], ["IMG.jpg", "IMG+1.jpg", "IMG+1+1.jpg"]),
        (["a.jpg", "A.JPG"], ["a.jpg", "A+1.JPG"]),
        (["straße.jpg", "STRASSE.jpg"], ["straße.jpg", "STRASSE+1.jpg"]),
        (["\u00e9.jpg", "e\u0301.jpg"], ["\u00e9.jpg", "e\u0301+1.jpg"]),
        (["noext", "noext"], ["noext", "noext+1"]),
        ([".hidden", ".hidden"], [".hidden", ".hidden+1"]),
        (["a/b", "a_b"], ["a_b", "a_b+1"]),
    ],
)
def test_names_are_made_unique(names: list[str], expected: list[str]) -> None:
    assert list(assign_member_names(names)) == expected


def test_seventy_thousand_of_one_name_are_no_quadratic_work() -> None:
    names = list(assign_member_names(["IMG_0001.jpg"] * 70_000))
    assert len(set(names)) == 70_000
    assert names[-1] == "IMG_0001+69999.jpg"


nasty = st.text(
    st.one_of(
        st.sampled_from("aAßeéİıſK.+1/\\:\x00 \u0301\u202e\ud800"),
        st.characters(),
        st.characters(categories=["Cc", "Cs"]),
    ),
    max_size=20,
)


@given(st.lists(st.one_of(nasty, nasty.map(lambda name: name * 60)), max_size=40))
@example(["İ", "i̇", "I\u0307"])
@example(["\ufb01.jpg", "fi.jpg", "FI.jpg"])
@example(["x" * 300, "x" * 300, "x" * 255])
def test_every_name_of_an_archive_is_safe_and_unique(names: list[str]) -> None:
    chosen = list(assign_member_names(names))
    assert len(chosen) == len(names)
    for form in (str, str.casefold, lambda name: unicodedata.normalize("NFC", name)):
        assert len({form(name) for name in chosen}) == len(chosen)
    assert len({unicodedata.normalize("NFC", name.casefold()) for name in chosen}) == len(chosen)
    for name in chosen:
        assert name == name.strip(" ").rstrip(".")
        assert name
        assert len(name.encode()) <= MAX_NAME_BYTES
        assert not set("/\\:") & set(name)
        assert not any(unicodedata.category(character) == "Cc" for character in name)


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=400), st.integers(1, 3))
def test_a_long_name_keeps_its_extension(stem: str, times: int) -> None:
    for name in assign_member_names([f"{stem}.jpeg"] * times):
        assert name.endswith(".jpeg")


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("  a.jpg  ", "a.jpg"),
        ("\u3000a.jpg\u3000", "\u3000a.jpg\u3000"),
        ("Xa.jpgX", "Xa.jpgX"),
        ("X" * 300, "X" * MAX_NAME_BYTES),
        ("x" * 252 + "\u3000" + "y" * 50, "x" * 252 + "\u3000"),
        ("x" * 251 + " . ." + "y" * 50, "x" * 251),
    ],
    ids=["spaces", "wide spaces", "letters", "long", "cut behind a wide space", "cut behind dots and spaces"],
)
def test_only_what_windows_drops_goes_from_the_ends(name: str, clean: str) -> None:
    assert clean_member_name(name) == clean


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("a.b.jpg", "a.b+1.jpg"),
        ("a.", "a+1"),
        (".jpg", ".jpg+1"),
        ("a." + "e" * (MAX_EXTENSION_BYTES - 1), "a+1." + "e" * (MAX_EXTENSION_BYTES - 1)),
        ("a." + "e" * MAX_EXTENSION_BYTES, "a." + "e" * MAX_EXTENSION_BYTES + "+1"),
    ],
    ids=["two dots", "a dot at the end", "only an extension", "the longest extension", "too long for an extension"],
)
def test_the_number_stands_before_the_extension(name: str, second: str) -> None:
    assert list(assign_member_names([name, name]))[1] == second
