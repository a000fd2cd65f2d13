"""Parses a multipart/form-data body into a stream of parts, in order (RFC 7578; boundaries: RFC 2046 section 5.1.1).

Holds at most one chunk of the body and one field in memory, and stores nothing. Does not know the meaning of fields.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.uploads.errors import IncompleteBody, MalformedBody

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 100
MAX_FIELD_BYTES = 1024 * 1024
MAX_FIELDS_BYTES = 2 * 1024 * 1024
"""Limit for all fields together."""
MAX_HEADERS = 16
"""Limit for one part."""
MAX_HEADER_BYTES = 32 * 1024
"""Limit for one header line: a file name of 5,000 characters fits."""
MAX_PADDING_BYTES = 64 * 1024
"""Limit before the first boundary, and again after the last."""
MAX_CONTENT_TYPE_CHARACTERS = 1024
MAX_OVERHEAD_BYTES = MAX_FIELDS_BYTES + 2 * MAX_PADDING_BYTES + MAX_PARTS * 1024
"""The most by which a valid body is larger than its files."""

_BOUNDARY_CHARACTERS = frozenset(range(0x20, 0x7F))
_PLAIN_ENCODINGS = frozenset((b"", b"7bit", b"8bit", b"binary"))


@dataclass(frozen=True, slots=True)
class FormField:
    """A part that is no file. `value` is at most `MAX_FIELD_BYTES`."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file. `filename` is the client's text, None where there is none; it must not be used as a path.

    The caller reads `chunks` before it asks for the next part; the rest is skipped then. They share memory with the body's chunks.
    """

    name: str
    filename: str | None
    chunks: AsyncIterator[memoryview]


FormPart = FormField | FilePart


@dataclass(frozen=True, slots=True)
class _PartHead:
    name: str
    filename: str | None


class _BodyMark(Enum):
    PART_END = auto()
    BODY_END = auto()


_Event = _PartHead | memoryview | _BodyMark


class MultipartReader:
    """Reads one body. `content_type` is the request's header; parts named in `file_fields` are files even without a file name.

    The constructor raises `MalformedBody` where the content type is not usable.
    """

    def __init__(
        self, content_type: str | None, body: AsyncIterator[bytes], *, file_fields: frozenset[str] = frozenset()
    ) -> None:
        self._body = body
        self._file_fields = file_fields
        self._events: deque[_Event] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._header_name = b""
        self._header_value = b""
        self._chunk: memoryview = memoryview(b"")
        self._parts = 0
        self._fields_bytes = 0
        self._padding_bytes = 0
        self._in_part = False
        self._ended = False
        callbacks: MultipartCallbacks = {
            "on_part_begin": self._on_part_begin,
            "on_header_begin": self._on_header_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(
            parse_boundary(content_type), callbacks, max_header_count=MAX_HEADERS, max_header_size=MAX_HEADER_BYTES
        )

    async def iter_parts(self) -> AsyncGenerator[FormPart, None]:
        """Yields the parts in the body's order; ends after the whole, complete body has been read.

        Raises `MalformedBody`, `IncompleteBody`, and the errors of the body.
        """
        while isinstance(head := await self._next(), _PartHead):
            self._in_part = True
            if head.filename is None and head.name not in self._file_fields:
                yield FormField(head.name, await self._read_value(head.name))
            else:
                yield FilePart(head.name, head.filename, self._iter_data())
                async for _ in self._iter_data():
                    pass
        async for chunk in self._body:
            self._count_padding(len(chunk))

    async def _read_value(self, name: str) -> bytes:
        value = bytearray()
        async for piece in self._iter_data():
            value += piece
            self._fields_bytes += len(piece)
            if len(value) > MAX_FIELD_BYTES:
                raise MalformedBody(f"The field {name[:50]!r} is larger than {MAX_FIELD_BYTES} bytes")
            if self._fields_bytes > MAX_FIELDS_BYTES:
                raise MalformedBody(f"The fields are larger than {MAX_FIELDS_BYTES} bytes together")
        return bytes(value)

    async def _iter_data(self) -> AsyncGenerator[memoryview, None]:
        while self._in_part:
            event = await self._next()
            if isinstance(event, memoryview):
                yield event
            else:
                self._in_part = False

    async def _next(self) -> _Event:
        while not self._events:
            try:
                chunk = await anext(self._body)
            except StopAsyncIteration:
                raise IncompleteBody from None
            self._feed(chunk)
        return self._events.popleft()

    def _feed(self, chunk: bytes) -> None:
        self._chunk = memoryview(chunk)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedBody(f"The body is no valid multipart/form-data: {error}") from None
        if not self._parts and not self._ended:
            self._count_padding(len(chunk))

    def _count_padding(self, size: int) -> None:
        self._padding_bytes += size
        if self._padding_bytes > MAX_PADDING_BYTES:
            raise MalformedBody("The body holds too much outside its parts")

    def _on_part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise MalformedBody(f"The body has more than {MAX_PARTS} parts")
        self._headers = {}

    def _on_header_begin(self) -> None:
        self._header_name = self._header_value = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        name = self._header_name.lower()
        if name in self._headers:
            raise MalformedBody(f"A part repeats the header {name[:50].decode('latin-1')}")
        self._headers[name] = self._header_value

    def _on_headers_finished(self) -> None:
        self._events.append(_parse_part_head(self._headers))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        source = self._chunk if data is self._chunk.obj else memoryview(data)
        self._events.append(source[start:end])

    def _on_part_end(self) -> None:
        self._events.append(_BodyMark.PART_END)

    def _on_end(self) -> None:
        self._ended = True
        self._events.append(_BodyMark.BODY_END)


def parse_boundary(content_type: str | None) -> bytes:
    """The boundary in a request's Content-Type. Raises `MalformedBody`."""
    if content_type is None or len(content_type) > MAX_CONTENT_TYPE_CHARACTERS:
        raise MalformedBody("The content type is not multipart/form-data")
    try:
        media_type, parameters = parse_options_header(content_type)
    except UnicodeEncodeError:
        raise MalformedBody("The content type is not multipart/form-data") from None
    if media_type.strip() != b"multipart/form-data":
        raise MalformedBody("The content type is not multipart/form-data")
    boundary = parameters.get(b"boundary", b"")
    if not boundary or len(boundary) > 200 or not _BOUNDARY_CHARACTERS.issuperset(boundary):
        raise MalformedBody("The content type has no usable boundary")
    return boundary


def _parse_part_head(headers: Mapping[bytes, bytes]) -> _PartHead:
    disposition, parameters = parse_options_header(headers.get(b"content-disposition", b""))
    name = parameters.get(b"name")
    if disposition.strip() != b"form-data" or name is None:
        raise MalformedBody("A part has no Content-Disposition: form-data with a name")
    encoding = headers.get(b"content-transfer-encoding", b"").strip().lower()
    if encoding not in _PLAIN_ENCODINGS:
        raise MalformedBody("A part has a Content-Transfer-Encoding; only plain bytes are accepted")
    filename = parameters.get(b"filename")
    if filename is None:
        return _PartHead(_decode_text(name), _parse_extended_filename(headers[b"content-disposition"]))
    return _PartHead(_decode_text(name), _decode_text(filename))


def _parse_extended_filename(disposition: bytes) -> str | None:
    """`filename*=UTF-8''…` (RFC 8187). RFC 7578 section 4.2 forbids it, yet some clients send only this form, so it is used
    where there is no plain `filename`. A plain `filename` always wins, as in other parsers."""
    _, found, value = disposition.partition(b"filename*=")
    charset, _, rest = value.partition(b";")[0].strip().strip(b'"').partition(b"'")
    encoded = rest.partition(b"'")[2]
    if not found or charset.lower() not in (b"utf-8", b"iso-8859-1"):
        return None
    return unquote_to_bytes(encoded).decode(charset.decode(), errors="replace")


def _decode_text(raw: bytes) -> str:
    """Decodes UTF-8, which browsers and usual clients send; otherwise Latin-1, so that no name is lost."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
