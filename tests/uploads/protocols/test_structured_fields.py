"""Structured field values: what RFC 9651 allows, and nothing else."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.uploads.protocols.structured_fields import (
    format_boolean,
    parse_boolean,
    parse_byte_sequences,
    parse_integer,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("?1", True),
        ("?0", False),
        ("?1;a", True),
        ('?0; note="x;y"', False),
        *((text, None) for text in ("", "1", "true", "?2", "?1 ", "?1,?0", "?1;", "?1; A", "?\u0661")),
    ],
)
def test_booleans(text: str, value: bool | None) -> None:
    assert parse_boolean(text) is value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("007", 7),
        ("-5", -5),
        ("999999999999999", 10**15 - 1),
        ("42;a=1", 42),
        *(
            (text, None)
            for text in ("", "+1", "1.0", "1e3", "1000000000000000", " 1", "0x10", "\u0661", "1_000", "--1", "9" * 40)
        ),
    ],
)
def test_integers(text: str, value: int | None) -> None:
    assert parse_integer(text) == value


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("sha=:YQ==:", {"sha": "YQ=="}),
        ("sha-256=:YQ==:, sha=:Yg==:", {"sha-256": "YQ==", "sha": "Yg=="}),
        ("a=:YQ==:;p=1 ,\tb=:Yg==:", {"a": "YQ==", "b": "Yg=="}),
        ("sha=:YQ==:, sha=:Yg==:", {"sha": "Yg=="}),
        ("flag, n=10, s=text, sha=::", {"sha": ""}),
        *(
            (text, None)
            for text in ("", "sha=:YQ==", "SHA=:YQ==:", "sha=YQ==", "sha=:YQ==:,", ",", "sha :YQ==:", "=:YQ==:")
        ),
    ],
)
def test_dictionaries_of_byte_sequences(text: str, members: dict[str, str] | None) -> None:
    assert parse_byte_sequences(text) == members


def test_a_long_dictionary_is_refused() -> None:
    assert parse_byte_sequences(", ".join(f"k{number}=:YQ==:" for number in range(32))) is not None
    assert parse_byte_sequences(", ".join(f"k{number}=:YQ==:" for number in range(33))) is None


@given(
    st.dictionaries(
        st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True), st.binary(max_size=70), min_size=1, max_size=8
    )
)
def test_what_is_written_is_what_is_read(members: dict[str, bytes]) -> None:
    encoded = {key: base64.b64encode(value).decode() for key, value in members.items()}
    text = ", ".join(f"{key}=:{value}:" for key, value in encoded.items())
    assert parse_byte_sequences(text) == encoded


@given(st.booleans())
def test_a_boolean_is_read_as_it_is_written(value: bool) -> None:
    assert parse_boolean(format_boolean(value)) is value
