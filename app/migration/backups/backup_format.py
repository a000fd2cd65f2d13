"""Encodes and decodes backups: lines of JSON in gzip, readable with standard tools. Reads and writes no files itself.

    {"mediavault_backup": 1, "revision": …}     the header (`BackupHeader`)
    {"table": "asset", "columns": [["id", "uuid"], …]}
    ["0190f0c4-…", …]                           its rows, then the next table
    {"rows": {"asset": 1, …}, "sha256": "…"}    row counts, and the SHA-256 of all lines before this one

A truncated file has no last line; a changed file has another checksum.
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

from app.catalog.backup.dump import CatalogSnapshot, DumpedColumn, DumpedTable, JsonValue

FORMAT_VERSION = 1
"""Incremented with each change of the format."""
CONTENT_TYPE = "application/gzip"
MAX_LINE_BYTES = 256 * 1024 * 1024
"""Largest accepted line. An archive's manifest may take tens of megabytes, no row takes more than this."""
MAX_HEADER_BYTES = 1024 * 1024
"""Largest accepted first line."""

_INVALID_HEADER = "its first line is not as it should be"
_GZIP_WINDOW_BITS = 16 + zlib.MAX_WBITS
_GZIP_LEVEL = 6
_PIECE_BYTES = 1024 * 1024
_BATCH_ROWS = 500
_BATCH_BYTES = 4 * 1024 * 1024


class BackupDamaged(Exception):
    """The file is no backup, or was truncated or changed; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class BackupHeader:
    """`revision` is that of the schema, `program` the version of mediavault, `installation` its id. `media_location` (an absolute
    folder) and `bucket_location` (`s3://bucket/prefix`, or null) are the prefixes of managed paths at the time of the backup."""

    revision: str
    created_at: str
    program: str
    installation: str
    media_location: str
    bucket_location: str | None


@dataclass(frozen=True, slots=True)
class TableRows:
    """Some rows of one table."""

    table: DumpedTable
    rows: list[list[JsonValue]]


@dataclass(frozen=True, slots=True)
class BackupTrailer:
    """Row counts by table; those in the last line and those decoded are equal."""

    row_counts: dict[str, int]


async def write_backup(header: BackupHeader, snapshot: CatalogSnapshot) -> AsyncGenerator[bytes]:
    """Yields the bytes of a backup of the snapshot. The caller closes the generator where it stops early."""
    encoder = _BackupEncoder()
    yield encoder.encode_lines([{"mediavault_backup": FORMAT_VERSION, **asdict(header)}])
    for table in snapshot.tables:
        columns = [[column.name, column.kind] for column in table.columns]
        yield encoder.encode_lines([{"table": table.name, "columns": columns}])
        encoder.counts[table.name] = 0
        async with aclosing(snapshot.iterate_rows(table)) as batches:
            async for rows in batches:
                encoder.counts[table.name] += len(rows)
                if piece := await asyncio.to_thread(encoder.encode_lines, rows):
                    yield piece
    yield await asyncio.to_thread(encoder.finish)


class _BackupEncoder:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._digest = hashlib.sha256()
        self._gzip = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW_BITS)

    def encode_lines(self, values: Sequence[JsonValue]) -> bytes:
        data = b"".join(_encode_line(value) for value in values)
        self._digest.update(data)
        return self._gzip.compress(data)

    def finish(self) -> bytes:
        last_line = _encode_line({"rows": self.counts, "sha256": self._digest.hexdigest()})
        return self._gzip.compress(last_line) + self._gzip.flush()


def _encode_line(value: JsonValue) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"


async def read_backup(chunks: AsyncIterable[bytes]) -> AsyncGenerator[BackupHeader | TableRows | BackupTrailer]:
    """Yields the header, the rows in batches, and finally the trailer, which confirms that the backup is complete. Raises
    `BackupDamaged`; rows yielded before that must not be used."""
    decoder = _BackupDecoder()
    async for chunk in chunks:
        for piece in range(0, len(chunk), _PIECE_BYTES):
            data: bytes | None = chunk[piece : piece + _PIECE_BYTES]
            while data is not None:
                parts, data = await asyncio.to_thread(decoder.feed, data)
                for part in parts:
                    yield part
    yield decoder.finish()


class _BackupDecoder:
    def __init__(self) -> None:
        self._gzip = zlib.decompressobj(_GZIP_WINDOW_BITS)
        self._digest = hashlib.sha256()
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._header: BackupHeader | None = None
        self._table: DumpedTable | None = None
        self._rows: list[list[JsonValue]] = []
        self._rows_bytes = 0
        self._counts: Counter[str] = Counter()
        self._trailer: BackupTrailer | None = None

    def feed(self, data: bytes) -> tuple[list[BackupHeader | TableRows], bytes | None]:
        """Decodes `data`. Returns the decoded parts, and the bytes to pass to the next call (None: no more): one call unpacks at most
        `_PIECE_BYTES`, so that a small file cannot unpack to gigabytes in memory."""
        try:
            unpacked = self._gzip.decompress(data, _PIECE_BYTES)
        except zlib.error:
            raise self._damaged_error("it is damaged, or not compressed as backups are") from None
        if self._gzip.unused_data:
            raise self._damaged_error("there is something behind its end")
        parts = list(self._decode_parts(unpacked))
        more = self._gzip.unconsumed_tail
        return parts, more if more or len(unpacked) == _PIECE_BYTES else None

    def finish(self) -> BackupTrailer:
        if self._trailer is None or self._pending_bytes or not self._gzip.eof:
            raise self._damaged_error("it ends too early")
        return self._trailer

    def _damaged_error(self, reason: str) -> BackupDamaged:
        return BackupDamaged(reason if self._header else "it is no backup of mediavault")

    def _decode_parts(self, data: bytes) -> Iterator[BackupHeader | TableRows]:
        for line in self._split_lines(data):
            if self._trailer is not None:
                raise self._damaged_error("there is something behind its last line")
            yield from self._decode_line(line)

    def _split_lines(self, data: bytes) -> list[bytes]:
        """The lines that end in `data`. The pieces of a long line are joined only once."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join((*self._pending, lines[0]))
            self._pending, self._pending_bytes = [], 0
        self._pending.append(rest)
        self._pending_bytes += len(rest)
        if self._pending_bytes > (MAX_LINE_BYTES if self._header or lines else MAX_HEADER_BYTES):
            raise self._damaged_error("one of its lines is too long")
        return lines

    def _decode_line(self, line: bytes) -> Iterator[BackupHeader | TableRows]:
        try:
            # NaN and Infinity are no JSON, and PostgreSQL does not accept them either.
            value = json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise self._damaged_error("one of its lines is damaged") from None
        if isinstance(value, list):
            yield from self._add_row(value, len(line))
        elif not isinstance(value, dict):
            raise self._damaged_error("one of its lines is damaged")
        elif self._header is None:
            self._header = _parse_header(value)
            yield self._header
        elif "table" in value:
            yield from self._flush_rows()
            self._table = _parse_table(value)
        else:
            yield from self._flush_rows()
            self._trailer = self._check_trailer(value)
        self._digest.update(line + b"\n")

    def _add_row(self, row: list[JsonValue], size: int) -> Iterator[TableRows]:
        if self._table is None or len(row) != len(self._table.columns):
            raise self._damaged_error("a row fits no table")
        self._rows.append(row)
        self._rows_bytes += size
        self._counts[self._table.name] += 1
        if len(self._rows) >= _BATCH_ROWS or self._rows_bytes >= _BATCH_BYTES:
            yield from self._flush_rows()

    def _flush_rows(self) -> Iterator[TableRows]:
        if self._rows and self._table is not None:
            yield TableRows(self._table, self._rows)
        self._rows, self._rows_bytes = [], 0
        if self._table is not None:
            self._counts.setdefault(self._table.name, 0)

    def _check_trailer(self, value: dict[str, JsonValue]) -> BackupTrailer:
        if value.get("sha256") != self._digest.hexdigest():
            raise self._damaged_error("its checksum is wrong: it was changed or damaged")
        if value.get("rows") != dict(self._counts):
            raise self._damaged_error("it has not as many rows as it should")
        return BackupTrailer(dict(self._counts))


def _parse_header(value: dict[str, JsonValue]) -> BackupHeader:
    if "mediavault_backup" not in value:
        raise BackupDamaged("it is no backup of mediavault")
    if value.pop("mediavault_backup") != FORMAT_VERSION:
        raise BackupDamaged("its form is of a newer mediavault")
    try:
        header = BackupHeader(**value)
        datetime.fromisoformat(header.created_at).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise BackupDamaged(_INVALID_HEADER) from None
    texts = [header.revision, header.program, header.installation, header.media_location]
    if header.bucket_location is not None:
        texts.append(header.bucket_location)
    # Revisions are numbers here; Alembic would also accept words such as `head`.
    if not all(isinstance(text, str) for text in texts) or not header.revision.isdecimal():
        raise BackupDamaged(_INVALID_HEADER)
    return header


def _parse_table(value: dict[str, JsonValue]) -> DumpedTable:
    try:
        return DumpedTable(
            str(value["table"]), tuple(DumpedColumn(str(name), str(kind)) for name, kind in value["columns"])
        )
    except (KeyError, TypeError, ValueError):
        raise BackupDamaged("one of its tables is not described as it should be") from None
