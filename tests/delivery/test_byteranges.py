"""The frame of a `multipart/byteranges` body: what stands around the bytes, and that independent readers take it."""

from __future__ import annotations

import email
from collections.abc import Sequence
from email.policy import HTTP

import pytest

from app.delivery.byteranges import ByterangesLayout, lay_out_byteranges
from app.storage.ranges import ByteRange

CONTENT = bytes(range(256))


def body_of(layout: ByterangesLayout) -> bytes:
    """As a sender puts it together."""
    sent = b""
    for head, item in layout.parts:
        assert item.last is not None
        sent += head + CONTENT[item.first : item.last + 1]
    return sent + layout.closing_boundary


@pytest.mark.parametrize(
    "ranges",
    [[ByteRange(0, 0)], [ByteRange(0, 9), ByteRange(20, 255)], [ByteRange(200, 210), ByteRange(5, 5), ByteRange(7, 9)]],
    ids=str,
)
def test_an_independent_reader_finds_every_part(ranges: Sequence[ByteRange]) -> None:
    layout = lay_out_byteranges(ranges, len(CONTENT), b"video/mp4")
    body = body_of(layout)

    message = email.message_from_bytes(b"Content-Type: " + layout.content_type + b"\r\n\r\n" + body, policy=HTTP)

    assert message.get_content_type() == "multipart/byteranges"
    assert not message.defects
    parts = list(message.iter_parts())
    assert [(part.get_content_type(), part["Content-Range"]) for part in parts] == [
        ("video/mp4", f"bytes {item.first}-{item.last}/256") for item in ranges
    ]
    assert layout.length == len(body)


def test_the_frame_is_that_of_the_rfc() -> None:
    layout = lay_out_byteranges([ByteRange(0, 1), ByteRange(5, 6)], 10, b"image/jpeg", "THIS_SEPARATES")

    assert layout.content_type == b"multipart/byteranges; boundary=THIS_SEPARATES"
    assert body_of(layout) == (
        b"--THIS_SEPARATES\r\nContent-Type: image/jpeg\r\nContent-Range: bytes 0-1/10\r\n\r\n\x00\x01"
        b"\r\n--THIS_SEPARATES\r\nContent-Type: image/jpeg\r\nContent-Range: bytes 5-6/10\r\n\r\n\x05\x06"
        b"\r\n--THIS_SEPARATES--\r\n"
    )


def test_no_file_can_hold_a_boundary_that_is_new_each_time() -> None:
    boundaries = {lay_out_byteranges([ByteRange(0, 0)], 1, b"image/jpeg").closing_boundary for _ in range(20)}

    assert len(boundaries) == 20
    assert all(len(each) == len(b"\r\n----\r\n") + 32 for each in boundaries)
