"""Finds the end of a request's body (RFC 9112 section 6) before the parser receives the bytes, and bounds chunk lines. No I/O."""

from __future__ import annotations

import re

from app.api.errors import ApiError

MAX_LINE_BYTES = 64 * 1024
"""Bounds a chunk-size line with its extensions, and the sum of all trailers."""
MAX_STEPS_PER_CALL = 256
SMALL_CHUNKS_PER_STEP = 16
"""The parser takes about a millisecond for the small chunks of `MAX_STEPS_PER_CALL` steps."""
_SMALL_CHUNKS = re.compile(
    b"(?s:%b){1,%d}" % (b"|".join(b"%x\r\n.{%d}\r\n" % (size, size) for size in range(1, 16)), SMALL_CHUNKS_PER_STEP)
)
"""A run of complete chunks of 1 to 15 bytes: one match is faster than a step for each chunk."""
_CHUNK_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\r\n]*)?\r\n")
_LINE_END = b"\n"
"""The parser refuses a line that ends without CR."""
_CRLF_SIZE = 2


class BodyFraming:
    """Tracks the framing of one body at a time: call `begin`, then `advance` for all received bytes until `is_complete`."""

    __slots__ = ("_chunked", "_in_trailers", "_left", "_line", "_trailer_bytes")

    def __init__(self) -> None:
        self.begin(0)

    def begin(self, length: int | None) -> None:
        """Start a new body. `length` in bytes; None for chunked transfer coding."""
        self._chunked = length is None
        self._left = length or 0
        self._in_trailers = False
        self._line = b""
        self._trailer_bytes = 0

    @property
    def is_complete(self) -> bool:
        return not self._left and not self._chunked

    @property
    def is_chunked(self) -> bool:
        """Whether chunk lines or trailers are still to come."""
        return self._chunked

    @property
    def bytes_left(self) -> int:
        """Bytes that have not arrived yet of a body with a length; 0 for a chunked one."""
        return 0 if self._chunked else self._left

    def skip(self, count: int) -> bool:
        """Count bytes that were not passed to `advance`, at most `bytes_left`. Returns `is_complete`."""
        self._left -= count
        return self.is_complete

    def may_exceed(self, size: int) -> bool:
        """Whether more than `size` bytes of the body may still arrive."""
        return self._chunked or self._left > size

    def advance(self, data: bytes, start: int, size: int) -> int:
        """The offset up to which the parser may receive `data[start:size]`: the end of the body, the end of the data, or the end of
        `MAX_STEPS_PER_CALL` steps. Raises `ApiError`: 400 for a malformed chunk, 431 for a line or trailers that are too long."""
        if self._chunked:
            return self._end_of_chunks(data, start, size)
        end = min(size, start + self._left)
        self._left -= end - start
        return end

    def _end_of_chunks(self, data: bytes, start: int, size: int) -> int:
        position = start + self._left
        for _ in range(MAX_STEPS_PER_CALL):
            if position >= size:
                self._left = position - size
                return size
            self._left = 0
            if self._line or self._in_trailers:
                position = self._end_of_line(data, position)
                if self.is_complete:
                    return position
            elif small := _SMALL_CHUNKS.match(data, position):
                position = small.end()
            elif line := _CHUNK_SIZE_LINE.match(data, position):
                if line.end() - position > MAX_LINE_BYTES:
                    raise _line_too_long()
                self._begin_chunk(line)
                position = line.end()
            else:
                position = self._end_of_line(data, position)
            position += self._left
        self._left = max(0, position - size)
        return min(position, size)

    def _end_of_line(self, data: bytes, start: int) -> int:
        """Consume a chunk-size line that arrived in parts, or a trailer; keep an incomplete line. Returns the offset after it."""
        end = data.find(_LINE_END, start) + 1
        line = self._line + (data[start:end] if end else data[start:])
        if len(line) + self._trailer_bytes > MAX_LINE_BYTES:
            raise _line_too_long()
        self._line = b"" if end else line
        if not end:
            return len(data)
        if not self._in_trailers:
            self._begin_chunk(_CHUNK_SIZE_LINE.fullmatch(line))
        elif line == b"\r\n":
            self._chunked = False
        else:
            self._trailer_bytes += len(line)
        return end

    def _begin_chunk(self, line: re.Match[bytes] | None) -> None:
        if line is None:
            raise ApiError(400, "A chunk of the body is malformed")
        length = int(line[1], 16)
        self._in_trailers = not length
        self._left = length and length + _CRLF_SIZE


def _line_too_long() -> ApiError:
    return ApiError(431, f"A chunk's extensions or the trailers are larger than {MAX_LINE_BYTES} bytes")
