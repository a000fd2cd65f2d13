"""The response of a real server over a bare socket: ranges, conditions, header fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from app.storage.backend import CHUNK_BYTES
from app.storage.errors import ObjectNotFound
from tests.delivery.range_cases import RANGE_CASES, TEN_BYTES, RangeCase, byteranges, check_range_answer
from tests.delivery.sources import RecordedSource, SourceApp, run_server
from tests.real.http_raw import RawConnection, RawResponse, fetch

HOST = "127.0.0.1"
ETAG = '"0123"'
MODIFIED = "Thu, 29 Feb 2024 12:30:15 GMT"
OLDER = "Thu, 29 Feb 2024 12:30:14 GMT"


@dataclass
class Site:
    """A running server and what it serves."""

    gallery: SourceApp
    port: int

    def add(self, source: RecordedSource) -> str:
        target = f"/{len(self.gallery.sources)}"
        self.gallery.sources[target] = source
        return target

    async def ask(self, source: RecordedSource, *headers: tuple[str, str], method: str = "GET") -> RawResponse:
        return await fetch(HOST, self.port, method, self.add(source), headers)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    gallery = SourceApp()
    with run_server(gallery) as port:
        yield Site(gallery, port)


def ten() -> RecordedSource:
    return RecordedSource(TEN_BYTES)


@pytest.mark.parametrize("case", RANGE_CASES, ids=str)
async def test_ranges_of_ten_bytes(site: Site, case: RangeCase) -> None:
    answer = await site.ask(ten(), *case.request_headers)
    check_range_answer(case, answer, TEN_BYTES, "image/jpeg")


@pytest.mark.parametrize("case", RANGE_CASES, ids=str)
async def test_head_has_the_headers_of_the_whole_and_reads_nothing(site: Site, case: RangeCase) -> None:
    source = ten()
    whole = await site.ask(ten())
    head = await site.ask(source, *case.request_headers, method="HEAD")
    assert head.status == 200
    assert [field for field in head.headers if field[0] != "date"] == [
        field for field in whole.headers if field[0] != "date"
    ]
    assert source.opened == 0


@pytest.mark.parametrize("field", ["bytes=0-0", "bytes=-1", "bytes=5-", "bytes=0-0,1-1"])
async def test_an_empty_file_is_sent_whole(site: Site, field: str) -> None:
    answer = await site.ask(RecordedSource(b""), ("Range", field))
    assert (answer.status, answer.body, answer.header("content-length")) == (200, b"", "0")


async def test_several_ranges_of_several_chunks(site: Site) -> None:
    content = bytes(range(256)) * 8192
    source = RecordedSource(content, content_type="video/mp4", chunk_bytes=100_000)
    answer = await site.ask(source, ("Range", "bytes=1000000-1999999,5-500000"))
    assert answer.status == 206
    assert byteranges(answer) == [
        ("video/mp4", "bytes 1000000-1999999/2097152", content[1_000_000:2_000_000]),
        ("video/mp4", "bytes 5-500000/2097152", content[5:500_001]),
    ]
    assert answer.header("content-length") == str(len(answer.body))
    assert (source.opened, source.closed) == (2, 2)


@pytest.mark.parametrize("chunk_bytes", [1, 7, 10, 11])
async def test_chunks_of_any_size(site: Site, chunk_bytes: int) -> None:
    answer = await site.ask(RecordedSource(TEN_BYTES, chunk_bytes=chunk_bytes), ("Range", "bytes=1-8"))
    assert (answer.status, answer.body) == (206, b"12345678")


async def test_only_what_is_asked_for_is_read(site: Site) -> None:
    source = RecordedSource(b"x" * (8 * CHUNK_BYTES))
    answer = await site.ask(source, ("Range", f"bytes=70000-{70000 + 65535}"))
    assert len(answer.body) == source.given == 65536


CONDITIONS: list[tuple[list[tuple[str, str]], int]] = [
    ([("If-None-Match", ETAG)], 304),
    ([("If-None-Match", "*")], 304),
    ([("If-None-Match", f"W/{ETAG}")], 304),
    ([("If-None-Match", '"other"'), ("If-None-Match", ETAG)], 304),
    ([("If-None-Match", '"other"')], 200),
    ([("If-Modified-Since", MODIFIED)], 304),
    ([("If-Modified-Since", OLDER)], 200),
    ([("If-Modified-Since", "nonsense")], 200),
    ([("If-Match", ETAG)], 200),
    ([("If-Match", f"W/{ETAG}")], 412),
    ([("If-Match", '"other"')], 412),
    ([("If-Unmodified-Since", MODIFIED)], 200),
    ([("If-Unmodified-Since", OLDER)], 412),
    # conditions come before the range
    ([("If-None-Match", ETAG), ("Range", "bytes=0-1")], 304),
    ([("If-None-Match", ETAG), ("Range", "bytes=10-")], 304),
    ([("If-Match", '"other"'), ("Range", "bytes=10-")], 412),
    ([("If-Match", ETAG), ("Range", "bytes=0-1")], 206),
    # If-Range
    ([("If-Range", ETAG), ("Range", "bytes=0-1")], 206),
    ([("If-Range", MODIFIED), ("Range", "bytes=0-1")], 206),
    ([("If-Range", OLDER), ("Range", "bytes=0-1")], 200),
    ([("If-Range", f"W/{ETAG}"), ("Range", "bytes=0-1")], 200),
    ([("If-Range", '"other"'), ("Range", "bytes=10-")], 200),
    ([("If-Range", ETAG), ("Range", "bytes=10-")], 416),
]


@pytest.mark.parametrize(("headers", "status"), CONDITIONS, ids=str)
async def test_conditions(site: Site, headers: list[tuple[str, str]], status: int) -> None:
    answer = await site.ask(ten(), *headers)
    assert answer.status == status
    assert answer.header("etag") == ETAG
    if status == 200:
        assert answer.body == TEN_BYTES
    if status == 304:
        assert answer.header("content-length") is None
        assert answer.header("transfer-encoding") is None
        assert answer.header("cache-control") == "private, no-cache"
        assert answer.header("last-modified") == MODIFIED
    if status in (412, 416):
        assert answer.header("cache-control") is None
        assert answer.header("content-type") == "application/problem+json"


@pytest.mark.parametrize(("headers", "status"), CONDITIONS, ids=str)
async def test_conditions_hold_for_head(site: Site, headers: list[tuple[str, str]], status: int) -> None:
    source = ten()
    answer = await site.ask(source, *headers, method="HEAD")
    assert answer.status == (200 if status in (206, 416) else status)
    assert source.opened == 0


async def test_one_connection_serves_every_kind_of_answer_in_turn(site: Site) -> None:
    target = site.add(ten())
    requests = [("GET", headers, status) for headers, status in CONDITIONS]
    requests += [("HEAD", [], 200), ("GET", [("Range", "bytes=0-0,-2")], 206), ("GET", [], 200)]
    async with await RawConnection.open(HOST, site.port) as connection:
        answers = [(await connection.request(method, target, headers)).status for method, headers, _ in requests]
        assert answers == [status for *_, status in requests]
        for method, headers, _ in requests:
            await connection.send_request(method, target, headers)
        assert [(await connection.read_response(method)).status for method, *_ in requests] == answers


async def test_headers_of_a_whole_file(site: Site) -> None:
    answer = await site.ask(RecordedSource(TEN_BYTES, filename="Käse.jpg"))
    assert {name: value for name, value in answer.headers if name not in ("date", "server")} == {
        "etag": ETAG,
        "last-modified": MODIFIED,
        "cache-control": "private, no-cache",
        "accept-ranges": "bytes",
        "content-disposition": "inline; filename=\"K_se.jpg\"; filename*=UTF-8''K%C3%A4se.jpg",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "content-type": "image/jpeg",
        "content-length": "10",
        "x-correlation-id": "abc",
    }


@pytest.mark.parametrize(
    ("content_type", "policy", "disposition"),
    [
        ("image/png", "default-src 'none'; sandbox", "inline"),
        ("video/mp4", "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'", "inline"),
        ("audio/mpeg", "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'", "inline"),
        ("image/svg+xml", "default-src 'none'; sandbox", "attachment"),
        ("text/html", "default-src 'none'; sandbox", "attachment"),
        ("application/xml", "default-src 'none'; sandbox", "attachment"),
        ("application/pdf", "default-src 'none'; sandbox", "attachment"),
    ],
)
@pytest.mark.parametrize("field", ["bytes=0-1", "bytes=0-0,2-2", "none"])
async def test_what_browsers_may_do_with_it(
    site: Site, content_type: str, policy: str, disposition: str, field: str
) -> None:
    answer = await site.ask(RecordedSource(TEN_BYTES, content_type=content_type), ("Range", field))
    assert answer.header("content-security-policy") == policy
    assert answer.header("x-content-type-options") == "nosniff"
    assert (answer.header("content-disposition") or "").split(";")[0] == disposition


async def test_attachment_on_request(site: Site) -> None:
    target = site.add(ten())
    answer = await fetch(HOST, site.port, "GET", f"{target}?download")
    assert answer.header("content-disposition") == 'attachment; filename="photo.jpg"'


@pytest.mark.parametrize(
    "name", ["a\r\nX-Evil: 1\r\n\r\n", "x" * 5000 + ".jpg", '"; filename="b.exe', "\udcff\u202e\x00", ""]
)
async def test_no_name_breaks_the_head(site: Site, name: str) -> None:
    answer = await site.ask(RecordedSource(TEN_BYTES, filename=name))
    assert (answer.status, answer.body) == (200, TEN_BYTES)
    assert answer.header("x-evil") is None
    assert len(answer.header("content-disposition") or "") < 1100


async def test_a_source_without_ranges_says_so(site: Site) -> None:
    source = RecordedSource(TEN_BYTES, accepts_ranges=False)
    for field in ("bytes=0-1", "bytes=10-", "bytes=0-0,2-2"):
        answer = await site.ask(source, ("Range", field))
        assert (answer.status, answer.body, answer.header("accept-ranges")) == (200, TEN_BYTES, "none")


@pytest.mark.parametrize("field", ["none", "bytes=0-1", "bytes=0-0,2-2"])
async def test_failing_to_open_is_a_status(site: Site, field: str) -> None:
    source = RecordedSource(TEN_BYTES, open_error=ObjectNotFound("upload/x.jpg", "local"))
    async with await RawConnection.open(HOST, site.port) as connection:
        target = site.add(source)
        assert (await connection.request("GET", target, [("Range", field)])).status == 404
        source.open_error = None
        assert (await connection.request("GET", target)).body == TEN_BYTES
