"""A stored file as a `ByteSource`: metadata from the catalogue, bytes from storage."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Protocol

from app.storage.backend import ObjectStream
from app.storage.errors import ObjectChanged, RangeNotSatisfiable
from app.storage.path import is_s3_uri
from app.storage.ranges import ByteRange, FileWindow
from app.storage.relocated_reads import PathLookup, PieceT, read_across_moves


class StorageReader(Protocol):
    """The part of `StorageService` that delivery needs."""

    def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]: ...

    def may_read_from_memory(self, path: str) -> bool: ...

    def read_from_memory(self, path: str, byte_range: ByteRange, size: int) -> bytes | None: ...


def build_etag(sha1: bytes) -> str:
    """The strong entity tag for content with this SHA-1. It does not depend on the storage, so a move keeps it."""
    return f'"{sha1.hex()}"'


@dataclass(frozen=True, slots=True)
class StoredSource:
    """A file with its metadata from the catalogue. Reading raises `ObjectChanged` before the first byte if the object's size differs."""

    storage: StorageReader
    path: str
    size: int
    etag: str
    last_modified: datetime
    content_type: str
    filename: str
    locate: PathLookup | None = None
    """Looks up the current path if the object disappears during a transfer, as in a move."""
    version: str | None = None
    """The storage's own tag of the version to send, for external files. None for managed files: their content never changes."""

    @property
    def accepts_ranges(self) -> bool:
        return True

    def read(self, byte_range: ByteRange | None) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        return _StoredFileReader(self, byte_range)

    def read_windows(
        self, byte_range: ByteRange | None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes | FileWindow]]:
        return _StoredWindowReader(self, byte_range)

    @property
    def may_be_in_memory(self) -> bool:
        """False where `read_from_memory` always returns None."""
        return self.storage.may_read_from_memory(self.path)

    def read_from_memory(self, byte_range: ByteRange) -> bytes | None:
        """Exactly these bytes if they are in memory (the page cache), otherwise None."""
        return self.storage.read_from_memory(self.path, byte_range, self.size)


class _StoredFileOpener:
    """Opens the object and compares its size with the catalogue. A class, because a generator would cost each request more time."""

    __slots__ = ("_byte_range", "_file", "_opened", "_relocating_chunks")

    def __init__(self, file: StoredSource, byte_range: ByteRange | None) -> None:
        self._file = file
        self._byte_range = byte_range
        self._opened = file.storage.read(file.path, byte_range, file.version)
        self._relocating_chunks: AsyncGenerator[bytes] | AsyncGenerator[bytes | FileWindow] | None = None

    async def open_stream(self) -> ObjectStream:
        file = self._file
        try:
            stream = await self._opened.__aenter__()
        except RangeNotSatisfiable as error:
            raise ObjectChanged(error.key, error.backend, f"holds {error.size} of {file.size} bytes") from error
        if stream.info.size != file.size:
            error = ObjectChanged(file.path, "delivery", f"holds {stream.info.size} bytes, not {file.size}")
            await self._opened.__aexit__(ObjectChanged, error, None)
            raise error
        return stream

    def follow_moves(self, stream: ObjectStream, chunks: AsyncIterator[PieceT]) -> AsyncIterator[PieceT | bytes]:
        file = self._file
        if file.locate is None or not is_s3_uri(file.path):
            return chunks
        relocating = read_across_moves(file.storage, file.path, stream, chunks, file.locate)
        self._relocating_chunks = relocating
        return relocating

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if self._relocating_chunks is not None:
            await self._relocating_chunks.aclose()
        return await self._opened.__aexit__(exc_type, exc, traceback)


class _StoredFileReader(_StoredFileOpener):
    __slots__ = ()

    async def __aenter__(self) -> AsyncIterator[bytes]:
        stream = await self.open_stream()
        return self.follow_moves(stream, stream.chunks)


class _StoredWindowReader(_StoredFileOpener):
    """Yields the stream's windows where it has them."""

    __slots__ = ()

    async def __aenter__(self) -> AsyncIterator[bytes | FileWindow]:
        stream = await self.open_stream()
        chunks: AsyncIterator[bytes | FileWindow] = stream.chunks if stream.windows is None else stream.windows
        return self.follow_moves(stream, chunks)
