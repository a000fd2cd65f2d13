"""Properties of the response for any content, ranges and chunks (hypothesis), checked on the ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.errors import UnsatisfiableRange
from app.delivery.range_header import RangeResult, parse_range_header
from app.delivery.response import IMMUTABLE, NO_CACHE, Representation, deliver_source
from app.storage.backend import CHUNK_BYTES
from tests.delivery.range_cases import byteranges
from tests.delivery.sources import RecordedSource
from tests.real.http_raw import RawResponse

positions = st.integers(0, 70)
specs = st.one_of(
    st.builds("{}-{}".format, positions, positions),
    st.builds("{}-".format, positions),
    st.builds("-{}".format, positions),
)
ranges = st.lists(specs, min_size=1, max_size=4).map(lambda items: "bytes=" + ", ".join(items))


async def wait_forever() -> MutableMapping[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def refuse_to_listen() -> MutableMapping[str, Any]:
    raise AssertionError("listens for a client that can not leave early")


async def answer_to(source: RecordedSource, field: str | None, receive: Any = wait_forever) -> RawResponse:
    messages: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    headers = [] if field is None else [(b"range", field.encode())]
    scope = {"type": "http", "method": "GET", "headers": headers}
    await deliver_source(source, scope, receive, send, attachment=False, cache_control=NO_CACHE)
    start, *bodies = messages
    assert [message["more_body"] for message in bodies] == [True] * (len(bodies) - 1) + [False]
    fields = tuple((name.decode(), value.decode()) for name, value in start["headers"])
    return RawResponse(start["status"], fields, b"".join(message["body"] for message in bodies), complete=True)


@given(st.binary(max_size=60), ranges, st.integers(1, 70))
async def test_what_is_sent_are_slices_of_the_bytes(content: bytes, field: str, chunk_bytes: int) -> None:
    source = RecordedSource(content, chunk_bytes=chunk_bytes)
    if parse_range_header(field, len(content)) is RangeResult.UNSATISFIABLE:
        with pytest.raises(UnsatisfiableRange) as refused:
            await answer_to(source, field)
        assert (b"content-range", b"bytes */%d" % len(content)) in refused.value.headers
        assert source.opened == 0
        return
    answer = await answer_to(source, field)
    assert answer.header("content-length") == str(len(answer.body))
    assert source.opened == source.closed
    if answer.status == 200:
        assert answer.body == content
        return
    assert answer.status == 206
    single = answer.header("content-range")
    parts = [("", single, answer.body)] if single else byteranges(answer)
    for _, content_range, body in parts:
        span, _, size = content_range.removeprefix("bytes ").partition("/")
        first, last = map(int, span.split("-"))
        assert int(size) == len(content)
        assert body == content[first : last + 1]


@pytest.mark.parametrize("size", [0, 1, 65536, CHUNK_BYTES])
async def test_small_answers_start_no_task(size: int) -> None:
    answer = await answer_to(RecordedSource(b"x" * size), None, receive=refuse_to_listen)
    assert len(answer.body) == size


async def test_one_representation_serves_many_at_a_time() -> None:
    content = bytes(range(256)) * 64
    source = RecordedSource(content, chunk_bytes=1000)
    kept = Representation(source, attachment=True, cache_control=IMMUTABLE)

    async def ask(first: int) -> bytes:
        sent: list[bytes] = []

        async def send(message: MutableMapping[str, Any]) -> None:
            await asyncio.sleep(0)
            sent.append(message.get("body", b""))

        scope = {"type": "http", "method": "GET", "headers": [(b"range", b"bytes=%d-%d" % (first, first + 4999))]}
        await kept.deliver(scope, wait_forever, send)
        return b"".join(sent)

    answers = await asyncio.gather(*(ask(first) for first in range(0, 5000, 500)))
    assert answers == [content[first : first + 5000] for first in range(0, 5000, 500)]
