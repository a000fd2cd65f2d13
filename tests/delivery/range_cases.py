"""The table of range requests on a file of ten bytes, and the check of a response against it.

Used for the parser alone, for the response over a socket, and for the whole service on both storage engines.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.real.http_raw import RawResponse

TEN_BYTES = b"0123456789"


@dataclass(frozen=True, slots=True)
class RangeCase:
    """`fields`: the values of the `Range` fields sent. `parts`: the expected pairs of first and last byte; empty means a 200 with the whole
    file, or a 416 if `unsatisfiable`."""

    fields: tuple[str, ...]
    parts: tuple[tuple[int, int], ...] = ()
    unsatisfiable: bool = False

    @property
    def status(self) -> int:
        return 416 if self.unsatisfiable else 206 if self.parts else 200

    @property
    def request_headers(self) -> list[tuple[str, str]]:
        return [("Range", field) for field in self.fields]

    def __str__(self) -> str:
        text = "|".join(self.fields) or "no field"
        return text if len(text) < 50 else f"{text[:40]}…{len(text)}"


def _whole(*texts: str) -> list[RangeCase]:
    return [RangeCase((text,)) for text in texts]


def _parts(text: str, *parts: tuple[int, int]) -> RangeCase:
    return RangeCase((text,), parts)


def _none(*texts: str) -> list[RangeCase]:
    return [RangeCase((text,), unsatisfiable=True) for text in texts]


TWENTY_DIGITS = "9" * 20

RANGE_CASES: tuple[RangeCase, ...] = (
    RangeCase(()),
    # another unit, or invalid grammar
    *_whole("items=0-1", "bytes", "bytes=", "bytes= ", "bytes=,", "bytes=-", "bytes=a-b", "bytes=5-4", "bytes=+1-3", "bytes=--1"),
    *_whole("bytes=1", "bytes=0-1-2", "bytes=0 - 1", "bytes=0- 1", "bytes=0x1-2", "bytes=1.0-2", "bytes=1_0-12", "bytes:0-1", "0-1"),
    *_whole("bytes =0-1", "bytes==0-1", "bytes=0-1;2-3", "bytes=0-0,x", "bytes=0-0,5-4", "bytes=x,0-0", "bytes=12-11", "=0-1"),
    *_whole("bytes=0-0 2-2", "octets=0-1", "bytesx=0-1", "bytes=0-1\tx"),
    # positions that are not ASCII digits (superscript two is a digit to str.isdigit)
    *_whole("bytes=\xb2-3", "bytes=0-\xb2", "bytes=0-1\xa0"),
    # one range
    _parts("bytes=0-4", (0, 4)),
    _parts("bytes=2-", (2, 9)),
    _parts("bytes=-5", (5, 9)),
    _parts("bytes=0-0", (0, 0)),
    _parts("bytes=9-9", (9, 9)),
    _parts("bytes=9-", (9, 9)),
    _parts("bytes=5-1000", (5, 9)),
    _parts("bytes=0-10", (0, 9)),
    _parts("bytes=9-10", (9, 9)),
    _parts("bytes=-11", (0, 9)),
    _parts("bytes=-15", (0, 9)),
    _parts("bytes=-10", (0, 9)),
    _parts("bytes=-1", (9, 9)),
    _parts("bytes=0-", (0, 9)),
    _parts("bytes=0-9", (0, 9)),
    _parts("bytes=007-08", (7, 8)),
    # past the end
    *_none("bytes=10-", "bytes=10-12", "bytes=-0", "bytes=-00", "bytes=10-,11-", "bytes=-0,10-", "bytes=9999999999999999999-"),
    _parts("bytes=15-,0-5", (0, 5)),
    _parts("bytes=0-5,15-", (0, 5)),
    _parts("bytes=-0,0-5", (0, 5)),
    # several
    _parts("bytes=0-0,-2", (0, 0), (8, 9)),
    _parts("bytes=-2,0-0", (8, 9), (0, 0)),
    _parts("bytes=8-8,0-0,4-4", (8, 8), (0, 0), (4, 4)),
    _parts("bytes=0-0,2-2,4-4,6-6,8-8", (0, 0), (2, 2), (4, 4), (6, 6), (8, 8)),
    _parts("bytes=0-0,20-30,9-", (0, 0), (9, 9)),
    _parts("bytes=0-0,9-10", (0, 0), (9, 9)),
    _parts("bytes=10-11,9-10", (9, 9)),
    # more than 100 ranges, or more bytes than the file has: counted after clamping, before coalescing
    *_whole("bytes=" + ",".join(["0-0"] * 101), "bytes=" + ",".join(["20-"] * 101), "bytes=" + "0-," * 10_000),
    *_whole("bytes=0-9,0-0", "bytes=0-,5-", "bytes=0-5,4-9", "bytes=-9,-2", "bytes=0-0,-1000,3-3", "bytes=" + ",".join(["0-0"] * 11)),
    _parts("bytes=" + ",".join(["20-"] * 99 + ["3-4"]), (3, 4)),
    _parts("bytes=" + ",".join(["0-0"] * 10), (0, 0)),
    # coalescing
    _parts("bytes=0-2,2-4", (0, 4)),
    _parts("bytes=0-2,3-4", (0, 4)),
    _parts("bytes=3-4,0-2", (0, 4)),
    _parts("bytes=5-9,0-4", (0, 9)),
    _parts("bytes=1-6,2-3", (1, 6)),
    _parts("bytes=0-2,4-5", (0, 2), (4, 5)),
    _parts("bytes=0-1,5-6,1-2", (0, 2), (5, 6)),
    _parts("bytes=5-6,0-1,1-2", (5, 6), (0, 2)),
    _parts("bytes=8-9,0-1,4-5,2-3", (8, 9), (0, 5)),
    _parts("bytes=5-5,9-9,6-6", (5, 6), (9, 9)),
    # spelling
    _parts("BYTES=0-1", (0, 1)),
    _parts("Bytes=0-1", (0, 1)),
    _parts("bytes= 0-1 ", (0, 1)),
    _parts("bytes=\t0-1", (0, 1)),
    _parts("bytes= 0-0 , 2-2 ", (0, 0), (2, 2)),
    _parts("bytes=,,0-1,, ,", (0, 1)),
    # repeated fields
    RangeCase(("bytes=0-1", "bytes=4-5")),
    RangeCase(("bytes=0-1", "bytes=0-1")),
    RangeCase(("bytes=20-", "bytes=20-")),
    # more than 19 digits: past the end
    _parts(f"bytes=0-{TWENTY_DIGITS}", (0, 9)),
    _parts(f"bytes=-{TWENTY_DIGITS}", (0, 9)),
    _parts(f"bytes=4-{'1' * 5000}", (4, 9)),
    *_none(f"bytes={TWENTY_DIGITS}-", f"bytes={TWENTY_DIGITS}-{TWENTY_DIGITS}", f"bytes={'1' * 5000}-"),
    RangeCase((f"bytes={TWENTY_DIGITS}-5",)),
)  # fmt: skip


def check_range_answer(case: RangeCase, answer: RawResponse, content: bytes, content_type: str) -> None:
    """Assert that the response to a GET of `content` with the case's fields is the one in the table."""
    assert answer.status == case.status
    assert answer.complete
    size = len(content)
    if case.unsatisfiable:
        assert answer.header("content-range") == f"bytes */{size}"
        return
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.header("accept-ranges") == "bytes"
    if len(case.parts) > 1:
        assert answer.header("content-range") is None
        expected = [
            (content_type, f"bytes {first}-{last}/{size}", content[first : last + 1]) for first, last in case.parts
        ]
        assert byteranges(answer) == expected
        return
    assert answer.header("content-type") == content_type
    first, last = case.parts[0] if case.parts else (0, size - 1)
    assert answer.header("content-range") == (f"bytes {first}-{last}/{size}" if case.parts else None)
    assert answer.body == content[first : last + 1]


def byteranges(answer: RawResponse) -> list[tuple[str, str, bytes]]:
    """Content type, content range and bytes of each part of a `multipart/byteranges` response."""
    kind, _, boundary = (answer.header("content-type") or "").partition("; boundary=")
    assert kind == "multipart/byteranges"
    opening, *parts, closing = (b"\r\n" + answer.body).split(f"\r\n--{boundary}".encode())
    assert (opening, closing) == (b"", b"--\r\n")
    found: list[tuple[str, str, bytes]] = []
    for part in parts:
        head, _, body = part.partition(b"\r\n\r\n")
        lines = head.decode("ascii").removeprefix("\r\n").split("\r\n")
        fields = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        found.append((fields["content-type"], fields["content-range"], body))
    return found
