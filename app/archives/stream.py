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

from app.archives.ahead import AheadBudget, Fetch
from app.archives.errors import MemberLost
from app.archives.manifest import Manifest, ManifestEntry
from app.archives.plan import Descriptor, Literal, Member, Plan
from app.catalog.errors import CatalogError
from app.catalog.records import File, FileKind
from app.storage.backend import CHUNK_BYTES, ObjectStream
from app.storage.checksum import crc32
from app.storage.errors import ObjectChanged, ObjectNotFound, RangeNotSatisfiable
from app.storage.following import followed
from app.storage.ranges import ByteRange

_log = structlog.get_logger(__name__)

LOOKUP = 256
"""Members whose places are asked of the catalogue at a time."""
GATHER_BYTES = 128 * 1024
"""Smaller pieces are sent together."""


class Places(Protocol):
    """What the catalogue tells of members."""

    async def originals(self, asset_ids: Iterable[UUID]) -> Mapping[UUID, File]:
        """The original's file of each asset that is there and not in the trash."""
        ...


class Checksums(Protocol):
    """Where a CRC-32 that was computed on the way is kept."""

    async def keep_crc32(self, file_id: UUID, sha1: bytes | None, crc32: int) -> None: ...


class Outages(Protocol):
    """Whether the catalogue's outage is logged already."""

    def covers(self, error: BaseException) -> bool: ...


class Storage(Protocol):
    """The part of `StorageService` that archives need."""

    def read(
        self, path: str, byte_range: ByteRange | None = None, if_match: str | None = None
    ) -> AbstractAsyncContextManager[ObjectStream]: ...

    def local_path(self, path: str) -> object | None: ...

    def is_managed_path(self, path: str) -> bool: ...


class Losses:
    """Counts the transfers that a lost member ended or refused."""

    def __init__(self) -> None:
        self.count = 0


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """An archive as a `ByteSource`."""

    plan: Plan
    manifest: Manifest
    places: Places
    checksums: Checksums
    storage: Storage
    ahead: AheadBudget
    losses: Losses
    filename: str
    last_modified: datetime
    outages: Outages
    content_type: str = "application/zip"

    @property
    def size(self) -> int:
        return self.plan.size

    @property
    def etag(self) -> str:
        return self.manifest.etag

    @property
    def accepts_ranges(self) -> bool:
        return self.plan.resumable

    @asynccontextmanager
    async def read(self, byte_range: ByteRange | None) -> AsyncGenerator[AsyncIterator[bytes]]:
        """Raises `MemberLost` before the first byte if one of the first members is lost, or one that the range only tells of."""
        sender = _Sender(self, byte_range)
        with self._losses_counted():
            async with sender, aclosing(sender.chunks()) as chunks:
                yield chunks

    async def require_first_members(self) -> None:
        """Raises `MemberLost` where `read(None)` would before the first byte. Opens nothing."""
        with self._losses_counted():
            await _Sender(self, None).place_first()

    @contextmanager
    def _losses_counted(self) -> Generator[None]:
        try:
            yield
        except MemberLost:
            self.losses.count += 1
            raise


class _Sender:
    """One transfer: the members' places, asked for in batches, and those opened ahead, in their order."""

    def __init__(self, source: ArchiveSource, byte_range: ByteRange | None) -> None:
        self._source = source
        self._entries = source.manifest.entries
        self._pieces = source.plan.pieces(byte_range)
        self._members: Iterator[Member] = source.plan.members(byte_range)
        self._described = source.plan.described(byte_range)
        self._known: dict[UUID, File] = {}
        self._next: deque[Member] = deque()
        self._opened: deque[Fetch] = deque()  # of the first of `_next`
        self._crcs: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        try:
            await self.place_first()
            self._open_ahead()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def place_first(self) -> None:
        """Raises `MemberLost` if one of the first members is lost, or one that is described but not sent."""
        await self._look_up()
        for member in self._next:
            self._place(member)
        while batch := [self._entries[index] for index in itertools.islice(self._described, LOOKUP)]:
            places = await self._source.places.originals([entry.asset_id for entry in batch])
            for entry in batch:
                _unchanged(entry, places.get(entry.asset_id))

    async def chunks(self) -> AsyncGenerator[bytes]:
        """The bytes, small ones joined."""
        gathered: list[bytes] = []
        size = 0
        async with aclosing(self._bytes()) as parts:
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

    async def _bytes(self) -> AsyncGenerator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Literal):
                for part in _chunked(piece.data):
                    yield part
            elif isinstance(piece, Member):
                async with aclosing(self._member(piece)) as chunks:
                    async for chunk in chunks:
                        yield chunk
            elif isinstance(piece, Descriptor):
                yield self._source.plan.descriptor(piece.index, self._crcs.setdefault(piece.index, 0))
            else:
                for part in _chunked(await asyncio.to_thread(self._source.plan.directory, self._crcs)):
                    yield part

    async def _member(self, member: Member) -> AsyncGenerator[bytes]:
        entry = self._entries[member.index]
        crc = 0
        counted = self._counted(entry, member)
        left = member.length
        async with AsyncExitStack() as stack:
            async for chunk in await self._take(member, stack):
                left -= len(chunk)
                if left < 0:
                    break
                if counted:
                    crc = crc32(chunk, crc)
                yield chunk
        if left:
            raise _lost(entry, "does not hold as many bytes as it did")
        if counted and entry.crc32 not in (None, crc):
            raise _lost(entry, "does not hold the bytes that it did")
        if entry.crc32 is None:
            self._crcs[member.index] = crc
            file = self._known[entry.asset_id]
            # An external file that was changed meanwhile has no SHA-1 yet to tell it by.
            if file.kind is not FileKind.EXTERNAL:
                await self._keep(file, crc)

    def _counted(self, entry: ManifestEntry, member: Member) -> bool:
        """Whether its CRC-32 is to be taken: where it is not known, and of a whole file that is not ours, which may have been edited in
        place since. What we stored ourselves never changes."""
        place = self._known.get(entry.asset_id)
        whole = member.length == entry.size
        outside = place is not None and not self._source.storage.is_managed_path(place.path)
        return entry.crc32 is None or (whole and outside)

    async def _keep(self, file: File, crc32: int) -> None:
        """For the next time; this transfer does not need it."""
        try:
            await self._source.checksums.keep_crc32(file.id, file.sha1, crc32)
        except CatalogError as error:
            if not self._source.outages.covers(error):
                _log.warning("a CRC-32 could not be kept", file=str(file.id), reason=str(error))

    async def _take(self, member: Member, stack: AsyncExitStack) -> AsyncIterator[bytes]:
        """The bytes of the next member: opened ahead, or now."""
        await self._look_up()
        await self._drop_given_up()
        self._open_ahead()
        self._next.popleft()
        if not self._opened:
            return await stack.enter_async_context(self._open(member))
        fetch = self._opened.popleft()
        fetch.taken = True
        stack.push_async_callback(fetch.aclose)
        return fetch

    async def _look_up(self) -> None:
        """Ask for the places of the next members, when few are left that are known."""
        if len(self._next) >= LOOKUP // 2:
            return
        batch = list(itertools.islice(self._members, LOOKUP))
        if batch:
            wanted = [self._entries[member.index].asset_id for member in batch]
            kept = {self._entries[member.index].asset_id for member in self._next}
            self._known = {asset_id: place for asset_id, place in self._known.items() if asset_id in kept}
            self._known.update(await self._source.places.originals(wanted))
            self._next.extend(batch)

    async def _drop_given_up(self) -> None:
        """The client took nothing for long: from the first that was given up on, all are opened anew."""
        while any(fetch.given_up for fetch in self._opened):  # more may be while some are closed
            kept = list(itertools.takewhile(lambda fetch: not fetch.given_up, self._opened))
            dropped = list(self._opened)[len(kept) :]
            self._opened = deque(kept)
            await Fetch.close_all(dropped)

    def _open_ahead(self) -> None:
        """Begin to fetch what comes next, as far as the budget goes."""
        for member in itertools.islice(self._next, len(self._opened), self._source.ahead.depth):
            place = self._known.get(self._entries[member.index].asset_id)
            if place is None or self._source.storage.local_path(place.path) is not None:
                return  # a local file opens at once; a lost member is met in its turn
            share = self._source.ahead.take(member.length)
            if share is None:
                return
            self._opened.append(Fetch(self._opening(member), share))

    def _opening(self, member: Member) -> Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]]:
        return lambda: self._open(member)

    @asynccontextmanager
    async def _open(self, member: Member) -> AsyncGenerator[AsyncIterator[bytes]]:
        entry = self._entries[member.index]
        place = self._place(member)
        try:
            async with AsyncExitStack() as stack:
                try:
                    stream = await stack.enter_async_context(self._source.storage.read(place.path, member.span))
                except ObjectNotFound:
                    stream = await stack.enter_async_context(await self._moved(entry, place, member.span))
                if stream.info.size != entry.size:
                    raise _lost(entry, f"holds {stream.info.size} bytes instead of {entry.size}")
                if place.kind is FileKind.EXTERNAL and stream.info.last_modified != entry.modified:
                    raise _lost(entry, "was changed by its owner since it was taken in")
                path = self._place(member).path
                if self._source.storage.local_path(path) is not None:
                    yield stream.chunks
                    return
                rest = followed(self._source.storage, path, stream, partial(self._locate, entry))
                yield await stack.enter_async_context(aclosing(rest))
        except RangeNotSatisfiable as error:
            raise _lost(entry, f"holds {error.size} bytes instead of {entry.size}") from error
        except (ObjectNotFound, ObjectChanged) as error:
            raise _lost(entry, f"is not what it was: {error}") from error

    async def _moved(
        self, entry: ManifestEntry, place: File, span: ByteRange
    ) -> AbstractAsyncContextManager[ObjectStream]:
        """The file is not where it was: ask once more where it is now."""
        again = (await self._source.places.originals([entry.asset_id])).get(entry.asset_id)
        if again is None or again.path == place.path:
            raise _lost(entry, "is deleted or in the trash")
        self._known[entry.asset_id] = again
        return self._source.storage.read(_unchanged(entry, again).path, span)

    async def _locate(self, entry: ManifestEntry) -> str | None:
        """Where the member is now, while it is being sent."""
        again = (await self._source.places.originals([entry.asset_id])).get(entry.asset_id)
        return None if again is None else _unchanged(entry, again).path

    def _place(self, member: Member) -> File:
        entry = self._entries[member.index]
        return _unchanged(entry, self._known.get(entry.asset_id))

    async def _close(self) -> None:
        opened = tuple(self._opened)
        self._opened.clear()
        await Fetch.close_all(opened)


def _chunked(data: bytes) -> Iterator[bytes]:
    """A stalled client is to cost one chunk, not the directory of 100,000 entries."""
    if len(data) <= CHUNK_BYTES:
        yield data
        return
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def _lost(entry: ManifestEntry, reason: str) -> MemberLost:
    return MemberLost(entry.asset_id, entry.name, reason)


def _unchanged(entry: ManifestEntry, place: File | None) -> File:
    """The place, if it holds what was planned. Raises `MemberLost`."""
    if place is None:
        raise _lost(entry, "is deleted or in the trash")
    if place.size != entry.size or (entry.checksum is not None and place.sha1 != entry.checksum):
        raise _lost(entry, "is not what it was when the archive was planned")
    return place
