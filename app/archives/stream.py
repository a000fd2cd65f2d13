"""Reads the bytes of an archive: zip headers from the layout, members from the current paths of their files.

A member must match the manifest. A member that was deleted or changed ends the transfer with `MemberLost`; it is never padded. Files in
S3 are opened ahead while the member before them is being sent.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol, Self, cast
from uuid import UUID

import structlog

from app.archives.errors import MemberLost
from app.archives.manifest import Manifest, ManifestEntry
from app.archives.read_ahead import MemberPrefetch, ReadAheadBudget
from app.archives.zip_layout import DescriptorPlaceholder, LiteralBytes, MemberBytes, ZipLayout
from app.catalog.errors import CatalogError
from app.catalog.schema.records import File, FileKind
from app.storage.backend import CHUNK_BYTES, ObjectStream
from app.storage.crc32 import crc32
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable
from app.storage.ranges import ByteRange, FileWindow
from app.storage.relocated_reads import read_across_moves

_log = structlog.get_logger(__name__)

LOOKUP_BATCH = 256
"""Members whose files one catalogue query looks up."""
GATHER_BYTES = 128 * 1024
"""Smaller pieces are joined into one chunk."""


class FileLookup(Protocol):
    """The catalogue's lookup of members' files."""

    async def get_original_files(self, asset_ids: Iterable[UUID]) -> Mapping[UUID, File]:
        """The original file of each asset that exists and is not in the trash."""
        ...


class Crc32Store(Protocol):
    """Stores a CRC-32 that was computed during a transfer."""

    async def store_crc32(self, file_id: UUID, sha1: bytes | None, crc32: int) -> None: ...


class OutageFilter(Protocol):
    """Tells whether an outage of the catalogue has been logged already."""

    def record_failure(self, error: BaseException) -> bool: ...


class ArchiveStorage(Protocol):
    """The part of `StorageService` that archives need."""

    def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]: ...

    def local_path(self, path: str) -> object | None: ...

    def is_managed_path(self, path: str) -> bool: ...


class LostMemberCounter:
    """Counts the transfers that a lost member prevented or ended."""

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An archive as a `ByteSource`. Without every CRC-32 (`accepts_ranges` is False) it can be sent only from start to end."""

    layout: ZipLayout
    manifest: Manifest
    file_lookup: FileLookup
    crc32_store: Crc32Store
    storage: ArchiveStorage
    read_ahead: ReadAheadBudget
    lost_members: LostMemberCounter
    filename: str
    last_modified: datetime
    outages: OutageFilter
    content_type: str = "application/zip"

    @property
    def size(self) -> int:
        return self.layout.size

    @property
    def etag(self) -> str:
        return self.manifest.etag

    @property
    def accepts_ranges(self) -> bool:
        return self.layout.is_resumable

    @asynccontextmanager
    async def read(self, byte_range: ByteRange | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The bytes of `byte_range` (None: all).

        Raises `MemberLost` before the first byte if one of the first members is lost.
        """
        transfer = _ArchiveTransfer(self, byte_range)
        with self._count_lost_members():
            async with transfer, aclosing(transfer.iter_chunks()) as chunks:
                yield cast("AsyncIterator[bytes]", chunks)  # this transfer takes no windows

    @asynccontextmanager
    async def read_windows(self, byte_range: ByteRange | None) -> AsyncGenerator[AsyncIterator[bytes | FileWindow]]:
        """As `read`. Local members whose CRC-32 is known are windows."""
        transfer = _ArchiveTransfer(self, byte_range, takes_windows=True)
        with self._count_lost_members():
            async with transfer, aclosing(transfer.iter_chunks()) as chunks:
                yield chunks

    async def check_first_members(self) -> None:
        """Raises `MemberLost` if `read(None)` would raise it before the first byte. Opens no file."""
        with self._count_lost_members():
            await _ArchiveTransfer(self, None).locate_first_members()

    @contextmanager
    def _count_lost_members(self) -> Generator[None]:
        try:
            yield
        except (MemberLost, ObjectChanged):  # `ObjectChanged`: noticed while a window was sent
            self.lost_members.count += 1
            raise


class _ArchiveTransfer:
    """One transfer: looks up the members' files in batches, opens members ahead, and yields the bytes in their order."""

    def __init__(self, source: ArchiveSource, byte_range: ByteRange | None, *, takes_windows: bool = False) -> None:
        self._source = source
        self._takes_windows = takes_windows
        self._entries = source.manifest.entries
        self._pieces = source.layout.iter_pieces(byte_range)
        self._members: Iterator[MemberBytes] = source.layout.iter_members(byte_range)
        self._files: dict[UUID, File] = {}
        self._located: deque[MemberBytes] = deque()  # the next members; `_files` has their files
        self._prefetches: deque[MemberPrefetch] = deque()  # for the first members of `_located`
        self._crcs: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.locate_first_members()
            self._open_ahead()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def locate_first_members(self) -> None:
        """Raises `MemberLost` if one of the first members is lost."""
        await self._look_up()
        for member in self._located:
            self._require_file(member)

    async def iter_chunks(self) -> AsyncGenerator[bytes | FileWindow]:
        """The bytes in order, with small pieces joined to chunks of `GATHER_BYTES`. Windows only with `takes_windows`."""
        gathered: list[bytes] = []
        size = 0
        async with aclosing(self._iter_bytes()) as parts:
            async for part in parts:
                if gathered and (isinstance(part, FileWindow) or len(part) >= GATHER_BYTES):
                    yield b"".join(gathered)
                    gathered, size = [], 0
                if isinstance(part, FileWindow):
                    yield part
                    continue
                gathered.append(part)
                size += len(part)
                if size >= GATHER_BYTES:
                    yield gathered[0] if len(gathered) == 1 else b"".join(gathered)
                    gathered, size = [], 0
        if gathered:
            yield b"".join(gathered)

    async def _iter_bytes(self) -> AsyncGenerator[bytes | FileWindow]:
        for piece in self._pieces:
            if isinstance(piece, LiteralBytes):
                for part in _split_chunks(piece.data):
                    yield part
            elif isinstance(piece, MemberBytes):
                async with aclosing(self._iter_member(piece)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            elif isinstance(piece, DescriptorPlaceholder):
                yield self._source.layout.build_descriptor(piece.index, self._crcs.setdefault(piece.index, 0))
            else:
                for part in _split_chunks(await asyncio.to_thread(self._source.layout.build_directory, self._crcs)):
                    yield part

    async def _iter_member(self, member: MemberBytes) -> AsyncGenerator[bytes | FileWindow]:
        entry = self._entries[member.index]
        crc = 0
        needs_crc32 = self._needs_crc32(entry, member)
        left = member.length
        async with AsyncExitStack() as stack:
            async for chunk in await self._take_member(member, stack):
                left -= len(chunk)
                if left < 0:
                    break
                if needs_crc32 and not isinstance(chunk, FileWindow):
                    crc = crc32(chunk, crc)
                yield chunk
        if left:
            raise _build_lost_error(entry, "does not hold as many bytes as it did")
        if needs_crc32 and entry.crc32 not in (None, crc):
            raise _build_lost_error(entry, "does not hold the bytes that it did")
        if entry.crc32 is None:
            self._crcs[member.index] = crc
            file = self._files[entry.asset_id]
            # Not for external files: one that changes meanwhile has no SHA-1 yet by which the store could tell.
            if file.kind is not FileKind.EXTERNAL:
                await self._store_crc32(file, crc)

    def _needs_crc32(self, entry: ManifestEntry, member: MemberBytes) -> bool:
        """Whether to compute the CRC-32: if it is unknown, and for an external file that is sent whole, to detect an edit in place.

        Managed files never change.
        """
        file = self._files.get(entry.asset_id)
        is_whole = member.length == entry.size
        is_external = file is not None and not self._source.storage.is_managed_path(file.path)
        return entry.crc32 is None or (is_whole and is_external)

    async def _store_crc32(self, file: File, crc32: int) -> None:
        """Store the CRC-32 for later archives. This transfer does not need it, so a failure is only logged."""
        try:
            await self._source.crc32_store.store_crc32(file.id, file.sha1, crc32)
        except CatalogError as error:
            if not self._source.outages.record_failure(error):
                _log.warning("could not store a file's CRC-32", file=str(file.id), reason=str(error))

    async def _take_member(self, member: MemberBytes, stack: AsyncExitStack) -> AsyncIterator[bytes | FileWindow]:
        """The bytes of the next member: from its prefetch, or opened now."""
        await self._look_up()
        await self._drop_timed_out()
        self._open_ahead()
        self._located.popleft()
        if not self._prefetches:
            # The bytes of a member whose CRC-32 is computed must pass through this process.
            takes_windows = self._takes_windows and not self._needs_crc32(self._entries[member.index], member)
            return await stack.enter_async_context(self._open_member(member, takes_windows=takes_windows))
        prefetch = self._prefetches.popleft()
        prefetch.is_taken = True
        stack.push_async_callback(prefetch.aclose)
        return prefetch

    async def _look_up(self) -> None:
        """Look up the files of the next batch of members when `_located` runs low."""
        if len(self._located) >= LOOKUP_BATCH // 2:
            return
        batch = list(itertools.islice(self._members, LOOKUP_BATCH))
        if batch:
            asset_ids = [self._entries[member.index].asset_id for member in batch]
            kept = {self._entries[member.index].asset_id for member in self._located}
            self._files = {asset_id: file for asset_id, file in self._files.items() if asset_id in kept}
            self._files.update(await self._source.file_lookup.get_original_files(asset_ids))
            self._located.extend(batch)

    async def _drop_timed_out(self) -> None:
        """Close all prefetches from the first that timed out: the client had paused. Their members are opened again."""
        while any(prefetch.timed_out for prefetch in self._prefetches):  # more may time out while some are closed
            kept = list(itertools.takewhile(lambda prefetch: not prefetch.timed_out, self._prefetches))
            dropped = list(self._prefetches)[len(kept) :]
            self._prefetches = deque(kept)
            await MemberPrefetch.close_all(dropped)

    def _open_ahead(self) -> None:
        """Prefetch the next members, as far as the budget allows."""
        for member in itertools.islice(self._located, len(self._prefetches), self._source.read_ahead.depth):
            file = self._files.get(self._entries[member.index].asset_id)
            if file is None or self._source.storage.local_path(file.path) is not None:
                return  # a local file opens without delay; a lost member raises `MemberLost` at its turn
            share = self._source.read_ahead.acquire(member.length)
            if share is None:
                return
            self._prefetches.append(MemberPrefetch(self._member_opener(member), share))

    def _member_opener(self, member: MemberBytes) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]:
        # Without windows: a prefetch closes the file when its last chunk is queued, before it is sent.
        opened = cast("Callable[..., AbstractAsyncContextManager[AsyncIterator[bytes]]]", self._open_member)
        return lambda: opened(member, takes_windows=False)

    @asynccontextmanager
    async def _open_member(
        self, member: MemberBytes, *, takes_windows: bool
    ) -> AsyncGenerator[AsyncIterator[bytes | FileWindow]]:
        entry = self._entries[member.index]
        file = self._require_file(member)
        try:
            async with AsyncExitStack() as stack:
                try:
                    stream = await stack.enter_async_context(self._source.storage.read(file.path, member.span))
                except ObjectNotFound:
                    stream = await stack.enter_async_context(await self._reopen_moved(entry, file, member.span))
                if stream.info.size != entry.size:
                    raise _build_lost_error(entry, f"holds {stream.info.size} bytes instead of {entry.size}")
                if file.kind is FileKind.EXTERNAL and stream.info.last_modified != entry.modified:
                    raise _build_lost_error(entry, "was changed by its owner since it was taken in")
                path = self._require_file(member).path
                if self._source.storage.local_path(path) is not None:
                    yield stream.windows if takes_windows and stream.windows is not None else stream.chunks
                    return
                chunks = read_across_moves(
                    self._source.storage, path, stream, stream.chunks, partial(self._find_current_path, entry)
                )
                yield await stack.enter_async_context(aclosing(chunks))
        except RangeNotSatisfiable as error:
            raise _build_lost_error(entry, f"holds {error.size} bytes instead of {entry.size}") from error
        except (ObjectNotFound, ObjectChanged) as error:
            raise _build_lost_error(entry, f"is not what it was: {error}") from error

    async def _reopen_moved(
        self, entry: ManifestEntry, missing: File, span: ByteRange
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """Open the file at its new path after it was not found at `missing.path`. Raises `MemberLost` if the path is the same."""
        current = (await self._source.file_lookup.get_original_files([entry.asset_id])).get(entry.asset_id)
        if current is None or current.path == missing.path:
            raise _build_lost_error(entry, "is deleted or in the trash")
        self._files[entry.asset_id] = current
        return self._source.storage.read(_require_unchanged(entry, current).path, span)

    async def _find_current_path(self, entry: ManifestEntry) -> str | None:
        """The current path of a member's file, for a file that moves while it is being sent."""
        current = (await self._source.file_lookup.get_original_files([entry.asset_id])).get(entry.asset_id)
        return None if current is None else _require_unchanged(entry, current).path

    def _require_file(self, member: MemberBytes) -> File:
        entry = self._entries[member.index]
        return _require_unchanged(entry, self._files.get(entry.asset_id))

    async def _close(self) -> None:
        prefetches = tuple(self._prefetches)
        self._prefetches.clear()
        await MemberPrefetch.close_all(prefetches)


def _split_chunks(data: bytes) -> Iterator[bytes]:
    """`data` in chunks, so that a stalled client holds one chunk in memory and not the central directory of 100,000 entries."""
    if len(data) <= CHUNK_BYTES:
        yield data
        return
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _build_lost_error(entry: ManifestEntry, reason: str) -> MemberLost:
    return MemberLost(entry.asset_id, entry.name, reason)


def _require_unchanged(entry: ManifestEntry, file: File | None) -> File:
    """`file`, if its size and SHA-1 match the entry. Raises `MemberLost`."""
    if file is None:
        raise _build_lost_error(entry, "is deleted or in the trash")
    if file.size != entry.size or (entry.checksum is not None and file.sha1 != entry.checksum):
        raise _build_lost_error(entry, "is not what it was when the archive was planned")
    return file
