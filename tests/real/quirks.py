"""Deviations of S3 stores from AWS, as faults for a `Proxy` in front of a store that has none of them.

Each was observed at a store or is in its documentation. For a rewritten read, the proxy requests the whole object and the quirk selects
the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

from tests.real.proxy import Answered, Fault, Recorded, Rewrite

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_INVALID = b"<Error><Code>InvalidArgument</Code><Message>no</Message></Error>"


def reading(request: Recorded) -> bool:
    return request.method == "GET" and "list-type" not in request.query and "uploads" not in request.query


def looking(request: Recorded) -> bool:
    return request.method == "HEAD"


def listing(request: Recorded) -> bool:
    return request.method == "GET" and "list-type" in request.query


def _answer_range(pick: Callable[[Answered, int, int], Answered]) -> Rewrite:
    """A rewrite that calls `pick` with the whole object and the requested range, clamped to the object."""

    def rewrite(request: Recorded, whole: Answered) -> Answered:
        match = _RANGE.fullmatch(request.headers.get("range", ""))
        if match is None or whole.status != 200:
            return whole
        size = len(whole.body)
        first, last = int(match[1]), min(int(match[2] or size - 1), size - 1)
        if first >= size:
            return Answered(416, {"content-range": f"bytes */{size}", "content-length": "0"}, b"")
        return pick(whole, first, last)

    return rewrite


def _part(whole: Answered, status: int, first: int, last: int, *, stated: bool = True) -> Answered:
    headers = whole.headers | {"content-length": str(last - first + 1)}
    if stated:
        headers["content-range"] = f"bytes {first}-{last}/{len(whole.body)}"
    return Answered(status, headers, whole.body[first : last + 1])


def _aligned(whole: Answered, first: int, last: int) -> Answered:
    end = min((last // 65_536 + 1) * 65_536, len(whole.body)) - 1
    return _part(whole, 206, first // 65_536 * 65_536, end)


def _refuse_long(request: Recorded, whole: Answered) -> Answered:
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match and whole.status == 200 and int(match[2] or 0) >= len(whole.body) > int(match[1]):
        return Answered(400, {"content-type": "application/xml", "content-length": str(len(_INVALID))}, _INVALID)
    return _answer_range(lambda whole, first, last: _part(whole, 206, first, last))(request, whole)


def _ranged(pick: Callable[[Answered, int, int], Answered]) -> Fault:
    return Fault(reading, without=frozenset({"range"}), rewrite=_answer_range(pick))


def _without_header(*names: str) -> Rewrite:
    return lambda _request, answered: answered.having(**dict.fromkeys(names))


def _untagged(answered: Answered) -> Answered:
    tag = answered.headers.get("etag")
    return answered.having(etag=tag.strip('"')) if tag else answered


def _without_element(*names: str) -> Rewrite:
    pattern = re.compile("|".join(rf"<{name}>[^<]*</{name}>" for name in names).encode())
    return lambda _request, answered: Answered(answered.status, answered.headers, pattern.sub(b"", answered.body))


def _silent(_request: Recorded, answered: Answered) -> Answered:
    body = answered.body.replace(b"<EncodingType>url</EncodingType>", b"")
    return Answered(answered.status, answered.headers, body)


def _literal(_request: Recorded, answered: Answered) -> Answered:
    def decoded(key: re.Match[bytes]) -> bytes:
        return f"<Key>{escape(unquote_plus(key[1].decode()))}</Key>".encode()

    return Answered(answered.status, answered.headers, re.sub(rb"<Key>([^<]*)</Key>", decoded, answered.body))


def _small_pages(target: str) -> str:
    return target.replace("max-keys=1000", "max-keys=3")


def _no_start_after(target: str) -> str:
    return re.sub(r"&start-after=[^&]*|start-after=[^&]*&", "", target)


READ_QUIRKS: Mapping[str, Callable[[], list[Fault]]] = {
    "a range with 200": lambda: [_ranged(lambda whole, first, last: _part(whole, 200, first, last))],
    "the whole for a range": lambda: [_ranged(lambda whole, _first, _last: whole)],
    "more than was asked for": lambda: [_ranged(_aligned)],
    "a long range refused": lambda: [Fault(reading, without=frozenset({"range"}), rewrite=_refuse_long)],
    "no ETag": lambda: [Fault(lambda request: reading(request) or looking(request), rewrite=_without_header("etag"))],
    "no Last-Modified": lambda: [
        Fault(lambda request: reading(request) or looking(request), rewrite=_without_header("last_modified"))
    ],
    "ETag without quotes": lambda: [
        Fault(
            lambda request: reading(request) or looking(request), rewrite=lambda _request, answered: _untagged(answered)
        )
    ],
    "no length": lambda: [
        Fault(lambda request: reading(request) or looking(request), rewrite=_without_header("content_length"))
    ],
    "If-Match refused": lambda: [
        Fault(lambda request: reading(request) and "if-match" in request.headers, status=501, code="NotImplemented")
    ],
    "If-Match never matches": lambda: [
        Fault(lambda request: reading(request) and "if-match" in request.headers, status=412, code="PreconditionFailed")
    ],
    "If-Match ignored": lambda: [Fault(reading, without=frozenset({"if-match"}))],
}
"""With each of these, all bytes read are correct, and versions are never mixed."""

UNTRUSTED_QUIRKS: Mapping[str, Callable[[], list[Fault]]] = {
    "the range without a word": lambda: [
        _ranged(lambda whole, first, last: _part(whole, 200, first, last, stated=False))
    ],
    "a part that is not named": lambda: [
        _ranged(lambda whole, first, last: _part(whole, 206, first, last, stated=False))
    ],
    "another range": lambda: [
        _ranged(lambda whole, first, last: _part(whole, 206, first + 1, min(last + 1, len(whole.body) - 1)))
    ],
    "another length": lambda: [
        _ranged(
            lambda whole, first, last: _part(whole, 206, first, last).having(
                content_range=f"bytes {first}-{last + 1}/{len(whole.body)}"
            )
        )
    ],
}
"""With each of these, reading a range from the middle of an object fails instead of returning wrong bytes."""

LISTING_QUIRKS: Mapping[str, Callable[[], list[Fault]]] = {
    "keys encoded without a word": lambda: [Fault(listing, rewrite=_silent)],
    "keys said to be encoded, and not": lambda: [Fault(listing, rewrite=_literal)],
    "no token": lambda: [Fault(listing, retarget=_small_pages, rewrite=_without_element("NextContinuationToken"))],
    "start-after ignored": lambda: [Fault(listing, retarget=_no_start_after)],
    "start-after refused": lambda: [
        Fault(lambda request: listing(request) and "start-after" in request.query, status=501, code="NotImplemented")
    ],
    "no ETag and no date": lambda: [Fault(listing, rewrite=_without_element("ETag", "LastModified"))],
}
"""With each of these, a listing is complete and its keys are those that were written. For a store that checks no signatures."""

NO_WAY_ON: Mapping[str, Callable[[], list[Fault]]] = {
    "no token and no start-after": lambda: [
        Fault(
            listing,
            retarget=lambda target: _small_pages(_no_start_after(target)),
            rewrite=_without_element("NextContinuationToken"),
        )
    ],
    "the same page again": lambda: [
        Fault(listing, retarget=lambda target: _small_pages(re.sub(r"&?continuation-token=[^&]*", "", target)))
    ],
}
"""With each of these, a listing of more than one page fails: it is never truncated and never endless."""
