"""Sends an archive's pieces: headers from the plan, members from wherever their files are now.

A member must still be what the manifest froze; one that is gone or changed ends the transfer, never pads it. Files in S3
are opened ahead while the one before is being sent.
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
from typing import Protocol, Self
from uuid import UUID

import structlog

from app.archives.errors import MemberLost
from app.archives.manifest import Manifest, ManifestEntry
from app.archives.read_ahead import MemberPrefetch, ReadAheadBudget
from app.archives.zip_layout import DescriptorPlaceholder, LiteralBytes, MemberBytes, ZipLayout
from app.catalog.errors import CatalogError
from app.catalog.schema.records import File, FileKind
from app.storage.backend import CHUNK_BYTES, ObjectStream
from app.storage.checksum import crc32
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable
from app.storage.ranges import ByteRange
from app.storage.relocated_reads import read_across_moves

_log = structlog.get_logger(__name__)

LOOKUP_BATCH = 256
"""Members whose places are asked of the catalogue at a time."""
GATHER_BYTES = 128 * 1024
"""Smaller pieces are sent together."""


class FileLookup(Protocol):
    """What the catalogue tells of members."""

    async def originals(self, asset_ids: Iterable[UUID]) -> Mapping[UUID, File]:
        """The original's file of each asset that is there and not in the trash."""
        ...


class Crc32Store(Protocol):
    """Where a CRC-32 that was computed on the way is kept."""

    async def keep_crc32(self, file_id: UUID, sha1: bytes | None, crc32: int) -> None: ...


class Outages(Protocol):
    """Whether the catalogue's outage is logged already."""

    def covers(self, error: BaseException) -> bool: ...


class ArchiveStorage(Protocol):
    """The part of `StorageService` that archives need."""

    def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]: ...

    def local_path(self, path: str) -> object | None: ...

    def is_managed_path(self, path: str) -> bool: ...


class LostMemberCounter:
    """Counts the transfers that a lost member ended or refused."""

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An archive as a `ByteSource`."""

    layout: ZipLayout
    manifest: Manifest
    file_lookup: FileLookup
    crc32_store: Crc32Store
    storage: ArchiveStorage
    read_ahead: ReadAheadBudget
    lost_members: LostMemberCounter
    filename: str
    last_modified: datetime
    outages: Outages
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
        """Raises `MemberLost` before the first byte if one of the first members is lost."""
        sender = _ArchiveTransfer(self, byte_range)
        with self._count_lost_members():
            async with sender, aclosing(sender.iter_chunks()) as chunks:
                yield chunks

    async def check_first_members(self) -> None:
        """Raises `MemberLost` where `read(None)` would before the first byte. Opens nothing."""
        with self._count_lost_members():
            await _ArchiveTransfer(self, None).locate_first_members()

    @contextmanager
    def _count_lost_members(self) -> Generator[None]:
        try:
            yield
        except MemberLost:
            self.lost_members.count += 1
            raise


class _ArchiveTransfer:
    """One transfer: the members' places, asked for in batches, and those opened ahead, in their order."""

    def __init__(self, source: ArchiveSource, byte_range: ByteRange | None) -> None:
        self._source = source
        self._entries = source.manifest.entries
        self._pieces = source.layout.iter_pieces(byte_range)
        self._members: Iterator[MemberBytes] = source.layout.iter_members(byte_range)
        self._files: dict[UUID, File] = {}
        self._located: deque[MemberBytes] = deque()
        self._prefetches: deque[MemberPrefetch] = deque()  # of the first of `_located`
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

    async def iter_chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, small ones joined."""
        gathered: list[bytes] = []
        size = 0
        async with aclosing(self._iter_bytes()) as parts:
            async for part in parts:
                if len(part) >= GATHER_BYTES and gathered:
                    yield b"".join(gathered)
                    gathered, size = [], 0
                gathered.append(part)
                size += len(part)
                if size >= GATHER_BYTES:
                    yield gathered[0] if len(gathered) == 1 else b"".join(gathered)
                    gathered, size = [], 0
        if gathered:
            yield b"".join(gathered)

    async def _iter_bytes(self) -> AsyncGenerator[bytes]:
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

    async def _iter_member(self, member: MemberBytes) -> AsyncGenerator[bytes]:
        entry = self._entries[member.index]
        crc = 0
        counted = self._needs_crc32(entry, member)
        left = member.length
        async with AsyncExitStack() as stack:
            async for chunk in await self._take_member(member, stack):
                left -= len(chunk)
                if left < 0:
                    break
                if counted:
                    crc = crc32(chunk, crc)
                yield chunk
        if left:
            raise _build_lost_error(entry, "does not hold as many bytes as it did")
        if counted and entry.crc32 not in (None, crc):
            raise _build_lost_error(entry, "does not hold the bytes that it did")
        if entry.crc32 is None:
            self._crcs[member.index] = crc
            file = self._files[entry.asset_id]
            # An external file that was changed meanwhile has no SHA-1 yet to tell it by.
            if file.kind is not FileKind.EXTERNAL:
                await self._store_crc32(file, crc)

    def _needs_crc32(self, entry: ManifestEntry, member: MemberBytes) -> bool:
        """Whether its CRC-32 is to be taken: where it is not known, and of a whole file that is not ours, which may have been edited in
        place since. What we stored ourselves never changes."""
        place = self._files.get(entry.asset_id)
        whole = member.length == entry.size
        outside = place is not None and not self._source.storage.is_managed_path(place.path)
        return entry.crc32 is None or (whole and outside)

    async def _store_crc32(self, file: File, crc32: int) -> None:
        """For the next time; this transfer does not need it."""
        try:
            await self._source.crc32_store.keep_crc32(file.id, file.sha1, crc32)
        except CatalogError as error:
            if not self._source.outages.covers(error):
                _log.warning("a CRC-32 could not be kept", file=str(file.id), reason=str(error))

    async def _take_member(self, member: MemberBytes, stack: AsyncExitStack) -> AsyncIterator[bytes]:
        """The bytes of the next member: opened ahead, or now."""
        await self._look_up()
        await self._drop_timed_out()
        self._open_ahead()
        self._located.popleft()
        if not self._prefetches:
            return await stack.enter_async_context(self._open_member(member))
        fetch = self._prefetches.popleft()
        fetch.is_taken = True
        stack.push_async_callback(fetch.aclose)
        return fetch

    async def _look_up(self) -> None:
        """Ask for the places of the next members, when few are left that are known."""
        if len(self._located) >= LOOKUP_BATCH // 2:
            return
        batch = list(itertools.islice(self._members, LOOKUP_BATCH))
        if batch:
            wanted = [self._entries[member.index].asset_id for member in batch]
            kept = {self._entries[member.index].asset_id for member in self._located}
            self._files = {asset_id: place for asset_id, place in self._files.items() if asset_id in kept}
            self._files.update(await self._source.file_lookup.originals(wanted))
            self._located.extend(batch)

    async def _drop_timed_out(self) -> None:
        """The client took nothing for long: from the first that was given up on, all are opened anew."""
        while any(fetch.timed_out for fetch in self._prefetches):  # more may be while some are closed
            kept = list(itertools.takewhile(lambda fetch: not fetch.timed_out, self._prefetches))
            dropped = list(self._prefetches)[len(kept) :]
            self._prefetches = deque(kept)
            await MemberPrefetch.close_all(dropped)

    def _open_ahead(self) -> None:
        """Begin to fetch what comes next, as far as the budget goes."""
        for member in itertools.islice(self._located, len(self._prefetches), self._source.read_ahead.depth):
            place = self._files.get(self._entries[member.index].asset_id)
            if place is None or self._source.storage.local_path(place.path) is not None:
                return  # a local file opens at once; a lost member is met in its turn
            share = self._source.read_ahead.acquire(member.length)
            if share is None:
                return
            self._prefetches.append(MemberPrefetch(self._member_opener(member), share))

    def _member_opener(self, member: MemberBytes) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]:
        return lambda: self._open_member(member)

    @asynccontextmanager
    async def _open_member(self, member: MemberBytes) -> AsyncGenerator[AsyncIterator[bytes]]:
        entry = self._entries[member.index]
        place = self._require_file(member)
        try:
            async with AsyncExitStack() as stack:
                try:
                    stream = await stack.enter_async_context(self._source.storage.read(place.path, member.span))
                except ObjectNotFound:
                    stream = await stack.enter_async_context(await self._reopen_moved(entry, place, member.span))
                if stream.info.size != entry.size:
                    raise _build_lost_error(entry, f"holds {stream.info.size} bytes instead of {entry.size}")
                if place.kind is FileKind.EXTERNAL and stream.info.last_modified != entry.modified:
                    raise _build_lost_error(entry, "was changed by its owner since it was taken in")
                path = self._require_file(member).path
                if self._source.storage.local_path(path) is not None:
                    yield stream.chunks
                    return
                rest = read_across_moves(self._source.storage, path, stream, partial(self._find_current_path, entry))
                yield await stack.enter_async_context(aclosing(rest))
        except RangeNotSatisfiable as error:
            raise _build_lost_error(entry, f"holds {error.size} bytes instead of {entry.size}") from error
        except (ObjectNotFound, ObjectChanged) as error:
            raise _build_lost_error(entry, f"is not what it was: {error}") from error

    async def _reopen_moved(
        self, entry: ManifestEntry, place: File, span: ByteRange
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """The file is not where it was: ask once more where it is now."""
        again = (await self._source.file_lookup.originals([entry.asset_id])).get(entry.asset_id)
        if again is None or again.path == place.path:
            raise _build_lost_error(entry, "is deleted or in the trash")
        self._files[entry.asset_id] = again
        return self._source.storage.read(_require_unchanged(entry, again).path, span)

    async def _find_current_path(self, entry: ManifestEntry) -> str | None:
        """Where the member is now, while it is being sent."""
        again = (await self._source.file_lookup.originals([entry.asset_id])).get(entry.asset_id)
        return None if again is None else _require_unchanged(entry, again).path

    def _require_file(self, member: MemberBytes) -> File:
        entry = self._entries[member.index]
        place = self._files.get(entry.asset_id)
        if place is None:
            raise _build_lost_error(entry, "is deleted or in the trash")
        return _require_unchanged(entry, place)

    async def _close(self) -> None:
        opened = tuple(self._prefetches)
        self._prefetches.clear()
        await MemberPrefetch.close_all(opened)


def _split_chunks(data: bytes) -> Iterator[bytes]:
    """A stalled client is to cost one chunk, not the directory of 100,000 entries."""
    if len(data) <= CHUNK_BYTES:
        yield data
        return
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _build_lost_error(entry: ManifestEntry, reason: str) -> MemberLost:
    return MemberLost(entry.asset_id, entry.name, reason)


def _require_unchanged(entry: ManifestEntry, place: File) -> File:
    if place.size != entry.size or (entry.checksum is not None and place.sha1 != entry.checksum):
        raise _build_lost_error(entry, "is not what it was when the archive was planned")
    return place
