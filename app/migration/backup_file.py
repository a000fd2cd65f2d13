"""The form of a backup: lines of JSON in gzip, so that any machine can look into one. Reads and writes no files itself.

    {"mediavault_backup": 1, "revision": …}     what it is (`Header`)
    {"table": "asset", "columns": [["id", "uuid"], …]}
    ["0190f0c4-…", …]                           its rows, then the next table
    {"rows": {"asset": 1, …}, "sha256": "…"}    how many there must be, and the SHA-256 of all lines before this one

A file that was cut short has no last line, and one in which anything was changed has another checksum.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from app.catalog.dump import Cell, DumpedColumn, DumpedTable, Snapshot

FORM = 1
"""Counts the forms that there have been."""
CONTENT_TYPE = "application/gzip"
MAX_LINE_BYTES = 256 * 1024 * 1024
"""An archive's manifest may take tens of megabytes; a line beyond this is no row of ours."""
MAX_HEADER_BYTES = 1024 * 1024
"""Of the first line."""

_WRONG_HEADER = "its first line is not as it should be"
_GZIP = 16 + zlib.MAX_WBITS
_LEVEL = 6
_PIECE_BYTES = 1024 * 1024
_BATCH_ROWS = 500
_BATCH_BYTES = 4 * 1024 * 1024


class BackupDamaged(Exception):
    """This is no backup, or not as it was written; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Header:
    """`revision` of the schema, `program` the version of mediavault, `installation` its id. `media_location` and `bucket_location` are where
    the paths of managed files began (an absolute folder; `s3://bucket/prefix`, or null)."""

    revision: str
    created_at: str
    program: str
    installation: str
    media_location: str
    bucket_location: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of one table."""

    table: DumpedTable
    rows: list[list[Cell]]


@dataclass(frozen=True, slots=True)
class Trailer:
    """How many rows of each table there were, by what was written and by what was read."""

    rows: dict[str, int]


async def written(header: Header, snapshot: Snapshot) -> AsyncGenerator[bytes]:
    """The bytes of a backup of all that the snapshot holds; close it when you leave early."""
    writing = _Writing()
    yield writing.lines([{"mediavault_backup": FORM, **asdict(header)}])
    for table in snapshot.tables:
        columns = [[column.name, column.kind] for column in table.columns]
        yield writing.lines([{"table": table.name, "columns": columns}])
        writing.counts[table.name] = 0
        async with aclosing(snapshot.rows(table)) as batches:
            async for rows in batches:
                writing.counts[table.name] += len(rows)
                if piece := await asyncio.to_thread(writing.lines, rows):
                    yield piece
    yield await asyncio.to_thread(writing.end)


class _Writing:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._digest = hashlib.sha256()
        self._gzip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)

    def lines(self, values: Sequence[Cell]) -> bytes:
        data = b"".join(_line(value) for value in values)
        self._digest.update(data)
        return self._gzip.compress(data)

    def end(self) -> bytes:
        last = _line({"rows": self.counts, "sha256": self._digest.hexdigest()})
        return self._gzip.compress(last) + self._gzip.flush()


def _line(value: Cell) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


async def read(chunks: AsyncIterable[bytes]) -> AsyncGenerator[Header | Rows | Trailer]:
    """The header, all rows, and at the end what says that they are all. Raises `BackupDamaged`: rows that came before it are not to be
    used either."""
    reading = _Reading()
    async for chunk in chunks:
        for piece in range(0, len(chunk), _PIECE_BYTES):
            data: bytes | None = chunk[piece : piece + _PIECE_BYTES]
            while data is not None:
                parts, data = await asyncio.to_thread(reading.take, data)
                for part in parts:
                    yield part
    yield reading.end()


class _Reading:
    def __init__(self) -> None:
        self._gzip = zlib.decompressobj(_GZIP)
        self._digest = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._header: Header | None = None
        self._table: DumpedTable | None = None
        self._rows: list[list[Cell]] = []
        self._rows_bytes = 0
        self._counts: Counter[str] = Counter()
        self._trailer: Trailer | None = None

    def take(self, data: bytes) -> tuple[list[Header | Rows], bytes | None]:
        """What became of it, and what of it is to be given again: never more than `_PIECE_BYTES` are unpacked at a time."""
        try:
            unpacked = self._gzip.decompress(data, _PIECE_BYTES)
        except zlib.error:
            raise self._damage("it is damaged, or not compressed as backups are") from None
        if self._gzip.unused_data:
            raise self._damage("there is something behind its end")
        parts = list(self._parts(unpacked))
        more = self._gzip.unconsumed_tail
        return parts, more if more or len(unpacked) == _PIECE_BYTES else None

    def end(self) -> Trailer:
        if self._trailer is None or self._pending_bytes or not self._gzip.eof:
            raise self._damage("it ends too early")
        return self._trailer

    def _damage(self, what: str) -> BackupDamaged:
        return BackupDamaged(what if self._header else "it is no backup of mediavault")

    def _parts(self, data: bytes) -> Iterator[Header | Rows]:
        for line in self._lines(data):
            if self._trailer is not None:
                raise self._damage("there is something behind its last line")
            yield from self._line(line)

    def _lines(self, data: bytes) -> list[bytes]:
        """Those that end in it. Pieces of a long one are put together once."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._pending, lines[0]))
            self._pending, self._pending_bytes = [], 0
        self._pending.append(rest)
        self._pending_bytes += len(rest)
        if self._pending_bytes > (MAX_LINE_BYTES if self._header or lines else MAX_HEADER_BYTES):
            raise self._damage("one of its lines is too long")
        return lines

    def _line(self, line: bytes) -> Iterator[Header | Rows]:
        try:
            # What is no number to JSON (NaN, Infinity) is none to PostgreSQL either.
            value = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise self._damage("one of its lines is damaged") from None
        if isinstance(value, list):
            yield from self._row(value, len(line))
        elif not isinstance(value, dict):
            raise self._damage("one of its lines is damaged")
        elif self._header is None:
            self._header = _header(value)
            yield self._header
        elif "table" in value:
            yield from self._taken()
            self._table = _table(value)
        else:
            yield from self._taken()
            self._trailer = self._checked(value)
        self._digest.update(line + b"\n")

    def _row(self, row: list[Cell], size: int) -> Iterator[Rows]:
        if self._table is None or len(row) != len(self._table.columns):
            raise self._damage("a row fits no table")
        self._rows.append(row)
        self._rows_bytes += size
        self._counts[self._table.name] += 1
        if len(self._rows) >= _BATCH_ROWS or self._rows_bytes >= _BATCH_BYTES:
            yield from self._taken()

    def _taken(self) -> Iterator[Rows]:
        if self._rows and self._table is not None:
            yield Rows(self._table, self._rows)
        self._rows, self._rows_bytes = [], 0
        if self._table is not None:
            self._counts.setdefault(self._table.name, 0)

    def _checked(self, value: dict[str, Cell]) -> Trailer:
        if value.get("sha256") != self._digest.hexdigest():
            raise self._damage("its checksum is wrong: it was changed or damaged")
        if value.get("rows") != dict(self._counts):
            raise self._damage("it has not as many rows as it should")
        return Trailer(dict(self._counts))


def _header(value: dict[str, Cell]) -> Header:
    if "mediavault_backup" not in value:
        raise BackupDamaged("it is no backup of mediavault")
    if value.pop("mediavault_backup") != FORM:
        raise BackupDamaged("its form is of a newer mediavault")
    try:
        header = Header(**value)
        datetime.fromisoformat(header.created_at).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise BackupDamaged(_WRONG_HEADER) from None
    texts = [header.revision, header.program, header.installation, header.media_location]
    if header.bucket_location is not None:
        texts.append(header.bucket_location)
    # A revision is a number here; to Alembic some words are revisions, too.
    if not all(isinstance(text, str) for text in texts) or not header.revision.isdecimal():
        raise BackupDamaged(_WRONG_HEADER)
    return header


def _table(value: dict[str, Cell]) -> DumpedTable:
    try:
        return DumpedTable(
            str(value["table"]), tuple(DumpedColumn(str(name), str(kind)) for name, kind in value["columns"])
        )
    except (KeyError, TypeError, ValueError):
        raise BackupDamaged("one of its tables is not described as it should be") from None
