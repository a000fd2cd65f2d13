"""The text of a resumable write's state on S3: what is written is what is read."""

from __future__ import annotations

import pytest

from app.storage.s3.protocol.responses import UploadedPart
from app.storage.s3.resumable_state import (
    S3WriteState,
    TailObject,
    find_tail_owner,
    make_tail_token,
    parse_state,
    tail_key,
)

MD5 = '"d41d8cd98f00b204e9800998ecf8427e"'


@pytest.mark.parametrize(
    "etag", [MD5, MD5.upper(), MD5.strip('"'), '"d41d8cd98f00b204e9800998ecf8427e-2"', '"="', '"a b  c"', "=", "W/x"]
)
@pytest.mark.parametrize("crc32", [None, "AAAAAA=="])
def test_every_etag_is_kept_as_the_store_has_sent_it(etag: str, crc32: str | None) -> None:
    state = S3WriteState(
        offset=5,
        part_size=2,
        write_id="id",
        content_type=None,
        upload_id="upload/+ id",
        reserved=17,
        tail=TailObject("token", 1, 2**32 - 1),
        parts=(UploadedPart(1, etag, crc32), UploadedPart(10_000, MD5, None)),
    )
    assert parse_state(state.to_saved()) == state
    assert state.to_saved().offset == 5


def test_a_state_of_4_gib_takes_less_than_32_kib() -> None:
    parts = tuple(UploadedPart(number, MD5, "AAAAAA==") for number in range(1, 513))
    saved = S3WriteState(2**32, 2**23, "0" * 32, "video/mp4", "u" * 100, 512, None, parts).to_saved()
    assert len(saved.value) < 32 * 1024


@pytest.mark.parametrize("key", ["a", "folder/a+%2B é.jpg"])
def test_a_tail_tells_the_key_that_it_belongs_to(key: str) -> None:
    assert find_tail_owner(tail_key(key, make_tail_token())) == key


@pytest.mark.parametrize(
    "key", ["a/b/c", ".mediavault-probe-1.tmp", ".mediavault-tails.tmp", ".mediavault-tails.tmp/x"]
)
def test_other_objects_are_no_tails(key: str) -> None:
    assert find_tail_owner(key) is None
