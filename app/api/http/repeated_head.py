"""`RepeatedHead`: recognises a GET whose head differs from an earlier one of its connection only in the asset and in the range.

A client that shows photos or plays a film sends the same header fields again and again. To compare them takes a tenth of the time in which they
are parsed. What was parsed before is the result: no second parser decides what a field means. No I/O.
"""

from __future__ import annotations

import re

MAX_FIELDS_BYTES = 4096
"""Longer fields are not kept: each connection holds one copy."""

HeaderFields = list[tuple[bytes, bytes]]

_REQUEST_LINE = re.compile(
    rb"GET (/api/assets/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/(?:original|thumbnail|video/playback))"
    rb"(?:\?((?:size=(?:thumbnail|preview|fullsize)(?:&c=[0-9A-Za-z_.~-]*)?|c=[0-9A-Za-z_.~-]*)))? HTTP/1\.1\r\n"
)
_RANGE_LINE = re.compile(rb"[Rr]ange: (bytes=[0-9]{1,19}-[0-9]{0,19})\r\n(?![ \t])")
_END_OF_LINE = b"\r\n"


class RepeatedHead:
    """The fields of an earlier request without its range, as received and as parsed."""

    __slots__ = ("_after", "_before", "_headers", "_whole")

    def __init__(self, before: bytes, after: bytes, headers: HeaderFields) -> None:
        """`before` and `after`: the lines before and after that of the range, up to the end of the head; `headers` are theirs."""
        self._before = before
        self._after = after
        self._whole = before + after
        self._headers = headers

    @staticmethod
    def remember(head: bytes, headers: HeaderFields) -> RepeatedHead | None:
        """`head`: one whole head that was parsed to `headers`, and whose request was answered, without a body. None if it is no plain one."""
        line = _REQUEST_LINE.match(head)
        if line is None or len(head) > MAX_FIELDS_BYTES:
            return None
        fields = head[line.end() :]
        start = 0
        while start < len(fields):
            found = _RANGE_LINE.match(fields, start)
            if found is not None:
                others = [field for field in headers if field[0] != b"range"]
                if len(others) != len(headers) - 1:
                    return None
                return RepeatedHead(fields[:start], fields[found.end() :], others)
            start = fields.index(_END_OF_LINE, start) + len(_END_OF_LINE)
        if any(name == b"range" for name, _ in headers):
            return None
        before_last = fields[: -len(_END_OF_LINE)]  # before the empty line that ends the head
        return RepeatedHead(before_last, _END_OF_LINE, headers)

    def match(self, data: bytes) -> tuple[str, bytes, HeaderFields] | None:
        """Path, query and fields, if `data` is exactly one such head."""
        line = _REQUEST_LINE.match(data)
        if line is None:
            return None
        start = line.end()
        if data.endswith(self._whole) and len(data) == start + len(self._whole):
            headers = self._headers
        else:
            before, after = self._before, self._after
            found = _RANGE_LINE.match(data, start + len(before))
            if (
                found is None
                or not data.startswith(before, start)
                or len(data) != found.end() + len(after)
                or not data.endswith(after)
            ):
                return None
            headers = [*self._headers, (b"range", found[1])]
        return line[1].decode("ascii"), line[2] or b"", headers
