"""`Key`: valid and invalid names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.storage.errors import InvalidKey
from app.storage.key import MAX_KEY_BYTES, MAX_SEGMENT_BYTES, Key, is_temporary
from tests.storage.guarantees.names import ODD_NAMES

INVALID = {
    "empty": "",
    "absolute": "/a",
    "ends with a slash": "a/",
    "empty segment": "a//b",
    "dot": "a/./b",
    "only a dot": ".",
    "dot dot": "a/../b",
    "climbs": "../../etc/passwd",
    "back-slash": "a\\b",
    "NUL": "a\0b",
    "newline": "a\nb",
    "delete": "a\x7fb",
    "C1 control": "a\x85b",
    "lone surrogate": "a\ud800b",
    "long segment": "x" * (MAX_SEGMENT_BYTES + 1),
    "long segment in bytes": "\u00e9" * (MAX_SEGMENT_BYTES // 2 + 1),
    "long": "/".join(["x" * 99] * 11),
    "temporary": "a/.mediavault-0123.tmp",
    "temporary in capitals": ".MediaVault-0123.TMP",
    "temporary folder": ".mediavault-.tmp/a",
}


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_key_cannot_be_made(text: str) -> None:
    with pytest.raises(InvalidKey) as failure:
        Key(text)
    assert failure.value.key == text
    assert failure.value.detail


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\ud800b", "not valid UTF-8"),
        ("/".join(["x" * 99] * 11), "longer than 1024 bytes"),
        ("a\\b", "holds a back-slash"),
        ("a\0b", "holds a control character"),
        ("a/../b", "has the segment '..'"),
        ("x" * 201, "has a segment longer than 200 bytes"),
        ("a/.mediavault-1.tmp", "the name '.mediavault-1.tmp' is reserved for temporary files"),
    ],
)
def test_what_is_wrong_with_a_key_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidKey) as failure:
        Key(text)
    assert (failure.value.detail, failure.value.backend) == (told, "key")


@pytest.mark.parametrize("text", ODD_NAMES.values(), ids=ODD_NAMES.keys())
def test_an_odd_name_is_a_key(text: str) -> None:
    assert str(Key(f"upload/{text}/{text}")) == f"upload/{text}/{text}"


@pytest.mark.parametrize(
    ("key", "prefix", "below"),
    [
        ("a/b", "a", True),
        ("a/b", "a/", True),
        ("ab", "a", False),
        ("a", "a", False),
        ("a/b/c", "a/b", True),
        ("aX/b", "aX", True),
        ("a", "", True),
    ],
)
def test_prefixes_match_by_whole_segments(key: str, prefix: str, below: bool) -> None:
    assert Key(key).is_below(prefix) is below


def test_the_longest_keys_are_keys() -> None:
    longest = "/".join(["x" * 127] * 8)
    assert len(longest) == MAX_KEY_BYTES - 1
    assert Key(longest + "x").segments[-1] == "x" * 128


@given(st.text(max_size=40))
def test_any_text_is_a_key_that_means_itself_or_is_refused(text: str) -> None:
    try:
        key = Key(text)
    except InvalidKey:
        return
    assert "/".join(key.segments) == text
    assert not {"", ".", ".."} & set(key.segments)
    assert not any(is_temporary(segment) for segment in key.segments)
    assert "\\" not in text
