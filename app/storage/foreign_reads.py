"""Reads of foreign files that have a verified copy: from the place that is preferred, and from the other one when that one is away.

The two places are the disk, where another program keeps the file, and the bucket. A place that did not answer is tried last for
`AWAY_SECONDS`. A file whose size is not that of the catalogue counts as missing: its bytes are those of another version. The bytes of both
are joined in one answer only where the source was not changed after its copy was made.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from app.storage.backend import ObjectInfo, ObjectStream
from app.storage.errors import (
    CopyLookupFailed,
    InvalidKey,
    ObjectChanged,
    ObjectNotFound,
    RangeNotSatisfiable,
    StorageError,
    StorageUnavailable,
)
from app.storage.ranges import ByteRange, FileWindow

AWAY_SECONDS = 10.0
LOOKUP_SECONDS = 30.0
"""How long the path of a copy is remembered. A copy that was deleted since is not found, and its source is read."""
MAX_LOOKUPS = 20_000
COPY_DATE_RESOLUTION = timedelta(seconds=1)
"""Stores tell the time at which a copy was written in whole seconds."""

PieceT = TypeVar("PieceT", bytes, bytes | FileWindow)

FindCopy = Callable[[str], Awaitable[tuple[str, int] | None]]
"""The path of the copy of the foreign file at a path, and their size in bytes; None where there is no copy. Raises
`CopyLookupFailed`."""

OpenRead = Callable[[str, ByteRange | None, str | None], AbstractAsyncContextManager[ObjectStream]]
"""Opens a path, a range of it, if its etag is still that one."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes lie. `name` is that of the disk or of the bucket, whose absence concerns all files there."""

    name: str
    path: str
    open_read: OpenRead
    is_copy: bool


class ForeignReads:
    """`prefers_copies`: read the copy first. Without `find_copy` no file has a copy."""

    def __init__(self, *, prefers_copies: bool) -> None:
        self._prefers_copies = prefers_copies
        self._away_until: dict[str, float] = {}
        self._found: OrderedDict[str, tuple[float, tuple[str, int] | None]] = OrderedDict()
        self.find_copy: FindCopy | None = None

    @asynccontextmanager
    async def read(
        self, source: Place, copy_at: Callable[[str], Place], byte_range: ByteRange | None, if_match: str | None
    ) -> AsyncGenerator[ObjectStream]:
        """`copy_at` makes the place of a copy from its path. Raises the errors of `StorageBackend.read_stream`."""
        async with AsyncExitStack() as stack:
            try:
                found = await self.find(source.path)
            except CopyLookupFailed as failure:
                with _never_missing(source, failure):
                    stream = await stack.enter_async_context(source.open_read(source.path, byte_range, if_match))
                yield stream
                return
            if found is None:
                yield await stack.enter_async_context(source.open_read(source.path, byte_range, if_match))
                return
            places, size = self._order(source, copy_at(found[0])), found[1]
            stream = await self._open_first(stack, places, size, byte_range, if_match)
            chunks = self._read_on(stack, places.copy(), size, stream, stream.chunks)
            windows = stream.windows and self._read_on(stack, places, size, stream, stream.windows)
            yield replace(stream, chunks=chunks, windows=windows)

    async def stat(
        self,
        source: Place,
        copy_at: Callable[[str], Place],
        head: Callable[[Place], Awaitable[ObjectInfo]],
    ) -> ObjectInfo:
        try:
            found = await self.find(source.path)
        except CopyLookupFailed as failure:
            with _never_missing(source, failure):
                return await head(source)
        if found is None:
            return await head(source)
        errors: list[StorageError] = []
        for place in self._order(source, copy_at(found[0])):
            try:
                info = await head(place)
                self._require_size(place, info.size, found[1])
            except InvalidKey:
                raise
            except StorageError as error:
                self._note(place, error)
                errors.append(error)
            else:
                return info
        raise _choose_error(errors)

    def is_known_uncopied(self, path: str) -> bool:
        """Whether it is known, without a lookup, that the file has no copy: then a plain read of the source does."""
        known = self._found.get(path)
        return self.find_copy is None or (known is not None and known[1] is None and known[0] > time.monotonic())

    async def find(self, path: str) -> tuple[str, int] | None:
        """The path of the copy and the size; None where there is no copy. Remembered for `LOOKUP_SECONDS`, and longer while the lookup
        fails. Raises `CopyLookupFailed` where nothing is remembered."""
        if self.find_copy is None:
            return None
        known = self._found.get(path)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        try:
            found = await self.find_copy(path)
        except CopyLookupFailed:
            if known is None:
                raise
            return known[1]
        self._found[path] = time.monotonic() + LOOKUP_SECONDS, found
        self._found.move_to_end(path)
        if len(self._found) > MAX_LOOKUPS:
            self._found.popitem(last=False)
        return found

    def _order(self, source: Place, copy: Place) -> list[Place]:
        """The preferred place first, but those that are away last."""
        places = [copy, source] if self._prefers_copies else [source, copy]
        moment = time.monotonic()
        return sorted(places, key=lambda place: self._away_until.get(place.name, 0.0) > moment)

    async def _open_first(
        self,
        stack: AsyncExitStack,
        places: list[Place],
        size: int,
        byte_range: ByteRange | None,
        if_match: str | None,
    ) -> ObjectStream:
        """Opens the first of the places that can be opened, and leaves only those after it in the list."""
        errors: list[StorageError] = []
        while places:
            place = places.pop(0)
            opened = AsyncExitStack()
            try:
                stream = await opened.enter_async_context(place.open_read(place.path, byte_range, if_match))
                self._require_size(place, stream.info.size, size)
            except (InvalidKey, RangeNotSatisfiable) as error:
                await opened.aclose()
                if isinstance(error, RangeNotSatisfiable) and error.size != size and places:
                    errors.append(error)
                    continue
                raise
            except StorageError as error:
                await opened.aclose()
                self._note(place, error)
                errors.append(error)
            else:
                await stack.enter_async_context(opened)
                return stream
        raise _choose_error(errors)

    async def _read_on(
        self, stack: AsyncExitStack, places: list[Place], size: int, stream: ObjectStream, pieces: AsyncIterator[PieceT]
    ) -> AsyncIterator[PieceT | bytes]:
        """`pieces`, the chunks or windows of `stream`; where its place goes away meanwhile, the rest comes from the other one."""
        if stream.served is None or stream.served.last is None:
            return
        position, last = stream.served.first, stream.served.last
        reading: AsyncIterator[PieceT | bytes] = pieces
        while position <= last:
            try:
                async for piece in reading:
                    position += len(piece)
                    yield piece
            except ObjectChanged:
                raise  # some of the bytes that were sent may be of another version
            except StorageError:
                if not places or position > last:
                    raise
                is_copy = places[0].is_copy
                reopened = await self._open_first(stack, places, size, ByteRange(position, last), None)
                source, copy = (stream.info, reopened.info) if is_copy else (reopened.info, stream.info)
                if source.last_modified >= copy.last_modified + COPY_DATE_RESOLUTION:
                    raise  # the source may hold another version by now
                reading = reopened.chunks
            else:
                return  # the caller counts the bytes

    def _require_size(self, place: Place, found: int, size: int) -> None:
        if found != size:
            raise ObjectChanged(place.path, place.name, f"holds {found} bytes, not {size}")

    def _note(self, place: Place, error: StorageError) -> None:
        if isinstance(error, StorageUnavailable):
            self._away_until[place.name] = time.monotonic() + AWAY_SECONDS


@contextmanager
def _never_missing(source: Place, failure: CopyLookupFailed) -> Generator[None]:
    """While it is unknown whether the file has a copy, a missing source does not make the file a missing one."""
    try:
        yield
    except ObjectNotFound:
        raise StorageUnavailable(source.path, source.name, "is missing; its copy could not be looked up") from failure


def _choose_error(errors: list[StorageError]) -> StorageError:
    """Of several places: that one does not answer rather than that another one has no such file, which may not be lost."""
    return next((error for error in errors if isinstance(error, StorageUnavailable)), errors[0])
