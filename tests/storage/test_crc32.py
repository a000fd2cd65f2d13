"""`crc32` computes the same values as zlib."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from app.storage.crc32 import crc32


@given(st.lists(st.binary(max_size=5000)))
def test_it_is_zlibs_however_the_bytes_are_cut(pieces: list[bytes]) -> None:
    value = 0
    for piece in pieces:
        value = crc32(memoryview(piece), value)

    assert value == zlib.crc32(b"".join(pieces))
